//! What every plugin of a kind must obey, as proptest properties over a trait object
