//! Generation.
mod attention;
mod elementwise;
mod matmul;
mod sample;
mod simd;
