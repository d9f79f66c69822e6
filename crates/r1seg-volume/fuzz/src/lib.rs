//! What a fuzz target does with its bytes: it reads them as a volume and, where that succeeds, goes
//! the way of an inference without a model, from the recipe to the written mask.
//!
//! A target fails on a panic, a hang, too much memory, and on any of the promises asserted here.

use std::io::{Seek, Write};

use libfuzzer_sys::Corpus;
use r1seg_volume::{
    Error, Geometry, Loaded, Mask, MaskFormat, ReadOptions, Recipe, Volume, mask_stats, read,
    read_from, write_mask_to,
};

/// A name that the seeds carry wherever a header has room for text. It must never be repeated.
pub const PATIENT: &str = "PATIENT";
/// Inputs are small, and so is what may be made of them.
const MAX_VOXELS: u64 = 1 << 20;
const MAX_BYTES: u64 = 1 << 24;
/// A model's grid, which no volume of interest has.
const GRID: [usize; 3] = [3, 2, 5];
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
    if lot.is_one_in(4) {
        check_alike(&streamed, &on_disk(bytes, &options));
    }
    match streamed {
        Ok(loaded) => use_volume(&loaded, lot),
        Err(error) => {
            check_error(&error);
            if matches!(error, Error::UnknownFormat { .. } | Error::EmptyFile { .. }) {
                return Corpus::Reject;
            }
            retry(bytes, &error, options, lot);
        }
    }
    Corpus::Keep
}

/// Draws the inputs that costly checks are made on, the same ones each time.
#[derive(Clone, Copy)]
struct Lot(u8);

impl Lot {
    fn of(bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte)))
    }

    fn is_one_in(self, inputs: u8) -> bool {
        self.0.is_multiple_of(inputs)
    }
}

fn options() -> ReadOptions {
    ReadOptions::default().with_max_voxels(MAX_VOXELS).with_max_bytes(MAX_BYTES).with_min_axis(1)
}

/// The bytes as a file, whose length is known before it is read.
fn on_disk(bytes: &[u8], options: &ReadOptions) -> Result<Loaded, Error> {
    thread_local! {
        static FILE: tempfile::NamedTempFile =
            tempfile::NamedTempFile::new().expect("a temporary file");
    }
    FILE.with(|file| {
        let mut handle = file.as_file();
        handle.set_len(0).and_then(|()| handle.rewind()).expect("an empty file");
        handle.write_all(bytes).expect("a written file");
        read(file.path(), options)
    })
}

fn check_alike(streamed: &Result<Loaded, Error>, stored: &Result<Loaded, Error>) {
    match (streamed, stored) {
        (Ok(streamed), Ok(stored)) => {
            assert_eq!(streamed.kind, stored.kind);
            assert!(streamed.volume.voxels() == stored.volume.voxels());
            assert_eq!(streamed.volume.geometry().affine(), stored.volume.geometry().affine());
        }
        (Err(streamed), Err(stored)) => assert_eq!(streamed.code(), stored.code()),
        _ => panic!("a stream and a file of the same bytes differ: {streamed:?} {stored:?}"),
    }
}

/// Asks for what the error says is missing.
fn retry(bytes: &[u8], error: &Error, options: ReadOptions, lot: Lot) {
    let again = match error {
        Error::NiftiFrames { .. } => options.with_frame(1),
        Error::NiftiAffine { .. } => options.with_spacing_mm([2.5, 0.75, 0.5]),
        _ => return,
    };
    match read_from(bytes, "volume", &again) {
        Ok(loaded) => use_volume(&loaded, lot),
        Err(error) => check_error(&error),
    }
}

fn check_error(error: &Error) {
    assert!(error.path().is_some());
    let texts = [error.to_string(), format!("{error:?}"), error.fix().unwrap_or_default()];
    assert!(!error.code().is_empty() && texts.iter().all(|text| !text.contains(PATIENT)));
}

fn use_volume(loaded: &Loaded, lot: Lot) {
    let volume = &loaded.volume;
    let geometry = volume.geometry();
    assert!(volume.voxels().iter().all(f32::is_finite), "a voxel is not finite");
    assert_eq!(volume.voxels().len(), geometry.voxels());
    assert!((1..=MAX_VOXELS as usize).contains(&geometry.voxels()));
    for warning in &loaded.warnings {
        assert!(!format!("{warning} {warning:?}").contains(PATIENT));
    }
    check_geometry(geometry);

    let bright = volume.voxels().iter().map(|v| u8::from(0.0 < v)).collect();
    check_mask(Mask::new(bright, geometry.clone()).expect("one label a voxel"), volume);

    // Percentiles are counted in 65536 bins, which takes longer than all the rest.
    if lot.is_one_in(32) {
        let (auto, _) = Recipe::auto(volume);
        for recipe in [auto, Recipe::M3dSeg, Recipe::M3dRefSeg] {
            use_recipe(recipe, volume);
        }
    } else if lot.is_one_in(2) {
        use_recipe(Recipe::M3dCap, volume);
    } else {
        use_recipe(Recipe::Window { level: 40.0, width: 400.0 }, volume);
    }
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
    let axes = geometry.orientation().expect("an orientation beside an affine");
    let of_each_pair = ["LR", "PA", "IS"].iter().all(|pair| axes.contains(|c| pair.contains(c)));
    assert!(of_each_pair, "{axes} of {affine:?}");
}

fn use_recipe(recipe: Recipe, volume: &Volume) {
    let prepared = recipe.apply(volume).expect("every volume can be prepared");
    let in_unit_range = |v: &f32| (-ROUNDING..=1.0 + ROUNDING).contains(v);
    assert!(prepared.to_f32().iter().all(in_unit_range), "{recipe} of {volume:?}");
    let input = prepared.resize(GRID).expect("every volume can be resized");
    assert!(input.iter().all(in_unit_range), "{recipe} of {volume:?}");

    let logits: Vec<f32> = input.iter().map(|v| v - 0.25).collect();
    let data = prepared.placement().mask_from_logits(&logits, GRID).expect("a mask");
    check_mask(Mask::new(data, volume.geometry().clone()).expect("one label a voxel"), volume);
}

/// A written mask must be read again as the same voxels in the same place.
fn check_mask(mask: Mask, volume: &Volume) {
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
    let (geometry, expected) = (again.geometry(), mask.geometry());
    assert_eq!(geometry.shape(), expected.shape());
    assert_eq!(geometry.affine(), expected.affine());
    assert_eq!(geometry.spacing_mm(), expected.spacing_mm());
    assert_eq!(geometry.npy_leading_axis(), expected.npy_leading_axis());
}
