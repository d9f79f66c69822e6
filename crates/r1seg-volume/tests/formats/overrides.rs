use std::fs;
use std::path::PathBuf;

use r1seg_volume::{
    AffineSource, ArrayAxes, Error, ErrorKind, Loaded, Mask, MaskFormat, ReadOptions, Remedy, read,
    read_from, write_mask_to,
};

use crate::builder::{Nifti, code, gzip, load, npy, nrrd};

const SPACING: [f64; 3] = [5.0, 0.8, 0.7];

fn spaced(bytes: &[u8], spacing_mm: [f64; 3]) -> Result<Loaded, Error> {
    read_from(bytes, "x", &ReadOptions::default().with_spacing_mm(spacing_mm))
}

fn array() -> Vec<u8> {
    npy("|u1", "False", "(6, 5, 4)", &[1; 120])
}

/// A folder with a reference, and the path of it.
fn reference(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn placed(bytes: &[u8], from: &PathBuf) -> Result<Loaded, Error> {
    read_from(bytes, "x", &ReadOptions::default().with_affine_from(from))
}

fn nifti_mask(loaded: Loaded) -> Vec<u8> {
    let (voxels, geometry) = loaded.volume.into_parts();
    let mask = Mask::new(vec![1; voxels.len()], geometry).unwrap();
    let mut bytes = Vec::new();
    write_mask_to(&mut bytes, &mask, MaskFormat::Nifti).unwrap();
    bytes
}

#[test]
fn a_given_spacing_places_a_file_that_has_none() {
    let bare = ["space:", "space directions:", "space origin:", "type: uchar", "encoding: raw"];
    let guess = Nifti { sform_code: 0, ..Nifti::new([4, 5, 6]) }.counting();
    for file in [array(), nrrd(&bare, &[1; 120]), guess] {
        let loaded = spaced(&file, SPACING).unwrap();
        assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
        let g = loaded.volume.geometry();
        assert_eq!((g.spacing_mm(), g.affine_source()), (Some(SPACING), AffineSource::Given));
        let mask = load(&nifti_mask(loaded)).unwrap();
        assert_eq!(mask.warnings.len(), 0);
        for (mm, expected) in mask.volume.geometry().spacing_mm().unwrap().iter().zip(SPACING) {
            assert!((mm - expected).abs() < 1e-6);
        }
    }
    for bad in [0.0, -1.0, f64::NAN] {
        let error = spaced(&array(), [1.0, bad, 1.0]).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-GEO-03", ErrorKind::Usage));
    }
}

#[test]
fn a_given_spacing_may_repeat_but_not_contradict_that_of_the_file() {
    let file = nrrd(&["type: uchar", "encoding: raw"], &[1; 120]);
    let loaded = spaced(&file, [4.0, 3.0, 2.001]).unwrap();
    assert_eq!(loaded.volume, load(&file).unwrap().volume);
    let error = spaced(&file, [4.0, 3.0, 2.1]).unwrap_err();
    assert_eq!(
        error.message(),
        "the file has a geometry of its own: [4.0, 3.0, 2.0] mm per voxel (slices first), not [4.0, 3.0, 2.1]"
    );
    assert_eq!((error.code(), error.kind()), ("R-GEO-08", ErrorKind::Usage));
    assert_eq!(error.remedy(), Some(Remedy::OmitSpacing));
    assert!(error.path().is_some());
}

#[test]
fn n12_a_broken_affine_is_refused_unless_the_spacing_is_given() {
    let mut nan = Nifti::new([4, 5, 6]);
    nan.srow[1][3] = f64::NAN;
    let mut singular = Nifti::new([4, 5, 6]);
    singular.srow[2] = singular.srow[1];
    let mut negative = Nifti { sform_code: 0, qform_code: 1, ..Nifti::new([4, 5, 6]) };
    negative.pixdim[2] = -1.0;
    let flat = ["type: uchar", "encoding: raw", "space directions: (1,0,0) (0,1,0) (0,1,0)"];
    let files = [nan.counting(), singular.counting(), negative.counting()];
    let nrrd = nrrd(&flat, &(0..120).collect::<Vec<_>>());
    for (file, refused) in files.iter().map(|f| (f, "R-NII-10")).chain([(&nrrd, "R-NRD-11")]) {
        let error = load(file).unwrap_err();
        assert_eq!((error.code(), error.kind()), (refused, ErrorKind::BadData));
        assert_eq!(error.remedy(), Some(Remedy::CorrectGeometry));
        let loaded = spaced(file, SPACING).unwrap();
        assert_eq!(loaded.warnings.len(), 1);
        assert_eq!(loaded.warnings[0].code, "W-GEOM-GIVEN");
        assert_eq!(loaded.volume.geometry().spacing_mm(), Some(SPACING));
        assert_eq!(loaded.volume.voxels().get(119), Some(119.0));
        let (_folder, from) = reference("ct.nii", &Nifti::new([4, 5, 6]).counting());
        let loaded = placed(file, &from).unwrap();
        assert_eq!(loaded.warnings[0].code, "W-GEOM-GIVEN");
        assert_eq!(loaded.volume.geometry().spacing_mm(), Some([1.0; 3]));
    }
}

#[test]
fn the_geometry_of_another_volume_is_taken_with_its_nifti_fields() {
    let mut ct = Nifti::new([4, 5, 6]);
    (ct.dim[0], ct.dim[4]) = (4, 3);
    (ct.qform_code, ct.sform_code, ct.units) = (1, 2, 2 | 8);
    ct.quatern = [0.1, -0.2, 0.3];
    ct.qoffset = [-100.7, 33.3, 1e3 / 7.0];
    ct.pixdim = [-1.0, 0.7, 0.8, 1.3, 2.2, 3.3, 4.4, 5.5];
    ct.srow = [[0.6, -0.3, 0.1, -9.9], [0.2, 0.7, 0.3, 8.8], [-0.1, -0.2, 1.2, 7.7]];
    // The header is enough: there is not one voxel behind it.
    let (_folder, from) = reference("ct.nii.gz", &gzip(&ct.header()));
    let other = Nifti::new([4, 5, 6]).counting();
    for file in [array(), other, nrrd(&["type: uchar", "encoding: raw"], &[1; 120])] {
        let loaded = placed(&file, &from).unwrap();
        let codes: Vec<_> = loaded.warnings.iter().map(|w| w.code).collect();
        assert_eq!(codes, ["W-AFFINE", "W-SHEAR"]);
        assert_eq!(loaded.volume.geometry().affine_source(), AffineSource::Given);
        let bytes = nifti_mask(loaded);
        for range in [76..108, 252..328, 123..124] {
            assert_eq!(bytes[range.clone()], ct.header()[range]);
        }
    }
}

#[test]
fn an_array_of_nibabel_takes_the_geometry_of_its_file() {
    let (_folder, from) = reference("ct.nii", &Nifti::new([4, 5, 6]).counting());
    // numpy.save of img.get_fdata(): x, y, z in Fortran order.
    let bytes = npy("|u1", "True", "(4, 5, 6)", &(0..120).collect::<Vec<_>>());
    let options = ReadOptions::default().with_affine_from(&from).with_axes(ArrayAxes::Xyz);
    let loaded = read_from(bytes.as_slice(), "x", &options).unwrap();
    let ct = read(&from, &ReadOptions::default()).unwrap().volume;
    assert_eq!(loaded.volume.voxels(), ct.voxels());
    assert_eq!(loaded.volume.geometry().affine(), ct.geometry().affine());
    assert_eq!(loaded.volume.geometry().npy_axes(), ArrayAxes::Xyz);
    assert_eq!(loaded.warnings.len(), 0);
}

#[test]
fn a_reference_of_any_format_serves_if_it_has_a_geometry_of_that_shape() {
    let fields = ["type: uchar", "encoding: raw"];
    let (_folder, from) = reference("ct.nrrd", &nrrd(&fields, &[]));
    let loaded = placed(&array(), &from).unwrap();
    assert_eq!(loaded.volume.geometry().spacing_mm(), Some([4.0, 3.0, 2.0]));

    let (_folder, from) = reference("other.nii", &Nifti::new([4, 5, 7]).counting());
    let error = placed(&array(), &from).unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "volume is 4x5x6 voxels (i,j,k), but {}, whose geometry it is to take, is 4x5x7",
            from.display()
        )
    );
    assert_eq!((error.code(), error.kind()), ("R-GEO-09", ErrorKind::Usage));

    let (_folder, from) = reference("bare.npy", &array());
    assert_eq!(placed(&array(), &from).unwrap_err().code(), "R-GEO-10");
    let error = placed(&array(), &PathBuf::from("missing.nii")).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-IN-01", ErrorKind::Missing));
    assert_eq!(error.path(), Some("missing.nii".as_ref()));
}

#[test]
fn a_guess_of_the_reference_stays_a_guess() {
    let guess = Nifti { sform_code: 0, ..Nifti::new([4, 5, 6]) };
    let (_folder, from) = reference("ct.nii", &guess.counting());
    assert_eq!(placed(&array(), &from).unwrap().warnings[0].code, "W-GEOM-GUESS");
}

#[test]
fn a_spacing_and_a_reference_are_one_too_many() {
    let options = ReadOptions::default().with_spacing_mm(SPACING).with_affine_from("ct.nii");
    let error = read_from(array().as_slice(), "x", &options).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-GEO-07", ErrorKind::Usage));
    assert_eq!(read("missing.nii", &options).unwrap_err().code(), "R-GEO-07");
    assert_eq!(code(&[]), "R-IN-05");
}
