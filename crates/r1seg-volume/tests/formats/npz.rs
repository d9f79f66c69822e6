use std::fs;
use std::io::{Cursor, Write};

use r1seg_volume::{
    ArrayAxes, Error, ErrorKind, Loaded, ReadOptions, Remedy, SourceKind, read, read_from,
};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::builder::{code, gzip, load, npy};

const STORED: CompressionMethod = CompressionMethod::Stored;
const DEFLATED: CompressionMethod = CompressionMethod::Deflated;

/// An archive as `numpy.savez` (stored) or `numpy.savez_compressed` (deflated) writes it: zip64
/// sizes in the local headers.
fn npz(method: CompressionMethod, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method).large_file(true);
    for (name, bytes) in members {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn counting() -> Vec<u8> {
    npy("|u1", "False", "(4, 5, 6)", &(0..120).collect::<Vec<u8>>())
}

fn key(bytes: &[u8], key: &str) -> Result<Loaded, Error> {
    read_from(bytes, "x", &ReadOptions::default().with_key(key))
}

#[test]
fn an_archive_of_one_array_is_read_stored_or_deflated_from_a_file_or_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let plain = load(&counting()).unwrap().volume;
    for method in [STORED, DEFLATED] {
        let bytes = npz(method, &[("arr_0.npy", &counting())]);
        fs::write(&path, &bytes).unwrap();
        let file = read(&path, &ReadOptions::default()).unwrap();
        assert_eq!((file.kind, file.warnings.len()), (SourceKind::Npz, 1));
        assert_eq!(file.volume, plain);
        assert_eq!(load(&bytes).unwrap().volume, plain);
        assert_eq!(load(&gzip(&bytes)).unwrap().volume, plain);
    }
    let options = ReadOptions::default().with_axes(ArrayAxes::Xyz);
    assert_eq!(read(&path, &options).unwrap().volume.shape(), [6, 5, 4]);
}

#[test]
fn p7_several_arrays_need_a_key_and_are_listed() {
    let other = npy("|u1", "False", "(4, 4, 4)", &[7; 64]);
    let bytes =
        npz(DEFLATED, &[("image.npy", &counting()), ("label.npy", &other), ("readme.txt", b"x")]);
    let error = load(&bytes).unwrap_err();
    assert_eq!(error.message(), "archive holds 2 arrays; one is needed: image, label");
    assert_eq!((error.code(), error.kind()), ("R-NPZ-02", ErrorKind::BadData));
    assert_eq!(error.remedy(), Some(Remedy::ChooseArray));
    assert_eq!(key(&bytes, "label").unwrap().volume.shape(), [4, 4, 4]);
    assert_eq!(key(&bytes, "image").unwrap().volume.shape(), [4, 5, 6]);
    let error = key(&bytes, "mask").unwrap_err();
    assert_eq!(error.message(), "no array has that name; there are 2: image, label");
}

#[test]
fn p7_names_of_arrays_are_listed_in_short_and_plain() {
    let names: Vec<String> =
        (0..10).map(|n| format!("{n}\x1b[31m{}.npy", "é".repeat(99))).collect();
    let counting = counting();
    let members: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &*counting)).collect();
    let text = load(&npz(STORED, &members)).unwrap_err().message();
    let first = format!("archive holds 10 arrays; one is needed: 0?[31m{}, 1?", "?".repeat(26));
    assert!(text.starts_with(&first), "{text}");
    assert!(text.ends_with(", ...") && text.len() < 400, "{text}");
}

#[test]
fn p7_a_bomb_is_inflated_no_further_than_its_header_says() {
    let small = npy("|u1", "False", "(4, 5, 6)", &vec![0; 64 << 20]);
    let bytes = npz(DEFLATED, &[("a.npy", &small)]);
    assert!(bytes.len() < 100_000);
    assert_eq!(code(&bytes), "R-NPY-05");
    let huge = npy("<f8", "False", "(4294967296, 4294967296, 4)", &[]);
    assert_eq!(code(&npz(DEFLATED, &[("a.npy", &huge)])), "R-IN-07");
    let claimed = npy("<f4", "False", "(1000, 1000, 1000)", &[0; 8]);
    let error = load(&npz(DEFLATED, &[("a.npy", &claimed)])).unwrap_err();
    assert_eq!(error.code(), "R-NPY-06");
    let options = ReadOptions::default().with_max_bytes(1 << 20);
    let stored = npz(STORED, &[("a.npy", &small)]);
    let error = read_from(stored.as_slice(), "x", &options).unwrap_err();
    assert_eq!(error.code(), "R-IN-14");
}

#[test]
fn p7_a_list_of_members_without_end_is_refused_before_all_of_it_is_kept() {
    let empty = npy("|u1", "False", "(0,)", &[]);
    let mut members = vec![("a.npy".to_string(), counting())];
    // 300 bytes of the list are more than a member's share of what is read of it.
    members.extend((0..4000).map(|n| (format!("{n:0300}.npy"), empty.clone())));
    let of = |members: &[(String, Vec<u8>)]| {
        let members: Vec<(&str, &[u8])> = members.iter().map(|(n, b)| (&**n, &**b)).collect();
        npz(STORED, &members)
    };
    assert_eq!(key(&of(&members), "a").unwrap_err().code(), "R-NPZ-01");
    assert_eq!(key(&of(&members[..1000]), "a").unwrap().volume.shape(), [4, 5, 6]);
}

#[test]
fn p1_an_object_array_in_an_archive_is_never_unpickled() {
    let pickle = npy("|O", "False", "(4, 4, 4)", b"\x80\x04\x95");
    assert_eq!(code(&npz(STORED, &[("a.npy", &pickle)])), "R-NPY-09");
    assert_eq!(code(&npz(STORED, &[("a.npy", b"\x80\x04\x95")])), "R-NPY-01");
}

#[test]
fn archives_that_are_damaged_or_hold_no_array_are_refused() {
    let bytes = npz(DEFLATED, &[("a.npy", &counting())]);
    for length in 4..bytes.len() {
        assert_eq!(load(&bytes[..length]).unwrap_err().kind(), ErrorKind::BadData);
    }
    for at in 4..bytes.len() {
        for byte in [0, 0xff, bytes[at] ^ 1] {
            let mut changed = bytes.clone();
            changed[at] = byte;
            if let Ok(loaded) = load(&changed) {
                assert_eq!(loaded.volume.voxels().len(), loaded.volume.geometry().voxels());
            }
        }
    }
    // A voxel that differs does not agree with the checksum.
    let mut stored = npz(STORED, &[("a.npy", &counting())]);
    let at = stored.windows(3).position(|w| w == [10, 11, 12]).unwrap();
    stored[at] = 99;
    assert_eq!(code(&stored), "R-NPY-08");
    let error = load(&npz(STORED, &[("slice.dcm", b"x")])).unwrap_err();
    assert_eq!(error.code(), "R-IN-06");
}
