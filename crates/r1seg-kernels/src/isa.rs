//! Which vector instructions this machine has.

use std::sync::OnceLock;

/// Names the instruction set that kernels are held to.
const VARIABLE: &str = "R1SEG_ISA";

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
    /// All of them, weakest first.
    const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// The instruction set that kernels use: the best of this machine, or a weaker one that `R1SEG_ISA` names,
    /// so that every path can be tested and measured where it is not the best. Looked up once.
    pub fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let best = Self::look_up();
            Self::limit().ok().flatten().map_or(best, |limit| best.min(limit))
        })
    }

    /// What `R1SEG_ISA` holds kernels to, if it is set.
    ///
    /// # Errors
    /// What is wrong with its value: not a name, or an instruction set that this machine does not have.
    pub fn limit() -> Result<Option<Self>, String> {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(value) => Self::named(&value.to_string_lossy(), Self::look_up()).map(Some),
            None => Ok(None),
        }
    }

    /// An instruction set of a machine by its name.
    fn named(name: &str, best: Self) -> Result<Self, String> {
        let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|isa| plain(isa.name()) == plain(name));
        let known = Self::ALL.into_iter().filter(|isa| *isa <= best).map(Self::name);
        let known = known.collect::<Vec<_>>().join(", ");
        match found {
            Some(isa) if isa <= best => Ok(isa),
            Some(isa) => Err(format!("this processor has no {}; it has {known}", isa.name())),
            None => Err(format!("unknown instruction set `{name}`; this processor has {known}")),
        }
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
        Self::ALL.into_iter().filter(|isa| *isa <= Self::detect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_held_to_what_the_machine_has() {
        assert_eq!(Isa::named("avx2", Isa::Avx512), Ok(Isa::Avx2));
        assert_eq!(Isa::named("AVX512BF16", Isa::Avx512Bf16), Ok(Isa::Avx512Bf16));
        let error = Isa::named("avx512", Isa::Avx2).unwrap_err();
        assert!(error.contains("no avx512") && error.contains("portable, avx2"), "{error}");
        let error = Isa::named("sse9", Isa::Avx512).unwrap_err();
        assert!(error.contains("`sse9`") && error.ends_with("avx512"), "{error}");
    }
}
