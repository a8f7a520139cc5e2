//! Sampler: temperature, top-p, top-k, min-p, the same for every draw
