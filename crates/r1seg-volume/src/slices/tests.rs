use super::*;
use crate::{Geometry, ReadOptions, read};

const RECIPE: SliceRecipe =
    SliceRecipe { count: 32, jpeg_quality: 95, size: 224, as_published: false };

fn recorded(file: &str) -> std::path::PathBuf {
    let golden = "../../tests/data/hsenet-phi4/golden";
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(golden).join(file)
}

/// A tensor of bytes out of `prep.safetensors`, and its shape.
fn expected(name: &str) -> (Vec<usize>, Vec<u8>) {
    let file = std::fs::read(recorded("prep.safetensors")).unwrap();
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let list = |value: &serde_json::Value| -> Vec<usize> {
        value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let (shape, at) = (list(&header[name]["shape"]), list(&header[name]["data_offsets"]));
    (shape, file[8 + length..][at[0]..at[1]].to_vec())
}

fn assert_pictures(got: &Slices, which: &[usize], name: &str) {
    let [count, height, width] = got.shape();
    let (shape, pixels) = expected(name);
    assert_eq!((count, &shape[1..]), (32, &[height, width][..]), "{name}");
    for (n, index) in which.iter().enumerate() {
        let picture =
            |pixels: &[u8], n: usize| pixels[n * height * width..][..height * width].to_vec();
        assert!(picture(got.pixels(), *index) == picture(&pixels, n), "{name}, picture {index}");
    }
}

#[test]
fn every_step_gives_the_pixels_that_the_authors_scripts_give() {
    let volume = read(recorded("ct.nii.gz"), &ReadOptions::default()).unwrap().volume;
    let gray = gray_slices(&volume, &RECIPE).unwrap();
    assert_pictures(&gray, &[0, 9, 20, 31], "slices.u8");
    let [_, height, width] = gray.shape();
    let decoded =
        gray.each([height, width], |picture| jpeg::round_trip(picture, [height, width], 95));
    assert_pictures(&decoded, &(0..32).collect::<Vec<_>>(), "slices.jpeg");
    assert_pictures(&slices(&volume, &RECIPE).unwrap(), &[5, 24], "slices.resized");
}

#[test]
fn few_slices_are_interpolated_and_many_are_cut_along_the_first_axis_as_published() {
    let of = |file: &str, recipe: &SliceRecipe| {
        let volume = read(recorded(file), &ReadOptions::default()).unwrap().volume;
        gray_slices(&volume, recipe).unwrap()
    };
    assert_pictures(&of("thin.nii.gz", &RECIPE), &[3, 30], "thin.u8");
    let published = SliceRecipe { as_published: true, ..RECIPE };
    assert_pictures(&of("thin.nii.gz", &published), &[3, 30], "thin.u8");
    assert_pictures(&of("tall.nii.gz", &published), &[3, 30], "tall.u8");
    let upright = of("tall.nii.gz", &RECIPE).shape();
    assert_ne!(upright, of("tall.nii.gz", &published).shape());
    assert_eq!(upright, [32, 80, 74]);
}

#[test]
fn slices_are_spread_as_torch_spreads_them() {
    let of = |depth| (0..32).map(|n| evenly(depth, 32, n).unwrap()).collect::<Vec<_>>();
    assert_eq!(
        of(69),
        [
            0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 24, 26, 28, 30, 32, 35, 37, 39, 41, 43, 46, 48,
            50, 52, 54, 57, 59, 61, 63, 65, 68
        ]
    );
    assert_eq!(of(32), (0..32).collect::<Vec<_>>());
    assert_eq!((evenly(31, 32, 0), evenly(7, 1, 0)), (None, Some(6)));
}

#[test]
fn a_picture_is_turned_clockwise() {
    assert_eq!(turned(&[1, 2, 3, 4, 5, 6], [2, 3]), [4, 1, 5, 2, 6, 3]);
}

#[test]
fn what_cannot_be_sliced_is_refused() {
    let code = |geometry: Geometry| {
        let volume = Volume::new(vec![0_i16; geometry.voxels()], geometry).unwrap();
        slices(&volume, &RECIPE).map(|_| ()).map_err(|e| e.code())
    };
    assert_eq!(code(Geometry::without_affine([4; 3])), Err("R-GEO-14"));
    for mm in [[0.01, 1.0, 1.0], [1e9, 1e9, 1e9], [1.0, 0.01, 0.01]] {
        assert_eq!(code(Geometry::with_spacing([4; 3], mm).unwrap()), Err("R-GEO-13"), "{mm:?}");
    }
    let flat = Geometry::with_spacing([4; 3], [3.0, 1.0, 1.0]).unwrap();
    let flat = Volume::new(vec![40_i16; 64], flat).unwrap();
    assert!(slices(&flat, &RECIPE).unwrap().pixels().iter().all(|v| *v == 0));
}
