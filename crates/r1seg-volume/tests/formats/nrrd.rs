use std::fs;

use r1seg_volume::{AffineSource, Error, ErrorKind, ReadOptions, SourceKind, read};

use crate::builder::{code, gzip, load, nrrd, warnings};

const U8_RAW: [&str; 2] = ["type: uchar", "encoding: raw"];

fn counting() -> Vec<u8> {
    (0..120).collect()
}

fn with(fields: &[&'static str]) -> Vec<u8> {
    nrrd(&[&U8_RAW, fields].concat(), &counting())
}

#[test]
fn voxels_are_in_d_h_w_order_and_the_world_becomes_ras() {
    let loaded = load(&with(&[])).unwrap();
    assert_eq!((loaded.kind, loaded.warnings.len()), (SourceKind::Nrrd, 0));
    let volume = loaded.volume;
    assert_eq!(volume.shape(), [6, 5, 4]);
    let at = |k: usize, j: usize, i: usize| volume.voxels().get((k * 5 + j) * 4 + i);
    assert_eq!(
        (at(0, 0, 3), at(0, 1, 0), at(1, 0, 0), at(5, 4, 3)),
        (Some(3.0), Some(4.0), Some(20.0), Some(119.0))
    );
    let g = volume.geometry();
    assert_eq!(g.affine_source(), AffineSource::Nrrd);
    assert_eq!(
        g.affine().unwrap()[..3],
        [[-2.0, 0.0, 0.0, -10.0], [0.0, -3.0, 0.0, -20.0], [0.0, 0.0, 4.0, 30.0]]
    );
    assert_eq!(g.orientation().map(|o| o.to_string()).as_deref(), Some("LPS"));
}

#[test]
fn each_anatomical_space_has_its_signs() {
    for (space, x, y) in [
        ("space: LPS", -1.0, -1.0),
        ("space: RAS", 1.0, 1.0),
        ("space: right-anterior-superior", 1.0, 1.0),
        ("space: left-anterior-superior", -1.0, 1.0),
    ] {
        let g = load(&with(&[space])).unwrap().volume.geometry().clone();
        assert_eq!(g.world_mm([1.0, 1.0, 1.0]), Some([12.0 * x, 23.0 * y, 34.0]), "{space}");
    }
}

#[test]
fn oblique_directions_are_columns_of_the_affine() {
    let directions = "space directions: (0,2,0) (0.6,0,-0.8) (1,0,3)";
    let loaded = load(&with(&[directions, "space: RAS"])).unwrap();
    assert_eq!(
        loaded.volume.geometry().affine().unwrap()[..3],
        [[0.0, 0.6, 1.0, 10.0], [2.0, 0.0, 0.0, 20.0], [0.0, -0.8, 3.0, 30.0]]
    );
    assert_eq!(loaded.warnings[0].code, "W-SHEAR");
}

#[test]
fn a_space_that_does_not_name_its_sides_is_a_guess() {
    for fields in [
        &["space: scanner-xyz"][..],
        &["space: 3D-right-handed"],
        &["space:", "space dimension: 3"],
        &["space origin:"],
        &["space directions:", "spacings: 2 3 4"],
    ] {
        let bytes = with(fields);
        assert_eq!(warnings(&bytes), ["W-GEOM-GUESS"], "{fields:?}");
        let g = load(&bytes).unwrap().volume.geometry().clone();
        assert_eq!(g.spacing_mm(), Some([4.0, 3.0, 2.0]));
        assert_eq!(g.orientation().map(|o| o.to_string()).as_deref(), Some("LPS"));
    }
    let bare = with(&["space directions:", "space origin:", "space:"]);
    assert_eq!(warnings(&bare), ["W-GEOM"]);
    assert_eq!(load(&bare).unwrap().volume.geometry().affine(), None);
}

#[test]
fn units_other_than_mm_are_told() {
    assert_eq!(warnings(&with(&[r#"space units: "mm" "mm" "mm""#])), [""; 0]);
    assert_eq!(warnings(&with(&[r#"space units: "um" "um" "um""#])), ["W-UNITS"]);
}

#[test]
fn directions_without_a_volume_are_refused() {
    for directions in [
        "space directions: (1,0,0) (0,1,0) (0,2,0)",
        "space directions: (1,0,0) (0,0,0) (0,0,1)",
        "space directions: (1,0,0) (0,inf,0) (0,0,1)",
    ] {
        assert_eq!(code(&with(&[directions])), "R-NRD-11");
    }
    assert_eq!(code(&with(&["space directions:", "spacings: 1 nan 1"])), "R-NRD-11");
}

#[test]
fn every_encoding_and_byte_order_gives_the_same_volume() {
    let voxels: Vec<i16> = (0..120).map(|v| v * 100 - 3000).collect();
    let little: Vec<u8> = voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let big: Vec<u8> = voxels.iter().flat_map(|v| v.to_be_bytes()).collect();
    let text: Vec<String> = voxels.iter().map(i16::to_string).collect();
    let expected: Vec<f32> = voxels.iter().map(|v| f32::from(*v)).collect();
    for bytes in [
        nrrd(&["type: short", "encoding: raw", "endian: little"], &little),
        nrrd(&["type: int16_t", "encoding: raw", "endian: big"], &big),
        nrrd(&["type: short", "encoding: gzip", "endian: big"], &gzip(&big)),
        nrrd(&["type: short", "encoding: gz", "endian: little"], &gzip(&little)),
        nrrd(&["type: int", "encoding: ascii"], text.join(" ").as_bytes()),
        nrrd(&["type: double", "encoding: txt"], text.join(",\n").as_bytes()),
    ] {
        let loaded = load(&bytes).unwrap();
        assert_eq!((&*loaded.volume.voxels().to_f32(), loaded.warnings.len()), (&*expected, 0));
        assert_eq!(load(&gzip(&bytes)).unwrap().volume, loaded.volume);
    }
}

#[test]
fn every_number_type_is_read() {
    let bytes = |size: usize, encode: fn(u8) -> [u8; 8]| -> Vec<u8> {
        (0..120).flat_map(|v| encode(v)[..size].to_vec()).collect()
    };
    let whole: fn(u8) -> [u8; 8] = |v| u64::from(v).to_le_bytes();
    let expected: Vec<f32> = (0..120_u8).map(f32::from).collect();
    for (name, data) in [
        ("signed char", bytes(1, whole)),
        ("uint8", bytes(1, whole)),
        ("short int", bytes(2, whole)),
        ("ushort", bytes(2, whole)),
        ("int32_t", bytes(4, whole)),
        ("unsigned int", bytes(4, whole)),
        ("long long", bytes(8, whole)),
        ("ulonglong", bytes(8, whole)),
        ("float", bytes(4, |v| [f32::from(v).to_le_bytes(), [0; 4]].concat().try_into().unwrap())),
        ("double", bytes(8, |v| f64::from(v).to_le_bytes())),
    ] {
        let kind = format!("type: {name}");
        let file = nrrd(&[&kind, "encoding: raw", "endian: little"], &data);
        assert_eq!(*load(&file).unwrap().volume.voxels().to_f32(), expected, "{name}");
    }
}

#[test]
fn lines_and_bytes_in_front_of_the_voxels_are_skipped() {
    let data = [b"one\ntwo\nxyz".as_slice(), &counting()].concat();
    let plain = load(&with(&[])).unwrap().volume;
    let skips = ["line skip: 2", "byte skip: 3"];
    assert_eq!(load(&nrrd(&[&U8_RAW[..], &skips].concat(), &data)).unwrap().volume, plain);
    // Lines are in front of the compressed data, bytes in it.
    let packed = [b"one\n".as_slice(), &gzip(&[b"xyz".as_slice(), &counting()].concat())].concat();
    let fields = ["type: uchar", "encoding: gzip", "line skip: 1", "byte skip: 3"];
    assert_eq!(load(&nrrd(&fields, &packed)).unwrap().volume, plain);
    assert_eq!(code(&with(&["line skip: 7"])), "R-NRD-01");
    assert_eq!(code(&with(&["byte skip: 99999999999"])), "R-NRD-01");
    let lines = [with(&["line skip: 99999999"]), vec![b'\n'; 5 << 20]].concat();
    assert_eq!(
        load(&gzip(&lines)).unwrap_err().message(),
        "NRRD header is not readable: line skip goes over more than 4 MiB"
    );
}

#[test]
fn a_byte_skip_of_minus_one_takes_the_last_bytes_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.nrrd");
    let data = [b"some other header".as_slice(), &counting()].concat();
    let bytes = nrrd(&[&U8_RAW[..], &["byte skip: -1"]].concat(), &data);
    fs::write(&path, &bytes).unwrap();
    let loaded = read(&path, &ReadOptions::default()).unwrap();
    assert_eq!(loaded.volume, load(&with(&[])).unwrap().volume);
    assert_eq!(code(&bytes), "R-NRD-01");
}

#[test]
fn an_odd_axis_of_one_is_taken_off() {
    for fields in [
        &["dimension: 4", "sizes: 1 4 5 6", "kinds: list domain domain domain"][..],
        &["dimension: 4", "sizes: 4 5 6 1", "space directions:", "space origin:", "space:"],
        &[
            "dimension: 4",
            "sizes: 4 5 6 1",
            "space directions: (2,0,0) (0,3,0) (0,0,4) none",
            "kinds: domain domain domain time",
        ],
        &["dimension: 4", "sizes: 1 4 5 6", "space directions: none (2,0,0) (0,3,0) (0,0,4)"],
    ] {
        let fields = if fields.iter().any(|f| f.starts_with("space directions")) {
            fields.to_vec()
        } else {
            [fields, &["space directions: none (2,0,0) (0,3,0) (0,0,4)"]].concat()
        };
        assert_eq!(load(&with(&fields)).unwrap().volume.shape(), [6, 5, 4], "{fields:?}");
    }
}

#[test]
fn arrays_that_are_no_volume_are_refused_with_their_shape() {
    for (fields, shape) in [
        (&["dimension: 2", "sizes: 4 5", "space directions:"][..], "4x5"),
        (&["dimension: 4", "sizes: 2 4 5 6", "space directions:"], "2x4x5x6"),
        (
            &[
                "dimension: 4",
                "sizes: 3 4 5 6",
                "space directions: none (2,0,0) (0,3,0) (0,0,4)",
                "kinds: list domain domain domain",
            ],
            "3x4x5x6",
        ),
        (&["kinds: RGB-color domain domain", "space directions: none (1,0,0) (0,1,0)"], "4x5x6"),
    ] {
        let error = load(&with(fields)).unwrap_err();
        let text = format!("array is {shape} (fastest axis first); one 3D volume is needed");
        assert_eq!((error.message(), error.code()), (text, "R-NRD-03"));
    }
}

#[test]
fn what_is_not_read_is_named() {
    for (fields, expected) in [
        (["type: block", "encoding: raw"], "R-NRD-02"),
        (["type: uchar", "encoding: hex"], "R-NRD-04"),
        (["type: uchar", "encoding: bzip2"], "R-NRD-04"),
        (["type: short", "encoding: raw"], "R-NRD-01"),
        (["type: uchar", "encoding: zip"], "R-NRD-01"),
    ] {
        assert_eq!(code(&nrrd(&fields, &counting())), expected, "{fields:?}");
    }
    let error = load(&nrrd(&["type: uchar", "encoding: bz2"], &[])).unwrap_err();
    assert_eq!(error.message(), "the voxels are in bzip2 encoding; raw, gzip and ascii are read");
    assert_eq!(code(b"NRRD0009\n"), "R-NRD-01");
}

#[test]
fn claims_beyond_the_limits_or_the_data_are_refused_before_allocation() {
    let huge = with(&["sizes: 4294967296 4294967296 4294967296"]);
    assert_eq!(code(&huge), "R-IN-07");
    let large = ["sizes: 1000 1000 1000"];
    assert_eq!(code(&with(&large)), "R-NRD-07");
    let fields = ["type: uchar", "encoding: gzip", large[0]];
    let error = load(&nrrd(&fields, &gzip(&counting()))).unwrap_err();
    assert_eq!(
        error.message(),
        "compressed file ends early: header promises 1000000000 bytes, got 120"
    );
    let mut corrupt = gzip(&counting());
    let crc = corrupt.len() - 8;
    corrupt[crc] ^= 1;
    assert_eq!(code(&nrrd(&["type: uchar", "encoding: gzip"], &corrupt)), "R-NRD-08");
    let endless = [b"NRRD0004\n#".as_slice(), &vec![b'a'; 2 << 20]].concat();
    let error = load(&endless).unwrap_err();
    assert_eq!(error.message(), "NRRD header is not readable: it is longer than 1 MiB");
}

#[test]
fn text_that_is_not_as_many_numbers_is_refused() {
    let text = |kind: &str, text: &str| {
        load(&nrrd(&[&format!("type: {kind}"), "encoding: text"], text.as_bytes()))
    };
    let numbers = "7 ".repeat(119);
    let error = text("uchar", &numbers).unwrap_err();
    assert_eq!(
        error.message(),
        "the text with the voxels ends early: header promises 120 numbers, got 119"
    );
    for (kind, last) in [("uchar", "256"), ("uchar", "0.5"), ("short", "40000"), ("int", "PATIENT")]
    {
        let error = text(kind, &(numbers.clone() + last)).unwrap_err();
        assert_eq!(error.code(), "R-NRD-09");
        assert!(!error.message().contains("PATIENT"));
    }
    assert_eq!(code(&nrrd(&["type: int", "encoding: text"], &[b'1'; 4096])), "R-NRD-09");
    let loaded = text("float", &(numbers + "1e3 8 9")).unwrap();
    assert_eq!(loaded.volume.voxels().get(119), Some(1000.0));
    assert_eq!(loaded.warnings[0].code, "W-TRAILING");
}

/// A detached header beside a file `voxels.raw`.
fn detached(data_file: &str, data: &[u8]) -> Result<r1seg_volume::Loaded, Error> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("voxels.raw"), data).unwrap();
    let path = folder.path().join("x.nhdr");
    let field = format!("data file: {data_file}");
    let header = nrrd(&[&U8_RAW[..], &[&field]].concat(), &[]);
    // A detached header may end with its last line.
    fs::write(&path, &header[..header.len() - 1]).unwrap();
    read(&path, &ReadOptions::default())
}

#[test]
fn a_detached_header_finds_its_voxels_beside_it() {
    let plain = load(&with(&[])).unwrap().volume;
    assert_eq!(detached("voxels.raw", &counting()).unwrap().volume, plain);
    // Raw voxels are not gzip, whatever their first bytes are.
    let data = [&[0x1f, 0x8b], &counting()[2..]].concat();
    assert_eq!(detached("voxels.raw", &data).unwrap().volume.voxels().get(1), Some(139.0));
    let error = detached("voxels.raw", &counting()[1..]).unwrap_err();
    assert_eq!(error.message(), "file ends early: header promises 120 bytes, got 119");
}

#[test]
fn a_detached_header_reaches_no_other_folder_and_names_no_file() {
    for name in ["../voxels.raw", "/etc/passwd", "a/b.raw", "..", "c:\\x.raw", ""] {
        let error = detached(name, &counting()).unwrap_err();
        let text = "the voxels are not in a file of the header's own folder";
        if !name.is_empty() {
            assert_eq!((error.message().as_str(), error.code()), (text, "R-NRD-05"), "{name}");
        }
    }
    for name in ["LIST", "LIST 2", "slice%03d.raw 1 9 1"] {
        assert_eq!(detached(name, &counting()).unwrap_err().code(), "R-NRD-05", "{name}");
    }
    let error = detached("PATIENT.raw", &counting()).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-NRD-06", ErrorKind::Missing));
    assert!(!format!("{error} {error:?}").contains("PATIENT"));
    assert_eq!(code(&nrrd(&[&U8_RAW[..], &["data file: voxels.raw"]].concat(), &[])), "R-NRD-05");
}
