use std::fs;
use std::path::Path;

use r1seg_volume::{ErrorKind, ReadOptions, read};

use crate::builder::{Nifti, code, gzip, load, npy, npy_with, nrrd, warnings};

fn open(path: impl AsRef<Path>) -> (&'static str, ErrorKind) {
    let error = read(path, &ReadOptions::default()).unwrap_err();
    assert!(error.path().is_some());
    (error.code(), error.kind())
}

#[test]
fn n18_what_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert_eq!(open(at("missing.nii")), ("R-IN-01", ErrorKind::Missing));
    assert_eq!(open(folder.path()), ("R-IN-03", ErrorKind::Missing));
    fs::write(at("empty.nii.gz"), "").unwrap();
    assert_eq!(open(at("empty.nii.gz")), ("R-IN-05", ErrorKind::BadData));
    #[cfg(unix)]
    {
        assert_eq!(open("/dev/null"), ("R-IN-04", ErrorKind::Missing));
        std::os::unix::fs::symlink(at("loop.nii"), at("loop.nii")).unwrap();
        assert_eq!(open(at("loop.nii")), ("R-IN-02", ErrorKind::Missing));
    }
}

#[test]
fn other_formats_are_told_apart() {
    for (bytes, text) in [
        (b"PK\x05\x06rest".to_vec(), "it is an empty zip archive"),
        (b"\x80\x04\x95".to_vec(), "it is a Python pickle"),
        (b"hello".to_vec(), "its first bytes are not known"),
    ] {
        let error = load(&bytes).unwrap_err();
        assert_eq!(
            error.message(),
            format!(
                "format not recognized: {text}; NIfTI (.nii, .nii.gz), DICOM, NRRD, .npy or .npz is \
                 needed"
            )
        );
    }
    assert_eq!(code(&gzip(b"")), "R-IN-12");
}

#[test]
fn n2_a_header_of_32767_to_the_seventh_is_refused_before_allocation() {
    let mut n = Nifti::new([32767; 3]);
    n.dim = [7, 32767, 32767, 32767, 32767, 32767, 32767, 32767];
    let error = load(&n.file(&[])).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-IN-07", ErrorKind::BadData));
    let mut n = n.version_2();
    n.dim = [7, i64::MAX, i64::MAX, i64::MAX, i64::MAX, i64::MAX, i64::MAX, i64::MAX];
    assert_eq!(code(&n.file(&[])), "R-IN-07");
    let mut n = Nifti::new([2048; 3]);
    (n.datatype, n.bitpix) = (4, 16);
    assert_eq!(
        load(&n.file(&[])).unwrap_err().message(),
        "volume of 2048x2048x2048 (i,j,k) is 8589934592 voxels, 17179869184 bytes; the limits are \
         1073741824 voxels and 4294967296 bytes"
    );
}

#[test]
fn n3_a_small_file_that_claims_gibibytes_ends_early() {
    let mut n = Nifti::new([1024, 1024, 1000]);
    (n.datatype, n.bitpix) = (8, 32);
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("x.nii");
    fs::write(&plain, n.file(&[0; 1000])).unwrap();
    let error = read(&plain, &ReadOptions::default()).unwrap_err();
    assert_eq!(error.message(), "file ends early: header promises 4194304352 bytes, got 1352");
    let packed = folder.path().join("x.nii.gz");
    fs::write(&packed, gzip(&n.file(&[0; 1000]))).unwrap();
    let error = read(&packed, &ReadOptions::default()).unwrap_err();
    assert_eq!(
        error.message(),
        "compressed file ends early: header promises 4194304352 bytes, got 1352"
    );
    assert_eq!(error.code(), "R-NII-07");
}

#[test]
fn n1_a_bomb_is_inflated_no_further_than_its_header_says() {
    let bytes = gzip(&[Nifti::new([4, 4, 4]).counting(), vec![0; 64 << 20]].concat());
    assert!(bytes.len() < 100_000);
    assert_eq!(warnings(&bytes), ["W-TRAILING"]);
    let n = Nifti { vox_offset: 1e15, ..Nifti::new([4, 4, 4]) };
    assert_eq!(code(&gzip(&n.counting())), "R-NII-09");
}

#[test]
fn n4_impossible_dimensions_are_refused() {
    for dim0 in [0, -1, 8, i16::MAX.into()] {
        let mut n = Nifti::new([4, 4, 4]);
        n.dim[0] = dim0;
        let error = load(&[n.header(), vec![0; 100]].concat()).unwrap_err();
        assert_eq!(error.message(), format!("dim[0] is {dim0}; 1..7 dimensions are possible"));
    }
    for size in [0, -5] {
        let mut n = Nifti::new([4, size, 4]);
        assert_eq!(code(&n.file(&[0; 64])), "R-NII-04");
        n.dim[0] = 1;
        assert_eq!(code(&n.file(&[0; 64])), "R-IN-08");
    }
}

#[test]
fn n17_slices_are_no_volume() {
    let error = load(&Nifti::new([4, 4, 1]).counting()).unwrap_err();
    assert_eq!(error.message(), "volume is 4x4x1 voxels (i,j,k); at least 4 per axis are needed");
    assert_eq!(error.kind(), ErrorKind::BadData);
}

#[test]
fn n15_types_that_are_not_one_number_are_refused_by_name() {
    for (datatype, bitpix, name) in [
        (128, 24, "RGB24"),
        (2304, 32, "RGBA32"),
        (32, 64, "complex64"),
        (1792, 128, "complex128"),
        (1536, 128, "float128"),
        (0, 0, "unknown"),
        (-9510, 8, "not in the NIfTI standard"),
    ] {
        let n = Nifti { datatype, bitpix, ..Nifti::new([4, 4, 4]) };
        let error = load(&n.counting()).unwrap_err();
        let expected = format!("datatype {datatype} ({name}) is not one number per voxel");
        assert_eq!((error.message(), error.code()), (expected, "R-NII-05"));
    }
}

#[test]
fn n6_a_bitpix_that_contradicts_the_datatype_is_refused() {
    let n = Nifti { datatype: 4, bitpix: 8, ..Nifti::new([4, 4, 4]) };
    let error = load(&n.counting()).unwrap_err();
    assert_eq!(error.message(), "bitpix is 8, but datatype 4 has 16 bits per voxel");
    assert_eq!((error.code(), error.kind()), ("R-NII-06", ErrorKind::BadData));
}

#[test]
fn n12_affines_that_cannot_hold_a_volume_are_refused() {
    let mut nan = Nifti::new([4, 4, 4]);
    nan.srow[1][3] = f64::NAN;
    let error = load(&nan.counting()).unwrap_err();
    assert_eq!(error.message(), "the sform affine is not usable: it holds NaN or infinity");
    assert!(error.remedy().is_some());

    let mut singular = Nifti::new([4, 4, 4]);
    singular.srow[2] = singular.srow[1];
    let mut zero = Nifti::new([4, 4, 4]);
    zero.srow = [[0.0; 4]; 3];
    let qform = Nifti { sform_code: 0, qform_code: 1, ..Nifti::new([4, 4, 4]) };
    let mut negative = qform.clone();
    negative.pixdim[2] = -1.0;
    let mut flat = Nifti { qform_code: 0, ..negative.clone() };
    flat.pixdim[2] = 0.0;
    let long = Nifti { quatern: [0.9, 0.9, 0.9], ..qform.clone() };
    let offset = Nifti { qoffset: [f64::INFINITY, 0.0, 0.0], ..qform };
    for n in [singular, zero, negative, flat, long, offset] {
        assert_eq!(code(&n.counting()), "R-NII-10");
    }
}

#[test]
fn n12_lengths_whose_products_leave_f64_are_refused() {
    for mm in [1e-120, 1e200] {
        let mut n = Nifti::new([4, 4, 4]).version_2();
        n.srow.as_flattened_mut().iter_mut().for_each(|v| *v *= mm);
        let error = load(&n.counting()).unwrap_err();
        assert_eq!(
            error.message(),
            "the sform affine is not usable: its numbers are too large or too small for lengths"
        );
    }
    // The limits are in mm.
    let mut meters = Nifti { units: 1, ..Nifti::new([4, 4, 4]).version_2() };
    meters.srow[0][3] = 1e14;
    assert_eq!(code(&meters.counting()), "R-NII-10");
    assert!(load(&Nifti { units: 2, ..meters }.counting()).is_ok());
}

#[test]
fn voxel_offsets_into_or_before_the_header_are_refused() {
    for vox_offset in [-1.0, 100.0, 351.0, 352.5, f64::NAN, f64::INFINITY, 1e12] {
        let n = Nifti { vox_offset, ..Nifti::new([4, 4, 4]) };
        assert_eq!(code(&[n.header(), vec![0; 200]].concat()), "R-NII-09", "{vox_offset}");
    }
}

#[test]
fn a_header_that_is_cut_short_says_so() {
    let header = Nifti::new([4, 4, 4]).header();
    let error = load(&header[..200]).unwrap_err();
    assert_eq!(error.message(), "NIfTI header is cut short: 348 bytes are needed, got 200");
}

#[test]
fn n7_a_file_cut_anywhere_is_an_error() {
    for file in [
        Nifti::new([4, 4, 5]).counting(),
        gzip(&Nifti::new([4, 4, 5]).counting()),
        gzip(&Nifti::new([4, 4, 5]).version_2().counting()),
        npy("<i2", "False", "(4, 4, 5)", &[3; 160]),
        gzip(&npy("<i2", "False", "(4, 4, 5)", &[3; 160])),
        nrrd(&["type: uchar", "encoding: raw"], &[3; 120]),
        nrrd(&["type: uchar", "encoding: gzip"], &gzip(&[3; 120])),
    ] {
        assert!(load(&file).is_ok());
        for length in 0..file.len() {
            let error = load(&file[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadData, "{length} of {}: {error}", file.len());
        }
    }
}

#[test]
fn n7_a_wrong_checksum_is_an_error() {
    let mut file = gzip(&Nifti::new([4, 4, 5]).counting());
    let crc = file.len() - 8;
    file[crc] ^= 1;
    let error = load(&file).unwrap_err();
    assert_eq!(error.code(), "R-NII-08");
    assert!(error.message().starts_with("compressed data is corrupt after 432 bytes: "));
}

#[test]
fn no_single_byte_can_cause_a_panic_or_a_long_read() {
    let files = [
        Nifti::new([4, 4, 5]).counting(),
        Nifti { sform_code: 0, qform_code: 1, ..Nifti::new([4, 4, 5]) }.counting(),
        Nifti::new([4, 4, 5]).version_2().counting(),
        npy("<i2", "False", "(4, 4, 5)", &[3; 160]),
        gzip(&npy("<i2", "False", "(4, 4, 5)", &[3; 160])),
        nrrd(&["type: uchar", "encoding: raw"], &[3; 120]),
        nrrd(&["type: uchar", "encoding: gzip"], &gzip(&[3; 120])),
        nrrd(&["type: uchar", "encoding: ascii"], &b"1 2 3 4 5 6 ".repeat(20)),
    ];
    for file in files {
        for at in 0..file.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff, file[at] ^ 1, file[at] ^ 0x40] {
                let mut changed = file.clone();
                changed[at] = byte;
                if let Ok(loaded) = load(&changed) {
                    assert!(loaded.volume.voxels().to_f32().iter().all(|v| v.is_finite()));
                }
            }
        }
    }
}

#[test]
fn p2_npy_headers_that_claim_too_much_are_refused_before_allocation() {
    let mut long = npy("|u1", "False", "(4, 4, 4)", &[0; 64]);
    long[6] = 2;
    long.splice(8..10, u32::MAX.to_le_bytes());
    let error = load(&long).unwrap_err();
    assert_eq!(error.message(), "npy header claims 4294967295 bytes; at most 65536 are read");
    assert_eq!(error.code(), "R-NPY-04");

    let huge = npy("<f8", "False", "(4294967296, 4294967296, 4294967296)", &[]);
    assert_eq!(code(&huge), "R-IN-07");
    let claimed = npy("<f4", "False", "(1000, 1000, 1000)", &[0; 8]);
    assert_eq!(code(&claimed), "R-NPY-06");
}

#[test]
fn npy_headers_that_are_not_numpys_are_refused_with_a_reason() {
    let error = load(&npy_with("__import__('os').system('true')", &[])).unwrap_err();
    assert_eq!(error.message(), "npy header is not readable: it is not a Python dict");
    assert_eq!(error.code(), "R-NPY-01");
    let mut version = npy("|u1", "False", "(4, 4, 4)", &[0; 64]);
    version[6] = 9;
    assert_eq!(code(&version), "R-NPY-07");
    assert_eq!(code(&npy("|u1", "Maybe", "(4, 4, 4)", &[0; 64])), "R-NPY-01");
    assert_eq!(code(&npy("|u1", "False", "(0, 4, 4)", &[])), "R-IN-08");
}

#[test]
fn n9_a_volume_without_one_finite_voxel_is_refused() {
    let n = Nifti { datatype: 16, bitpix: 32, ..Nifti::new([4, 4, 4]) };
    let error = load(&n.file(&f32::NAN.to_le_bytes().repeat(64))).unwrap_err();
    assert_eq!(error.message(), "none of the 64 voxels is a finite number");
}
