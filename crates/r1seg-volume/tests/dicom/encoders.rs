//! Codestreams for the libraries under test.

use dicom_toolkit_jpeg2000 as jpeg2000;

use crate::builder::{COLUMNS, Dcm, JPEG_2000, JPEG_LOSSLESS, JPEG_LS, RLE, ROWS};

pub(crate) fn rle(words: &[u16]) -> Vec<u8> {
    let mut out = vec![0; 64];
    out[0] = 2;
    for (n, shift) in [8, 0].into_iter().enumerate() {
        let start = (out.len() as u32).to_le_bytes();
        out[4 + 4 * n..8 + 4 * n].copy_from_slice(&start);
        let bytes: Vec<u8> = words.iter().map(|w| (w >> shift) as u8).collect();
        // A run of two, and the rest as it is.
        if bytes[0] == bytes[1] {
            out.extend([255, bytes[0]]);
        } else {
            out.extend([1, bytes[0], bytes[1]]);
        }
        out.push(128);
        out.push(bytes.len() as u8 - 3);
        out.extend(&bytes[2..]);
    }
    out
}

/// Lossless JPEG (ITU-T T.81 annex H) of one component; all 17 categories have codes of 5 bits.
pub(crate) fn jpeg_lossless(words: &[u16], precision: u8, predictor: u8) -> Vec<u8> {
    let mut out = vec![0xff, 0xd8, 0xff, 0xc3, 0, 11, precision, 0, ROWS as u8, 0, COLUMNS as u8];
    out.extend([1, 1, 0x11, 0, 0xff, 0xc4, 0, 36, 0, 0, 0, 0, 0, 17]);
    out.extend([0; 11]);
    out.extend(0..17);
    out.extend([0xff, 0xda, 0, 8, 1, 1, 0, predictor, 0, 0]);
    let (mut bits, mut count) = (0_u64, 0);
    let w = usize::from(COLUMNS);
    let mut put = |out: &mut Vec<u8>, value: u64, length: u32| {
        bits = bits << length | value;
        count += length;
        while 8 <= count {
            let byte = (bits >> (count - 8)) as u8;
            out.push(byte);
            if byte == 0xff {
                out.push(0);
            }
            count -= 8;
        }
    };
    for n in 0..words.len() {
        let at = |n: usize| i32::from(words[n]);
        let prediction = match (n / w, n % w) {
            (0, 0) => 1 << (precision - 1),
            (0, _) => at(n - 1),
            (_, 0) => at(n - w),
            _ => {
                let (a, b, c) = (at(n - 1), at(n - w), at(n - w - 1));
                match predictor {
                    1 => a,
                    2 => b,
                    3 => c,
                    4 => a + b - c,
                    5 => a + ((b - c) >> 1),
                    6 => b + ((a - c) >> 1),
                    _ => (a + b) / 2,
                }
            }
        };
        let diff = i32::from((at(n) - prediction) as i16);
        let category = 32 - diff.unsigned_abs().leading_zeros();
        put(&mut out, category.into(), 5);
        let low = if diff < 0 { diff - 1 } else { diff };
        if category < 16 {
            put(&mut out, (low as u64) & ((1 << category) - 1), category);
        }
    }
    put(&mut out, 0x7f, 7);
    out.extend([0xff, 0xd9]);
    out
}

pub(crate) fn jpeg_ls(words: &[u16], near: u8) -> Vec<u8> {
    let mut options = jpegls::EncodeOptions::default();
    (options.near, options.precision) = (near, Some(12));
    let mut out = Vec::new();
    jpegls::encode_with_options(words, COLUMNS.into(), ROWS.into(), &options, &mut out).unwrap();
    out
}

pub(crate) fn jpeg_2000(words: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let options = jpeg2000::EncodeOptions { num_decomposition_levels: 1, ..Default::default() };
    jpeg2000::encode(&bytes, COLUMNS.into(), ROWS.into(), 1, 12, false, &options).unwrap()
}

/// A codestream of every codec, for the pixels of [`Dcm::slice`] 1.
pub(crate) fn codestreams() -> [(&'static str, Vec<u8>); 4] {
    let words = Dcm::slice(1).stored();
    [
        (RLE, rle(&words)),
        (JPEG_LOSSLESS, jpeg_lossless(&words, 12, 4)),
        (JPEG_LS, jpeg_ls(&words, 0)),
        (JPEG_2000, jpeg_2000(&words)),
    ]
}
