//! Stored number types and their conversion to f32.

use half::f16;

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

impl Decoder {
    /// Appends one value for each whole number in `bytes`.
    pub(super) fn decode(&self, bytes: &[u8], out: &mut Vec<f32>) {
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
        from_ne_bytes: fn([u8; N]) -> T,
        wide: impl Fn(T) -> f64,
        narrow: impl Fn(T) -> f32,
    ) {
        let swap = (self.endian == Endian::Big) != cfg!(target_endian = "big");
        let numbers = bytes.as_chunks::<N>().0.iter().map(|raw| {
            let mut raw = *raw;
            if swap {
                raw.reverse();
            }
            from_ne_bytes(raw)
        });
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

    #[test]
    fn any_true_byte_is_one() {
        assert_eq!(decode(Scalar::Bool, Endian::Little, None, &[0, 1, 7]), [0.0, 1.0, 1.0]);
    }
}
