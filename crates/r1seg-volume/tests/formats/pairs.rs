use std::fs;
use std::path::Path;

use r1seg_volume::{Error, ErrorKind, Loaded, ReadOptions, SourceKind, read};

use crate::builder::{Nifti, code, gzip, load};

/// The header of a pair whose image has `offset` other bytes in front of the voxels.
fn header(offset: f64) -> Nifti {
    Nifti { magic: b"ni1\0", vox_offset: offset, ..Nifti::new([4, 5, 6]) }
}

/// Reads the file `named` of a folder that holds `files`.
fn read_of(files: &[(&str, &[u8])], named: &str) -> Result<Loaded, Error> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    read(folder.path().join(named), &ReadOptions::default())
}

#[test]
fn a_pair_is_read_from_either_half_compressed_or_not() {
    let one = header(0.0).header();
    let two = Nifti { magic: b"ni2\0", vox_offset: 0.0, ..Nifti::new([4, 5, 6]).version_2() };
    let two = Nifti { magic: b"ni2\0", ..two }.header();
    let voxels: Vec<u8> = (0..120).collect();
    let single = load(&Nifti::new([4, 5, 6]).counting()).unwrap().volume;
    for (header, kind) in [(&one, SourceKind::Nifti1), (&two, SourceKind::Nifti2)] {
        for (hdr, img) in [("x.hdr", "x.img"), ("x.hdr.gz", "x.img.gz"), ("x.hdr", "x.img.gz")] {
            let pack = |name: &str, bytes: &[u8]| {
                if name.ends_with("gz") { gzip(bytes) } else { bytes.to_vec() }
            };
            let files = [(hdr, &*pack(hdr, header)), (img, &*pack(img, &voxels))];
            for named in [hdr, img] {
                let loaded = read_of(&files, named).unwrap();
                assert_eq!((loaded.kind, loaded.warnings.len()), (kind, 0), "{named}");
                assert_eq!(loaded.volume.voxels(), single.voxels(), "{hdr} {img}");
                assert_eq!(loaded.volume.geometry().affine(), single.geometry().affine());
            }
        }
    }
    let files = [("X.HDR", &*one), ("X.IMG", &*voxels)];
    assert_eq!(read_of(&files, "X.HDR").unwrap().volume.voxels(), single.voxels());
}

#[test]
fn the_voxels_of_a_pair_start_at_its_offset_and_are_never_taken_for_gzip() {
    let voxels: Vec<u8> = [0x1f, 0x8b].into_iter().chain(2..120).collect();
    for offset in [0_u8, 16] {
        let image = [vec![9; offset.into()], voxels.clone()].concat();
        let header = header(offset.into()).header();
        let loaded = read_of(&[("x.hdr", &header), ("x.img", &image)], "x.hdr").unwrap();
        assert_eq!(loaded.volume.voxels().get(1), Some(139.0));
        assert_eq!(loaded.volume.voxels().get(119), Some(119.0));
    }
    let files = [("x.hdr", &*header(0.0).header()), ("x.img", &voxels[1..])];
    let error = read_of(&files, "x.hdr").unwrap_err();
    assert_eq!(error.message(), "file ends early: header promises 120 bytes, got 119");
    assert_eq!(error.path().and_then(Path::file_name), Some("x.img".as_ref()));
}

#[test]
fn n18_a_pair_with_a_missing_half_is_missing_and_names_it() {
    for (there, bytes, missing) in [
        ("x.hdr", header(0.0).header(), "x.img"),
        ("x.hdr.gz", gzip(&header(0.0).header()), "x.img.gz"),
        ("x.img", vec![0; 120], "x.hdr"),
    ] {
        let error = read_of(&[(there, &bytes)], there).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-NII-13", ErrorKind::Missing));
        let text = format!(
            "the file is one half of a .hdr/.img pair; the other half, {missing}, is not beside it"
        );
        assert_eq!(error.message(), text);
    }
    let error = load(&header(0.0).header()).unwrap_err();
    assert_eq!(error.code(), "R-NII-12");
    assert!(error.message().contains("a stream does not have the other file"));
}

#[test]
fn an_image_file_that_is_a_volume_by_itself_is_read() {
    let bytes = Nifti::new([4, 5, 6]).counting();
    assert_eq!(read_of(&[("x.img", &bytes)], "x.img").unwrap().volume.shape(), [6, 5, 4]);
}

#[test]
fn analyze_is_told_from_nifti() {
    let analyze = Nifti { magic: b"\0\0\0\0", ..header(0.0) }.header();
    assert_eq!(code(&analyze), "R-NII-02");
    let error = read_of(&[("x.hdr", &analyze), ("x.img", &[0; 120])], "x.img").unwrap_err();
    assert_eq!(
        error.message(),
        "NIfTI header of 348 bytes carries no NIfTI magic ([00, 00, 00, 00]): it is Analyze 7.5, \
         or damaged"
    );
}
