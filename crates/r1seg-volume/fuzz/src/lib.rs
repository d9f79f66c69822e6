//! What a fuzz target does with its bytes: it reads them as a volume and, where that succeeds, goes
//! the way of an inference without a model, from the recipe to the written mask.
//!
//! A target fails on a panic, a hang, too much memory, and on any of the promises asserted here.

mod series;

use std::fs;
use std::path::PathBuf;

use libfuzzer_sys::Corpus;
use r1seg_volume::{
    AffineSource, ArrayAxes, AxisMap, Ends, Error, Geometry, LabelMap, Loaded, Mask, MaskFormat,
    NearestMode, ReadOptions, Segment, Segmentation, SpacingConvention, Step, Volume, mask_stats,
    prepare, read, read_from, write_mask_to, write_segmentation_to,
};

pub use series::{let_codecs_panic, read_and_use_series};

/// Names that the seeds carry wherever a header has room for text. They must never be repeated.
const PATIENTS: [&str; 2] = ["PATIENT", "CANARY"];
/// Inputs are small, and so is what may be made of them.
const MAX_VOXELS: u64 = 1 << 20;
const MAX_BYTES: u64 = 1 << 24;
/// A model's grid, which no volume of interest has.
const GRID: [usize; 3] = [3, 2, 5];
/// Voxels of a file that does not say how large they are, `[D, H, W]`.
const SPACING_MM: [f64; 3] = [2.5, 0.75, 0.5];
/// How far interpolation may overshoot by rounding.
const ROUNDING: f32 = 1e-3;

/// Makes rayon run its tasks on the calling thread, whose coverage libFuzzer counts, and without the
/// cost of waking another one. To be called once.
pub fn stay_on_this_thread() {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread()
        .build_global()
        .expect("nothing has started the pool before");
}

/// Reads `bytes` and uses what comes out.
pub fn read_and_use(bytes: &[u8]) -> Corpus {
    let lot = Lot::of(bytes);
    let options = options();
    let streamed = read_from(bytes, "volume", &options);
    if lot.is_nth_of(0, 4) {
        let path = on_disk(bytes);
        check_alike(&streamed, &read(&path, &options));
        check_placed_as(&path, &options);
    }
    match streamed {
        Ok(loaded) => {
            use_volume(&loaded, lot);
            if lot.is_nth_of(2, 4) {
                let again = options.with_axes(ArrayAxes::Xyz).with_spacing_mm(SPACING_MM);
                read_and_use_with(bytes, &again, lot);
            }
        }
        Err(error) => {
            check_error(&error);
            let again = match error.code() {
                "R-IN-05" | "R-IN-06" => return Corpus::Reject,
                "R-NII-11" | "R-NPY-03" => options.with_frame(1),
                "R-NII-10" | "R-NRD-11" => options.with_spacing_mm(SPACING_MM),
                "R-NPZ-02" => options.with_key("b"),
                _ => return Corpus::Keep,
            };
            read_and_use_with(bytes, &again, lot);
        }
    }
    Corpus::Keep
}

/// Reads bytes that have been read without these options.
fn read_and_use_with(bytes: &[u8], options: &ReadOptions, lot: Lot) {
    match read_from(bytes, "volume", options) {
        Ok(loaded) => use_volume(&loaded, lot),
        Err(error) => check_error(&error),
    }
}

/// Draws the inputs that costly checks are made on, the same ones each time.
#[derive(Clone, Copy)]
struct Lot(u8);

impl Lot {
    fn of(bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte)))
    }

    /// True for one in `inputs`, and another one for each `n`.
    fn is_nth_of(self, n: u8, inputs: u8) -> bool {
        self.0 % inputs == n
    }
}

fn options() -> ReadOptions {
    ReadOptions::default().with_max_voxels(MAX_VOXELS).with_max_bytes(MAX_BYTES).with_min_axis(1)
}

/// The bytes as a file, whose length is known before it is read, beside files of voxels that a
/// header without its own may name.
fn on_disk(bytes: &[u8]) -> PathBuf {
    thread_local! {
        static FOLDER: tempfile::TempDir = {
            let folder = tempfile::tempdir().expect("a temporary folder");
            for name in ["voxels", "volume.img"] {
                fs::write(folder.path().join(name), [9; 240]).expect("a written file");
            }
            folder
        };
    }
    let path = FOLDER.with(|folder| folder.path().join("volume"));
    fs::write(&path, bytes).expect("a written file");
    path
}

fn check_alike(streamed: &Result<Loaded, Error>, stored: &Result<Loaded, Error>) {
    match (streamed, stored) {
        (Ok(streamed), Ok(stored)) => {
            assert_eq!(streamed.kind, stored.kind);
            assert!(streamed.volume.voxels() == stored.volume.voxels());
            assert_eq!(streamed.volume.geometry().affine(), stored.volume.geometry().affine());
        }
        // Only a file has others beside it and an end to count from, or is an archive of DICOM.
        (Err(streamed), stored)
            if matches!(streamed.code(), "R-NII-12" | "R-NRD-05" | "R-NRD-01" | "R-IN-06") =>
        {
            if let Err(error) = stored {
                check_error(error);
            }
        }
        (Err(streamed), Err(stored)) => {
            check_error(stored);
            assert_eq!(streamed.code(), stored.code(), "{streamed:?} {stored:?}");
        }
        _ => panic!("a stream and a file of the same bytes differ: {streamed:?} {stored:?}"),
    }
}

/// A volume whose geometry is taken from its own file is the volume.
fn check_placed_as(path: &PathBuf, options: &ReadOptions) {
    let plain = read(path, options);
    let placed = read(path, &options.clone().with_affine_from(path));
    match (plain, placed) {
        (Ok(plain), Ok(placed)) => {
            assert_eq!(plain.volume.geometry().affine(), placed.volume.geometry().affine());
        }
        (Ok(plain), Err(error)) => {
            assert!(plain.volume.geometry().affine().is_none(), "{error:?}");
        }
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => panic!("a geometry of its own cures no fault: {error:?}"),
    }
}

fn check_error(error: &Error) {
    assert!(error.path().is_some());
    assert!(!error.code().is_empty());
    check_text(&format!("{error} {error:?} {:?}", error.remedy()));
}

/// What is said of a file names nobody.
fn check_text(text: &str) {
    assert!(PATIENTS.iter().all(|name| !text.contains(name)), "{text}");
}

fn use_volume(loaded: &Loaded, lot: Lot) {
    let volume = &loaded.volume;
    let geometry = volume.geometry();
    assert!(volume.voxels().iter().all(f32::is_finite), "a voxel is not finite");
    assert_eq!(volume.voxels().len(), geometry.voxels());
    assert!((1..=MAX_VOXELS as usize).contains(&geometry.voxels()));
    for warning in &loaded.warnings {
        check_text(&format!("{warning} {warning:?}"));
    }
    check_geometry(geometry);

    let bright = volume.voxels().iter().map(|v| u8::from(0.0 < v)).collect();
    check_mask(Mask::new(bright, geometry.clone()).expect("one label a voxel"), volume, lot);
    // Percentiles are counted in 65536 bins, which takes longer than all the rest.
    if lot.is_nth_of(3, 64) {
        let above_mean = Step::Rescale(Ends::PercentilesAboveMean([0.05, 99.95]));
        use_steps(&[above_mean, Step::CropForeground { margin: 0 }], volume, lot);
        let of_all = Step::Rescale(Ends::Percentiles([0.5, 99.5]));
        let turned = Step::Turn(AxisMap::TRANSPOSED);
        use_steps(&[of_all, Step::CropForeground { margin: 0 }, turned], volume, lot);
    } else if lot.is_nth_of(0, 2) {
        use_steps(&[Step::Rescale(Ends::MinMax), Step::CropForeground { margin: 0 }], volume, lot);
    } else {
        let window = Step::Rescale(Ends::Fixed { low: -160.0, high: 240.0 });
        use_steps(&[window, Step::CropForeground { margin: 0 }], volume, lot);
    }
    resample(volume);
}

fn check_geometry(geometry: &Geometry) {
    let Some(affine) = geometry.affine() else {
        assert!(geometry.spacing_mm().is_none() && geometry.orientation().is_none());
        return;
    };
    assert!(affine.iter().flatten().all(|v| v.is_finite()), "{affine:?}");
    let spacing = geometry.spacing_mm().expect("a spacing beside an affine");
    assert!(spacing.iter().all(|mm| mm.is_finite() && 0.0 < *mm), "{spacing:?} of {affine:?}");
    let mm3 = geometry.voxel_volume_mm3().expect("a volume beside an affine");
    assert!(mm3.is_finite() && 0.0 < mm3, "{mm3} mm3 of {affine:?}");
    let axes = geometry.orientation().expect("an orientation beside an affine").to_string();
    let of_each_pair = ["LR", "PA", "IS"].iter().all(|pair| axes.contains(|c| pair.contains(c)));
    assert!(of_each_pair, "{axes} of {affine:?}");
}

fn use_steps(steps: &[Step], volume: &Volume, lot: Lot) {
    let prepared = prepare(volume, steps).expect("every volume can be prepared");
    let in_unit_range = |v: &f32| (-ROUNDING..=1.0 + ROUNDING).contains(v);
    assert!(prepared.to_f32().iter().all(in_unit_range), "{steps:?} of {volume:?}");
    let input = prepared.resize(GRID).expect("every volume can be resized");
    assert!(input.iter().all(in_unit_range), "{steps:?} of {volume:?}");

    let logits: Vec<f32> = input.iter().map(|v| v - 0.25).collect();
    let data = prepared.map().mask_from_logits(&logits, GRID).expect("a mask");
    check_mask(Mask::new(data, volume.geometry().clone()).expect("one label a voxel"), volume, lot);
}

/// To larger voxels, and back.
fn resample(volume: &Volume) {
    for convention in
        [SpacingConvention::ItkCeil, SpacingConvention::ItkCentered, SpacingConvention::Monai]
    {
        let spacing = volume.geometry().spacing_mm();
        let mm = spacing.map_or([1.0; 3], |mm| mm.map(|mm| 1.7 * mm));
        match prepare(volume, &[Step::Space { mm, convention }]) {
            Ok(prepared) => {
                assert!(prepared.to_f32().iter().all(|v| v.is_finite()));
                let mask = vec![1; prepared.shape().iter().product()];
                let back = prepared.map().mask_to_source(&mask, NearestMode::Nearest);
                assert_eq!(back.expect("a mask").len(), volume.voxels().len());
            }
            // Without a spacing, or with one whose multiple is no length.
            Err(Error::UnknownSpacing) => assert!(spacing.is_none()),
            Err(error) => assert_eq!(error.code(), "R-GEO-03"),
        }
    }
}

/// A written mask must be read again as the same voxels in the same place.
fn check_mask(mask: Mask, volume: &Volume, lot: Lot) {
    let stats = mask_stats(&mask, 1, volume).expect("measures");
    assert_eq!(stats.voxels, mask.data().iter().filter(|v| **v == 1).count());
    assert!(stats.components <= stats.voxels);

    let format = match mask.geometry().affine() {
        None => MaskFormat::Npy,
        Some(_) => MaskFormat::Nifti,
    };
    let mut file = Vec::new();
    write_mask_to(&mut file, &mask, format).expect("memory takes everything");
    let again = read_from(file.as_slice(), "mask", &options()).expect("a mask is readable").volume;
    assert!(again.voxels().iter().eq(mask.data().iter().map(|v| f32::from(*v))));
    check_same_grid(again.geometry(), mask.geometry());
    let keeps_leading_axis = again.geometry().npy_leading_axis();
    assert!(format != MaskFormat::Npy || keeps_leading_axis == mask.geometry().npy_leading_axis());

    if lot.is_nth_of(1, 4) {
        check_segmentation(&mask);
    }
}

/// The same for 3D Slicer's format.
fn check_segmentation(mask: &Mask) {
    let mut labels = LabelMap::new(mask.geometry().clone());
    labels.push(mask).expect("the same grid");
    let segments = vec![Segment::new("seed", [1, 2, 3])];
    let segmentation = Segmentation::new(&labels, segments).expect("one segment");
    let mut file = Vec::new();
    write_segmentation_to(&mut file, &segmentation).expect("memory takes everything");
    let again = read_from(file.as_slice(), "mask", &options()).expect("a mask is readable").volume;
    assert!(again.voxels().iter().eq(mask.data().iter().map(|v| f32::from(*v))));
    check_same_grid(again.geometry(), mask.geometry());
}

fn check_same_grid(geometry: &Geometry, expected: &Geometry) {
    assert_eq!(geometry.shape(), expected.shape());
    let (Some(affine), Some(wanted)) = (geometry.affine(), expected.affine()) else {
        assert_eq!(geometry.affine(), expected.affine());
        return;
    };
    let is_exact = geometry.affine_source() == AffineSource::Nrrd || expected.nifti().is_some();
    // A NIfTI-1 header for a volume that did not come from one holds f32.
    let tolerance = if is_exact { 0.0 } else { f64::from(f32::EPSILON) };
    for (got, wanted) in affine.iter().flatten().zip(wanted.iter().flatten()) {
        assert!((got - wanted).abs() <= tolerance * wanted.abs(), "{affine:?} {expected:?}");
    }
}
