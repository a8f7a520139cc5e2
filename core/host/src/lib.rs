//! Finds plugins by name and makes them from their options
