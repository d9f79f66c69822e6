//! The kernels for GPUs, as PTX. Each stands in a `.cu` file beside its CPU twin, which says what its
//! entry points compute, and how they are launched; whoever has a device launches them.

/// A file of kernels, compiled for each type of number by itself.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// Entry points whose names end with `_f32`.
    pub f32: Ptx,
    /// Entry points whose names end with `_f16`.
    pub f16: Ptx,
    /// Entry points whose names end with `_bf16`.
    pub bf16: Ptx,
}

/// Kernels as a driver loads them.
#[derive(Debug, Clone, Copy)]
pub struct Ptx {
    /// Unique among all.
    pub name: &'static str,
    /// For compute capability 8.0, which later ones read too.
    pub text: &'static str,
}

macro_rules! module {
    ($path:literal) => {
        Module { f32: ptx!("f32", $path), f16: ptx!("f16", $path), bf16: ptx!("bf16", $path) }
    };
}

macro_rules! ptx {
    ($number:literal, $path:literal) => {
        Ptx {
            name: concat!("r1seg/", $path, "_", $number),
            text: include_str!(concat!(env!("OUT_DIR"), "/", $path, "_", $number, ".ptx")),
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
pub const ATTENTION_STEP: Module = module!("attention/step");
