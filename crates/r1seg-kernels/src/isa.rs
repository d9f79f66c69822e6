//! Which vector instructions this machine has.

use std::sync::OnceLock;

const AVX2: [&str; 3] = ["avx2", "fma", "f16c"];
const AVX512: [&str; 4] = ["avx512f", "avx512bw", "avx512dq", "avx512vl"];
const DOTS: [&str; 2] = ["avx512bf16", "avx512vnni"];

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

    /// In words, such as `avx512-bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
        }
    }

    fn look_up() -> Self {
        let here = Self::features();
        let has = |names: &[&str]| names.iter().all(|name| here.contains(name));
        match (has(&AVX2), has(&AVX512), has(&DOTS)) {
            (true, true, true) => Self::Avx512Bf16,
            (true, true, false) => Self::Avx512,
            (true, false, _) => Self::Avx2,
            (false, ..) => Self::Portable,
        }
    }

    /// The vector extensions of this machine that kernels make use of, by the compiler's names.
    #[cfg(target_arch = "x86_64")]
    pub fn features() -> Vec<&'static str> {
        [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bw", is_x86_feature_detected!("avx512bw")),
            ("avx512dq", is_x86_feature_detected!("avx512dq")),
            ("avx512vl", is_x86_feature_detected!("avx512vl")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
            ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ]
        .into_iter()
        .filter_map(|(name, is_here)| is_here.then_some(name))
        .collect()
    }

    /// The vector extensions of this machine that kernels make use of: none, as no kernel is written
    /// for them.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn features() -> Vec<&'static str> {
        Vec::new()
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
