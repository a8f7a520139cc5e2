//! Selector: shortest of the best, longest of the worst
