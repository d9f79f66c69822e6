//! Arrays that python-blosc2 and the publishers' clients wrote, and what this crate writes itself.

use std::error::Error;
use std::fs;
use std::path::Path;

use r1seg_viewers::{Array, ElementType, nnia, vxa2};

type Result = std::result::Result<(), Box<dyn Error>>;

const SMALL: [usize; 3] = [6, 10, 9];
const MIDDLE: [usize; 3] = [24, 10, 31];
const LIMIT: u64 = 1 << 20;

fn file(name: &str) -> std::io::Result<Vec<u8>> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name))
}

fn read_nnia(name: &str) -> std::result::Result<Array, Box<dyn Error>> {
    let bytes = file(name)?;
    nnia::read(&mut bytes.as_slice(), LIMIT).map_err(|e| format!("{name}: {e}").into())
}

/// The bytes of a number, which fits 16 bits, as an element.
fn element(of: ElementType, value: u16) -> Vec<u8> {
    match of {
        ElementType::Bool => vec![u8::from(value != 0)],
        // 5 bits of exponent and 10 of a mantissa that begins behind the highest bit.
        ElementType::F16 if value == 0 => vec![0, 0],
        ElementType::F16 => {
            let exponent = value.ilog2() as u16;
            ((15 + exponent) << 10 | (value << (10 - exponent)) & 0x3ff).to_le_bytes().into()
        }
        ElementType::F32 => f32::from(value).to_le_bytes().into(),
        ElementType::F64 => f64::from(value).to_le_bytes().into(),
        _ => u64::from(value).to_le_bytes()[..of.size()].into(),
    }
}

fn ramp(of: ElementType, shape: [usize; 3], plus: u16) -> Vec<u8> {
    let count = shape.iter().product::<usize>() as u16;
    (0..count).flat_map(|n| element(of, (n % 90 + n / 270 % 10) | plus)).collect()
}

fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        (state >> 16) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn in_box(n: usize) -> bool {
    let [_, h, w] = SMALL;
    (2..5).contains(&(n / (h * w))) && (3..9).contains(&(n / w % h)) && (4..7).contains(&(n % w))
}

#[test]
fn arrays_of_the_client_have_its_numbers_whatever_their_type() -> Result {
    use ElementType as E;
    for of in [
        E::Bool,
        E::U8,
        E::I8,
        E::U16,
        E::I16,
        E::U32,
        E::I32,
        E::U64,
        E::I64,
        E::F16,
        E::F32,
        E::F64,
    ] {
        let array = read_nnia(&format!("ramp_{}.nnia", of.name()))?;
        assert_eq!((array.element(), array.shape()), (of, &SMALL[..]));
        assert!(array.bytes() == ramp(of, SMALL, 0), "{}", of.name());
    }
    let same: Vec<u8> = (0..540).flat_map(|_| (-1000_i16).to_le_bytes()).collect();
    let nan: Vec<u8> = (0..540).flat_map(|_| f32::NAN.to_le_bytes()).collect();
    assert_eq!(read_nnia("big_endian_int16.nnia")?.bytes(), ramp(E::I16, SMALL, 0));
    assert_eq!(read_nnia("zero_int16.nnia")?.bytes(), vec![0; 1080]);
    assert_eq!(read_nnia("same_int16.nnia")?.bytes(), same);
    assert_eq!(read_nnia("nan_float32.nnia")?.bytes(), nan);
    assert_eq!(read_nnia("noise_uint8.nnia")?.bytes(), noise(540));
    let mask = read_nnia("box_uint8.nnia")?;
    assert!((0..540).all(|n| mask.bytes()[n] == u8::from(in_box(n))));
    Ok(())
}

#[test]
fn arrays_of_voxtells_client_have_its_numbers() -> Result {
    let array = vxa2::read(&mut file("ramp_float32.vxa2")?.as_slice(), LIMIT)?;
    assert_eq!((array.element(), array.shape()), (ElementType::F32, &SMALL[..]));
    assert_eq!(array.bytes(), ramp(ElementType::F32, SMALL, 0));
    let mask = vxa2::read(&mut file("box_uint16.vxa2")?.as_slice(), LIMIT)?.to_labels()?;
    assert!((0..540).all(|n| mask[n] == u16::from(in_box(n))));
    Ok(())
}

#[test]
fn every_codec_filter_and_split_gives_the_same_numbers() -> Result {
    let expected = ramp(ElementType::I16, MIDDLE, 0);
    for codec in ["zstd", "lz4", "lz4hc", "blosclz"] {
        for split in ["always", "never"] {
            for filter in ["nofilter", "shuffle"] {
                let name = format!("{codec}_{split}_{filter}_int16.nnia");
                assert!(read_nnia(&name)?.bytes() == expected, "{name}");
            }
        }
    }
    let runs = ramp(ElementType::U16, MIDDLE, 0x100);
    assert_eq!(read_nnia("runs_uint16.nnia")?.bytes(), runs);
    let rough = noise(10_000).into_iter().map(|v| v % 16);
    let once: Vec<u8> = rough.chain(std::iter::repeat_n(7, 10_000)).collect();
    assert!(read_nnia("far_uint8.nnia")?.bytes() == [once.clone(), once].concat());
    Ok(())
}

#[test]
fn chunks_that_only_say_what_all_elements_are_are_filled() -> Result {
    let value: Vec<u8> = (0..540).flat_map(|_| (-1000_i16).to_le_bytes()).collect();
    let nan: Vec<u8> = (0..540).flat_map(|_| f32::NAN.to_le_bytes()).collect();
    assert_eq!(read_nnia("special_value_int16.nnia")?.bytes(), value);
    assert_eq!(read_nnia("special_nan_float32.nnia")?.bytes(), nan);
    Ok(())
}

#[test]
fn what_is_not_read_of_blosc2_is_named() -> Result {
    for (name, words) in [
        ("bitshuffle_int16.nnia", "it has a filter that is not read"),
        ("zlib_int16.nnia", "it is compressed by a codec that is not read"),
        ("special_uninit_float32.nnia", "it holds no values"),
    ] {
        let error = read_nnia(name).err().ok_or(name)?.to_string();
        assert!(error.contains(&format!("chunk 1 of the array: {words}")), "{error}");
    }
    Ok(())
}

#[test]
fn what_is_written_is_read_again_and_small_where_it_can_be() -> Result {
    // Blocks of all kinds: zero, compressed, stored, and a short one at the end.
    let mut bytes = vec![0; (7 << 19) + 3];
    bytes[1 << 20..][..1 << 20].copy_from_slice(&noise(1 << 20));
    bytes[2 << 20..].iter_mut().enumerate().for_each(|(n, v)| *v = (n / 1000) as u8);
    let array = Array::new(ElementType::U8, vec![bytes.len()], bytes)?;
    let (mut one, mut other) = (Vec::new(), Vec::new());
    nnia::write(&mut one, &array)?;
    vxa2::write(&mut other, &array)?;
    assert!(one.len() < (1 << 20) + (1 << 17), "{}", one.len());
    assert!(nnia::read(&mut one.as_slice(), 1 << 22)? == array);
    assert!(vxa2::read(&mut other.as_slice(), 1 << 22)? == array);

    let zero = Array::new(ElementType::F32, vec![64, 64, 64], vec![0; 1 << 20])?;
    let mut written = Vec::new();
    nnia::write(&mut written, &zero)?;
    assert_eq!(written.len(), 4 + 4 + 7 + 24 + 4 + 16 + 32);
    assert_eq!(nnia::read(&mut written.as_slice(), 1 << 20)?, zero);
    Ok(())
}

#[test]
fn parts_that_are_written_one_after_the_other_are_one_array() -> Result {
    let mut written = Vec::new();
    let mut writer = vxa2::Writer::new(&mut written, ElementType::U8, &[2, 3, 4])?;
    writer.push(&[1; 12])?;
    assert!(writer.push(&[0; 13]).is_err());
    writer.push(&[0; 12])?;
    writer.finish()?;
    let array = vxa2::read(&mut written.as_slice(), 24)?;
    assert_eq!(array.shape(), [2, 3, 4]);
    assert_eq!(array.bytes(), [[1; 12], [0; 12]].concat());
    let writer = vxa2::Writer::new(Vec::new(), ElementType::U8, &[2])?;
    assert!(writer.finish().is_err());
    Ok(())
}
