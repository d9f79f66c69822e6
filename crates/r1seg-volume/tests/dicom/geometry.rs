use r1seg_volume::{
    AffineSource, LabelMap, Mask, Overwrite, ReadOptions, Remedy, Segment, Segmentation, Volume,
    Voxels, read, write_mask, write_segmentation,
};

use crate::builder::{Dcm, codes, error, expected_hu, load, load_with, series};

#[test]
fn d4_slices_are_sorted_by_position_not_by_name() {
    let loaded = load(&series(7));
    let g = loaded.volume.geometry();
    assert_eq!((g.shape(), g.affine_source()), ([7, 4, 6], AffineSource::Dicom));
    assert_eq!(
        g.affine().unwrap()[..3],
        [[-0.7, 0.0, 0.0, 20.0], [0.0, -0.8, 0.0, 30.0], [0.0, 0.0, 2.5, 40.0]]
    );
    assert_eq!(*loaded.volume.voxels(), Voxels::from(expected_hu(7)));
    assert_eq!(codes(&loaded), [""; 0]);
    // The same, acquired from the top down and numbered so.
    let mut reversed = series(7);
    reversed.reverse();
    assert_eq!(load(&reversed).volume, loaded.volume);
}

/// Directions of rows, columns and slices along the axes of the world, in all 24 ways that keep it
/// right-handed, and the files of five slices in a shuffled order.
fn every_orientation() -> Vec<([[f64; 3]; 3], Vec<Dcm>)> {
    let axes: Vec<[f64; 3]> = (0..6)
        .map(|n| std::array::from_fn(|m| if m == n % 3 { 1.0 - 2.0 * (n / 3) as f64 } else { 0.0 }))
        .collect();
    let mut out = Vec::new();
    for row in &axes {
        for column in axes.iter().filter(|c| row.iter().zip(*c).all(|(a, b)| a * b == 0.0)) {
            let normal: [f64; 3] = std::array::from_fn(|n| {
                let (a, b) = ((n + 1) % 3, (n + 2) % 3);
                row[a] * column[b] - row[b] * column[a]
            });
            let directions = [*row, *column, normal];
            let mut files = series(5);
            for (k, file) in files.iter_mut().enumerate() {
                let [a, b, c] = *row;
                let [d, e, f] = *column;
                let first = position_lps(&directions, [0.0, 0.0, k as f64]);
                file.position(first).orientation([a, b, c, d, e, f]);
            }
            files.rotate_left(2);
            out.push((directions, files));
        }
    }
    out
}

fn position_lps(directions: &[[f64; 3]; 3], ijk: [f64; 3]) -> [f64; 3] {
    let [row, column, normal] = directions;
    let [i, j, k] = ijk;
    std::array::from_fn(|n| {
        (n + 1) as f64 + 0.7 * i * row[n] + 0.8 * j * column[n] + 2.5 * k * normal[n]
    })
}

/// How far a voxel of `volume` is from where DICOM puts it.
fn apart(volume: &Volume, directions: &[[f64; 3]; 3], ijk: [f64; 3]) -> f64 {
    let [x, y, z] = position_lps(directions, ijk);
    let world = volume.geometry().world_mm(ijk).unwrap();
    [world[0] + x, world[1] + y, world[2] - z].into_iter().map(f64::abs).fold(0.0, f64::max)
}

#[test]
fn d4_every_orientation_puts_every_voxel_where_it_belongs() {
    let orientations = every_orientation();
    assert_eq!(orientations.len(), 24);
    for (directions, files) in orientations {
        let volume = load(&files).volume;
        assert_eq!(*volume.voxels(), Voxels::from(expected_hu(5)));
        for ijk in [[0.0; 3], [5.0, 3.0, 4.0]] {
            assert!(apart(&volume, &directions, ijk) < 1e-9, "{directions:?}");
        }
    }
}

#[test]
fn d11_the_mask_of_a_series_lies_on_it_in_every_orientation() {
    let (w, h) = (6, 4);
    let marked = [4, 1, 3];
    for (directions, files) in every_orientation() {
        let geometry = load(&files).volume.into_parts().1;
        let mut labels = vec![0; geometry.voxels()];
        labels[(marked[2] * h + marked[1]) * w + marked[0]] = 1;
        let mask = Mask::new(labels, geometry).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let [nifti, nrrd] = ["mask.nii.gz", "mask.seg.nrrd"].map(|name| folder.path().join(name));
        write_mask(&nifti, &mask, Overwrite::Refuse).unwrap();
        let mut map = LabelMap::new(mask.geometry().clone());
        map.push(&mask).unwrap();
        let segments = vec![Segment::new("marked", [255, 0, 0])];
        let segmentation = Segmentation::new(&map, segments).unwrap();
        write_segmentation(&nrrd, &segmentation, Overwrite::Refuse).unwrap();

        for path in [nifti, nrrd] {
            let read = read(&path, &ReadOptions::default()).unwrap().volume;
            let found: Vec<usize> =
                (0..read.voxels().len()).filter(|n| read.voxels().get(*n) == Some(1.0)).collect();
            assert_eq!(found.len(), 1);
            let n = found[0];
            let ijk = [n % w, n / w % h, n / (w * h)];
            assert_eq!(ijk, marked);
            // A NIfTI-1 header holds f32.
            assert!(apart(&read, &directions, ijk.map(|v| v as f64)) < 1e-5, "{directions:?}");
        }
    }
}

#[test]
fn d2_missing_slice_is_a_gap_in_mm() {
    let mut files = series(8);
    files.remove(3);
    let error = error(&files);
    assert_eq!(
        error.message(),
        "gap of 5.000 mm between slices 3 and 4 of 7; the others are 2.500 mm apart"
    );
    assert_eq!(error.code(), "R-DCM-13");
    assert_eq!(error.remedy(), Some(Remedy::FillGaps));
}

#[test]
fn d2_allowed_gap_is_interpolated_and_said() {
    let mut files = series(8);
    files.remove(3);
    let loaded = load_with(&files, &ReadOptions::default().with_allow_gaps(true)).unwrap();
    assert_eq!(codes(&loaded), ["W-GAPS"]);
    // Values are linear in k, so that the missing slice comes out as it was.
    assert_eq!(loaded.volume, load(&series(8)).volume.clone());
}

#[test]
fn d2_gap_between_the_ends_of_f32_is_interpolated() {
    let mut files = series(6);
    files.remove(2);
    for (file, slope) in files.iter_mut().zip(["2e35", "-2e35", "2e35", "1", "1"]) {
        file.text((0x28, 0x1053), "DS", slope);
    }
    let loaded = load_with(&files, &ReadOptions::default().with_allow_gaps(true)).unwrap();
    assert!(loaded.volume.voxels().iter().all(f32::is_finite));
}

#[test]
fn d2_steps_of_five_percent_are_rounding() {
    let mut files = series(6);
    files[5].position([-20.0, -30.0, 52.5 + 0.12]);
    let volume = load(&files).volume;
    assert!((volume.geometry().spacing_mm().unwrap()[0] - 12.62 / 5.0).abs() < 1e-12);
    files[5].position([-20.0, -30.0, 52.5 + 0.13]);
    assert_eq!(error(&files).code(), "R-DCM-13");
}

#[test]
fn d2_slices_at_one_position_are_counted() {
    let mut files = series(5);
    files.extend(series(5).into_iter().map(|mut file| {
        let Some((_, crate::builder::Value::Text(uid))) = file.elements.get(&(8, 0x18)) else {
            panic!()
        };
        let uid = format!("{uid}.2");
        file.instance(&uid);
        file
    }));
    let error = error(&files);
    assert_eq!(
        error.message(),
        "not one volume: 10 slices lie at 5 distinct position(s) (time points, or copies)"
    );
    assert_eq!(error.code(), "R-DCM-14");
}

#[test]
fn d2_copies_of_one_instance_are_left_out() {
    let mut files = series(5);
    files.push(Dcm::slice(2));
    let loaded = load(&files);
    assert_eq!(codes(&loaded), ["W-DUPLICATE"]);
    assert_eq!(loaded.volume, load(&series(5)).volume);
}

#[test]
fn d3_tilt_is_refused_with_its_angle() {
    let mut files = series(5);
    for (k, file) in files.iter_mut().enumerate() {
        let mm = 2.5 * k as f64;
        file.position([-20.0, -30.0 + mm * 20_f64.to_radians().tan(), 40.0 + mm]);
    }
    let error = error(&files);
    assert_eq!(
        error.message(),
        "gantry tilt: slices are shifted along their planes, 20.00 degrees"
    );
    assert_eq!(error.code(), "R-DCM-15");
    assert!(format!("{:?}", error.remedy()).contains("dcm2niix"));
}

#[test]
fn d3_tilted_gantry_whose_slices_are_stacked_along_the_normal_is_no_tilt() {
    let mut files = series(5);
    let (sin, cos) = 20_f64.to_radians().sin_cos();
    for (k, file) in files.iter_mut().enumerate() {
        let mm = 2.5 * k as f64;
        file.orientation([1.0, 0.0, 0.0, 0.0, cos, sin]);
        file.position([0.0, -mm * sin, mm * cos]);
    }
    let spacing = load(&files).volume.geometry().spacing_mm().unwrap();
    assert!(spacing.iter().zip([2.5, 0.8, 0.7]).all(|(a, b)| (a - b).abs() < 1e-9));
}

#[test]
fn d3_slices_that_differ_are_no_volume() {
    type Change = fn(&mut Dcm);
    let changes: [(Change, &str); 4] = [
        (
            |f| {
                f.orientation([1.0, 0.0, 0.0, 0.0, 0.995, 0.0998]);
            },
            "their orientation",
        ),
        (
            |f| {
                f.text((0x28, 0x30), "DS", "0.8\\0.71");
            },
            "their pixel spacing",
        ),
        (
            |f| {
                f.words((0x28, 0x10), &[6]).words((0x28, 0x11), &[4]);
            },
            "their rows or columns",
        ),
        (
            |f| {
                f.position([-19.0, -30.0, 45.0]);
            },
            "their position along the planes",
        ),
    ];
    for (change, what) in changes {
        let mut files = series(5);
        change(&mut files[2]);
        let error = error(&files);
        assert_eq!(error.message(), format!("not one volume: the slices differ in {what}"));
        assert_eq!(error.code(), "R-DCM-16");
    }
}

#[test]
fn missing_place_is_named() {
    for (tag, name) in [
        ((0x20, 0x32), "ImagePositionPatient"),
        ((0x20, 0x37), "ImageOrientationPatient"),
        ((0x28, 0x30), "PixelSpacing"),
    ] {
        for text in [None, Some("1\\x\\3\\4\\5\\6"), Some("nan\\inf")] {
            let mut files = series(5);
            match text {
                None => files[1].remove(tag),
                Some(text) => files[1].text(tag, "DS", text),
            };
            let error = error(&files);
            assert_eq!(error.message(), format!("{name} is missing or not readable"));
            assert_eq!(error.code(), "R-DCM-05");
        }
    }
}
