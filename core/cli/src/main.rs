//! The command line of metareward
fn main() {}
