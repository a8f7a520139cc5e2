//! Win rates, judge agreement and their intervals, read from a run on disk
