//! A mask is where its volume is: positions in mm before and after the way through the model's
//! grid and through a file.

use r1seg_volume::{
    Affine, Ends, Geometry, Mask, Overwrite, ReadOptions, Step, Volume, mask_stats, prepare, read,
    write_mask,
};

use crate::real::data;

/// Voxels of 1.5 x 2 x 3 mm along the world's axes in every order and direction (48), the first
/// voxel off the origin; and one grid that is oblique and sheared.
fn affines() -> Vec<Affine> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut affines = Vec::new();
    for order in orders {
        for signs in 0..8 {
            let mut affine = [[0.0; 4]; 4];
            affine[3][3] = 1.0;
            for (axis, mm) in [1.5, 2.0, 3.0].into_iter().enumerate() {
                let sign = if signs >> axis & 1 == 1 { -1.0 } else { 1.0 };
                affine[order[axis]][axis] = sign * mm;
                affine[order[axis]][3] = -17.25 * (axis + 1) as f64;
            }
            affines.push(affine);
        }
    }
    affines.push([
        [1.3, -0.5, 0.4, -31.0],
        [0.6, 1.7, -0.3, 12.5],
        [-0.2, 0.4, 2.8, 99.0],
        [0.0, 0.0, 0.0, 1.0],
    ]);
    affines
}

fn distance_mm(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|n| (a[n] - b[n]).powi(2)).sum::<f64>().sqrt()
}

/// Writes a mask and reads it as any other volume.
fn through_a_file(mask: &Mask) -> Volume {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.nii.gz");
    write_mask(&path, mask, Overwrite::Refuse).unwrap();
    read(&path, &ReadOptions::default().with_min_axis(1)).unwrap().volume
}

#[test]
fn n13_a_marked_voxel_keeps_its_world_position_in_every_orientation() {
    // D, H, W of the grid, and the marked voxel (i, j, k).
    let (shape, [i, j, k]) = ([9, 11, 13], [10, 2, 7]);
    for affine in affines() {
        let geometry = Geometry::with_affine(shape, affine).unwrap();
        let marked_mm = geometry.world_mm([i, j, k].map(|n| n as f64)).unwrap();
        let mut data = vec![-1000_i16; geometry.voxels()];
        data[(k * shape[1] + j) * shape[2] + i] = 400;
        data[0] = -900;
        let volume = Volume::new(data, geometry).unwrap();

        // No resizing: the logits of a model that sees every voxel.
        let prepared =
            prepare(&volume, &[Step::Rescale(Ends::MinMax), Step::CropForeground { margin: 0 }])
                .unwrap();
        let logits: Vec<f32> = prepared.to_f32().iter().map(|v| v - 0.5).collect();
        let mask = prepared.map().mask_from_logits(&logits, prepared.shape()).unwrap();
        let mask = Mask::new(mask, volume.geometry().clone()).unwrap();

        let read = through_a_file(&mask);
        let found: Vec<usize> =
            (0..read.voxels().len()).filter(|n| read.voxels().get(*n) == Some(1.0)).collect();
        assert_eq!(found.len(), 1, "{affine:?}");
        let (n, [_, h, w]) = (found[0], read.shape());
        let ijk = [n % w, n / w % h, n / w / h].map(|n| n as f64);
        let found_mm = read.geometry().world_mm(ijk).unwrap();
        assert!(distance_mm(found_mm, marked_mm) < 1e-5, "{affine:?}: {found_mm:?} {marked_mm:?}");
    }
}

#[test]
fn a_ball_is_found_where_it_is_after_the_way_through_the_model_grid() {
    for affine in affines() {
        let shape = [40, 50, 60];
        let geometry = Geometry::with_affine(shape, affine).unwrap();
        let center_mm = geometry.world_mm([41.0, 18.0, 13.0]).unwrap();
        let radius_mm = 14.0;
        let mut data = vec![-1000_i16; geometry.voxels()];
        for (n, v) in data.iter_mut().enumerate() {
            let ijk = [n % 60, n / 60 % 50, n / 3000].map(|n| n as f64);
            let inside = distance_mm(geometry.world_mm(ijk).unwrap(), center_mm) <= radius_mm;
            // Tissue everywhere but at the rim, so that the crop is not the whole grid.
            let tissue = (4..56).contains(&(n % 60)) && (6..49).contains(&(n / 60 % 50));
            *v = if inside {
                300
            } else if tissue {
                0
            } else {
                -1000
            };
        }
        let volume = Volume::new(data, geometry).unwrap();
        let window = Step::Rescale(Ends::Fixed { low: -400.0, high: 400.0 });
        let prepared = prepare(&volume, &[window, Step::CropForeground { margin: 0 }]).unwrap();
        assert_eq!((prepared.crop().start, prepared.crop().end), ([0, 6, 4], [40, 49, 56]));

        let grid = [32, 64, 64];
        let logits: Vec<f32> = prepared.resize(grid).unwrap().iter().map(|v| v - 0.7).collect();
        let mask = prepared.map().mask_from_logits(&logits, grid).unwrap();
        let mask = Mask::new(mask, volume.geometry().clone()).unwrap();
        let stats = mask_stats(&mask, 1, &volume).unwrap();
        let apart = distance_mm(stats.centroid_mm.unwrap(), center_mm);
        assert!(apart < 0.2, "{affine:?}: {apart} mm");
        let ball_ml = 4.0 / 3.0 * std::f64::consts::PI * radius_mm.powi(3) / 1000.0;
        assert!((stats.volume_ml.unwrap() / ball_ml - 1.0).abs() < 0.05, "{affine:?}");
        assert_eq!(stats.components, 1);
    }
}

#[test]
fn the_mask_of_a_real_volume_has_its_affine_bit_for_bit_in_all_48_orientations() {
    let Some(folder) = data("nifti_edge/orientations48") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let geometry = read(&path, &ReadOptions::default()).unwrap().volume.into_parts().1;
        let mask = Mask::new(vec![0; geometry.voxels()], geometry.clone()).unwrap();
        let written = through_a_file(&mask);
        assert_eq!(written.geometry(), &geometry, "{path:?}");
        count += 1;
    }
    assert_eq!(count, 48);
}

#[test]
fn volumes_and_mean_hu_are_those_of_totalsegmentator_for_its_117_masks() {
    let Some(folder) = data("ct/totalseg_small") else { return };
    let load = |path: &std::path::Path| read(path, &ReadOptions::default()).unwrap().volume;
    let ct = load(&folder.join("example_ct_sm.nii.gz"));
    let text = std::fs::read_to_string(folder.join("seg_fast/statistics.json")).unwrap();
    let organs: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(organs.len(), 117);
    let mut empty = 0;
    for (organ, expected) in organs {
        let labels = load(&folder.join(format!("seg_fast/{organ}.nii.gz")));
        let data = labels.voxels().iter().map(|v| u8::from(v == 1.0)).collect();
        let mask = Mask::new(data, labels.geometry().clone()).unwrap();
        let stats = mask_stats(&mask, 1, &ct).unwrap();
        let number = |name: &str| expected[name].as_f64().unwrap();
        let volume_mm3 = stats.volume_ml.unwrap() * 1000.0;
        assert!((volume_mm3 - number("volume")).abs() < 1e-6, "{organ}: {volume_mm3} mm³");
        // They give 0 for a mean over nothing, and five decimals of an f32 mean.
        let mean_hu = stats.mean_intensity.unwrap_or(0.0);
        assert!((mean_hu - number("intensity")).abs() < 1e-3, "{organ}: {mean_hu} HU");
        empty += usize::from(stats.voxels == 0);
    }
    assert!(0 < empty && empty < 117, "{empty} masks are empty");
}
