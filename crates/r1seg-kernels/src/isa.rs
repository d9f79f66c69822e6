//! Which vector instructions this machine has.

use std::sync::OnceLock;

/// Names the instruction set that kernels are held to.
const VARIABLE: &str = "R1SEG_ISA";

const AVX2: [&str; 3] = ["avx2", "fma", "f16c"];
const AVX_VNNI: [&str; 1] = ["avxvnni"];
const AVX512: [&str; 4] = ["avx512f", "avx512bw", "avx512dq", "avx512vl"];
const AVX512_VNNI: [&str; 1] = ["avx512vnni"];
const AVX512_BF16: [&str; 1] = ["avx512bf16"];
const AMX_BF16: [&str; 2] = ["amx-tile", "amx-bf16"];

/// An instruction set that the kernels are written for, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, which the compiler vectorizes for the target's baseline.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with dot products of bytes (AVX-VNNI), as laptops since 2021 have them. Not every processor with
    /// AVX-512 does.
    AvxVnni,
    /// x86-64 with AVX-512F, BW, DQ and VL, as every server and desktop core with AVX-512 has.
    Avx512,
    /// The same with dot products of bytes (VNNI), as Intel's have them since 2019.
    Avx512Vnni,
    /// The same with dot products of bf16. Intel's processors have them, too, but multiply f32 faster
    /// ([`detect`](Self::detect)).
    Avx512Bf16,
    /// The same with products of whole tiles of bf16 (AMX), on Linux.
    AmxBf16,
}

impl Isa {
    /// All of them, weakest first.
    const ALL: [Self; 7] = [
        Self::Portable,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Avx512Vnni,
        Self::Avx512Bf16,
        Self::AmxBf16,
    ];

    /// The instruction set that kernels use: the fastest of this machine, or another that `R1SEG_ISA` names,
    /// so that every path can be tested and measured where it is not the best. A value that [`limit`](Self::limit)
    /// refuses counts as none. Looked up once.
    pub fn detect() -> Self {
        static FASTEST: OnceLock<Isa> = OnceLock::new();
        *FASTEST.get_or_init(|| {
            let fastest = || Self::fastest(&Self::of_machine(), is_intel());
            Self::limit().ok().flatten().unwrap_or_else(fastest)
        })
    }

    /// The fastest of a machine's. On a Xeon of 2023 a product in bf16 takes 1.5 times as long as in f32, and longer
    /// still than in integers of 14 bits; on AMD's processors it takes about half as long as in f32.
    fn fastest(here: &[Self], is_intel: bool) -> Self {
        let slow = |isa: &&Self| is_intel && **isa == Self::Avx512Bf16;
        here.iter().rev().find(|isa| !slow(isa)).copied().unwrap_or(Self::Portable)
    }

    /// What `R1SEG_ISA` holds kernels to, if it is set.
    ///
    /// # Errors
    /// What is wrong with its value: not a name, or an instruction set that this machine does not have.
    pub fn limit() -> Result<Option<Self>, String> {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(value) => Self::named(&value.to_string_lossy(), &Self::of_machine()).map(Some),
            None => Ok(None),
        }
    }

    /// An instruction set of a machine by its name.
    fn named(name: &str, here: &[Self]) -> Result<Self, String> {
        let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|isa| plain(isa.name()) == plain(name));
        let known: Vec<_> = here.iter().map(|isa| isa.name()).collect();
        let known = known.join(", ");
        match found {
            Some(isa) if here.contains(&isa) => Ok(isa),
            Some(isa) => Err(format!("this processor has no {}; it has {known}", isa.name())),
            None => Err(format!("unknown instruction set `{name}`; this processor has {known}")),
        }
    }

    /// In words, such as `avx512-bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::AmxBf16 => "amx-bf16",
        }
    }

    /// The vector extensions that it needs, by the compiler's names.
    fn needs(self) -> Vec<&'static str> {
        let lists: &[&[&str]] = match self {
            Self::Portable => &[],
            Self::Avx2 => &[&AVX2],
            Self::AvxVnni => &[&AVX2, &AVX_VNNI],
            Self::Avx512 => &[&AVX2, &AVX512],
            Self::Avx512Vnni => &[&AVX2, &AVX512, &AVX512_VNNI],
            Self::Avx512Bf16 => &[&AVX2, &AVX512, &AVX512_VNNI, &AVX512_BF16],
            Self::AmxBf16 => &[&AVX2, &AVX512, &AVX512_VNNI, &AVX512_BF16, &AMX_BF16],
        };
        lists.concat()
    }

    /// Every instruction set of this machine, weakest first.
    fn of_machine() -> Vec<Self> {
        let here = Self::features();
        let has = |isa: &Self| isa.needs().iter().all(|name| here.contains(name));
        Self::ALL.into_iter().filter(has).collect()
    }

    /// Whether this machine can run it.
    pub(crate) fn is_here(self) -> bool {
        static HERE: OnceLock<Vec<Isa>> = OnceLock::new();
        HERE.get_or_init(Self::of_machine).contains(&self)
    }

    /// The vector extensions of this machine that kernels make use of, by the compiler's names.
    #[cfg(target_arch = "x86_64")]
    pub fn features() -> Vec<&'static str> {
        [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avxvnni", is_x86_feature_detected!("avxvnni")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bw", is_x86_feature_detected!("avx512bw")),
            ("avx512dq", is_x86_feature_detected!("avx512dq")),
            ("avx512vl", is_x86_feature_detected!("avx512vl")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
            ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
            ("amx-tile", tiles_of_bf16()),
            ("amx-bf16", tiles_of_bf16()),
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

    /// Every instruction set of this machine, weakest first, up to that which `R1SEG_ISA` names.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let limit =
            Self::limit().unwrap_or_else(|error| panic!("{error}")).unwrap_or(Self::AmxBf16);
        Self::of_machine().into_iter().filter(|isa| *isa <= limit).collect()
    }
}

/// Whether Intel made the processor.
fn is_intel() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let id = std::arch::x86_64::__cpuid(0);
        [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether the processor multiplies tiles of bf16 and the system lets this process do so.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiles_of_bf16() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    // Linux keeps the tiles' registers, 8 KiB for each thread, only of processes that ask for them.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // Bits of the seventh leaf's EDX.
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & BF16_AND_TILE != BF16_AND_TILE {
            return false;
        }
        // SAFETY: the call takes two numbers and changes nothing but what this process may use.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    })
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn tiles_of_bf16() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_held_to_what_the_machine_has() {
        // Zen 4 has no AVX-VNNI.
        let here = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16];
        assert_eq!(Isa::named("avx2", &here), Ok(Isa::Avx2));
        assert_eq!(Isa::named("AVX512BF16", &here), Ok(Isa::Avx512Bf16));
        let error = Isa::named("avxvnni", &here).unwrap_err();
        assert!(error.contains("no avx-vnni") && error.contains("portable, avx2"), "{error}");
        let error = Isa::named("sse9", &here[..3]).unwrap_err();
        assert!(error.contains("`sse9`") && error.ends_with("avx512"), "{error}");
    }

    #[test]
    fn the_fastest_is_the_strongest_but_for_slow_products_of_bf16() {
        let without_tiles = &Isa::ALL[..6];
        assert_eq!(Isa::fastest(without_tiles, false), Isa::Avx512Bf16);
        assert_eq!(Isa::fastest(without_tiles, true), Isa::Avx512Vnni);
        assert_eq!(Isa::fastest(&Isa::ALL, true), Isa::AmxBf16);
        assert_eq!(Isa::fastest(&Isa::ALL[..2], true), Isa::Avx2);
        assert_eq!(Isa::fastest(&[], false), Isa::Portable);
    }
}
