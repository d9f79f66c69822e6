//! A CUDA driver, cuBLAS and cuRAND without a GPU: see README.md.

#![allow(non_snake_case, clippy::missing_safety_doc, clippy::needless_range_loop)]

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
