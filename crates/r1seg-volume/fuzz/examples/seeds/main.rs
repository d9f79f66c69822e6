//! Writes the inputs that fuzzing starts from: `cargo run --example seeds -- FOLDER` makes
//! `FOLDER/nifti`, `FOLDER/npy` and so on. They are what the tests of the readers are made of.

use std::io::{self, Cursor, Write};
use std::path::Path;
use std::{env, fs};

#[allow(dead_code, reason = "seeds are made, not read")]
#[path = "../../../tests/dicom/builder.rs"]
mod builder;
mod dicom;
#[path = "../../../tests/dicom/encoders.rs"]
mod encoders;
#[allow(dead_code, reason = "seeds are made, not read")]
#[path = "../../../tests/formats/builder.rs"]
mod files;

use files::{Nifti, gzip, npy, npy_with, nrrd};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

type Seed = (&'static str, Vec<u8>);

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or(io::Error::other("FOLDER is needed"))?;
    for (target, seeds) in [
        ("nifti", nifti_seeds()),
        ("npy", npy_seeds()),
        ("npz", npz_seeds()),
        ("nrrd", nrrd_seeds()),
        ("dicom", dicom::seeds()),
    ] {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}

/// Voxels that make a window, a percentile and a box worth computing.
fn ramp(voxels: i16) -> impl Iterator<Item = i16> {
    (0..voxels).map(|n| n * 37 % 2048 - 1024)
}

fn nifti_seeds() -> Vec<Seed> {
    let n = Nifti::new([4, 5, 6]);
    let i16s: Vec<u8> = ramp(120).flat_map(i16::to_le_bytes).collect();
    let i16s_big: Vec<u8> = ramp(120).flat_map(i16::to_be_bytes).collect();
    let f32s: Vec<u8> = ramp(120).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let short = Nifti { datatype: 4, bitpix: 16, ..n.clone() };
    let float = Nifti { datatype: 16, bitpix: 32, ..n.clone() };
    let typed = |datatype, bitpix: i16| {
        let n = Nifti { datatype, bitpix, ..n.clone() };
        n.file(&i16s.repeat(4)[..120 * bitpix.unsigned_abs() as usize / 8])
    };
    let dims = |dim: [i64; 8]| Nifti { dim, ..n.clone() };
    let qform = Nifti { sform_code: 0, qform_code: 1, ..short.clone() };
    let mut nan = f32s.clone();
    nan[..12].copy_from_slice(
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(f32::to_le_bytes).as_flattened(),
    );
    let mut ends = f32s.clone();
    ends[..8].copy_from_slice([f32::MIN, f32::MAX].map(f32::to_le_bytes).as_flattened());
    let packed = gzip(&short.file(&i16s));
    let mut wrong_crc = packed.clone();
    let crc = wrong_crc.len() - 8;
    wrong_crc[crc] ^= 1;
    let counting = n.counting();
    let (first, second) = counting.split_at(200);
    let extended = {
        let mut file = Nifti { vox_offset: 384.0, ..short.clone() }.file(&i16s);
        file[348..360].copy_from_slice(&[1, 0, 0, 0, 32, 0, 0, 0, 6, 0, 0, 0]);
        file[360..367].copy_from_slice(b"PATIENT");
        file
    };
    let place = |srow| Nifti { srow, ..n.clone() }.counting();
    vec![
        ("u8", counting.clone()),
        ("i16", short.file(&i16s)),
        ("f32", float.file(&f32s)),
        ("i32", typed(8, 32)),
        ("f64", typed(64, 64)),
        ("i8", typed(256, 8)),
        ("u16", typed(512, 16)),
        ("u32", typed(768, 32)),
        ("i64", typed(1024, 64)),
        ("u64", typed(1280, 64)),
        ("n1-bomb", gzip(&[counting.clone(), vec![0; 1 << 20]].concat())),
        ("n2-dims", dims([7, 32767, 32767, 32767, 32767, 32767, 32767, 32767]).file(&[])),
        ("n2-dims-64", dims([7, i64::MAX, i64::MAX, 9, 9, 9, 9, 9]).version_2().file(&[])),
        ("n3-claim", dims([3, 100, 100, 100, 1, 1, 1, 1]).file(&[0; 100])),
        ("n4-dim0", [dims([0, 4, 4, 4, 1, 1, 1, 1]).header(), vec![0; 68]].concat()),
        ("n5-big", Nifti { big: true, ..short.clone() }.file(&i16s_big)),
        ("n5-two", short.clone().version_2().file(&i16s)),
        ("n5-two-big", Nifti { big: true, ..short.clone().version_2() }.file(&i16s_big)),
        ("n6-bitpix", Nifti { bitpix: 8, ..short.clone() }.file(&i16s)),
        ("n7-gzip", packed.clone()),
        ("n7-crc", wrong_crc),
        ("n7-cut", packed[..packed.len() - 20].to_vec()),
        ("n7-garbage", [packed, vec![7; 9]].concat()),
        ("n7-members", [gzip(first), gzip(second)].concat()),
        ("n8-slope", Nifti { scale: [-0.5, 12.0], ..short.clone() }.file(&i16s)),
        ("n8-zero", Nifti { scale: [0.0, 3.0], ..short.clone() }.file(&i16s)),
        ("n8-nan", Nifti { scale: [f64::NAN, f64::NAN], ..short.clone() }.file(&i16s)),
        ("n8-large", Nifti { scale: [1e37, 0.0], ..short.clone() }.file(&i16s)),
        ("n9-nan", float.file(&nan)),
        ("n9-ends", float.file(&ends)),
        ("n9-all", float.file(&f32::NAN.to_le_bytes().repeat(120))),
        ("n10-both", Nifti { qform_code: 1, qoffset: [5.0; 3], ..short.clone() }.file(&i16s)),
        ("n11-none", Nifti { sform_code: 0, ..short.clone() }.file(&i16s)),
        ("n12-singular", place([[1.0, 0.0, 0.0, 0.0]; 3])),
        ("n12-negative", Nifti { pixdim: [-1.0; 8], ..qform.clone() }.file(&i16s)),
        ("n13-qform", Nifti { quatern: [0.1, 0.2, 0.9], ..qform.clone() }.file(&i16s)),
        (
            "n13-shear",
            place([[0.7, 0.1, 0.0, -90.5], [0.0, -0.7, 0.2, 120.0], [0.0, 0.0, 5.0, 1e3]]),
        ),
        ("n14-frames", dims([4, 4, 5, 6, 3, 1, 1, 1]).counting()),
        ("n14-one", dims([5, 4, 5, 6, 1, 1, 1, 1]).counting()),
        ("n15-rgb", typed(128, 24)),
        ("n15-complex", typed(32, 64)),
        ("n16-constant", short.file(&(-1024_i16).to_le_bytes().repeat(120))),
        ("n17-slice", Nifti::new([4, 5, 1]).counting()),
        ("n17-two", dims([2, 4, 5, 1, 1, 1, 1, 1]).counting()),
        ("n18-pair", Nifti { magic: b"ni1\0", ..short.clone() }.header()),
        ("n19-extension", extended),
        ("meters", Nifti { units: 1, ..short.clone() }.file(&i16s)),
        ("micrometers", Nifti { units: 3, ..short.version_2() }.file(&i16s)),
    ]
}

fn npy_seeds() -> Vec<Seed> {
    const SHAPE: &str = "(4, 5, 6)";
    let i16s: Vec<u8> = ramp(120).flat_map(i16::to_le_bytes).collect();
    let f32s: Vec<u8> = ramp(120).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let units: Vec<u8> = (0..120_u8).flat_map(|v| (f32::from(v) / 119.0).to_le_bytes()).collect();
    let mut nan = f32s.clone();
    nan[..8].copy_from_slice([f32::NAN, f32::INFINITY].map(f32::to_le_bytes).as_flattened());
    let mut ends = f32s.clone();
    ends[..8].copy_from_slice([f32::MIN, f32::MAX].map(f32::to_le_bytes).as_flattened());
    let bytes: Vec<u8> = (0..120).collect();
    let longer = |version: u8, length: u32| {
        let mut file = npy("|u1", "False", SHAPE, &bytes);
        file[6] = version;
        let length = if length == 0 { u32::from(file[8]) } else { length };
        file.splice(8..10, length.to_le_bytes());
        file
    };
    vec![
        ("u1", npy("|u1", "False", SHAPE, &bytes)),
        ("b1", npy("|b1", "False", SHAPE, &bytes)),
        ("i2", npy("<i2", "False", SHAPE, &i16s)),
        ("f4", npy("<f4", "False", SHAPE, &f32s)),
        ("version-2", longer(2, 0)),
        ("version-3", longer(3, 0)),
        ("version-9", longer(9, 0)),
        ("p1-object", npy("|O", "False", SHAPE, b"\x80\x04\x95")),
        ("p1-fields", npy_with("{'descr': [('a', '<f4')], 'fortran_order': False}", &f32s)),
        ("p2-header", longer(2, u32::MAX)),
        ("p2-wraps", npy("<f8", "False", "(4294967296, 4294967296, 4294967296)", &[])),
        ("p3-fortran", npy("<i2", "True", SHAPE, &i16s)),
        ("p3-big", npy(">i2", "False", SHAPE, &i16s)),
        ("p3-f2", npy("<f2", "False", SHAPE, &i16s)),
        ("p3-f8", npy("<f8", "False", "(4, 5, 3)", &f32s)),
        ("p3-i1", npy("|i1", "False", SHAPE, &bytes)),
        ("p3-u2", npy(">u2", "False", SHAPE, &i16s)),
        ("p3-u4", npy("<u4", "True", SHAPE, &f32s)),
        ("p3-i4", npy("<i4", "False", SHAPE, &f32s)),
        ("p3-u8", npy("<u8", "False", "(4, 5, 3)", &f32s)),
        ("p3-i8", npy(">i8", "False", "(4, 5, 3)", &f32s)),
        ("p4-short", npy("<i2", "False", SHAPE, &i16s[..230])),
        ("p4-long", npy("<i2", "False", "(4, 5, 4)", &i16s)),
        ("p4-claim", npy("<i2", "False", "(100, 100, 100)", &i16s)),
        ("p5-leading", npy("<i2", "False", "(1, 4, 5, 6)", &i16s)),
        ("p5-leading-fortran", npy("<i2", "True", "(1, 4, 5, 6)", &i16s)),
        ("p5-last", npy("|u1", "False", "(6, 6, 3)", &bytes[..108])),
        ("p5-four", npy("|u1", "False", "(2, 3, 4, 5)", &bytes)),
        ("p5-one", npy("|b1", "False", "(1, 1, 1, 1)", &[0])),
        ("p5-none", npy("<f4", "False", "()", &f32s[..4])),
        ("p5-zero", npy("<f4", "False", "(0, 4, 4)", &[])),
        ("p6-unit", npy("<f4", "False", SHAPE, &units)),
        ("python-2", npy("<i2", "False", "(4L, 5L, 6L)", &i16s)),
        ("nan", npy("<f4", "False", SHAPE, &nan)),
        ("ends", npy("<f4", "False", SHAPE, &ends)),
        ("constant", npy("|u1", "False", SHAPE, &[7; 120])),
        ("gzip", gzip(&npy("<i2", "False", SHAPE, &i16s))),
    ]
}

fn npz_seeds() -> Vec<Seed> {
    const STORED: CompressionMethod = CompressionMethod::Stored;
    const DEFLATED: CompressionMethod = CompressionMethod::Deflated;
    let npz = |method, members: &[(&str, &[u8])]| {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method).large_file(true);
        for (name, bytes) in members {
            archive.start_file(*name, options).expect("a plain name");
            archive.write_all(bytes).expect("memory takes everything");
        }
        archive.finish().expect("memory takes everything").into_inner()
    };
    let counting = npy("|u1", "False", "(4, 5, 6)", &(0..120).collect::<Vec<u8>>());
    let other = npy("<i2", "True", "(3, 4, 5)", &[7; 120]);
    let one = npz(STORED, &[("arr_0.npy", &counting)]);
    let mut wrong_crc = one.clone();
    let last = wrong_crc.windows(4).position(|w| w == b"PK\x01\x02").expect("a directory") - 1;
    wrong_crc[last] ^= 1;
    let bomb = npy("|u1", "False", "(64, 64, 64)", &[0; 64 * 64 * 64]);
    vec![
        ("stored", one.clone()),
        ("deflated", npz(DEFLATED, &[("arr_0.npy", &counting)])),
        ("p7-several", npz(STORED, &[("a.npy", &counting), ("b.npy", &other)])),
        ("p7-deflated", npz(DEFLATED, &[("a.npy", &counting), ("b.npy", &other)])),
        ("p7-bomb", npz(DEFLATED, &[("arr_0.npy", &bomb)])),
        ("twice", [one.clone(), npz(STORED, &[("a.npy", &other)])].concat()),
        ("no-array", npz(STORED, &[("readme.txt", b"x"), ("../a", &counting)])),
        ("not-npy", npz(STORED, &[("a.npy", b"x")])),
        ("object", npz(STORED, &[("a.npy", &npy("|O", "False", "(4, 5, 6)", b"\x80\x04"))])),
        ("empty", npz(STORED, &[])),
        ("crc", wrong_crc),
        ("cut", one[..one.len() - 30].to_vec()),
        ("gzip", gzip(&one)),
    ]
}

fn nrrd_seeds() -> Vec<Seed> {
    const U8: [&str; 2] = ["type: uchar", "encoding: raw"];
    const I16: [&str; 3] = ["type: short", "endian: little", "encoding: raw"];
    let bytes: Vec<u8> = (0..120).collect();
    let i16s: Vec<u8> = ramp(120).flat_map(i16::to_le_bytes).collect();
    let f32s: Vec<u8> = ramp(120).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let text: Vec<u8> = ramp(120).flat_map(|v| format!("{v} ").into_bytes()).collect();
    let with = |fields: &[&str]| nrrd(&[&U8, fields].concat(), &bytes);
    let typed = |kind: &str, data: &[u8]| {
        nrrd(&[format!("type: {kind}").as_str(), "endian: big", "encoding: raw"], data)
    };
    vec![
        ("u8", with(&[])),
        ("i16", nrrd(&I16, &i16s)),
        ("u16", typed("ushort", &i16s)),
        ("i32", typed("int", &f32s)),
        ("f32", typed("float", &f32s)),
        ("f64", typed("double", &f32s.repeat(2))),
        ("i64", typed("int64", &f32s.repeat(2))),
        ("gzip", nrrd(&["type: short", "endian: little", "encoding: gzip"], &gzip(&i16s))),
        ("gzipped", gzip(&with(&[]))),
        ("text", nrrd(&["type: short", "encoding: ascii"], &text)),
        ("text-float", nrrd(&["type: float", "encoding: txt"], b"nan, -inf 1e300 2 ")),
        ("hex", nrrd(&["type: uchar", "encoding: hex"], b"0102")),
        ("block", with(&["type: block", "block size: 3"])),
        ("spaces", with(&["space: RAS", "kinds: domain domain domain", "space units: \"m\""])),
        ("oblique", with(&["space directions: (0,2,0) (0.6,0,-0.8) (1,0,3)", "space: LAS"])),
        (
            "list",
            nrrd(
                &[
                    "type: uchar",
                    "encoding: raw",
                    "dimension: 4",
                    "sizes: 1 4 5 6",
                    "space directions: none (2,0,0) (0,3,0) (0,0,4)",
                    "kinds: list domain domain domain",
                ],
                &bytes,
            ),
        ),
        ("spacings", with(&["space:", "space directions:", "space origin:", "spacings: 1 2 nan"])),
        ("bare", with(&["space:", "space directions:", "space origin:"])),
        ("singular", with(&["space directions: (1,0,0) (1,0,0) (0,0,1)"])),
        (
            "skip",
            nrrd(
                &[&U8[..], &["line skip: 1", "byte skip: 3"]].concat(),
                &[b"a\n123", &bytes[..]].concat(),
            ),
        ),
        ("from-end", nrrd(&[&U8[..], &["byte skip: -1"]].concat(), &[b"123", &bytes[..]].concat())),
        (
            "detached",
            nrrd(&["type: short", "endian: big", "encoding: raw", "data file: voxels"], &[]),
        ),
        ("detached-list", with(&["data file: LIST", "a", "b"])),
        ("detached-away", with(&["data file: ../voxels"])),
        ("frames", with(&["dimension: 4", "sizes: 2 4 5 3"])),
        ("claim", with(&["sizes: 1000000 1000000 1000000"])),
        ("wraps", with(&["sizes: 18446744073709551615 2 2"])),
        ("short", with(&["sizes: 4 5 7"])),
        ("long", with(&["sizes: 4 5 5"])),
        (
            "n19",
            with(&["content: NAME^PATIENT", "# PATIENT", "PATIENT:=PATIENT", "units: PATIENT"]),
        ),
    ]
}
