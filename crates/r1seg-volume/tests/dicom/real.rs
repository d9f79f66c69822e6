//! Checks on DICOM of scanners and of other programs. They run where the environment variable
//! `R1SEG_DATA` names the folder of these files, and say that they were skipped where it does not.

use std::path::PathBuf;

use r1seg_volume::{
    AffineSource, Error, Geometry, Loaded, ReadOptions, SourceKind, Volume, Voxels, list_series,
    read,
};

pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("R1SEG_DATA") else {
        eprintln!("skipped: R1SEG_DATA is not set, so that {name} cannot be read");
        return None;
    };
    Some(PathBuf::from(folder).join(name))
}

/// Any modality, any number of slices.
fn lenient() -> ReadOptions {
    ReadOptions::default().with_min_axis(1).with_allow_modality(true)
}

pub(crate) fn load(name: &str) -> Option<Loaded> {
    Some(read(data(name)?, &lenient()).unwrap())
}

fn fault(name: &str) -> Option<Error> {
    let path = data(name)?;
    let error = read(&path, &lenient()).unwrap_err();
    assert!(error.code().starts_with("R-DCM-"), "{error}");
    assert_eq!(error.path(), Some(&*path));
    Some(error)
}

fn assert_same_place(ours: &Volume, theirs: &Volume) {
    assert_eq!(ours.shape(), theirs.shape());
    let [a, b] = [ours, theirs].map(|v| *v.geometry().affine().unwrap());
    let apart = a.as_flattened().iter().zip(b.as_flattened()).map(|(a, b)| (a - b).abs());
    let apart = apart.fold(0.0, f64::max);
    assert!(apart < 1e-5, "{apart}: {a:?} {b:?}");
    assert_eq!(ours.geometry().affine_source(), AffineSource::Dicom);
}

fn slices_reversed(volume: &Volume) -> Volume {
    let [d, h, w] = volume.shape();
    let slices: Vec<f32> = volume.voxels().to_f32().rchunks(h * w).flatten().copied().collect();
    let mut affine = *volume.geometry().affine().unwrap();
    for row in &mut affine[..3] {
        row[3] += (d - 1) as f64 * row[2];
        row[2] = -row[2];
    }
    let geometry = Geometry::with_affine(volume.shape(), affine).unwrap();
    Volume::new(slices, geometry).unwrap()
}

fn assert_same(ours: &Volume, theirs: &Volume) {
    assert_same_place(ours, theirs);
    let differ = ours.voxels().iter().zip(theirs.voxels().iter()).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 0);
}

#[test]
fn jpeg_2000_series_is_what_simpleitk_makes_of_it() {
    let Some(ours) = load("dicom/totalseg_ct_jpeg2000") else { return };
    let Some(theirs) = load("dicom/totalseg_ct_jpeg2000_sitk.nii.gz") else { return };
    assert_eq!((ours.kind, ours.warnings.len()), (SourceKind::Dicom, 0));
    assert!(matches!(ours.volume.voxels(), Voxels::I16 { .. }));
    assert_same(&ours.volume, &theirs.volume);
}

#[test]
fn uncompressed_series_is_what_its_publishers_made_of_it() {
    let Some(theirs) = load("ct/ibsi1_lung/image.nii.gz") else { return };
    // The folder above holds an RTSTRUCT beside the images.
    for folder in ["dicom/ibsi1_lung/image", "dicom/ibsi1_lung"] {
        let Some(ours) = load(folder) else { return };
        assert_eq!(ours.warnings, []);
        assert_same(&ours.volume, &theirs.volume);
    }
}

#[test]
fn d5_padding_is_air_and_all_other_voxels_are_those_of_simpleitk() {
    let Some(ours) = load("dicom/dcmqi_ct3slice") else { return };
    let Some(theirs) = load("dicom/dcmqi_ct3slice_sitk.nii.gz") else { return };
    assert_same_place(&ours.volume, &theirs.volume);
    let mut padding = 0;
    for (ours, theirs) in ours.volume.voxels().iter().zip(theirs.volume.voxels().iter()) {
        // PixelPaddingValue is -2000, RescaleIntercept -1024.
        if theirs == -3024.0 {
            padding += 1;
            assert_eq!(ours, -1024.0);
        } else {
            assert_eq!(ours, theirs);
        }
    }
    assert!(0 < padding);
    let [warning] = ours.warnings.as_slice() else { panic!() };
    assert_eq!(warning.code, "W-PADDING");
    assert!(warning.text.starts_with(&format!("{padding} of 786432 voxels")), "{}", warning.text);
}

#[test]
fn d6_every_transfer_syntax_is_the_same_volume() {
    let Some(theirs) = load("dicom/transfer_syntaxes/001_ground_truth.nii.gz") else { return };
    // dicom2nifti stores these slices the other way round, on the same grid.
    let theirs = slices_reversed(&theirs.volume);
    for name in ["compressed", "compressed_jpeg", "compressed_jpegls", "compressed_rle"] {
        let Some(ours) = load(&format!("dicom/transfer_syntaxes/{name}")) else { return };
        assert_same(&ours.volume, &theirs);
    }
}

#[test]
fn d3_gantry_tilt_is_named_in_degrees() {
    let Some(fault) = fault("dicom/geometry_traps/gantrytilting") else { return };
    assert_eq!(
        fault.message(),
        "gantry tilt: slices are shifted along their planes, 14.00 degrees"
    );
}

#[test]
fn d2_gap_is_named_in_mm_and_may_be_filled() {
    let name = "dicom/geometry_traps/sliceincrement";
    let Some(fault) = fault(name) else { return };
    assert_eq!(
        fault.message(),
        "gap of 10.000 mm between slices 3 and 4 of 4; the others are 5.000 mm apart"
    );
    let loaded = read(data(name).unwrap(), &lenient().with_allow_gaps(true)).unwrap();
    assert_eq!(loaded.volume.shape(), [5, 512, 512]);
    assert_eq!(loaded.warnings[0].code, "W-GAPS");
}

#[test]
fn d2_slices_at_one_position_are_no_volume() {
    let Some(fault) = fault("dicom/geometry_traps/notavolume") else { return };
    assert_eq!(
        fault.message(),
        "not one volume: 4 slices lie at 1 distinct position(s) (time points, or copies)"
    );
}

#[test]
fn single_slices_are_pictures_unless_one_slice_is_enough() {
    let Some(path) = data("dicom/single/CT_small.dcm") else { return };
    let error = read(&path, &ReadOptions::default()).unwrap_err();
    assert_eq!(
        error.message(),
        "volume is 128x128x1 voxels (i,j,k); at least 4 per axis are needed"
    );
    let volume = read(&path, &lenient()).unwrap().volume;
    assert_eq!(volume.geometry().spacing_mm(), Some([5.0, 0.661468, 0.661468]));
    let Some(path) = data("dicom/single/lungmask_0.dcm") else { return };
    let error = read(&path, &ReadOptions::default()).unwrap_err();
    assert_eq!(error.message(), "the file does not say its modality; CT is needed");
    assert_eq!(read(&path, &lenient()).unwrap().volume.shape(), [1, 512, 512]);
}

#[test]
fn d1_every_series_of_a_collection_is_listed_with_what_is_wrong_with_it() {
    let Some(path) = data("dicom") else { return };
    let list = list_series(path, &ReadOptions::default()).unwrap();
    let readable = list.iter().filter(|s| s.verdict.is_none());
    let shapes: Vec<_> = readable.map(|s| (s.shape, s.modality.as_str())).collect();
    let expected = [(Some([20, 512, 512]), "CT"), (Some([60, 201, 204]), "CT")];
    assert_eq!((list.len(), shapes), (9, expected.to_vec()));
    assert!(list.iter().enumerate().all(|(n, s)| s.number == n + 1 && s.id.len() == 12));
}
