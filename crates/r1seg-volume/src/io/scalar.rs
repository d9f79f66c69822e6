//! Stored number types and their conversion to f32.

use std::collections::TryReserveError;

use half::f16;

use crate::{Scale, Voxels};

/// A stored number type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Scalar {
    /// Bytes a voxel.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// Byte order of stored numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// How stored bytes become intensities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoder {
    pub(super) scalar: Scalar,
    pub(super) endian: Endian,
    /// Slope and intercept, applied in f64; `None` is the identity.
    pub(super) scale: Option<(f64, f64)>,
}

/// Voxels under way from a file, as small as their values allow.
#[derive(Debug)]
pub(super) enum Decoded {
    /// As stored: every number so far fits 16 bits.
    I16(Vec<i16>),
    /// As intensities.
    F32(Vec<f32>),
}

impl Decoded {
    pub(super) fn new(scalar: Scalar) -> Self {
        match scalar {
            Scalar::F16 | Scalar::F32 | Scalar::F64 => Self::F32(Vec::new()),
            _ => Self::I16(Vec::new()),
        }
    }

    /// Makes room for `count` more voxels, exactly.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), TryReserveError> {
        match self {
            Self::I16(stored) => stored.try_reserve_exact(count),
            Self::F32(data) => data.try_reserve_exact(count),
        }
    }

    /// Appends one voxel for each whole number in `bytes`, `left` of which are still to come.
    pub(super) fn push(
        &mut self,
        decoder: &Decoder,
        bytes: &[u8],
        left: usize,
    ) -> Result<(), TryReserveError> {
        let count = bytes.len() / decoder.scalar.size();
        if let Self::I16(stored) = self {
            stored.try_reserve(count)?;
            if decoder.decode_i16(bytes, stored) {
                return Ok(());
            }
            let scale = decoder.scale();
            let mut data = Vec::new();
            data.try_reserve_exact(stored.len() + left)?;
            data.extend(stored.iter().map(|v| scale.apply(*v)));
            *self = Self::F32(data);
        }
        if let Self::F32(data) = self {
            data.try_reserve(count)?;
            decoder.decode(bytes, data);
        }
        Ok(())
    }

    pub(super) fn into_voxels(self, decoder: &Decoder) -> Voxels {
        match self {
            Self::I16(stored) => Voxels::I16 { stored, scale: decoder.scale() },
            Self::F32(data) => Voxels::F32(data),
        }
    }
}

impl Decoder {
    fn scale(&self) -> Scale {
        self.scale.map_or(Scale::IDENTITY, |(slope, inter)| Scale { slope, inter })
    }

    /// Appends the stored numbers in `bytes` if all of them fit; otherwise says `false` and leaves
    /// `out` as it was.
    fn decode_i16(&self, bytes: &[u8], out: &mut Vec<i16>) -> bool {
        match self.scalar {
            Scalar::Bool => {
                out.extend(bytes.iter().map(|b| i16::from(*b != 0)));
                true
            }
            Scalar::U8 => self.fit(bytes, out, u8::from_ne_bytes),
            Scalar::I8 => self.fit(bytes, out, i8::from_ne_bytes),
            Scalar::U16 => self.fit(bytes, out, u16::from_ne_bytes),
            Scalar::I16 => self.fit(bytes, out, i16::from_ne_bytes),
            Scalar::U32 => self.fit(bytes, out, u32::from_ne_bytes),
            Scalar::I32 => self.fit(bytes, out, i32::from_ne_bytes),
            Scalar::U64 => self.fit(bytes, out, u64::from_ne_bytes),
            Scalar::I64 => self.fit(bytes, out, i64::from_ne_bytes),
            Scalar::F16 | Scalar::F32 | Scalar::F64 => false,
        }
    }

    fn fit<const N: usize, T: Copy + TryInto<i16>>(
        &self,
        bytes: &[u8],
        out: &mut Vec<i16>,
        from_ne_bytes: impl Fn([u8; N]) -> T,
    ) -> bool {
        let before = out.len();
        let mut fits = true;
        // Without a way out of the loop, the compiler can take many numbers at a time.
        out.extend(self.numbers(bytes, from_ne_bytes).map(|v| {
            let stored = v.try_into();
            fits &= stored.is_ok();
            stored.unwrap_or(0)
        }));
        if !fits {
            out.truncate(before);
        }
        fits
    }

    fn numbers<'a, const N: usize, T>(
        &self,
        bytes: &'a [u8],
        from_ne_bytes: impl Fn([u8; N]) -> T + 'a,
    ) -> impl ExactSizeIterator<Item = T> + 'a {
        let swap = (self.endian == Endian::Big) != cfg!(target_endian = "big");
        bytes.as_chunks::<N>().0.iter().map(move |raw| {
            let mut raw = *raw;
            if swap {
                raw.reverse();
            }
            from_ne_bytes(raw)
        })
    }

    /// Appends one intensity for each whole number in `bytes`.
    fn decode(&self, bytes: &[u8], out: &mut Vec<f32>) {
        match self.scalar {
            Scalar::Bool => out.extend(bytes.iter().map(|b| f32::from(u8::from(*b != 0)))),
            Scalar::U8 => self.each(bytes, out, u8::from_ne_bytes, f64::from, |v| v as f32),
            Scalar::I8 => self.each(bytes, out, i8::from_ne_bytes, f64::from, |v| v as f32),
            Scalar::U16 => self.each(bytes, out, u16::from_ne_bytes, f64::from, |v| v as f32),
            Scalar::I16 => self.each(bytes, out, i16::from_ne_bytes, f64::from, |v| v as f32),
            Scalar::U32 => self.each(bytes, out, u32::from_ne_bytes, f64::from, |v| v as f32),
            Scalar::I32 => self.each(bytes, out, i32::from_ne_bytes, f64::from, |v| v as f32),
            Scalar::U64 => self.each(bytes, out, u64::from_ne_bytes, |v| v as f64, |v| v as f32),
            Scalar::I64 => self.each(bytes, out, i64::from_ne_bytes, |v| v as f64, |v| v as f32),
            Scalar::F16 => self.each(bytes, out, f16::from_ne_bytes, f64::from, f32::from),
            Scalar::F32 => self.each(bytes, out, f32::from_ne_bytes, f64::from, |v| v),
            Scalar::F64 => self.each(bytes, out, f64::from_ne_bytes, |v| v, |v| v as f32),
        }
    }

    fn each<const N: usize, T: Copy>(
        &self,
        bytes: &[u8],
        out: &mut Vec<f32>,
        from_ne_bytes: impl Fn([u8; N]) -> T,
        wide: impl Fn(T) -> f64,
        narrow: impl Fn(T) -> f32,
    ) {
        let numbers = self.numbers(bytes, from_ne_bytes);
        match self.scale {
            None => out.extend(numbers.map(narrow)),
            Some((slope, inter)) => out.extend(numbers.map(|v| (wide(v) * slope + inter) as f32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(scalar: Scalar, endian: Endian, scale: Option<(f64, f64)>, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        Decoder { scalar, endian, scale }.decode(bytes, &mut out);
        out
    }

    #[test]
    fn both_byte_orders_give_the_same_number() {
        let v = -1234_i16;
        assert_eq!(decode(Scalar::I16, Endian::Little, None, &v.to_le_bytes()), [-1234.0]);
        assert_eq!(decode(Scalar::I16, Endian::Big, None, &v.to_be_bytes()), [-1234.0]);
        let v = 3.25_f64;
        assert_eq!(decode(Scalar::F64, Endian::Little, None, &v.to_le_bytes()), [3.25]);
        assert_eq!(decode(Scalar::F64, Endian::Big, None, &v.to_be_bytes()), [3.25]);
        let v = f16::from_f32(-0.5);
        assert_eq!(decode(Scalar::F16, Endian::Big, None, &v.to_be_bytes()), [-0.5]);
    }

    #[test]
    fn scaling_is_done_in_f64() {
        // 16777217 is not an f32; 0.5 * 16777217 - 8388608 = 0.5 only in f64.
        let bytes = 16_777_217_u32.to_le_bytes();
        assert_eq!(decode(Scalar::U32, Endian::Little, Some((0.5, -8_388_608.0)), &bytes), [0.5]);
    }

    fn decoded(scalar: Scalar, scale: Option<(f64, f64)>, parts: &[&[u8]]) -> Voxels {
        let decoder = Decoder { scalar, endian: Endian::Little, scale };
        let mut decoded = Decoded::new(scalar);
        for part in parts {
            decoded.push(&decoder, part, 7).unwrap();
        }
        decoded.into_voxels(&decoder)
    }

    #[test]
    fn whole_numbers_that_fit_are_kept_as_stored() {
        let parts = [[1_i32, -32_768], [32_767, 5]].map(|p| p.map(i32::to_le_bytes).concat());
        let parts = [&*parts[0], &*parts[1]];
        let scale = Scale { slope: 2.0, inter: 0.5 };
        let stored = vec![1, -32_768, 32_767, 5];
        let voxels = decoded(Scalar::I32, Some((2.0, 0.5)), &parts);
        assert!(
            matches!(&voxels, Voxels::I16 { stored: s, scale: c } if *s == stored && *c == scale)
        );
        assert_eq!(voxels, Voxels::F32(vec![2.5, -65_535.5, 65_534.5, 10.5]));
    }

    #[test]
    fn a_number_that_does_not_fit_turns_all_of_them_into_intensities() {
        let parts = [[1_u16, 2], [3, 40_000]].map(|p| p.map(u16::to_le_bytes).concat());
        let parts = [&*parts[0], &*parts[1]];
        let voxels = decoded(Scalar::U16, None, &parts);
        assert!(matches!(&voxels, Voxels::F32(data) if *data == [1.0, 2.0, 3.0, 40_000.0]));
        let voxels = decoded(Scalar::U16, Some((0.5, -1.0)), &parts);
        assert!(matches!(&voxels, Voxels::F32(data) if *data == [-0.5, 0.0, 0.5, 19_999.0]));
    }

    #[test]
    fn any_true_byte_is_one() {
        assert_eq!(decode(Scalar::Bool, Endian::Little, None, &[0, 1, 7]), [0.0, 1.0, 1.0]);
    }
}
