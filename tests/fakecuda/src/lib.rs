//! A CUDA driver, cuBLAS and cuRAND without a GPU: see README.md.

// The names and the safety of these functions are CUDA's.
#![allow(non_snake_case, clippy::missing_safety_doc)]
// Loops over the lanes of several registers at once; comparisons that NaN must not pass.
#![allow(clippy::needless_range_loop, clippy::double_comparisons)]

pub mod blas;
pub mod driver;
pub mod exec;
pub mod lanes;
pub mod log;
pub mod lower;
pub mod mem;
pub mod ops;
pub mod ptx;
pub mod rand;
