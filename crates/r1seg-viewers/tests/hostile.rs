//! Bytes that are not an array, or not the one that they declare: an error each, no panic, and no memory
//! for what they claim.

use r1seg_viewers::{Array, ChunkFault, ElementType, Error, nnia, vxa2};

const LIMIT: u64 = 1 << 20;
/// Where the chunk begins in an array of three axes of bytes in nnInteractive's framing.
const CHUNK: usize = 8 + "uint8".len() + 24 + 4 + 16;

fn written() -> Result<Vec<u8>, Error> {
    let bytes: Vec<u8> = (0..60_000_u32).map(|n| (n / 100 % 7) as u8).collect();
    let array = Array::new(ElementType::U8, vec![60, 100, 10], bytes)?;
    let mut out = Vec::new();
    nnia::write(&mut out, &array)?;
    Ok(out)
}

fn read(bytes: &[u8]) -> Result<Array, Error> {
    nnia::read(&mut &*bytes, LIMIT)
}

/// An array of `shape` bytes in one chunk.
fn around(shape: [u64; 3], chunk: &[u8]) -> Vec<u8> {
    let mut bytes = b"NNIA\x01\x01\x03\x05uint8".to_vec();
    shape.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
    bytes.extend(1_u32.to_le_bytes());
    let product = shape.iter().fold(1_u64, |all, size| all.wrapping_mul(*size));
    bytes.extend(product.to_le_bytes());
    bytes.extend((chunk.len() as u64).to_le_bytes());
    bytes.extend(chunk);
    bytes
}

/// A chunk of blocks with bytes of one size each: offsets, then `body`.
fn chunk(bytes: i32, block: i32, flags: u8, offsets: &[i32], body: &[u8]) -> Vec<u8> {
    let mut chunk = vec![5, 1, flags, 1];
    let whole = 32 + 4 * offsets.len() + body.len();
    [bytes, block, whole as i32].iter().for_each(|v| chunk.extend(v.to_le_bytes()));
    chunk.resize(32, 0);
    offsets.iter().for_each(|v| chunk.extend(v.to_le_bytes()));
    chunk.extend(body);
    chunk
}

/// What is wrong with the chunk of an array.
fn fault(bytes: &[u8]) -> Option<ChunkFault> {
    match read(bytes) {
        Err(Error::Chunk { fault, .. }) => Some(fault),
        _ => None,
    }
}

#[test]
fn an_array_cut_anywhere_is_an_error() {
    let bytes = written().unwrap();
    assert!(read(&bytes).is_ok());
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
    assert!(matches!(read(&[bytes, vec![0]].concat()), Err(Error::Trailing)));
}

#[test]
fn a_changed_byte_gives_an_error_or_an_array_of_the_declared_size() {
    let bytes = written().unwrap();
    for at in 0..bytes.len() {
        for changed in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x10] {
            let mut bytes = bytes.clone();
            bytes[at] = changed;
            if let Ok(array) = read(&bytes) {
                let count: usize = array.shape().iter().product();
                assert_eq!(array.bytes().len(), count * array.element().size());
            }
        }
    }
}

#[test]
fn a_declared_size_is_held_against_the_limit_before_memory_is_reserved() {
    let zero = chunk(i32::MAX, 1 << 20, 0x95, &[], &[]);
    for shape in [[1 << 40, 1, 1], [1 << 20, 2, 1], [u64::MAX >> 1, 1, 1]] {
        let error = read(&around(shape, &zero)).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: LIMIT, .. }), "{error}");
    }
    let overflowing = read(&around([1 << 40, 1 << 40, 1 << 40], &zero)).unwrap_err();
    let negative = read(&around([u64::MAX, 1, 1], &zero)).unwrap_err();
    let empty = read(&around([0, 1, 1], &zero)).unwrap_err();
    assert!(matches!((overflowing, negative, empty), (Error::Size, Error::Size, Error::Size)));

    let mut bytes = b"VXA2\x03|u1\x01".to_vec();
    bytes.extend([(1_u64 << 50).to_le_bytes(), (1_u64 << 50).to_le_bytes()].concat());
    let error = vxa2::read(&mut bytes.as_slice(), LIMIT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the array declares 1125899906842624 bytes; at most 1048576 are read"
    );
}

#[test]
fn an_array_that_is_not_let_in_is_not_read() {
    let bytes = written().unwrap();
    let mut asked = 0;
    let admit = |bytes| {
        asked = bytes;
        false
    };
    let error = nnia::read_if(&mut bytes.as_slice(), LIMIT, admit).unwrap_err();
    assert!(matches!(error, Error::Memory { bytes: 60_000 }), "{error}");
    assert_eq!(asked, 60_000);
}

#[test]
fn a_header_that_is_none_of_the_framings_says_what_is_wrong() {
    let good = written().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        read(&bytes).unwrap_err().to_string()
    };
    assert_eq!(with(0, b'V'), "the array does not begin with `NNIA`");
    assert_eq!(with(4, 2), "the array has version 2 of its framing; 1 is read");
    assert_eq!(with(5, 9), "the array has codec 9; 1 (zstd) and 2 (lz4) are known");
    assert_eq!(with(6, 9), "the array has 9 axes; 1 to 8 are read");
    assert!(with(8, 0xff).starts_with("the elements of the array are of a type that is not read"));
    let one = Array::new(ElementType::U8, vec![2], vec![1, 2]).unwrap();
    let mut bytes = Vec::new();
    vxa2::write(&mut bytes, &one).unwrap();
    bytes[17] = 3;
    let error = vxa2::read(&mut bytes.as_slice(), LIMIT).unwrap_err();
    assert_eq!(error.to_string(), "the array declares 3 bytes, and its shape has 2");
}

#[test]
fn blocks_are_found_by_their_offsets_in_any_order() {
    // The second block lies first: a run of 9, then 50 bytes as they are.
    let plain: Vec<u8> = (0..50).collect();
    let body = [&[0xf7, 0xff, 0xff, 0xff, 1][..], &[50, 0, 0, 0], &plain].concat();
    let array = read(&around([100, 1, 1], &chunk(100, 50, 0x95, &[45, 40], &body))).unwrap();
    assert_eq!(array.bytes(), [plain, vec![9; 50]].concat());
    // Two blocks may be one and the same, of zeros here.
    let array = read(&around([100, 1, 1], &chunk(100, 50, 0x95, &[40, 40], &[0; 4]))).unwrap();
    assert_eq!(array.bytes(), [0; 100]);
}

#[test]
fn chunks_that_contradict_themselves_are_refused() {
    let body = [0; 4];
    let good = around([50, 1, 1], &chunk(50, 50, 0x95, &[36], &body));
    assert_eq!(read(&good).unwrap().bytes(), [0; 50]);
    let of = |chunk: Vec<u8>| fault(&around([50, 1, 1], &chunk));
    for offset in [-1, i32::MIN, 41, i32::MAX] {
        assert_eq!(of(chunk(50, 50, 0x95, &[offset], &body)), Some(ChunkFault::Block));
    }
    assert_eq!(of(chunk(50, 1, 0x95, &[36], &[])), Some(ChunkFault::Block));
    assert_eq!(of(chunk(50, 0, 0x95, &[36], &body)), Some(ChunkFault::Sizes));
    assert_eq!(of(chunk(50, -1, 0x95, &[36], &body)), Some(ChunkFault::Sizes));
    assert_eq!(of(chunk(50, 51, 0x95, &[36], &body)), Some(ChunkFault::Sizes));
    assert_eq!(of(chunk(51, 51, 0x95, &[36], &body)), Some(ChunkFault::Declared));
    assert_eq!(of(chunk(50, 50, 0x90, &[36], &body)), Some(ChunkFault::OldHeader));
    assert_eq!(of(chunk(50, 50, 0xf5, &[36], &body)), Some(ChunkFault::Codec));
    assert_eq!(of(chunk(50, 50, 0x97, &[36], &body)), Some(ChunkFault::Sizes));
    // What is longer than the bytes as they are.
    assert_eq!(of(chunk(50, 50, 0x95, &[36], &[0; 50])), Some(ChunkFault::Sizes));
    // A run of more than a byte, and a token that says something else.
    for run in [[0, 0xff, 0xff, 0xff, 1], [0xf7, 0xff, 0xff, 0xff, 2]] {
        assert_eq!(of(chunk(50, 50, 0x95, &[36], &run)), Some(ChunkFault::Compressed));
    }
    // Each codec's idea of these two bytes.
    for flags in [0x15, 0x35, 0x95] {
        assert_eq!(
            of(chunk(50, 50, flags, &[36], &[2, 0, 0, 0, 0xff, 0xff])),
            Some(ChunkFault::Compressed)
        );
    }
    let mut version = good.clone();
    version[CHUNK] = 4;
    assert_eq!(fault(&version), Some(ChunkFault::Version(4)));
    let mut dictionary = good.clone();
    dictionary[CHUNK + 31] = 1;
    assert_eq!(fault(&dictionary), Some(ChunkFault::Option));
    let mut no_size = good;
    no_size[CHUNK + 3] = 0;
    assert_eq!(fault(&no_size), Some(ChunkFault::Sizes));
}

#[test]
fn a_frame_of_zstd_that_unfolds_too_far_ends_at_the_block() {
    // One block that repeats a byte 2^17 times, in a frame that does not say its size.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 0x03, 0, 0x10, 7];
    let body = [&(frame.len() as i32).to_le_bytes()[..], &frame].concat();
    let bytes = around([1000, 1, 1], &chunk(1000, 1000, 0x95, &[36], &body));
    assert_eq!(fault(&bytes), Some(ChunkFault::Compressed));
    let bytes = around([1 << 17, 1, 1], &chunk(1 << 17, 1 << 17, 0x95, &[36], &body));
    assert_eq!(read(&bytes).unwrap().bytes(), vec![7; 1 << 17]);
}
