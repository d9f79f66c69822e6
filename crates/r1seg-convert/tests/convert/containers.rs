//! Zip archives and bare files that are not what they say.

use std::io::{Cursor, Write};

use r1seg_convert::PickleError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::index_of;
use crate::torch_file::{TorchFile, Val, dict, zip_of};

fn file() -> TorchFile {
    let mut file = TorchFile::new(2);
    let tensor = file.add_f32(&[4], &[1.0, 2.0, 3.0, 4.0]);
    file.root = dict(vec![("w", Val::Tensor(tensor))]);
    file
}

fn members(file: &TorchFile) -> Vec<(String, Vec<u8>)> {
    vec![("data.pkl".to_owned(), file.pickle()), ("data/0".to_owned(), file.storages[0].1.clone())]
}

fn refusal(members: &[(String, Vec<u8>)]) -> String {
    index_of(&zip_of(members, SimpleFileOptions::default(), "archive")).unwrap_err().to_string()
}

fn position(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

#[test]
fn w2_programs_big_endian_numbers_and_foreign_zips_are_told_apart() {
    let file = file();
    let with = |name: &str, bytes: &[u8]| {
        let mut members = members(&file);
        members.push((name.to_owned(), bytes.to_vec()));
        refusal(&members)
    };
    assert!(with("constants.pkl", b"x").contains("TorchScript"));
    assert!(with("byteorder", b"big").contains("little-endian"));
    assert!(with("byteorder", &[b'x'; 5000]).contains("more than 16 bytes"));
    assert!(refusal(&[("word/document.xml".to_owned(), vec![])]).contains("no data.pkl"));
    assert!(refusal(&members(&file)[..1]).contains("no storage"));
}

#[test]
fn w2_a_second_pickle_in_the_archive_is_refused() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (root, (name, bytes)) in ["a", "a", "b"].iter().zip(members(&file()).iter().cycle()) {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file(format!("{root}/{name}"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    let error = index_of(&writer.finish().unwrap().into_inner()).unwrap_err();
    assert!(error.to_string().contains("two pickles"), "{error}");
}

#[test]
fn w2_two_members_of_one_name_are_refused() {
    let mut members = members(&file());
    members.push(("data/1".to_owned(), vec![0; 16]));
    let mut bytes = zip_of(&members, SimpleFileOptions::default(), "archive");
    while let Some(at) = bytes.windows(14).position(|window| window == b"archive/data/1") {
        bytes[at + 13] = b'0';
    }
    let error = index_of(&bytes).unwrap_err();
    assert!(error.to_string().contains("two members of one name"), "{error}");
}

#[test]
fn w2_overlapping_members_are_refused() {
    let mut members = members(&file());
    members.push(("data/1".to_owned(), vec![7; 16]));
    let bytes = zip_of(&members, SimpleFileOptions::default(), "archive");
    // The directory sends the second storage to the header of the first.
    let directory = position(&bytes, b"PK\x01\x02");
    let first = position(&bytes[directory..], b"archive/data/0") + directory;
    let second = position(&bytes[directory..], b"archive/data/1") + directory;
    let mut bytes = bytes;
    let offset: [u8; 4] = bytes[first - 4..first].try_into().unwrap();
    bytes[second - 4..second].copy_from_slice(&offset);
    let error = index_of(&bytes).unwrap_err();
    assert!(matches!(error, PickleError::Container { .. }), "{error}");
}

#[test]
fn w2_a_compressed_pickle_is_read_and_compressed_weights_are_not() {
    let zip = |compressed: &str| {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members(&file()) {
            let method = match name == compressed {
                true => CompressionMethod::Deflated,
                false => CompressionMethod::Stored,
            };
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(format!("archive/{name}"), options).unwrap();
            writer.write_all(&bytes).unwrap();
        }
        index_of(&writer.finish().unwrap().into_inner())
    };
    assert_eq!(zip("data.pkl").unwrap().tensors.len(), 1);
    assert!(zip("data/0").unwrap_err().to_string().contains("compressed"));
}

#[test]
fn w2_an_inflated_pickle_stops_at_its_limit() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    writer.start_file("archive/data.pkl", options).unwrap();
    for _ in 0..65 {
        writer.write_all(&vec![b'N'; 1 << 20]).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert!(bytes.len() < 1 << 20);
    let error = index_of(&bytes).unwrap_err();
    assert!(matches!(error, PickleError::Limit { limit, .. } if limit == 64 << 20), "{error}");
}

#[test]
fn w2_a_damaged_pickle_fails_its_checksum() {
    let bytes = zip_of(&members(&file()), SimpleFileOptions::default(), "archive");
    let mut damaged = bytes.clone();
    // The name of the tensor, and not its header: without the checksum nobody would notice.
    let at = position(&bytes, b"X\x01\0\0\0w") + 5;
    damaged[at] = b'v';
    assert!(index_of(&bytes).is_ok());
    assert!(index_of(&damaged).is_err());
}

#[test]
fn w2_bare_files_with_wrong_magic_version_order_or_storages_are_refused() {
    let good = file().legacy();
    assert!(index_of(&good).is_ok());
    let change = |what: &[u8], with: &[u8]| {
        let mut bytes = good.clone();
        let at = position(&bytes, what);
        bytes[at..at + with.len()].copy_from_slice(with);
        index_of(&bytes).unwrap_err().to_string()
    };
    assert!(change(&[0x6c, 0xfc], &[0x6d]).contains("not one of torch.save"));
    assert!(change(&[b'M', 0xe9, 3], &[b'M', 0xe8]).contains("version"));
    assert!(change(b"little_endian", b"bittle").contains("little-endian"));
    // The length of the first storage.
    let length = good.len() - 24;
    for wrong in [5i64, -1, i64::MAX] {
        let mut bytes = good.clone();
        bytes[length..length + 8].copy_from_slice(&wrong.to_le_bytes());
        assert!(index_of(&bytes).unwrap_err().to_string().contains("beyond the end"), "{wrong}");
    }
}

#[test]
fn w2_what_is_no_checkpoint_at_all_is_refused() {
    for bytes in
        [b"".as_slice(), b"\x80", b"PK\x03\x04", b"PK\x05\x06", b"\x89PNG\r\n", b"hello world"]
    {
        let error = index_of(bytes).unwrap_err();
        let refused =
            matches!(error, PickleError::Container { .. } | PickleError::Truncated { .. });
        assert!(refused, "{bytes:?}: {error:?}");
    }
}
