//! Compressed pixels to stored numbers, by libraries in safe Rust.
//!
//! A file may claim anything: the sizes in the codestream are compared with the header's before
//! anything is decoded, and a panic of a library becomes an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hayro_jpeg2000 as jpeg2000;
use jpeg_decoder::PixelFormat;

use super::fault::DicomFault;
use super::header::Syntax;

/// Rows and columns.
pub(super) type Size = (u16, u16);

/// One frame's pixels as stored numbers, row by row.
pub(super) fn decode(
    syntax: &Syntax,
    data: &[u8],
    size: Size,
    bytes_per_pixel: usize,
) -> Result<Vec<u16>, DicomFault> {
    let (codec, decoder): (_, Decoder) = match syntax {
        Syntax::Rle => ("RLE", rle),
        Syntax::Jpeg => ("JPEG", jpeg),
        Syntax::JpegLs => ("JPEG-LS", jpeg_ls),
        Syntax::Jpeg2000 => ("JPEG 2000", jpeg_2000),
        Syntax::Native(_) | Syntax::Deflated | Syntax::Other(_) => ("uncompressed", nothing),
    };
    let fault = |reason| DicomFault::Codec { codec, reason };
    let pixels = catch_unwind(AssertUnwindSafe(|| decoder(data, size, bytes_per_pixel)))
        .map_err(|_| fault("it makes no sense"))?
        .map_err(fault)?;
    if pixels.len() != usize::from(size.0) * usize::from(size.1) {
        return Err(fault(OTHER_SIZE));
    }
    Ok(pixels)
}

type Decoder = fn(&[u8], Size, usize) -> Result<Vec<u16>, &'static str>;

const OTHER_SIZE: &str = "its size is not that of the header";
const CORRUPT: &str = "it is corrupt or cut short";

fn nothing(_: &[u8], _: Size, _: usize) -> Result<Vec<u16>, &'static str> {
    Err("it is not compressed")
}

/// PS3.5 annex G: runs of bytes, the high bytes of all pixels before the low ones.
fn rle(
    data: &[u8],
    (rows, columns): Size,
    bytes_per_pixel: usize,
) -> Result<Vec<u16>, &'static str> {
    let word = |n: usize| {
        let bytes = data.get(4 * n..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    if word(0) != Some(bytes_per_pixel) {
        return Err("the number of its segments is not that of the header");
    }
    let mut pixels = vec![0_u16; usize::from(rows) * usize::from(columns)];
    for segment in 1..=bytes_per_pixel {
        let start = word(segment).ok_or(CORRUPT)?;
        let end = if segment < bytes_per_pixel { word(segment + 1) } else { Some(data.len()) };
        let bytes = data.get(start..end.ok_or(CORRUPT)?).ok_or(CORRUPT)?;
        let mut out = pixels.iter_mut();
        // Rows of odd length are padded: bytes behind the last pixel are none.
        let mut put = |byte: u8| {
            if let Some(pixel) = out.next() {
                *pixel = *pixel << 8 | u16::from(byte);
            }
        };
        let mut bytes = bytes.iter();
        while let Some(control) = bytes.next() {
            match control {
                0..=127 => {
                    for _ in 0..=*control {
                        put(*bytes.next().ok_or(CORRUPT)?);
                    }
                }
                128 => {}
                129.. => {
                    let byte = *bytes.next().ok_or(CORRUPT)?;
                    (0..257 - u16::from(*control)).for_each(|_| put(byte));
                }
            }
        }
        if out.next().is_some() {
            return Err(CORRUPT);
        }
    }
    Ok(pixels)
}

fn jpeg(data: &[u8], (rows, columns): Size, _: usize) -> Result<Vec<u16>, &'static str> {
    let mut decoder = jpeg_decoder::Decoder::new(data);
    decoder.read_info().map_err(|_| CORRUPT)?;
    let info = decoder.info().ok_or(CORRUPT)?;
    if (info.height, info.width) != (rows, columns) {
        return Err(OTHER_SIZE);
    }
    let format = info.pixel_format;
    let bytes = match format {
        PixelFormat::L8 | PixelFormat::L16 => decoder.decode().map_err(|_| CORRUPT)?,
        _ => return Err("it is in color"),
    };
    Ok(match format {
        PixelFormat::L8 => bytes.into_iter().map(u16::from).collect(),
        _ => bytes.as_chunks::<2>().0.iter().map(|raw| u16::from_ne_bytes(*raw)).collect(),
    })
}

fn jpeg_ls(data: &[u8], (rows, columns): Size, _: usize) -> Result<Vec<u16>, &'static str> {
    // The library allocates by the size it is told, after comparing it with the codestream's.
    let (pixels, _, _) =
        jpegls::decode(data, u32::from(columns), u32::from(rows)).map_err(|_| CORRUPT)?;
    Ok(pixels)
}

/// The library has no notion of signed numbers and would cut them off at 0. Their sign bit in the
/// codestream only says that no level shift of half the range takes place; without that bit the
/// decoder shifts, and the shift is taken back here.
fn jpeg_2000(data: &[u8], (rows, columns): Size, _: usize) -> Result<Vec<u16>, &'static str> {
    const START: [u8; 4] = [0xff, 0x4f, 0xff, 0x51];
    let at = data.windows(4).take(4096).position(|w| w == START).ok_or(CORRUPT)?;
    let mut codestream = data.get(at..).ok_or(CORRUPT)?.to_vec();
    let number = |at: usize| {
        let raw = codestream.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*raw))
    };
    let numbers: [u32; 8] = {
        let mut out = [0; 8];
        for (n, v) in out.iter_mut().enumerate() {
            *v = number(8 + 4 * n).ok_or(CORRUPT)?;
        }
        out
    };
    let [width, height, left, top, ..] = numbers;
    if (width.wrapping_sub(left), height.wrapping_sub(top)) != (columns.into(), rows.into()) {
        return Err(OTHER_SIZE);
    }
    if codestream.get(40..42) != Some([0, 1].as_slice()) {
        return Err("it is in color");
    }
    let precision = codestream.get_mut(42).ok_or(CORRUPT)?;
    let signed = *precision & 0x80 != 0;
    *precision &= 0x7f;
    let bits = *precision + 1;
    if 16 < bits {
        return Err("it has more than 16 bits a pixel");
    }
    // Not strict would mean that pixels which are not there come out as something.
    let settings = jpeg2000::DecodeSettings { strict: true, ..Default::default() };
    let image = jpeg2000::Image::new(&codestream, &settings).map_err(|_| CORRUPT)?;
    let mut context = jpeg2000::DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|_| CORRUPT)?;
    let [component] = decoded.components() else { return Err("it is in color") };
    let shift = if signed { 1_u16 << (bits - 1) } else { 0 };
    // Lossy codestreams decode to fractions, and a little beyond the range of their bits.
    let most = f32::from(u16::MAX >> (16 - bits));
    let pixel = |v: f32| (v.round().clamp(0.0, most) as u16).wrapping_sub(shift);
    Ok(component.samples().iter().copied().map(pixel).collect())
}
