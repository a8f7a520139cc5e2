//! The Meta-Rewarding loop: config, stages, run store, seeds, resume, events
