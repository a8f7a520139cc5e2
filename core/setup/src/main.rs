//! Finds or fetches libtorch, then runs the quickstart or the tests
fn main() {}
