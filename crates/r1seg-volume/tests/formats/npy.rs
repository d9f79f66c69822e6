use half::f16;
use ndarray_npy::ReadNpyExt;
use r1seg_volume::{
    AffineSource, ArrayAxes, Mask, MaskFormat, ReadOptions, Remedy, SourceKind, read_from,
    write_mask_to,
};

use crate::builder::{gzip, load, npy, npy_with, warnings};

fn bytes_of<const N: usize>(encode: impl Fn(u8) -> [u8; N], big: bool) -> Vec<u8> {
    let voxel = |v| {
        let mut bytes = encode(v);
        if big {
            bytes.reverse();
        }
        bytes
    };
    (0..80).flat_map(voxel).collect()
}

#[test]
fn p3_every_number_type_is_read_in_both_byte_orders() {
    for (order, big) in [("<", false), (">", true)] {
        for (name, data) in [
            ("u1", bytes_of(|v| v.to_le_bytes(), big)),
            ("i1", bytes_of(|v| (v as i8).to_le_bytes(), big)),
            ("u2", bytes_of(|v| u16::from(v).to_le_bytes(), big)),
            ("i2", bytes_of(|v| i16::from(v).to_le_bytes(), big)),
            ("u4", bytes_of(|v| u32::from(v).to_le_bytes(), big)),
            ("i4", bytes_of(|v| i32::from(v).to_le_bytes(), big)),
            ("u8", bytes_of(|v| u64::from(v).to_le_bytes(), big)),
            ("i8", bytes_of(|v| i64::from(v).to_le_bytes(), big)),
            ("f2", bytes_of(|v| f16::from_f32(f32::from(v)).to_le_bytes(), big)),
            ("f4", bytes_of(|v| f32::from(v).to_le_bytes(), big)),
            ("f8", bytes_of(|v| f64::from(v).to_le_bytes(), big)),
        ] {
            let loaded =
                load(&npy(&format!("{order}{name}"), "False", "(4, 4, 5)", &data)).unwrap();
            let expected: Vec<f32> = (0..80_u8).map(f32::from).collect();
            assert_eq!(*loaded.volume.voxels().to_f32(), expected, "{order}{name}");
            assert_eq!((loaded.kind, loaded.volume.shape()), (SourceKind::Npy, [4, 4, 5]));
        }
    }
    let loaded = load(&npy("|b1", "False", "(4, 4, 4)", &[1; 64])).unwrap();
    assert_eq!(*loaded.volume.voxels().to_f32(), [1.0; 64]);
}

#[test]
fn p3_fortran_order_gives_the_same_volume() {
    // numpy.asfortranarray(numpy.arange(120, dtype="u1").reshape(4, 5, 6))
    let (d, h, w) = (4, 5, 6);
    let mut fortran = Vec::new();
    for x in 0..w {
        for y in 0..h {
            fortran.extend((0..d).map(|z| ((z * h + y) * w + x) as u8));
        }
    }
    let c: Vec<u8> = (0..120).collect();
    let c = load(&npy("|u1", "False", "(4, 5, 6)", &c)).unwrap().volume;
    assert_eq!(load(&npy("|u1", "True", "(4, 5, 6)", &fortran)).unwrap().volume, c);
    let leading = load(&npy("|u1", "True", "(1, 4, 5, 6)", &fortran)).unwrap().volume;
    assert_eq!(leading.voxels().to_f32(), c.voxels().to_f32());
}

#[test]
fn p5_a_leading_axis_of_one_is_taken_off_and_remembered() {
    let loaded = load(&npy("|u1", "False", "(1, 4, 5, 6)", &[1; 120])).unwrap();
    assert_eq!(loaded.volume.shape(), [4, 5, 6]);
    assert!(loaded.volume.geometry().npy_leading_axis());
}

#[test]
fn an_array_has_no_spacing_and_says_so() {
    let loaded = load(&npy("|u1", "False", "(4, 5, 6)", &[1; 120])).unwrap();
    let geometry = loaded.volume.geometry();
    assert_eq!((geometry.affine(), geometry.affine_source()), (None, AffineSource::None));
    assert_eq!(loaded.warnings[0].code, "W-GEOM");
}

/// The shape and the values of a `|u1` array that was written, by the order that its header says.
fn array(bytes: &[u8]) -> (String, Vec<u8>) {
    let text = String::from_utf8_lossy(&bytes[10..128]).into_owned();
    let data = bytes[128..].to_vec();
    (text.trim_end().to_owned(), data)
}

#[test]
fn p5_an_array_of_x_y_z_is_turned_and_its_mask_is_turned_back() {
    // numpy.arange(120, dtype="u1").reshape(6, 5, 4): axes x, y, z.
    let c: Vec<u8> = (0..120).collect();
    let at = |n: usize| [n % 6, n / 6 % 5, n / 30];
    let turned: Vec<u8> = (0..120).map(at).map(|[x, y, z]| c[(x * 5 + y) * 4 + z]).collect();
    let options = ReadOptions::default().with_axes(ArrayAxes::Xyz);
    for (order, shape, data) in
        [("False", "(6, 5, 4)", &c), ("True", "(6, 5, 4)", &turned), ("False", "(1, 6, 5, 4)", &c)]
    {
        let file = npy("|u1", order, shape, data);
        let loaded = read_from(file.as_slice(), "x", &options).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
        let volume = loaded.volume;
        let expected: Vec<f32> = turned.iter().map(|v| f32::from(*v)).collect();
        assert_eq!((volume.shape(), &*volume.voxels().to_f32()), ([4, 5, 6], &*expected));
        assert_eq!(volume.geometry().npy_axes(), ArrayAxes::Xyz);

        let mask = Mask::new(turned.clone(), volume.geometry().clone()).unwrap();
        let mut bytes = Vec::new();
        write_mask_to(&mut bytes, &mask, MaskFormat::Npy).unwrap();
        let (header, data) = array(&bytes);
        // What another reader finds at x, y, z.
        let read = ndarray::ArrayD::<u8>::read_npy(bytes.as_slice()).unwrap();
        let xyz = ndarray::ArrayD::from_shape_vec(read.shape(), c.clone()).unwrap();
        assert_eq!(read, xyz);
        assert!(header.contains(&format!("'shape': {shape}")), "{header}");
        assert!(header.contains("'fortran_order': True"), "{header}");
        assert_eq!(data, turned);
        let back = read_from(bytes.as_slice(), "x", &options).unwrap().volume;
        assert_eq!((back.voxels(), back.geometry()), (volume.voxels(), volume.geometry()));
    }
}

#[test]
fn p5_an_array_with_its_slices_last_gets_a_warning() {
    let bytes = npy("|u1", "False", "(256, 256, 32)", &[1; 256 * 256 * 32]);
    let warning = load(&bytes).unwrap().warnings.remove(1);
    assert_eq!((warning.code, warning.remedy), ("W-AXES", Some(Remedy::StateAxes)));
    for axes in [ArrayAxes::Zyx, ArrayAxes::Xyz] {
        let options = ReadOptions::default().with_axes(axes);
        assert_eq!(read_from(bytes.as_slice(), "x", &options).unwrap().warnings.len(), 1);
    }

    assert_eq!(warnings(&npy("|u1", "False", "(8, 8, 4)", &[1; 256])), ["W-GEOM", "W-AXES"]);
    assert_eq!(warnings(&npy("|u1", "False", "(4, 8, 8)", &[1; 256])), ["W-GEOM"]);
}

#[test]
fn gzipped_arrays_and_versions_two_and_three_are_read() {
    let one = npy("|u1", "False", "(4, 4, 4)", &[7; 64]);
    let mut two = one.clone();
    two[6] = 2;
    two.splice(10..10, [0, 0]);
    let mut three = two.clone();
    three[6] = 3;
    for bytes in [gzip(&one), two, three] {
        assert_eq!(*load(&bytes).unwrap().volume.voxels().to_f32(), [7.0; 64]);
    }
}

#[test]
fn n9_nan_is_replaced_by_the_minimum() {
    let voxel = |n: u8| if n == 9 { f32::NAN } else { f32::from(n) - 3.0 };
    let data: Vec<u8> = (0..64).flat_map(|n| voxel(n).to_le_bytes()).collect();
    let loaded = load(&npy("<f4", "False", "(4, 4, 4)", &data)).unwrap();
    assert_eq!(loaded.volume.voxels().to_f32()[9], -3.0);
    assert_eq!(
        loaded.warnings[1].to_string(),
        "warning[W-NAN]: 1 NaN and 0 infinite of 64 voxels: replaced by the smallest finite value \
         -3 (+infinity by the largest, 60)"
    );
}

#[test]
fn small_arrays_are_read_where_the_options_allow_them() {
    // M3D saves the mask of an absent organ so.
    let bytes = npy("|b1", "False", "(1, 1, 1, 1)", &[0]);
    assert_eq!(load(&bytes).unwrap_err().code(), "R-IN-08");
    let options = ReadOptions::default().with_min_axis(1);
    let loaded = read_from(bytes.as_slice(), "x", &options).unwrap();
    assert_eq!(loaded.volume.shape(), [1, 1, 1]);
}

#[test]
fn arrays_that_are_no_volume_are_refused_with_their_shape() {
    for (shape, text) in [
        ("(4, 512, 512, 96)", "4x512x512x96"),
        ("(512, 512)", "512x512"),
        ("(7,)", "7"),
        ("()", "a single number"),
        ("(1, 1, 4, 4, 4)", "1x1x4x4x4"),
    ] {
        let error = load(&npy("<f4", "False", shape, &[])).unwrap_err();
        let expected = format!("array is {text}; one 3D volume (D,H,W) or 1xDxHxW is needed");
        assert_eq!((error.message(), error.code()), (expected, "R-NPY-03"));
    }
}

#[test]
fn p1_an_object_array_is_never_unpickled() {
    for descr in ["|O", "O", "|O8"] {
        let error = load(&npy(descr, "False", "(4, 4, 4)", &[0x80; 64])).unwrap_err();
        assert_eq!(error.code(), "R-NPY-09");
        assert!(error.message().contains("never loads pickles"));
    }
}

#[test]
fn types_that_are_not_one_number_are_refused() {
    for descr in ["<c8", "<U3", "|S1", "|V2", "<M8[s]", "<f16", ""] {
        let error = load(&npy(descr, "False", "(4, 4, 4)", &[0; 64])).unwrap_err();
        let expected = format!("array dtype `{descr}` is not one number per voxel");
        assert_eq!((error.message(), error.code()), (expected, "R-NPY-02"));
    }
    let structured = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 4, 4)}";
    assert_eq!(load(&npy_with(structured, &[0; 256])).unwrap_err().code(), "R-NPY-02");
}

#[test]
fn p4_data_that_is_shorter_or_longer_than_the_shape_is_refused() {
    for pack in [|b: &[u8]| b.to_vec(), |b: &[u8]| gzip(b)] {
        let short = load(&pack(&npy("<i2", "False", "(4, 4, 4)", &[0; 127]))).unwrap_err();
        assert_eq!(short.code(), "R-NPY-06");
        assert!(short.to_string().contains("ends early"), "{short}");
        let long = load(&pack(&npy("<i2", "False", "(4, 4, 4)", &[0; 129]))).unwrap_err();
        assert_eq!(long.code(), "R-NPY-05");
    }
}
