//! Kernels below the tensors: what a model spends its time on, at the speed of the machine. Those for
//! GPUs are CUDA C++ in `.cu` files beside their CPU twins, and come as PTX in `cuda` where the feature
//! of that name is on.
//!
//! - [`Matrix`]: `y = x Wᵀ + b` with f32, f16, bf16 or quantized weights where they lie, such as in a
//!   memory-mapped safetensors or GGUF file;
//! - [`attention`]: dense, causal or windowed, with a bias, with grouped heads and a cache read in
//!   place;
//! - [`ConvWeights`]: 3D convolution with any kernel, stride and padding, with the norm before it and the
//!   sum behind it ([`ConvFusion`]), and [`DoublingWeights`]: the transposed one that doubles a grid;
//! - [`gelu_erf`], [`gelu_dot`] and [`silu_mul`]: exact activations in one pass;
//! - [`Norm`], [`InstanceNorm`], [`softmax`] and [`add`] of rows.
//!
//! Everything takes plain row-major slices, runs on rayon's current pool and may be called from
//! several threads at once. The instructions ([`Isa`]) are chosen at run time: AMX-BF16,
//! AVX512-BF16, AVX512-VNNI, AVX-512, AVX-VNNI or AVX2 with FMA on x86-64, and plain Rust anywhere.
//!
//! ```
//! use r1seg_kernels::{Matrix, WeightType};
//!
//! // [2, 3] weights, and one row of three activations.
//! let bytes: Vec<u8> =
//!     [1.0f32, 0.0, 2.0, 0.0, 3.0, 0.0].into_iter().flat_map(f32::to_le_bytes).collect();
//! let weights = Matrix::new(&bytes, WeightType::F32, 2, 3).ok_or("another length")?;
//! let mut y = [0.0; 2];
//! weights.forward(&[1.0, 2.0, 3.0], 1, Some(&[0.5, 0.5]), &mut y);
//! assert_eq!(y, [7.5, 6.5]);
//! # Ok::<(), &str>(())
//! ```
//!
//! # How it is built
//!
//! A kernel is written once over the vectors of `simd` and compiled for each instruction set.
//! Every matrix product, attention's two included, is made of one register tile (`tile`). The
//! `reference` module has each kernel again in f64, one number at a time, for the tests.

#![allow(
    unsafe_code,
    reason = "vector instructions and disjoint writes need it; nothing else does"
)]

mod attention;
mod buffer;
mod conv;
#[cfg(feature = "cuda")]
pub mod cuda;
mod elementwise;
mod instance_norm;
mod isa;
mod linear;
mod norm;
#[cfg(test)]
mod reference;
mod simd;
mod stored;
#[cfg(test)]
mod tests;
mod tile;
mod weights;

pub use attention::{ALIKE_QUERIES, AttentionArgs, Bias, Mask, attention};
pub use conv::{ConvFusion, ConvGeometry, ConvNorm, ConvWeights, DoublingWeights};
pub use elementwise::{add, gelu_dot, gelu_erf, silu_mul, softmax};
pub use instance_norm::{AfterNorm, InstanceNorm, RowNorm};
pub use isa::Isa;
pub use linear::{FEW_ROWS, forward_stacked};
pub use norm::Norm;
pub use weights::{Matrix, WeightType};
