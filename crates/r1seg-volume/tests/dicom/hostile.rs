use std::fs;
use std::time::{Duration, Instant};

use r1seg_volume::{ErrorKind, ReadOptions, list_series, read, read_from};
use zip::CompressionMethod::Deflated;

use crate::builder::{
    DEFLATED, Dcm, EXPLICIT, IMPLICIT, Items, JPEG_2000, JPEG_LOSSLESS, JPEG_LS, PATIENT, RLE,
    Value, codes, error, load, load_with, series, write, zip,
};

/// The error of a series of which one file consists of these bytes.
fn error_with(bytes: &[u8]) -> r1seg_volume::Error {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &series(4));
    let path = folder.path().join("broken");
    fs::write(&path, bytes).unwrap();
    let error = read(folder.path(), &ReadOptions::default()).unwrap_err();
    assert_eq!(error.path(), Some(path.as_path()), "{error}");
    error
}

/// A slice of which element `tag` is made to be `raw`, header and all.
fn with_raw(tag: (u16, u16), raw: &[u8]) -> Vec<u8> {
    let mut file = Dcm::slice(4);
    file.elements.retain(|t, _| *t < tag);
    [file.file(), raw.to_vec()].concat()
}

#[test]
fn d8_broken_file_of_the_series_is_named() {
    let whole = Dcm::slice(4).file();
    for (bytes, text) in [
        (
            with_raw((0x28, 2), &[0x28, 0, 2, 0, b'u', b's', 2, 0, 1, 0]),
            "an element has no valid type (VR)",
        ),
        (
            with_raw((0x28, 2), &[0x28, 0, 2, 0, b'S', b'Q', 0, 0, 4, 0, 0, 0, 0x28, 0, 0x10, 0]),
            "a sequence holds something that is no item",
        ),
        (with_raw((0x28, 2), &[0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0]), "out of place"),
        (
            with_raw((0x28, 2), &[0x28, 0, 2, 0, b'U', b'T', 0, 0, 0xfe, 0xff, 0xff, 0xff]),
            "DICOM file ends early",
        ),
        (whole[..whole.len() - 1].to_vec(), "pixels are cut short: 48 bytes are needed, got 47"),
    ] {
        let error = error_with(&bytes);
        assert!(error.message().contains(text), "{error}");
        assert_eq!(error.kind(), ErrorKind::BadData);
    }
}

#[test]
fn d8_broken_file_of_no_series_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &series(5));
    fs::write(folder.path().join("broken"), &Dcm::slice(1).file()[..200]).unwrap();
    let loaded = read(folder.path(), &ReadOptions::default()).unwrap();
    assert_eq!(codes(&loaded), ["W-SKIPPED"]);
    let alone = tempfile::tempdir().unwrap();
    fs::write(alone.path().join("broken"), &Dcm::slice(1).file()[..200]).unwrap();
    assert_eq!(read(alone.path(), &ReadOptions::default()).unwrap_err().code(), "R-DCM-07");
}

#[test]
fn d8_odd_lengths_and_private_elements_do_no_harm() {
    let mut files = series(5);
    for file in &mut files {
        file.set((9, 0x1001), "UN", Value::Bytes(vec![7; 70_001]));
        file.set((0x29, 0x1010), "OB", Value::Bytes(vec![7; 3]));
    }
    assert_eq!(load(&files).volume, load(&series(5)).volume);
}

/// Sequences inside sequences.
fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Sequence(vec![]), |inner, _| {
        Value::Sequence(vec![Items::from([((0x9, 0x1002), ("SQ", inner))])])
    })
}

#[test]
fn d8_nesting_is_bounded() {
    for undefined_lengths in [false, true] {
        let mut files = series(5);
        for file in &mut files {
            file.undefined_lengths = undefined_lengths;
            file.set((9, 0x1002), "SQ", nested(20));
        }
        assert_eq!(load(&files).volume.shape(), [5, 4, 6]);
    }
    // 100 000 levels, which are never closed.
    let open = [9, 0, 2, 0x10, b'S', b'Q', 0, 0, 255, 255, 255, 255];
    let item = [0xfe, 0xff, 0, 0xe0, 255, 255, 255, 255];
    let raw = [open.as_slice(), &item].concat().repeat(100_000);
    let mut file = Dcm::slice(4);
    file.elements.retain(|t, _| *t < (9, 0));
    file.set((8, 0xffff), "SQ", nested(0));
    let text = error_bytes(&[file.file(), raw].concat());
    assert_eq!(text, "DICOM structure is broken: sequences are nested too deeply");
}

fn error_bytes(bytes: &[u8]) -> String {
    read_from(bytes, "stream", &ReadOptions::default()).unwrap_err().message()
}

#[test]
fn d8_claims_are_checked_before_anything_is_allocated() {
    let start = Instant::now();
    let mut files = series(5);
    for file in &mut files {
        file.words((0x28, 0x10), &[65535]).words((0x28, 0x11), &[65535]);
    }
    assert_eq!(error(&files).code(), "R-IN-07");
    // 5 x 1000 x 65535 voxels are allowed, but are not there.
    for file in &mut files {
        file.words((0x28, 0x10), &[1000]);
    }
    assert_eq!(error(&files).message(), "pixels are cut short: 131070000 bytes are needed, got 48");
    // A fragment of 4 GiB.
    let mut file = Dcm::slice(4);
    file.syntax = JPEG_2000;
    file.remove((0x7fe0, 0x10));
    let raw = [
        [0xe0, 0x7f, 0x10, 0, b'O', b'B', 0, 0, 255, 255, 255, 255].as_slice(),
        &[0xfe, 0xff, 0, 0xe0, 0, 0, 0, 0, 0xfe, 0xff, 0, 0xe0, 0xf0, 0xff, 0xff, 0xff, 1, 2],
    ];
    let error = error_with(&[file.file(), raw.concat()].concat());
    assert_eq!(error.message(), "pixels are cut short: 4294967280 bytes are needed, got 2");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn d8_deflated_data_set_is_inflated_up_to_the_limit() {
    let mut file = Dcm::slice(4);
    file.syntax = DEFLATED;
    file.set((9, 0x1001), "UN", Value::Bytes(vec![0; 30 << 20]));
    let bytes = file.file();
    assert!(bytes.len() < 100_000);
    let options = ReadOptions::default().with_max_bytes(1 << 20);
    let error = read_from(&*bytes, "x", &options).unwrap_err();
    assert!(error.message().starts_with("DICOM file ends early"), "{error}");
}

#[test]
fn d10_archives_are_capped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.zip");
    let code = |bytes: &[u8], options: &ReadOptions| {
        fs::write(&path, bytes).unwrap();
        let error = read(&path, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadData);
        error.message()
    };
    let options = ReadOptions::default().with_max_bytes(1 << 20);
    let zeros = vec![0; 3 << 20];
    let bomb = zip(&[("a", &zeros)], Deflated);
    assert!(bomb.len() < 10_000);
    assert_eq!(
        code(&bomb, &options),
        "bytes in the archive, inflated: 3145728; at most 1048576 are read"
    );
    // The directory says that the member has 10 bytes.
    let mut liar = bomb.clone();
    let size = (3_u32 << 20).to_le_bytes();
    for n in (0..liar.len() - 4).rev() {
        if liar[n..n + 4] == size {
            liar[n..n + 4].copy_from_slice(&10_u32.to_le_bytes());
        }
    }
    let text = "DICOM structure is broken: compressed data is corrupt";
    assert_eq!(code(&liar, &options), text);
    // The directory says that the member has 4 GB.
    let mut liar = bomb.clone();
    for n in (0..liar.len() - 4).rev() {
        if liar[n..n + 4] == size {
            liar[n..n + 4].copy_from_slice(&0xf000_0000_u32.to_le_bytes());
        }
    }
    let text = "zip archive: a member claims more than it can inflate to";
    assert_eq!(code(&liar, &ReadOptions::default()), text);
    let file = Dcm::slice(1).file();
    let good = zip(&[("a", &file)], Deflated);
    let central = good.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let mut encrypted = good.clone();
    encrypted[central + 8] |= 1;
    assert_eq!(code(&encrypted, &options), "zip archive: a member is encrypted");
    let mut method = good.clone();
    method[central + 10] = 14;
    let text = "zip archive: it uses a compression that is not supported";
    assert_eq!(code(&method, &options), text);
    assert!(code(&good[..good.len() - 30], &options).starts_with("zip archive is damaged"));
    assert_eq!(code(&zip(&[("a", b"x")], Deflated), &options), "no DICOM image among 1 files");
    // The last byte of the pixels, where only the checksum tells.
    let mut checksum = zip(&[("a", &file)], zip::CompressionMethod::Stored);
    let end = checksum.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    checksum[end - 1] ^= 1;
    let one = ReadOptions::default().with_min_axis(1);
    assert_eq!(code(&checksum, &one), "zip archive: data of a member is corrupt");
    let npy = zip(&[("arr_0.npy", b"\x93NUMPY")], Deflated);
    assert!(code(&npy, &options).starts_with("npy header"));
}

#[test]
fn nothing_that_names_a_patient_is_ever_said() {
    let broken: Vec<Vec<Dcm>> = {
        let mut all = vec![series(5), series(1), [series(5), vec![Dcm::slice(7)]].concat()];
        let mut two = series(5);
        two.iter_mut().for_each(|f| _ = f.series(&format!("1.{PATIENT}")));
        all.push([series(5), two].concat());
        for tag in Dcm::slice(0).elements.keys() {
            let mut files = series(5);
            for file in &mut files {
                file.text(*tag, "LO", PATIENT);
            }
            all.push(files);
        }
        all
    };
    for files in broken {
        let folder = tempfile::tempdir().unwrap();
        for (n, file) in files.iter().enumerate() {
            fs::write(folder.path().join(n.to_string()), file.file()).unwrap();
        }
        let options = ReadOptions::default();
        let mut said = match read(folder.path(), &options) {
            Ok(loaded) => format!("{:?} {:?}", loaded.warnings, loaded.volume.geometry()),
            Err(e) => format!("{e} {e:?} {:?}", e.remedy()),
        };
        said += &format!("{:?}", list_series(folder.path(), &options));
        let said = said.replace("number", "");
        assert!(!said.contains(PATIENT) && !said.contains("1.2.3"), "{said}");
    }
}

/// xorshift64*, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most.max(1)
    }
}

#[test]
fn d8_mutated_files_neither_panic_nor_hang() {
    let mut seeds = vec![];
    for syntax in [EXPLICIT, IMPLICIT, DEFLATED] {
        let mut file = Dcm::slice(1);
        file.syntax = syntax;
        seeds.push(file.file());
    }
    for (syntax, data) in crate::encoders::codestreams() {
        let mut file = Dcm::slice(1);
        file.bits(16, 16, true).fragments(syntax, &[data]);
        seeds.push(file.file());
    }
    assert!([RLE, JPEG_LOSSLESS, JPEG_LS, JPEG_2000].len() <= seeds.len());
    let options = ReadOptions::default().with_min_axis(1).with_allow_modality(true);
    let options = options.with_max_voxels(1 << 22);
    let (mut random, start, mut read_well) = (Random(0x9e37_79b9), Instant::now(), 0);
    let mut slowest = Duration::ZERO;
    for n in 0..4000 {
        let mut bytes = seeds[n % seeds.len()].clone();
        let pixels = bytes.len() - 260.min(bytes.len());
        for _ in 0..=random.below(6) {
            // Half of the changes hit the codestream.
            let from = if random.below(2) == 0 { pixels } else { 132 };
            let at = from + random.below(bytes.len() - from);
            match random.below(5) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.below(256) as u8,
                2 => bytes[at] = 255,
                3 => bytes.truncate(at.max(140)),
                _ => _ = bytes.splice(at..at, (0..random.below(9)).map(|n| n as u8)),
            }
            if bytes.len() <= pixels.max(132) + 1 {
                break;
            }
        }
        let before = Instant::now();
        read_well += usize::from(read_from(&*bytes, "mutated", &options).is_ok());
        slowest = slowest.max(before.elapsed());
    }
    assert!(0 < read_well && read_well < 4000, "{read_well}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn codec_errors_name_the_codec() {
    for (syntax, name) in
        [(RLE, "RLE"), (JPEG_LOSSLESS, "JPEG"), (JPEG_LS, "JPEG-LS"), (JPEG_2000, "JPEG 2000")]
    {
        let mut files = series(5);
        files[2].fragments(syntax, &[b"no codestream at all".to_vec()]);
        let error = load_with(&files, &ReadOptions::default()).unwrap_err();
        assert!(error.message().starts_with(&format!("{name} data cannot be decoded: ")));
        assert_eq!(error.code(), "R-DCM-12");
    }
}

#[test]
fn codestreams_that_are_cut_short_are_errors() {
    for (syntax, data) in crate::encoders::codestreams() {
        for cut in [2, data.len() / 8, data.len() / 4] {
            let mut files = series(5);
            files[2].fragments(syntax, &[data[..data.len() - cut - 2].to_vec()]);
            let error = load_with(&files, &ReadOptions::default()).unwrap_err();
            assert_eq!(error.code(), "R-DCM-12", "{syntax} {cut}");
        }
    }
}
