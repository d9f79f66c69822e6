//! What the machine gives to a CPU computation.

mod memory;

pub use memory::{available_memory, memory_limits, total_memory};

/// The instruction set that the CPU kernels use: `portable`, `avx2`, `avx-vnni`, `avx512`, `avx512-vnni`,
/// `avx512-bf16` or `amx-bf16`. It is the fastest of this processor, or another that the variable `R1SEG_ISA` names.
#[must_use]
pub fn cpu_kernels() -> &'static str {
    r1seg_nn::Isa::detect().name()
}

/// Whether the variable `R1SEG_ISA`, if it is set, names an instruction set of this processor. One that it does
/// not have is not used.
///
/// # Errors
/// What is wrong with it, and what this processor has.
pub fn check_cpu_kernels() -> Result<(), String> {
    r1seg_nn::Isa::limit().map(|_| ())
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
