//! Which vector instructions this machine has.

use std::sync::OnceLock;

/// An instruction set that the kernels are written for, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, which the compiler vectorises for the target's baseline.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512F, BW, DQ and VL, as every server and desktop core with AVX-512 has.
    Avx512,
    /// The same with dot products of bf16 and of bytes (VNNI), which come together.
    Avx512Bf16,
}

impl Isa {
    /// The best instruction set of this machine, looked up once.
    pub fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(Self::look_up)
    }

    #[cfg(target_arch = "x86_64")]
    fn look_up() -> Self {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let dots = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni");
        if avx512 && dots {
            Self::Avx512Bf16
        } else if avx512 {
            Self::Avx512
        } else if avx2 {
            Self::Avx2
        } else {
            Self::Portable
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn look_up() -> Self {
        Self::Portable
    }

    /// Every instruction set that this machine can run, weakest first.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16]
            .into_iter()
            .filter(|isa| *isa <= Self::detect())
            .collect()
    }
}
