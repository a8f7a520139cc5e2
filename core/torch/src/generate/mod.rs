//! Generation.
pub mod attention;
pub mod elementwise;
pub mod matmul;
pub mod sample;
pub mod simd;
