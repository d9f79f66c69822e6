//! Voxels written as decimal numbers.

use crate::Error;
use crate::error::Detail;
use crate::io::ReadOptions;
use crate::io::scalar::Scalar;
use crate::io::source::Source;

/// Longest number that makes sense: f64 needs 24 characters.
const MAX_NUMBER: usize = 64;

/// Reads `count` numbers and gives them as the little-endian bytes of `scalar`, so that they are
/// decoded as binary voxels are; and whether there are more of them.
pub(super) fn stored_bytes(
    source: &mut Source<'_>,
    count: usize,
    scalar: Scalar,
    options: &ReadOptions,
) -> Result<(Vec<u8>, bool), Error> {
    let path = source.path();
    let fault = |reason| Error::from(Detail::NrrdText { path: path.clone(), reason });
    let limit = source.got().saturating_add(options.max_bytes);
    let mut out = Vec::new();
    let (mut found, mut number, mut buffer) = (0, String::new(), vec![0; 1 << 16]);
    loop {
        let got = source.fill(&mut buffer)?;
        // The end of the text ends its last number, too.
        let ended: &[u8] = if got < buffer.len() { b"\n" } else { b"" };
        for byte in buffer.iter().take(got).chain(ended) {
            if !byte.is_ascii_whitespace() && *byte != b',' {
                number.push(char::from(*byte));
                if MAX_NUMBER < number.len() {
                    return Err(fault("a number is too long"));
                }
                continue;
            }
            if number.is_empty() {
                continue;
            }
            if found == count {
                return Ok((out, true));
            }
            let value = number.parse().map_err(|_| fault("a voxel is not a number"))?;
            append(scalar, value, &mut out).ok_or_else(|| fault("a number is beyond its type"))?;
            found += 1;
            number.clear();
        }
        if got < buffer.len() {
            break;
        }
        if limit < source.got() {
            return Err(fault("it is longer than the limit of bytes"));
        }
    }
    if found < count {
        return Err(Detail::NrrdTextShort { path, promised: count, got: found }.into());
    }
    Ok((out, false))
}

/// Appends the bytes of a number; `None` if the type cannot hold it.
fn append(scalar: Scalar, v: f64, out: &mut Vec<u8>) -> Option<()> {
    match scalar {
        Scalar::Bool | Scalar::F16 => None,
        Scalar::U8 => whole(v, 0.0, u8::MAX.into(), (v as u8).to_le_bytes(), out),
        Scalar::I8 => whole(v, i8::MIN.into(), i8::MAX.into(), (v as i8).to_le_bytes(), out),
        Scalar::U16 => whole(v, 0.0, u16::MAX.into(), (v as u16).to_le_bytes(), out),
        Scalar::I16 => whole(v, i16::MIN.into(), i16::MAX.into(), (v as i16).to_le_bytes(), out),
        Scalar::U32 => whole(v, 0.0, u32::MAX.into(), (v as u32).to_le_bytes(), out),
        Scalar::I32 => whole(v, i32::MIN.into(), i32::MAX.into(), (v as i32).to_le_bytes(), out),
        Scalar::U64 => whole(v, 0.0, u64::MAX as f64, (v as u64).to_le_bytes(), out),
        Scalar::I64 => whole(v, i64::MIN as f64, i64::MAX as f64, (v as i64).to_le_bytes(), out),
        Scalar::F32 => {
            out.extend((v as f32).to_le_bytes());
            Some(())
        }
        Scalar::F64 => {
            out.extend(v.to_le_bytes());
            Some(())
        }
    }
}

fn whole<const N: usize>(
    v: f64,
    low: f64,
    high: f64,
    bytes: [u8; N],
    out: &mut Vec<u8>,
) -> Option<()> {
    (v.fract() == 0.0 && (low..=high).contains(&v)).then(|| out.extend(bytes))
}
