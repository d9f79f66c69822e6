use std::fs;

use nifti::{InMemNiftiVolume, NiftiObject, NiftiVolume, RandomAccessNiftiVolume, ReaderOptions};
use r1seg_volume::{
    Geometry, LabelMap, Mask, MaskFormat, Overwrite, ReadOptions, read, read_from, write_labels,
    write_labels_to, write_mask, write_mask_to,
};

use crate::builder::{Nifti, load, npy};

/// An oblique header with values that no decimal number gives exactly.
fn oblique() -> Nifti {
    let mut n = Nifti::new([5, 6, 7]);
    (n.qform_code, n.sform_code, n.units) = (1, 2, 2 | 8);
    n.quatern = [0.1, -0.2, 0.3];
    n.qoffset = [-100.7, 33.3, 1e3 / 7.0];
    n.pixdim = [-1.0, 0.7, 0.8, 1.3, 2.2, 3.3, 4.4, 5.5];
    n.srow = [[0.6, -0.3, 0.1, -9.9], [0.2, 0.7, 0.3, 8.8], [-0.1, -0.2, 1.2, 7.7]];
    n
}

fn mask_of(bytes: &[u8]) -> Mask {
    let (data, geometry) = load(bytes).unwrap().volume.into_parts();
    Mask::new(data.iter().map(|v| u8::from(60.0 < v)).collect(), geometry).unwrap()
}

fn written(mask: &Mask, format: MaskFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_mask_to(&mut bytes, mask, format).unwrap();
    bytes
}

#[test]
fn n10_a_nifti_1_mask_repeats_the_geometry_bit_for_bit() {
    for big in [false, true] {
        let input = Nifti { big, ..oblique() };
        let mask = mask_of(&input.counting());
        let bytes = written(&mask, MaskFormat::Nifti);
        let little = Nifti { big: false, ..input }.header();
        // pixdim; codes, quaternion, offsets and sform rows; units.
        for range in [76..108, 252..328, 123..124] {
            assert_eq!(bytes[range.clone()], little[range]);
        }
        let back = load(&bytes).unwrap().volume;
        assert_eq!(back.geometry(), mask.geometry());
    }
}

#[test]
fn a_nifti_2_mask_repeats_the_geometry_bit_for_bit() {
    let input = oblique().version_2();
    let mask = mask_of(&input.counting());
    let bytes = written(&mask, MaskFormat::Nifti);
    let header = input.header();
    for range in [104..168, 344..496, 500..504] {
        assert_eq!(bytes[range.clone()], header[range]);
    }
    assert_eq!(load(&bytes).unwrap().volume.geometry(), mask.geometry());
}

#[test]
fn a_mask_says_that_it_is_labels_in_u8_without_scaling() {
    let bytes = written(&mask_of(&oblique().counting()), MaskFormat::Nifti);
    let i16_at = |n: usize| i16::from_le_bytes([bytes[n], bytes[n + 1]]);
    assert_eq!((i16_at(68), i16_at(70), i16_at(72)), (1002, 2, 8));
    assert_eq!(bytes[108..120], [352.0_f32, 1.0, 0.0].map(f32::to_le_bytes).concat());
    assert_eq!(bytes.len(), 352 + 5 * 6 * 7);
}

#[test]
fn n19_no_text_of_the_input_reaches_the_mask() {
    for input in [oblique(), oblique().version_2()] {
        let input = Nifti { vox_offset: 640.0, ..input };
        assert!(input.header().windows(12).any(|w| w == b"NAME^PATIENT"));
        let bytes = written(&mask_of(&input.counting()), MaskFormat::Nifti);
        assert!(!bytes.windows(4).any(|w| w == b"NAME" || w == b"EEEE"));
    }
}

#[test]
fn dimensions_of_one_are_kept_so_that_the_shapes_are_equal() {
    let mut input = oblique();
    input.dim[0] = 5;
    let bytes = written(&mask_of(&input.counting()), MaskFormat::Nifti);
    assert_eq!(bytes[40..56], input.header()[40..56]);
}

#[test]
fn the_nifti_crate_reads_the_same_mask() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.nii.gz");
    let mask = mask_of(&oblique().counting());
    write_mask(&path, &mask, Overwrite::Refuse).unwrap();
    let object = ReaderOptions::new().read_file(&path).unwrap();
    assert_eq!(object.header().srow_y, [0.2, 0.7, 0.3, 8.8]);
    let volume: InMemNiftiVolume = object.into_volume();
    assert_eq!(volume.dim(), [5, 6, 7]);
    for (n, v) in mask.data().iter().enumerate() {
        let at = [n % 5, n / 5 % 6, n / 30].map(|v| v as u16);
        assert_eq!(volume.get_f32(&at).unwrap(), f32::from(*v));
    }
}

#[test]
fn an_axis_beyond_16_bits_gives_nifti_2() {
    let geometry = Geometry::without_affine([1, 1, 40_000]);
    let mask = Mask::new(vec![1; 40_000], geometry).unwrap();
    let bytes = written(&mask, MaskFormat::Nifti);
    assert_eq!(bytes[..8], *b"\x1c\x02\0\0n+2\0");
    let options = ReadOptions::default().with_min_axis(1);
    let back = read_from(bytes.as_slice(), "x", &options).unwrap().volume;
    assert_eq!(back.shape(), [1, 1, 40_000]);
}

#[test]
fn a_mask_without_nifti_header_gets_one_from_its_affine() {
    let geometry = Geometry::with_spacing([4, 5, 6], [5.0, 0.75, 0.5]).unwrap();
    let mask = Mask::new(vec![1; 120], geometry).unwrap();
    let loaded = load(&written(&mask, MaskFormat::Nifti)).unwrap();
    assert_eq!(loaded.volume.geometry().affine(), mask.geometry().affine());
    assert_eq!(loaded.warnings.len(), 0);
    let bare = Mask::new(vec![1; 120], Geometry::without_affine([4, 5, 6])).unwrap();
    let loaded = load(&written(&bare, MaskFormat::Nifti)).unwrap();
    assert_eq!(loaded.warnings[0].code, "W-GEOM-GUESS");
}

#[test]
fn npy_masks_keep_the_shape_of_the_array() {
    for (shape, first) in [("(4, 5, 6)", "(4, 5, 6)"), ("(1, 4, 5, 6)", "(1, 4, 5, 6)")] {
        let mask = mask_of(&npy("|u1", "False", shape, &[100; 120]));
        let bytes = written(&mask, MaskFormat::Npy);
        let header = String::from_utf8_lossy(&bytes[..128]).into_owned();
        assert!(header.contains(first) && header.contains("|u1"), "{header}");
        let back = load(&bytes).unwrap().volume;
        assert_eq!(
            (&*back.voxels().to_f32(), back.geometry()),
            ([1.0; 120].as_slice(), mask.geometry())
        );
    }
}

#[test]
fn the_same_mask_is_the_same_compressed_file() {
    let mask = mask_of(&oblique().counting());
    let bytes = written(&mask, MaskFormat::NiftiGz);
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(bytes, written(&mask, MaskFormat::NiftiGz));
    assert_eq!(load(&bytes).unwrap().volume.geometry(), mask.geometry());
}

#[test]
fn an_existing_mask_is_left_unless_overwriting_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.nii.gz");
    let mask = mask_of(&oblique().counting());
    write_mask(&path, &mask, Overwrite::Refuse).unwrap();
    let before = fs::read(&path).unwrap();
    let error = write_mask(&path, &mask, Overwrite::Refuse).unwrap_err();
    assert_eq!((error.code(), error.path()), ("R-OUT-01", Some(path.as_path())));
    assert_eq!(fs::read(&path).unwrap(), before);
    write_mask(&path, &mask, Overwrite::Replace).unwrap();
    assert_eq!(read(&path, &ReadOptions::default()).unwrap().volume.shape(), mask.shape());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A map in which voxel `n` has label `n % count + 1`.
fn striped(geometry: &Geometry, count: usize) -> LabelMap {
    let mut map = LabelMap::new(geometry.clone());
    for label in 0..count {
        let of_label = |voxel: usize| u8::from(voxel % count == label);
        let data = (0..geometry.voxels()).map(of_label).collect();
        map.push(&Mask::new(data, geometry.clone()).unwrap()).unwrap();
    }
    map
}

const FORMATS: [MaskFormat; 3] = [MaskFormat::Nifti, MaskFormat::NiftiGz, MaskFormat::Npy];

#[test]
fn up_to_255_labels_are_written_as_the_bytes_of_a_mask() {
    let geometry = load(&oblique().counting()).unwrap().volume.into_parts().1;
    let map = striped(&geometry, 255);
    let data = map.labels().iter().map(|label| u8::try_from(*label).unwrap()).collect();
    let mask = Mask::new(data, geometry).unwrap();
    for format in FORMATS {
        let mut bytes = Vec::new();
        write_labels_to(&mut bytes, &map, format).unwrap();
        assert_eq!(bytes, written(&mask, format));
    }
}

#[test]
fn three_hundred_labels_come_back_from_a_file() {
    let geometry = Geometry::with_spacing([7, 8, 9], [2.0, 1.0, 0.5]).unwrap();
    let map = striped(&geometry, 300);
    let folder = tempfile::tempdir().unwrap();
    for name in ["labels.nii", "labels.nii.gz", "labels.npy"] {
        let path = folder.path().join(name);
        write_labels(&path, &map, Overwrite::Refuse).unwrap();
        let volume = read(&path, &ReadOptions::default()).unwrap().volume;
        assert!(volume.voxels().iter().eq(map.labels().iter().map(|label| f32::from(*label))));
        if name != "labels.npy" {
            assert_eq!(volume.geometry().affine(), geometry.affine());
        }
    }
    // Each label alone keeps its number: a byte is enough for the first 255.
    for label in [255, 256] {
        let mut bytes = Vec::new();
        write_labels_to(&mut bytes, &map.only(label), MaskFormat::Npy).unwrap();
        assert_eq!(bytes.windows(3).any(|part| part == b"|u1"), label == 255);
        let volume = load(&bytes).unwrap().volume;
        let largest = volume.voxels().iter().fold(0.0, f32::max);
        assert_eq!(largest, f32::from(label));
    }
}
