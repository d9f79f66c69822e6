//! 3D convolutions: of patches, which are one product ([`PatchConv3d`], [`PatchConvTranspose3d`]), and
//! of neighborhoods ([`Conv3d`], [`ConvTranspose3d`]). Beside them, pooling.

mod full;
mod fused;
mod patch;
mod pool;
mod taps;
mod transposed;

pub use full::{Conv3d, Conv3dConfig, conv3d, conv3d_no_bias};
pub use patch::{
    PatchConv3d, PatchConvTranspose3d, patch_conv_transpose3d, patch_conv3d, patchify,
};
pub use pool::{avg_pool3d, max_pool3d};
pub use transposed::{ConvTranspose3d, conv_transpose3d, conv_transpose3d_no_bias};
