//! Checks on real CT and on files that other programs wrote. They run where the environment variable
//! `R1SEG_DATA` names the folder of these files, and say that they were skipped where it does not.

use std::collections::HashSet;
use std::path::PathBuf;

use r1seg_volume::{IntensityRange, Loaded, ReadOptions, SourceKind, Volume, intensity, read};

/// The path of a data file, or `None` with a line that says so.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("R1SEG_DATA") else {
        eprintln!("skipped: R1SEG_DATA is not set, so that {name} cannot be read");
        return None;
    };
    Some(PathBuf::from(folder).join(name))
}

fn load(path: PathBuf) -> Loaded {
    read(path, &ReadOptions::default().with_min_axis(1)).unwrap()
}

/// What `nibabel` 5.4 and `numpy` 2.4 say about a file.
struct Expected {
    name: &'static str,
    kind: SourceKind,
    shape: [usize; 3],
    affine: [[f64; 4]; 3],
    orientation: &'static str,
    mean: f64,
    /// `img.get_fdata()[1, 2, 0]`.
    voxel: f32,
    range: (f32, f32),
}

#[test]
fn files_of_other_programs_are_read_as_nibabel_reads_them() {
    let expected = [
        Expected {
            name: "ct/totalseg/example_ct.nii.gz",
            kind: SourceKind::Nifti1,
            shape: [112, 101, 122],
            affine: [
                [3.0, 0.0, 0.0, -177.95632934570312],
                [0.0, 3.0, 0.0, 11.319000244140625],
                [0.0, 0.0, 3.0, 94.3017578125],
            ],
            orientation: "RAS",
            mean: -360.0203852864795,
            voxel: -1023.0,
            range: (-1207.0, 3382.0),
        },
        Expected {
            name: "ct/ibsi1_lung/image.nii.gz",
            kind: SourceKind::Nifti1,
            shape: [60, 201, 204],
            affine: [
                [-0.9769999980926514, 0.0, 0.0, 174.39450073242188],
                [0.0, -0.9769999980926514, 0.0, 79.62550354003906],
                [0.0, 0.0, 3.0, -100.4000015258789],
            ],
            orientation: "LPS",
            mean: -266.4703671186551,
            voxel: -1000.0,
            range: (-1000.0, 3065.0),
        },
        Expected {
            name: "nifti_edge/orientations48/SPL.nii.gz",
            kind: SourceKind::Nifti1,
            shape: [64, 79, 67],
            affine: [
                [0.0, 0.0, -2.3852322101593018, 74.50709533691406],
                [0.0, -2.389753818511963, 0.0, 75.63825988769531],
                [2.3664863109588623, 0.0, 0.0, -71.76253509521484],
            ],
            orientation: "SPL",
            mean: 33.64839542537876,
            voxel: 0.0,
            range: (0.0, 92.55389),
        },
        Expected {
            name: "nifti_edge/nifti-reader-js/avg152T1_LR_nifti2.nii.gz",
            kind: SourceKind::Nifti2,
            shape: [91, 109, 91],
            affine: [[-2.0, 0.0, 0.0, 90.0], [0.0, 2.0, 0.0, -126.0], [0.0, 0.0, 2.0, -72.0]],
            orientation: "LAS",
            mean: 82.89716151375593,
            voxel: 11.0,
            range: (0.0, 255.0),
        },
        Expected {
            name: "nifti_edge/nifti-reader-js/big.nii.gz",
            kind: SourceKind::Nifti1,
            shape: [21, 64, 64],
            affine: [[-4.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 6.0, 0.0]],
            orientation: "LAS",
            mean: 0.13542099169935,
            voxel: 0.0,
            range: (-8.710751, 18.58253),
        },
        Expected {
            name: "nifti_edge/nifti-rs/minimal.nii.gz",
            kind: SourceKind::Nifti1,
            shape: [10, 64, 64],
            affine: [[-3.0, 0.0, 0.0, 94.5], [0.0, 3.0, 0.0, -94.5], [0.0, 0.0, 3.0, -13.5]],
            orientation: "LAS",
            mean: 31.5,
            voxel: 2.0,
            range: (0.0, 63.0),
        },
    ];
    for e in expected {
        let Some(path) = data(e.name) else { return };
        let loaded = load(path);
        let (volume, g) = (&loaded.volume, loaded.volume.geometry());
        assert_eq!((loaded.kind, volume.shape()), (e.kind, e.shape), "{}", e.name);
        assert_eq!(g.affine().unwrap()[..3], e.affine, "{}", e.name);
        assert_eq!(g.orientation().map(|o| o.to_string()).as_deref(), Some(e.orientation));
        assert_eq!(volume.voxels().to_f32()[2 * e.shape[2] + 1], e.voxel, "{}", e.name);
        assert_eq!(intensity::min_max(volume.voxels()), Some(e.range), "{}", e.name);
        let mean = intensity::mean(volume.voxels()).unwrap();
        assert!((mean - e.mean).abs() < 1e-9 * e.mean.abs(), "{} {mean}", e.name);
    }
}

#[test]
fn nrrd_labels_are_read_as_simpleitk_reads_them() {
    // Sum, first labeled voxel [k, j, i] and origin in LPS: SimpleITK 2.5.7.
    type Case = (&'static str, [usize; 3], f64, [usize; 3], [f64; 3], [f64; 3]);
    let far = [-235.2, -226.8, -128.69];
    let near = [-235.199997, -226.800003, -128.690002];
    let small = [46.464900970458984, 5.018809795379638, -177.75000000000006];
    let (ct, sparse) = ([0.810547, 0.810547, 1.0], [0.6999999999999998, 0.6999999999999998, 2.5]);
    let grid = [3, 512, 512];
    let cases: [Case; 11] = [
        ("heart_seg", grid, 124_347.0, [0, 211, 371], far, ct),
        ("liver_seg", grid, 107_098.0, [0, 145, 254], far, ct),
        ("liver_spine_gapped_seg", grid, 169_293.0, [0, 145, 254], near, ct),
        ("liver_spine_seg", grid, 131_976.0, [0, 145, 254], near, ct),
        ("partial_overlaps-1", grid, 59_939.0, [0, 313, 317], near, ct),
        ("partial_overlaps-2", grid, 23_776.0, [1, 197, 265], near, ct),
        ("partial_overlaps-3", grid, 32_229.0, [0, 255, 156], near, ct),
        ("sparse_labelmap_noppv_seg", [3, 38, 24], 630.0, [0, 0, 12], small, sparse),
        ("sparse_labelmap_ppv5_seg", [3, 38, 24], 5_190.0, [0, 0, 12], small, sparse),
        ("spine_seg", grid, 24_878.0, [0, 339, 251], far, ct),
        ("spine_seg_label5", grid, 62_195.0, [0, 339, 251], far, ct),
    ];
    for (name, shape, sum, first, origin, spacing) in cases {
        let Some(path) = data(&format!("dicom/dcmqi_seg/{name}.nrrd")) else { return };
        let loaded = load(path);
        assert_eq!((loaded.kind, loaded.warnings.len()), (SourceKind::Nrrd, 0), "{name}");
        let volume = loaded.volume;
        assert_eq!(volume.shape(), shape, "{name}");
        assert_eq!(volume.voxels().iter().map(f64::from).sum::<f64>(), sum, "{name}");
        let found = volume.voxels().iter().position(|v| 0.0 < v).unwrap();
        let [_, h, w] = shape;
        assert_eq!([found / (h * w), found / w % h, found % w], first, "{name}");
        let at = |ijk| volume.geometry().world_mm(ijk).unwrap();
        let [x, y, z] = at([0.0; 3]);
        assert_eq!([-x, -y, z], origin, "{name}");
        let [far_x, far_y, far_z] = at([1.0; 3]);
        for (step, mm) in [x - far_x, y - far_y, far_z - z].into_iter().zip(spacing) {
            assert!((step - mm).abs() < 1e-12, "{name} {step} {mm}");
        }
    }
}

#[test]
fn nrrd_and_nifti_of_one_segmentation_are_the_same_volume() {
    let Some(nrrd) = data("dicom/dcmqi_seg/liver_spine_seg.nrrd") else { return };
    let Some(nifti) = data("dicom/dcmqi_ct3slice_liver_spine_seg.nii.gz") else { return };
    let (nrrd, nifti) = (load(nrrd).volume, load(nifti).volume);
    assert_eq!(nrrd.voxels(), nifti.voxels());
    let rows = |v: &Volume| v.geometry().affine().unwrap()[..3].as_flattened().to_vec();
    // The NIfTI header holds f32.
    for (a, b) in rows(&nrrd).into_iter().zip(rows(&nifti)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

/// The voxels with i running to the right, j to the front and k upwards.
fn in_ras(volume: &Volume) -> Vec<u32> {
    let [d, h, w] = volume.shape();
    let (sizes, strides) = ([w, h, d], [1, w, w * h]);
    let codes: Vec<char> = volume.geometry().orientation().unwrap().to_string().chars().collect();
    // For each world axis: the file axis along it, and whether it runs the other way.
    let axes = ["RL", "AP", "SI"].map(|ends| {
        let axis = codes.iter().position(|c| ends.contains(*c)).unwrap();
        (axis, ends.ends_with(codes[axis]))
    });
    let step = |world: usize, n: usize| {
        let (axis, reversed) = axes[world];
        strides[axis] * if reversed { sizes[axis] - 1 - n } else { n }
    };
    let size = |world: usize| sizes[axes[world].0];
    let voxels = volume.voxels().to_f32();
    let mut out = Vec::with_capacity(voxels.len());
    for z in 0..size(2) {
        for y in 0..size(1) {
            let voxel = |x| voxels[step(0, x) + step(1, y) + step(2, z)].to_bits();
            out.extend((0..size(0)).map(voxel));
        }
    }
    out
}

#[test]
fn pairs_are_read_as_nibabel_reads_them() {
    for (name, shape, mean, range, row) in [
        ("nifti-rs/minimal.hdr", [10, 64, 64], 31.5, (0.0, 63.0), [-3.0, 0.0, 0.0, 94.5]),
        ("nifti-rs/minimal.img.gz", [10, 64, 64], 31.5, (0.0, 63.0), [-3.0, 0.0, 0.0, 94.5]),
        // Its image file is compressed only.
        ("nifti-rs/minimal2.hdr", [10, 64, 64], 31.5, (0.0, 63.0), [-3.0, 0.0, 0.0, 94.5]),
        (
            "nifti-reader-js/air.hdr.gz",
            [64, 67, 79],
            33.64839542537876,
            (0.0, 92.55389),
            [0.0, 0.0, 2.3852322101593018, -75.76253509521484],
        ),
    ] {
        let Some(path) = data(&format!("nifti_edge/{name}")) else { return };
        let volume = load(path).volume;
        assert_eq!(volume.shape(), shape, "{name}");
        assert_eq!(volume.geometry().affine().unwrap()[0], row, "{name}");
        assert_eq!(intensity::min_max(volume.voxels()), Some(range), "{name}");
        assert!((intensity::mean(volume.voxels()).unwrap() - mean).abs() < 1e-9, "{name}");
    }
}

#[test]
fn all_48_orientations_are_one_volume() {
    let Some(folder) = data("nifti_edge/orientations48") else { return };
    let mut volumes = HashSet::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let volume = load(path).volume;
        assert_eq!(
            volume.geometry().orientation().map(|o| o.to_string()).as_deref(),
            name.get(..3)
        );
        volumes.insert(in_ras(&volume));
        count += 1;
    }
    assert_eq!((count, volumes.len()), (48, 1));
}

#[test]
fn every_number_type_of_nifti_rs_is_the_same_volume() {
    let Some(folder) = data("nifti_edge/nifti-rs/27") else { return };
    // numpy.arange(27).reshape(3, 3, 3), of which nibabel writes the first axis as i.
    let counting: Vec<f32> =
        (0..27_u8).map(|n| f32::from(n % 3 * 9 + n / 3 % 3 * 3 + n / 9)).collect();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(*load(path.clone()).volume.voxels().to_f32(), counting, "{path:?}");
    }
}

#[test]
fn crash_inputs_of_other_readers_are_errors() {
    let Some(folder) = data("nifti_edge/nifti-rs") else { return };
    let list = |name: &str| std::fs::read_dir(folder.join(name)).unwrap();
    for entry in ["fuzz_artifacts", "rgb", "rgba", "complex"].into_iter().flat_map(list) {
        let path = entry.unwrap().path();
        let error = read(&path, &ReadOptions::default()).unwrap_err();
        assert!(error.code().starts_with("R-"), "{path:?}");
    }
}

#[test]
fn real_ct_is_taken_for_hu() {
    for name in [
        "ct/totalseg/example_ct.nii.gz",
        "ct/totalseg_small/example_ct_sm.nii.gz",
        "ct/totalseg_aorta/ct_cropped.nii.gz",
        "ct/ibsi1_lung/image.nii.gz",
        "ct/sts/STS_008/CT_image.nii.gz",
        "ct/sts/STS_019/CT_image.nii.gz",
        "dicom/dcmqi_ct3slice_sitk.nii.gz",
    ] {
        let Some(path) = data(name) else { return };
        let (low, high) = intensity::min_max(load(path).volume.voxels()).unwrap();
        assert_eq!(IntensityRange::of(low, high), IntensityRange::Hu, "{name}");
    }
}
