//! Headers of safetensors: what a file of another writer says, and files that lie.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::io::{Seek, SeekFrom, Write};

use r1seg_checkpoint::NumberFormat;
use r1seg_checkpoint::safetensors::{HeaderError, TensorInfo, parse_header, read_header};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// A file that the safetensors crate wrote.
fn written() -> Vec<u8> {
    let bytes = [0; 64];
    let view = |dtype, shape: &[usize], length: usize| {
        TensorView::new(dtype, shape.to_vec(), &bytes[..length]).unwrap()
    };
    let tensors = vec![
        ("a", view(Dtype::F32, &[2, 3], 24)),
        ("b.weight", view(Dtype::BF16, &[4], 8)),
        ("c", view(Dtype::I64, &[], 8)),
        ("d", view(Dtype::F8_E4M3, &[3], 3)),
    ];
    safetensors::serialize(tensors, None).unwrap()
}

/// Reads a file from a disk.
fn from_disk(bytes: &[u8]) -> Result<Vec<TensorInfo>, HeaderError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    read_header(&file)
}

#[test]
fn a_header_says_where_each_tensor_lies() {
    let file = written();
    let tensors = parse_header(&file).unwrap();
    let mut found: Vec<_> = tensors
        .iter()
        .map(|t| (t.name.as_str(), t.format, t.shape.as_slice(), t.range.end - t.range.start))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("a", NumberFormat::F32, [2, 3].as_slice(), 24),
            ("b.weight", NumberFormat::Bf16, &[4], 8),
            ("c", NumberFormat::I64, &[], 8),
            ("d", NumberFormat::F8E4M3, &[3], 3),
        ]
    );
    assert_eq!(tensors.last().unwrap().range.end, file.len() as u64);
    assert!(tensors.is_sorted_by_key(|tensor| tensor.range.start));
    assert_eq!(from_disk(&file).unwrap(), tensors);
}

#[test]
fn w3_a_changed_header_never_panics_and_reads_the_same_from_memory_and_from_a_disk() {
    let good = written();
    let header = 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    let mut random = ChaCha8Rng::seed_from_u64(15);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..=random.next_u32() % 3 {
            let at = random.next_u64() as usize % header;
            bytes[at] = match random.next_u32() % 3 {
                0 => random.next_u32() as u8,
                1 => bytes[at] ^ (1 << (random.next_u32() % 8)),
                _ => bytes[random.next_u64() as usize % header],
            };
        }
        bytes.truncate(bytes.len() - usize::from(random.next_u32().is_multiple_of(16)));
        match (parse_header(&bytes), from_disk(&bytes)) {
            (Ok(tensors), Ok(read)) => {
                assert_eq!(tensors, read);
                assert!(tensors.iter().all(|tensor| tensor.range.end <= bytes.len() as u64));
                accepted += 1;
            }
            (Err(parsed), Err(read)) => {
                let text = parsed.to_string();
                assert_eq!(text, read.to_string());
                assert!(!text.chars().any(char::is_control) && text.len() < 300, "{text:?}");
                refused += 1;
            }
            (parsed, read) => panic!("{parsed:?} in memory, {read:?} on a disk"),
        }
    }
    assert!(accepted > 30 && refused > 1000, "{accepted} accepted, {refused} refused");
}

#[test]
fn w3_a_file_that_ends_in_its_header_is_refused_by_its_lengths() {
    for (bytes, what) in [
        (vec![], "ends in its header"),
        (vec![0; 4], "ends in its header"),
        (9u64.to_le_bytes().to_vec(), "9 bytes in a file of 8 bytes"),
        (u64::MAX.to_le_bytes().to_vec(), "a header of 18446744073709551615 bytes"),
    ] {
        let error = parse_header(&bytes).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(from_disk(&bytes).unwrap_err().to_string(), error);
    }
}
