//! How each type of weights widens to vectors of f32, in the order of the weights.

use crate::simd::Simd;

/// The largest unit of a [`Stored`] type.
pub(crate) const MAX_LEN: usize = 256;

/// Vectors that hold the largest group, with the fewest lanes.
pub(crate) const MAX_VECTORS: usize = 32;

/// Bytes of the largest unit that may be cut short.
pub(crate) const MAX_CUT: usize = 256;

/// How a type of weights is read: a unit at a time, and of that a group at a time.
///
/// # Safety
/// As of [`Simd`]; there must be `BYTES` readable bytes at `w`.
pub(crate) trait Stored<S: Simd> {
    /// Weights of a unit.
    const LEN: usize;
    /// Bytes of a unit.
    const BYTES: usize;
    /// Weights of a group, which divides the unit, and which every number of lanes divides.
    const GROUP: usize;
    /// What the groups of a unit share.
    type Head;

    unsafe fn head(w: *const u8) -> Self::Head;
    /// Fills the first `GROUP / LANES` vectors.
    unsafe fn group(w: *const u8, head: &Self::Head, group: usize, out: &mut [S::V; MAX_VECTORS]);
}

/// The first `len` bytes at `w`, filled up with zeros to a unit. Only numbers of their own are ever
/// cut: rows of blocks are whole units.
///
/// # Safety
/// `len` bytes must be readable at `w`, fewer than a unit's.
#[inline(always)]
pub(crate) unsafe fn first_of(w: *const u8, len: usize) -> [u8; MAX_CUT] {
    let mut unit = [0; MAX_CUT];
    debug_assert!(len < MAX_CUT, "{len} bytes of a unit");
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(w, unit.as_mut_ptr(), len) };
    unit
}

macro_rules! plain {
    ($name:ident, $bytes:literal, $load:ident) => {
        pub(crate) struct $name;

        impl<S: Simd> Stored<S> for $name {
            const LEN: usize = 64;
            const BYTES: usize = 64 * $bytes;
            const GROUP: usize = 64;
            type Head = ();

            #[inline(always)]
            unsafe fn head(_: *const u8) {}

            #[inline(always)]
            unsafe fn group(w: *const u8, (): &(), _: usize, out: &mut [S::V; MAX_VECTORS]) {
                for (v, out) in out.iter_mut().take(64 / S::LANES).enumerate() {
                    // SAFETY: the caller has the instructions and a whole unit.
                    *out = unsafe { S::$load(w.add(v * S::LANES * $bytes).cast()) };
                }
            }
        }
    };
}

plain!(F32, 4, load);
plain!(F16, 2, f16);
plain!(Bf16, 2, bf16);

/// An f16 at `w`.
///
/// # Safety
/// As of [`Simd`]; there must be two readable bytes at `w`.
#[inline(always)]
pub(crate) unsafe fn half<S: Simd>(w: *const u8) -> f32 {
    // SAFETY: the caller's promise.
    unsafe { S::first(S::half(w)) }
}

pub(crate) struct Q8_0;

impl<S: Simd> Stored<S> for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = 34;
    const GROUP: usize = 32;
    type Head = S::V;

    #[inline(always)]
    unsafe fn head(w: *const u8) -> S::V {
        // SAFETY: the caller has the block.
        unsafe { S::half(w) }
    }

    #[inline(always)]
    unsafe fn group(w: *const u8, d: &S::V, _: usize, out: &mut [S::V; MAX_VECTORS]) {
        for (v, out) in out.iter_mut().take(32 / S::LANES).enumerate() {
            // SAFETY: the caller has the block.
            *out = unsafe { S::mul(*d, S::i8(w.add(2 + v * S::LANES))) };
        }
    }
}

pub(crate) struct Q4K;

impl Q4K {
    /// The eight scales of a block and its eight minima, of 6 bits each, in a byte each.
    ///
    /// # Safety
    /// There must be a block.
    #[inline(always)]
    pub(crate) unsafe fn six_bits(w: *const u8) -> [u64; 2] {
        // SAFETY: the caller's promise.
        // Four bytes at a time: the low four scales, the low four minima, the rest of both.
        let [s, m, rest] = unsafe { w.add(4).cast::<[u32; 3]>().read_unaligned() };
        let (low, high, top) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
        let scales = [s & low, rest & high | s >> 2 & top];
        let minima = [m & low, rest >> 4 & high | m >> 2 & top];
        // As they lie in memory, the first byte the lowest.
        [scales, minima].map(|[a, b]| u64::from(a) | u64::from(b) << 32)
    }
}

impl<S: Simd> Stored<S> for Q4K {
    const LEN: usize = 256;
    const BYTES: usize = 144;
    const GROUP: usize = 64;
    /// Per 32 weights the scale, then as many minima, and what both are multiplied by.
    type Head = ([f32; 16], f32, f32);

    #[inline(always)]
    unsafe fn head(w: *const u8) -> Self::Head {
        // SAFETY: the caller has the block, and the local arrays have 16 elements.
        unsafe {
            let six_bits = Self::six_bits(w);
            let mut numbers = [0f32; 16];
            for v in (0..16).step_by(S::LANES) {
                let six_bits = S::i8(six_bits.as_ptr().cast::<u8>().add(v));
                S::store(numbers.as_mut_ptr().add(v), six_bits);
            }
            (numbers, half::<S>(w), half::<S>(w.add(2)))
        }
    }

    #[inline(always)]
    unsafe fn group(
        w: *const u8,
        (numbers, d, min): &Self::Head,
        group: usize,
        out: &mut [S::V; MAX_VECTORS],
    ) {
        let vectors = 32 / S::LANES;
        // SAFETY: the caller has the block.
        unsafe {
            let (low, high) = (2 * group, 2 * group + 1);
            let low = S::levels(d * numbers[low], -min * numbers[low + 8]);
            let high = S::levels(d * numbers[high], -min * numbers[high + 8]);
            for v in 0..vectors {
                let q = S::u8(w.add(16 + 32 * group + v * S::LANES));
                out[v] = S::level(low, q);
                out[vectors + v] = S::level(high, S::shr::<4>(q));
            }
        }
    }
}

pub(crate) struct Q6K;

impl<S: Simd> Stored<S> for Q6K {
    const LEN: usize = 256;
    const BYTES: usize = 210;
    const GROUP: usize = 128;
    /// The scale per 16 weights.
    type Head = [f32; 16];

    #[inline(always)]
    unsafe fn head(w: *const u8) -> [f32; 16] {
        let mut scales = [0f32; 16];
        // SAFETY: the caller has the block, and the local array has 16 elements.
        unsafe {
            let d = S::half(w.add(208));
            for v in (0..16).step_by(S::LANES) {
                let integers = S::i8(w.add(192 + v));
                S::store(scales.as_mut_ptr().add(v), S::mul(d, integers));
            }
        }
        scales
    }

    #[inline(always)]
    unsafe fn group(w: *const u8, scales: &[f32; 16], group: usize, out: &mut [S::V; MAX_VECTORS]) {
        let vectors = 32 / S::LANES;
        for v in 0..vectors {
            let first = v * S::LANES;
            // SAFETY: the caller has the block.
            unsafe {
                let low = w.add(64 * group + first);
                let (a, b) = (S::u8(low), S::u8(low.add(32)));
                let high = S::u8(w.add(128 + 32 * group + first));
                let quarters = [
                    S::pick(a, high),
                    S::pick(b, S::shr::<2>(high)),
                    S::pick(S::shr::<4>(a), S::shr::<4>(high)),
                    S::pick(S::shr::<4>(b), S::shr::<6>(high)),
                ];
                for (i, q) in quarters.into_iter().enumerate() {
                    let scale = scales[8 * group + 2 * i + first / 16];
                    // Exact: 11 bits of `d`, 7 of the scale and 6 of the number are 24.
                    out[i * vectors + v] = S::mul(S::splat(scale), S::sub(q, S::splat(32.0)));
                }
            }
        }
    }
}
