//! Weight matrices as files store them, and how their numbers widen to f32.

use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd};
use crate::stored::{Bf16, F16, F32, MAX_LEN, MAX_VECTORS, Q4K, Q6K, Q8_0, Stored, first_of};

#[cfg(target_endian = "big")]
compile_error!("weights are used in the byte order of their files, which is little-endian");

/// How the numbers of a weight matrix are stored, as safetensors and GGUF files store them
/// (little-endian).
///
/// The last three are GGUF's: a row is cut into blocks, and a block holds small integers next to
/// the scales that make numbers of them. In order of their bytes:
///
/// | type | weights | bytes | block | weight |
/// |---|---|---|---|---|
/// | `Q8_0` | 32 | 34 | f16 `d`; 32 i8 `q` | `d q` |
/// | `Q4K` | 256 | 144 | f16 `d`; f16 `dmin`; 12 bytes of 6-bit `s` and `m`; 128 bytes of 4-bit `q` | `d s q - dmin m` |
/// | `Q6K` | 256 | 210 | 128 bytes of low 4 bits, 64 bytes of high 2 bits of `q`; 16 i8 `s`; f16 `d` | `d s (q - 32)` |
///
/// - `Q4K` has a scale `s` and a minimum `m` per 32 weights, eight of each. Of the 12 bytes `b`,
///   for `j < 4`: `s[j]` and `m[j]` are the low 6 bits of `b[j]` and `b[j + 4]`; `s[j + 4]` and
///   `m[j + 4]` have the low and the high 4 bits of `b[j + 8]`, and above them the high 2 bits of
///   `b[j]` and `b[j + 4]`. Bytes `32 i ..` of `q` hold weights `64 i ..` in their low halves and
///   weights `64 i + 32 ..` in their high halves.
/// - `Q6K` has a scale per 16 weights. Each half of the block, 128 weights, has 64 bytes `l` of low
///   bits and 32 bytes `h` of high bits: weights `0 ..`, `32 ..`, `64 ..` and `96 ..` are the low
///   halves of `l[0 ..]` and `l[32 ..]` and the high halves of `l[0 ..]` and `l[32 ..]`, with bits
///   0, 2, 4 and 6 of `h` upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The high half of an f32.
    Bf16,
    /// GGUF's 8-bit blocks.
    Q8_0,
    /// GGUF's 4-bit blocks with minima.
    Q4K,
    /// GGUF's 6-bit blocks.
    Q6K,
}

impl WeightType {
    /// Weights per block; a row is a whole number of blocks.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 => 32,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `k` weights; `None` when that is no whole number of blocks, or too many.
    pub fn row_bytes(self, k: usize) -> Option<usize> {
        k.is_multiple_of(self.block_len())
            .then(|| (k / self.block_len()).checked_mul(self.block_bytes()))?
    }
}

/// A weight matrix `[n, k]`, row-major, borrowed from where it lies, at any alignment: a stretch of
/// a memory-mapped file is used as it is.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    bytes: &'a [u8],
    weight_type: WeightType,
    n: usize,
    k: usize,
}

impl std::fmt::Debug for Matrix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { weight_type, n, k, .. } = self;
        write!(f, "Matrix({weight_type:?}, [{n}, {k}])")
    }
}

impl<'a> Matrix<'a> {
    /// `None` when `bytes` has another length than `n` rows of `k` weights, or `k` is no whole
    /// number of blocks.
    pub fn new(bytes: &'a [u8], weight_type: WeightType, n: usize, k: usize) -> Option<Self> {
        let fits = weight_type.row_bytes(k)?.checked_mul(n)? == bytes.len();
        fits.then_some(Self { bytes, weight_type, n, k })
    }

    /// The width of the output.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The width of the input.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How the weights are stored.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.k / self.weight_type.block_len() * self.weight_type.block_bytes()
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Rows `first..first + count` in f32, exactly (`Q4K` rounds once, when it takes the minimum
    /// off). Serial.
    ///
    /// # Shapes
    /// - `out`: `[count, k]`
    ///
    /// # Panics
    /// When the matrix lacks a row or `out` has another length.
    pub fn widen_rows(&self, first: usize, count: usize, out: &mut [f32]) {
        self.widen_rows_on(Isa::detect(), first, count, out);
    }

    /// `isa` must be one of this machine.
    pub(crate) fn widen_rows_on(&self, isa: Isa, first: usize, count: usize, out: &mut [f32]) {
        let (n, k) = (self.n, self.k);
        assert!(isa.is_here(), "this machine has no {isa:?}");
        assert!(
            first.checked_add(count).is_some_and(|end| end <= n),
            "{count} rows from {first} of [{n}, {k}]"
        );
        assert_eq!(Some(out.len()), count.checked_mul(k), "rows of [{count}, {k}]");
        // Rows lie next to each other, so that all of them are one long row.
        let bytes = &self.bytes[first * self.row_bytes()..];
        let widen = Widen { weight_type: self.weight_type, from: bytes.as_ptr(), out };
        // SAFETY: `count` rows of whole blocks start here; the machine has `isa`.
        unsafe { simd::run(isa, widen) }
    }
}

/// `out.len()` weights, a whole number of blocks, from `from` on.
struct Widen<'a> {
    weight_type: WeightType,
    from: *const u8,
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe { widen::<S>(self.weight_type, self.from, self.out) }
    }
}

/// Widens `out.len()` weights, a whole number of blocks, from `from` on.
///
/// # Safety
/// As of [`Simd`]; that many blocks must be readable at `from`.
#[inline(always)]
pub(crate) unsafe fn widen<S: Simd>(weight_type: WeightType, from: *const u8, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match weight_type {
            WeightType::F32 => widen_as::<S, F32>(from, out),
            WeightType::F16 => widen_as::<S, F16>(from, out),
            WeightType::Bf16 => widen_as::<S, Bf16>(from, out),
            WeightType::Q8_0 => widen_as::<S, Q8_0>(from, out),
            WeightType::Q4K => widen_as::<S, Q4K>(from, out),
            WeightType::Q6K => widen_as::<S, Q6K>(from, out),
        }
    }
}

#[inline(always)]
unsafe fn widen_as<S: Simd, W: Stored<S>>(from: *const u8, out: &mut [f32]) {
    // SAFETY: whole units lie inside both operands, and the rest is copied to local memory first.
    unsafe {
        let whole = out.len() / W::LEN;
        for unit in 0..whole {
            widen_unit::<S, W>(from.add(unit * W::BYTES), out.as_mut_ptr().add(unit * W::LEN));
        }
        let rest = &mut out[whole * W::LEN..];
        if !rest.is_empty() {
            let mut wide = [0f32; MAX_LEN];
            let bytes = first_of(from.add(whole * W::BYTES), rest.len() * (W::BYTES / W::LEN));
            widen_unit::<S, W>(bytes.as_ptr(), wide.as_mut_ptr());
            rest.copy_from_slice(&wide[..rest.len()]);
        }
    }
}

#[inline(always)]
unsafe fn widen_unit<S: Simd, W: Stored<S>>(from: *const u8, out: *mut f32) {
    // SAFETY: the caller has a unit at `from` and room for its weights at `out`.
    unsafe {
        let head = W::head(from);
        for group in 0..W::LEN / W::GROUP {
            let mut wide = [S::splat(0.0); MAX_VECTORS];
            W::group(from, &head, group, &mut wide);
            for (v, &wide) in wide.iter().take(W::GROUP / S::LANES).enumerate() {
                S::store(out.add(group * W::GROUP + v * S::LANES), wide);
            }
        }
    }
}
