//! The values of header fields.

use super::header::{Encoding, Fault};
use crate::io::scalar::Scalar;

pub(super) fn scalar(name: &str) -> Result<Scalar, Fault> {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split_whitespace().collect();
    Ok(match words.join(" ").as_str() {
        "signed char" | "int8" | "int8_t" => Scalar::I8,
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => Scalar::U8,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => {
            Scalar::I16
        }
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Scalar::U16,
        "int" | "signed int" | "int32" | "int32_t" => Scalar::I32,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => Scalar::U32,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => Scalar::I64,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => {
            Scalar::U64
        }
        "float" => Scalar::F32,
        "double" => Scalar::F64,
        "block" => return Err(Fault::Block),
        _ => return Err(Fault::Header("type is not one that NRRD knows")),
    })
}

pub(super) fn encoding(name: &str) -> Result<Encoding, Fault> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "raw" => Encoding::Raw,
        "txt" | "text" | "ascii" => Encoding::Text,
        "gz" | "gzip" => Encoding::Gzip,
        "hex" => return Err(Fault::Encoding("hex")),
        "bz2" | "bzip2" => return Err(Fault::Encoding("bzip2")),
        "zrl" => return Err(Fault::Encoding("zrl")),
        _ => return Err(Fault::Header("encoding is not one that NRRD knows")),
    })
}

/// `(a,b,c)`.
pub(super) fn vector(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.trim().strip_prefix('(')?.strip_suffix(')')?.split(',');
    let mut out = [0.0; 3];
    for number in &mut out {
        *number = numbers.next()?.trim().parse().ok()?;
    }
    numbers.next().is_none().then_some(out)
}

/// `none (a,b,c) (a,b,c) (a,b,c)`; a vector of NaN is another way to write `none`.
pub(super) fn directions(text: &str, axes: usize) -> Result<Vec<Option<[f64; 3]>>, Fault> {
    const FAULT: Fault = Fault::Header("space directions are not one vector or none an axis");
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if out.len() == axes {
            return Err(FAULT);
        }
        if let Some(behind) = rest.strip_prefix("none") {
            out.push(None);
            rest = behind.trim_start();
            continue;
        }
        let end = rest.find(')').ok_or(FAULT)?;
        let (first, behind) = rest.split_at(end + 1);
        let step = vector(first).ok_or(FAULT)?;
        out.push((!step.iter().all(|v| v.is_nan())).then_some(step));
        rest = behind.trim_start();
    }
    if out.len() == axes { Ok(out) } else { Err(FAULT) }
}

pub(super) fn spacings(text: &str, axes: usize) -> Result<Vec<f64>, Fault> {
    let numbers: Option<Vec<f64>> =
        text.split_whitespace().take(axes + 1).map(|number| number.parse().ok()).collect();
    numbers
        .filter(|numbers| numbers.len() == axes)
        .ok_or(Fault::Header("spacings are not one number an axis"))
}

pub(super) fn domains(text: &str, axes: usize) -> Result<Vec<bool>, Fault> {
    let kinds: Vec<bool> = text
        .split_whitespace()
        .take(axes + 1)
        .map(|kind| {
            let kind = kind.to_ascii_lowercase();
            matches!(kind.as_str(), "domain" | "space" | "???" | "none")
        })
        .collect();
    if kinds.len() == axes { Ok(kinds) } else { Err(Fault::Header("kinds are not one an axis")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_type_is_known() {
        for (scalar_type, names) in [
            (Scalar::I8, "signed char,int8,int8_t"),
            (Scalar::U8, "uchar,unsigned char,uint8,uint8_t"),
            (Scalar::I16, "short,short int,signed short,signed short int,int16,int16_t"),
            (Scalar::U16, "ushort,unsigned short,unsigned short int,uint16,uint16_t"),
            (Scalar::I32, "int,signed int,int32,int32_t"),
            (Scalar::U32, "uint,unsigned int,uint32,uint32_t"),
            (
                Scalar::I64,
                "longlong,long long,long long int,signed long long,signed long long int,int64,\
                 int64_t",
            ),
            (Scalar::U64, "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t"),
            (Scalar::F32, "float"),
            (Scalar::F64, "double"),
        ] {
            for name in names.split(',') {
                assert_eq!(scalar(name), Ok(scalar_type), "{name}");
            }
        }
        assert_eq!(scalar("block"), Err(Fault::Block));
    }

    #[test]
    fn directions_may_leave_axes_out() {
        let expected = vec![None, Some([-1.5, 0.0, 0.25]), None];
        let read = directions("none (-1.5, 0,2.5e-1)  (nan,nan,nan)", 3);
        assert_eq!(read, Ok(expected));
        for text in ["", "(1,0,0)", "(1,0,0) (0,1,0) (0,0)", "none none none none", "(1,0,0"] {
            assert!(directions(text, 3).is_err(), "{text}");
        }
    }
}
