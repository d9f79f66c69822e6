//! What a model sees of the same body, however it is stored, and where its finding comes back to.

use r1seg_volume::{
    AxisMap, Ends, Geometry, Mask, Orient, Orientation, Prepared, Region, RegionRule, Step, Volume,
    mask_stats, prepare,
};

/// Voxels from right to left, anterior to posterior, inferior to superior, and their size.
const SIZES: [usize; 3] = [14, 11, 9];
const MM: [f64; 3] = [0.7, 0.8, 2.5];

/// HU of a place in the body: air at the margins, and nothing twice.
fn hu([x, y, z]: [usize; 3]) -> i16 {
    let is_margin = x < 2 || SIZES[0] - 4 < x || y < 1 || SIZES[1] - 3 < y || z < 1;
    let n = (x * SIZES[1] + y) * SIZES[2] + z;
    if is_margin { -1000 } else { i16::try_from(n).unwrap() - 700 }
}

/// The body as stored in an orientation, in which columns of the affine may be a little oblique.
fn stored(codes: &str, oblique: f64) -> Volume {
    let axes: Vec<(usize, bool)> = codes
        .chars()
        .map(|code| ("LPS RAI".chars().position(|c| c == code).unwrap(), code))
        .map(|(place, code)| (place % 4, "LPS".contains(code)))
        .collect();
    let shape = [2, 1, 0].map(|n: usize| SIZES[axes[n].0]);
    let mut affine = [[0.0; 4]; 4];
    affine[3] = [0.0, 0.0, 0.0, 1.0];
    for (column, (axis, along)) in axes.iter().enumerate() {
        // L and P are the negative directions of RAS+, and S is the positive one.
        let towards_ras = (*axis == 2) == *along;
        affine[*axis][column] = if towards_ras { MM[*axis] } else { -MM[*axis] };
        affine[(*axis + 1) % 3][column] = oblique * MM[*axis];
        let far = MM[*axis] * (SIZES[*axis] - 1) as f64;
        affine[*axis][3] = if towards_ras { 0.0 } else { far };
    }
    let mut voxels = Vec::new();
    for k in 0..shape[0] {
        for j in 0..shape[1] {
            for i in 0..shape[2] {
                let mut place = [0; 3];
                for (at, (axis, along)) in [i, j, k].into_iter().zip(&axes) {
                    place[*axis] = if *along { at } else { SIZES[*axis] - 1 - at };
                }
                voxels.push(hu(place));
            }
        }
    }
    let volume = Volume::new(voxels, Geometry::with_affine(shape, affine).unwrap()).unwrap();
    assert_eq!(volume.geometry().orientation().unwrap().to_string(), codes);
    volume
}

fn all_codes() -> Vec<String> {
    let pairs = ["LR", "PA", "IS"];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let codes = |order: [usize; 3], signs: usize| -> String {
        (0..3).map(|n| char::from(pairs[order[n]].as_bytes()[signs >> n & 1])).collect()
    };
    orders.into_iter().flat_map(|order| (0..8).map(move |signs| codes(order, signs))).collect()
}

/// What M3D makes of its data.
const SEG: &[Step] =
    &[Step::Rescale(Ends::PercentilesAboveMean([0.05, 99.95])), Step::CropForeground { margin: 0 }];

/// The steps, of a volume that is turned before them.
fn turned(volume: &Volume, axes: AxisMap, steps: &[Step]) -> Prepared {
    prepare(volume, &[&[Step::Turn(axes)], steps].concat()).unwrap()
}

/// What is brighter than most, as a model may find it on its grid, back on the volume's.
fn find(prepared: &Prepared, grid: [usize; 3], volume: &Volume) -> Mask {
    let logits: Vec<f32> = prepared.resize(grid).unwrap().iter().map(|v| v - 0.6).collect();
    let mask = prepared.map().mask_from_logits(&logits, grid).unwrap();
    Mask::new(mask, volume.geometry().clone()).unwrap()
}

#[test]
fn n21_a_model_sees_and_finds_the_same_in_all_48_axis_orders() {
    let orient = Orient::To(Orientation::LPS);
    let grid = [4, 8, 8];
    let reference = stored("LPS", 0.0);
    let percentiles = Step::Rescale(Ends::Percentiles([0.5, 99.5]));
    for steps in [
        &[][..],
        SEG,
        &[Step::Rescale(Ends::MinMax), Step::CropForeground { margin: 0 }],
        &[percentiles, Step::CropForeground { margin: 0 }, Step::Turn(AxisMap::TRANSPOSED)],
        &[
            Step::Rescale(Ends::Fixed { low: -650.0, high: 250.0 }),
            Step::CropForeground { margin: 0 },
        ],
    ] {
        let expected = prepare(&reference, steps).unwrap();
        let found = find(&expected, grid, &reference);
        let stats = mask_stats(&found, 1, &reference).unwrap();
        assert!(10 < stats.voxels && stats.voxels < 1000, "{steps:?}: {stats:?}");
        for codes in all_codes() {
            let volume = stored(&codes, 0.0);
            let axes = orient.axes(volume.geometry()).unwrap();
            let prepared = turned(&volume, axes, steps);
            assert_eq!(prepared.shape(), expected.shape(), "{steps:?} {codes}");
            assert_eq!(prepared.to_f32(), expected.to_f32(), "{steps:?} {codes}");
            let exact = prepared.resize_nearest_exact(grid).unwrap();
            assert_eq!(exact, expected.resize_nearest_exact(grid).unwrap(), "{steps:?} {codes}");

            let mask = find(&prepared, grid, &volume);
            let got = mask_stats(&mask, 1, &volume).unwrap();
            assert_eq!((got.voxels, got.components), (stats.voxels, stats.components));
            // All in mm, the intensities under the mask included.
            let (a, b) = (got.centroid_mm.unwrap(), stats.centroid_mm.unwrap());
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{steps:?} {codes}");
            let (a, b) = (got.mean_intensity.unwrap(), stats.mean_intensity.unwrap());
            assert!((a - b).abs() < 1e-9, "{steps:?} {codes}");
        }
    }
}

#[test]
fn an_oblique_volume_goes_by_its_nearest_axes() {
    let orient = Orient::To(Orientation::RAS);
    let expected = prepare(&stored("RAS", 0.0), SEG).unwrap().to_f32();
    for codes in ["RAS", "LPS", "PIR", "SAL"] {
        let volume = stored(codes, 0.2);
        assert!(volume.geometry().obliquity_degrees().unwrap() > 5.0);
        let axes = orient.axes(volume.geometry()).unwrap();
        let prepared = turned(&volume, axes, SEG);
        assert_eq!(prepared.to_f32(), expected, "{codes}");
    }
}

#[test]
fn crops_boxes_and_the_resolution_are_told_on_the_stored_grid() {
    let volume = stored("SLA", 0.0);
    let axes = Orient::To(Orientation::LPS).axes(volume.geometry()).unwrap();
    let prepared = turned(&volume, axes, SEG);
    let map = prepared.map();
    assert_eq!(prepared.crop(), prepare(&volume, SEG).unwrap().crop());
    // The model's grid is z, y, x; the stored one D to the anterior, H to the left, W upwards.
    let [d, h, w] = prepared.shape();
    assert_eq!(prepared.crop().shape(), [h, w, d]);
    let mm = map.clone().fitted([d, h, 1]).unwrap().resolution_mm(volume.geometry()).unwrap();
    assert_eq!(mm, [0.8, 0.7 * w as f64, 2.5]);
    let start = prepared.crop().start;
    let voxel = Region::at([start[0], start[1] + 1, start[2] + 2], [1; 3]);
    let seen = map.region(voxel, RegionRule::Touched).unwrap();
    // Anterior is where the posterior direction begins.
    assert_eq!(seen, Region::at([2, h - 1, 1], [1; 3]));
    assert_eq!(map.inverse().region(seen, RegionRule::Touched), Some(voxel));
}

#[test]
fn sides_that_are_a_guess_are_not_turned() {
    use r1seg_volume::{ReadOptions, read_from};
    let npy = crate::builder::npy("<i2", "False", "(4, 5, 6)", &[0; 240]);
    let options = ReadOptions::default().with_spacing_mm([3.0, 2.0, 1.0]);
    let volume = read_from(&*npy, "a.npy", &options).unwrap().volume;
    assert!(volume.geometry().has_guessed_sides());
    let error = Orient::To(Orientation::LPS).axes(volume.geometry()).unwrap_err();
    assert_eq!(error.code(), "R-GEO-11");
}
