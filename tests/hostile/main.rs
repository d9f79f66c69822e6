//! What a stranger writes and only the facade reads, with random bytes changed: any answer but a
//! panic, a hang or memory without bound. The readers of other crates are fuzzed where they are.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use r1seg::{CheckpointSource, ErrorKind};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Far more than any answer takes, also on a machine that is busy.
const HANG: Duration = Duration::from_secs(10);

/// How long a target runs; `R1SEG_FUZZ_SECONDS` says otherwise.
fn seconds() -> u64 {
    std::env::var("R1SEG_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

fn data(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(case)
}

/// Numbers and words that sit at the edges of what is accepted.
const PIECES: [&str; 22] = [
    "0",
    "-1",
    "1",
    "3",
    "65535",
    "65536",
    "1000000",
    "4294967296",
    "18446744073709551615",
    "1e308",
    "-0.0",
    "1e-320",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "[1,1,1]",
    "[65536,1,1]",
    "[1024,1024,1024]",
    "\"lamed_llama\"",
    "\"longrope\"",
];

/// Bytes with a few places changed: a byte, a copy of another place, or a value in the place of
/// another one.
fn mutate(seed: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.next_u32() % 3 {
        if bytes.is_empty() {
            break;
        }
        let mut below = |end: usize| random.next_u64() as usize % end.max(1);
        let at = below(bytes.len());
        match below(5) {
            0 => bytes[at] = below(256) as u8,
            1 => bytes[at] = bytes[below(bytes.len())],
            2 => bytes.truncate(at),
            // What follows a colon, up to the end of the value's line.
            _ => {
                let Some(colon) = bytes[at..].iter().position(|b| *b == b':') else { continue };
                let start = at + colon + 1;
                let rest = &bytes[start..];
                let end = rest.iter().position(|b| b",}".contains(b)).unwrap_or(rest.len());
                bytes.splice(start..start + end, PIECES[below(PIECES.len())].bytes());
            }
        }
    }
    bytes
}

/// Changes one file of a checkpoint again and again; `part` gives the bytes that are changed, the
/// rest stays.
fn hold(case: &str, file: &str, part: fn(&[u8]) -> usize) -> (usize, usize) {
    let desk = tempfile::tempdir().unwrap();
    let folder = desk.path().join("model");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(data(case)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let original = fs::read(folder.join(file)).unwrap();
    let (head, rest) = original.split_at(part(&original));
    let source = CheckpointSource::Folder(folder.clone());

    let mut random = ChaCha8Rng::seed_from_u64(4);
    let (mut accepted, mut refused) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds()) {
        let mut bytes = mutate(head, &mut random);
        bytes.extend(rest);
        fs::write(folder.join(file), &bytes).unwrap();
        let begun = Instant::now();
        let summary = source.summary(None).unwrap();
        let took = begun.elapsed();
        let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
        assert!(took < HANG, "{took:?} for {}", text());
        match summary.problem {
            None => accepted += 1,
            Some(problem) => {
                refused += 1;
                assert!(
                    matches!(problem.kind(), ErrorKind::Model | ErrorKind::Missing),
                    "{problem:?} for {}",
                    text()
                );
            }
        }
    }
    (accepted, refused)
}

#[test]
fn t3_mutated_configs_never_panic_hang_or_take_memory() {
    for case in ["phi3", "phi3-longrope", "llama31", "qwen2", "mistral"] {
        let (accepted, refused) = hold(case, "config.json", <[u8]>::len);
        assert!(10 < accepted && 10 < refused, "{case}: {accepted} accepted, {refused} refused");
    }
}

#[test]
fn w3_mutated_headers_never_panic_hang_or_take_memory() {
    let header = |file: &[u8]| {
        let length = file.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        8 + usize::try_from(length).unwrap()
    };
    let (_, refused) = hold("phi3", "model.safetensors", header);
    assert!(10 < refused, "{refused} refused");
}

#[test]
fn w5_mutated_indices_never_panic_or_leave_their_folder() {
    let (accepted, refused) = hold("phi3-longrope", "model.safetensors.index.json", <[u8]>::len);
    assert!(10 < accepted && 10 < refused, "{accepted} accepted, {refused} refused");
}
