//! The plugins that are linked into the metareward binary
