//! The kernels for GPUs, as PTX. Each stands in a `.cu` file beside its CPU twin, which says what its
//! entry points compute, and how they are launched; whoever has a device launches them.

/// A file of kernels.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// Unique among the modules.
    pub name: &'static str,
    /// For compute capability 8.0, which later ones read too.
    pub ptx: &'static str,
}

macro_rules! module {
    ($path:literal) => {
        Module {
            name: concat!("r1seg/", $path),
            ptx: include_str!(concat!(env!("OUT_DIR"), "/", $path, ".ptx")),
        }
    };
}

/// Layer norms and RMS norms.
pub const NORM: Module = module!("norm");
/// Activations, sums, softmax, rows of a table.
pub const ELEMENTWISE: Module = module!("elementwise");
/// Linear layers of a few rows, and what follows the products of many.
pub const LINEAR: Module = module!("linear/few");
/// Linear layers whose weights are blocks of GGUF.
pub const QUANTIZED: Module = module!("linear/quantized");
/// The most likely token.
pub const CHOOSE: Module = module!("choose");
/// 3D convolutions of any sizes.
pub const CONV: Module = module!("conv");
/// 3D convolutions with tensor cores.
pub const CONV_MMA: Module = module!("conv_mma");
/// Norms of volumes.
pub const NORM3D: Module = module!("norm3d");
/// Resizing of volumes and of tokens.
pub const RESIZE: Module = module!("resize");
/// New tokens to the cache of their sequence.
pub const APPEND: Module = module!("attention/append");
/// Attention on CUDA cores.
pub const ATTENTION_PLAIN: Module = module!("attention/plain");
/// Attention on tensor cores.
pub const ATTENTION_MMA: Module = module!("attention/mma");
/// Attention of few queries, or of wide heads.
pub const ATTENTION_WIDE: Module = module!("attention/wide");
/// Attention of one new token to a cache.
pub const ATTENTION_STEP: Module = module!("attention/few");
