//! Preference optimizer: direct preference optimization
