//! What the machine gives to a CPU computation.

mod memory;

pub use memory::{available_memory, memory_limits, total_memory};

/// The instruction set that the CPU kernels chose: `portable`, `avx2`, `avx512` or `avx512-bf16`.
#[must_use]
pub fn cpu_kernels() -> &'static str {
    r1seg_nn::Isa::detect().name()
}

/// The vector extensions of this CPU that kernels make use of, by the compiler's names for them.
#[must_use]
pub fn cpu_features() -> Vec<&'static str> {
    r1seg_nn::Isa::features()
}

/// The most threads that the tensor library starts for itself, beside those of rayon's global pool.
///
/// It reads `CANDLE_NUM_THREADS` and `RAYON_NUM_THREADS`; without them it takes one for each core of
/// the machine, whatever the quota of a container.
#[must_use]
pub fn tensor_threads() -> usize {
    let own = std::env::var("CANDLE_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    candle_core::utils::get_num_threads().max(own.unwrap_or(0))
}
