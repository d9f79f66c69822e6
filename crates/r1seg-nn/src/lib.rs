//! The layers that candle lacks and every r1seg model shares.
//!
//! - 3D operators: [`Conv3d`], [`ConvTranspose3d`], and over patches, whose kernel is their stride,
//!   [`patchify`], [`PatchConv3d`] and [`PatchConvTranspose3d`]; [`avg_pool3d`], [`max_pool3d`], [`trilinear`] and
//!   [`nearest`];
//! - norms that compute in f32 with a two-pass variance whatever the dtype: [`LayerNorm`] (also
//!   over a whole `(C, D, H, W)` block), [`LayerNorm3d`], [`InstanceNorm3d`], [`RmsNorm`];
//! - [`Linear`], whose weights may stay in half precision while the activations are f32, or quantized
//!   on a GPU ([`QuantizedMatrix`]);
//! - [`attention`] with an f32 softmax, [`AttentionBias`] for relative positions and masks, and
//!   [`Windows`] to attend within, [`CrossAttention`] to other tokens; the activations [`gelu_erf`], [`quick_gelu`], [`relu`]
//!   and [`silu_mul`], and [`add`];
//! - [`CachedAttention`] with [`Rotary`] positions, for the tokens of a sequence, and [`greedy`], which
//!   chooses the next; [`Embedding`] of tokens;
//! - [`all_finite`], which finds NaN and infinity;
//! - [`Probe`], through which a caller sees the intermediate tensors of a model.
//!
//! Everything runs on a CPU and on CUDA from the same code: a pass of our own kernels, on either, hides
//! behind the function that composes it of tensor operations elsewhere.
//!
//! # Precision
//!
//! The dtype of the *input* decides the dtype of the computation; weights adapt to it. On a CPU
//! the models run f32 activations over f32, bf16 or f16 weights. Products may round
//! activations, depending on the weights and the processor (see [`Linear`]); everything else, and every sum, is f32.
//!
//! # Shape legend
//!
//! | letter | meaning |
//! |---|---|
//! | `B` | batch |
//! | `C` | channels |
//! | `D, H, W` | depth, height, width of a volume or grid, slowest first |
//! | `N` | number of patches or image tokens |
//! | `E` | width of the vision transformer and the mask decoder |
//! | `L` | length of a token sequence |
//! | `V` | vocabulary size |

mod activation;
mod attention;
mod by_instance;
mod conv;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod embedding;
mod finite;
mod greedy;
mod linear;
mod matrix;
mod norm;
mod norm3d;
mod probe;
mod quantized;
mod resize;
#[cfg(test)]
mod testing;
mod weights;
mod windows;

pub use activation::{Activation, add, gelu_dot, gelu_erf, quick_gelu, relu, silu_mul};
pub use attention::{
    AttentionBias, AttentionMask, CachedAttention, CrossAttention, MAX_SCORES, Rotary, attention,
    softmax,
};
pub use conv::{
    Conv3d, Conv3dConfig, ConvTranspose3d, PatchConv3d, PatchConvTranspose3d, avg_pool3d,
    conv_transpose3d, conv_transpose3d_no_bias, conv3d, conv3d_no_bias, max_pool3d,
    patch_conv_transpose3d, patch_conv3d, patchify,
};
pub use embedding::{Embedding, embedding};
pub use finite::all_finite;
pub use greedy::greedy;
pub use linear::{Linear, linear, linear_no_bias, stacked};
pub use matrix::{StoredMatrix, WeightMatrix};
pub use norm::{LayerNorm, RmsNorm, layer_norm, rms_norm};
pub use norm3d::{InstanceNorm3d, LayerNorm3d, instance_norm3d, layer_norm3d};
pub use probe::{Cancelled, NoProbe, Probe, Recording};
pub use quantized::QuantizedMatrix;
pub use r1seg_kernels::{FEW_ROWS, Isa, WeightType};
pub use resize::{nearest, trilinear};
pub use weights::{Rearranged, TensorSource, Weights};
pub use windows::Windows;
