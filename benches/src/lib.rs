//! Benchmarks: criterion ones in `benches/`, figures with machine and versions in `results/`. See README.md.
