use r1seg_volume::{AffineSource, SourceKind};

use crate::builder::{Nifti, gzip, load, warnings};

/// A quarter turn about k: i to the front, j to the left.
const QUARTER_TURN: [f64; 3] = [0.0, 0.0, std::f64::consts::FRAC_1_SQRT_2];

#[test]
fn voxels_are_in_d_h_w_order_with_i_fastest() {
    let volume = load(&Nifti::new([4, 5, 6]).counting()).unwrap().volume;
    assert_eq!(volume.shape(), [6, 5, 4]);
    let at = |k: usize, j: usize, i: usize| volume.voxels().to_f32()[(k * 5 + j) * 4 + i];
    assert_eq!((at(0, 0, 3), at(0, 1, 0), at(1, 0, 0), at(5, 4, 3)), (3.0, 4.0, 20.0, 119.0));
}

#[test]
fn nifti_with_sform_uses_sform() {
    let mut n = Nifti::new([4, 5, 6]);
    n.srow = [[-2.0, 0.0, 0.0, 10.0], [0.0, 3.0, 0.0, 20.0], [0.0, 0.0, 4.0, 30.0]];
    let g = load(&n.counting()).unwrap().volume.geometry().clone();
    assert_eq!(g.affine_source(), AffineSource::Sform);
    assert_eq!(g.affine().unwrap()[..3], n.srow);
    assert_eq!(g.spacing_mm(), Some([4.0, 3.0, 2.0]));
    assert_eq!(g.orientation().map(|o| o.to_string()).as_deref(), Some("LAS"));
    assert_eq!(g.voxel_volume_mm3(), Some(24.0));
}

#[test]
fn nifti_without_sform_uses_qform() {
    let mut n = Nifti::new([4, 5, 6]);
    (n.sform_code, n.qform_code, n.quatern, n.qoffset) = (0, 1, QUARTER_TURN, [7.0, 8.0, 9.0]);
    n.pixdim[1..4].copy_from_slice(&[2.0, 3.0, 4.0]);
    let g = load(&n.counting()).unwrap().volume.geometry().clone();
    assert_eq!(g.affine_source(), AffineSource::Qform);
    assert_eq!(g.orientation().map(|o| o.to_string()).as_deref(), Some("ALS"));
    let expected = [[0.0, -3.0, 0.0, 7.0], [2.0, 0.0, 0.0, 8.0], [0.0, 0.0, 4.0, 9.0]];
    for (row, expected) in g.affine().unwrap().iter().zip(expected) {
        for (v, expected) in row.iter().zip(expected) {
            assert!((v - expected).abs() < 1e-6, "{v} {expected}");
        }
    }
}

#[test]
fn qfac_of_minus_one_turns_k_around_and_zero_means_one() {
    let mut n = Nifti::new([4, 5, 6]);
    (n.sform_code, n.qform_code) = (0, 1);
    for (qfac, codes) in [(-1.0, "RAI"), (1.0, "RAS"), (0.0, "RAS")] {
        n.pixdim[0] = qfac;
        let g = load(&n.counting()).unwrap().volume.geometry().clone();
        assert_eq!(g.orientation().map(|o| o.to_string()).as_deref(), Some(codes));
    }
}

#[test]
fn n11_nifti_without_both_codes_is_guessed_with_a_warning() {
    let mut n = Nifti::new([5, 7, 9]);
    (n.sform_code, n.pixdim[1], n.pixdim[2], n.pixdim[3]) = (0, 3.0, 2.0, 1.0);
    let loaded = load(&n.counting()).unwrap();
    let g = loaded.volume.geometry();
    assert_eq!(g.affine_source(), AffineSource::Pixdim);
    let expected = [[-3.0, 0.0, 0.0, 6.0], [0.0, 2.0, 0.0, -6.0], [0.0, 0.0, 1.0, -4.0]];
    assert_eq!(g.affine().unwrap()[..3], expected);
    assert_eq!(loaded.warnings[0].code, "W-GEOM-GUESS");
    // nibabel resets codes that the standard does not know.
    n.sform_code = 77;
    assert_eq!(warnings(&n.counting()), ["W-GEOM-GUESS"]);
}

#[test]
fn n10_sform_wins_with_a_warning_where_qform_disagrees() {
    let mut n = Nifti::new([4, 5, 6]);
    n.qform_code = 1;
    assert_eq!(warnings(&n.counting()), [""; 0]);
    n.qoffset[0] = 0.0005;
    assert_eq!(warnings(&n.counting()), [""; 0]);
    n.qoffset[0] = 0.25;
    let loaded = load(&n.counting()).unwrap();
    assert_eq!(loaded.volume.geometry().affine_source(), AffineSource::Sform);
    assert_eq!(
        loaded.warnings[0].to_string(),
        "warning[W-AFFINE]: sform and qform differ by up to 0.2500: the sform is used"
    );
    n.quatern = [1.0, 1.0, 1.0];
    assert_eq!(warnings(&n.counting()), ["W-AFFINE"]);
}

#[test]
fn n13_a_sheared_affine_is_read_with_a_warning_and_its_true_volume() {
    let mut n = Nifti::new([4, 5, 6]);
    n.srow[0][2] = 0.5;
    let loaded = load(&n.counting()).unwrap();
    assert_eq!(loaded.warnings[0].code, "W-SHEAR");
    assert_eq!(loaded.volume.geometry().voxel_volume_mm3(), Some(1.0));
}

#[test]
fn meters_and_micrometers_become_millimeters() {
    for (units, mm) in [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (2 | 8, 1.0)] {
        let mut n = Nifti::new([4, 5, 6]);
        n.units = units;
        let loaded = load(&n.counting()).unwrap();
        assert_eq!(loaded.volume.geometry().spacing_mm(), Some([mm; 3]));
        assert_eq!(loaded.warnings.len(), usize::from(mm != 1.0));
    }
}

#[test]
fn n5_every_number_type_is_read_in_both_byte_orders_and_both_versions() {
    type Encode = fn(i32) -> Vec<u8>;
    let types: [(i16, i16, Encode); 10] = [
        (2, 8, |v| (v as u8).to_le_bytes().to_vec()),
        (4, 16, |v| (v as i16).to_le_bytes().to_vec()),
        (8, 32, |v| v.to_le_bytes().to_vec()),
        (16, 32, |v| (v as f32).to_le_bytes().to_vec()),
        (64, 64, |v| f64::from(v).to_le_bytes().to_vec()),
        (256, 8, |v| (v as i8).to_le_bytes().to_vec()),
        (512, 16, |v| (v as u16).to_le_bytes().to_vec()),
        (768, 32, |v| (v as u32).to_le_bytes().to_vec()),
        (1024, 64, |v| i64::from(v).to_le_bytes().to_vec()),
        (1280, 64, |v| (v as u64).to_le_bytes().to_vec()),
    ];
    for (datatype, bitpix, encode) in types {
        for big in [false, true] {
            for n in [Nifti::new([4, 4, 5]), Nifti::new([4, 4, 5]).version_2()] {
                let n = Nifti { datatype, bitpix, big, ..n };
                let voxel = |v| {
                    let mut bytes = encode(v);
                    if big {
                        bytes.reverse();
                    }
                    bytes
                };
                let loaded = load(&n.file(&(0..80).flat_map(voxel).collect::<Vec<_>>())).unwrap();
                let expected: Vec<f32> = (0..80_u8).map(f32::from).collect();
                assert_eq!(*loaded.volume.voxels().to_f32(), expected, "{datatype} big {big}");
                let kind = if n.version == 1 { SourceKind::Nifti1 } else { SourceKind::Nifti2 };
                assert_eq!(loaded.kind, kind);
            }
        }
    }
}

#[test]
fn slope_and_intercept_are_applied() {
    let n = Nifti { scale: [2.0, -1024.0], ..Nifti::new([4, 4, 4]) };
    let loaded = load(&n.counting()).unwrap();
    assert_eq!(&loaded.volume.voxels().to_f32()[..3], [-1024.0, -1022.0, -1020.0]);
    assert_eq!(loaded.warnings.len(), 0);
}

#[test]
fn n8_a_slope_of_zero_or_nan_leaves_the_values() {
    for (scale, codes) in [
        ([0.0, 5.0], &[][..]),
        ([f64::NAN, f64::NAN], &["W-SLOPE"]),
        ([f64::INFINITY, 0.0], &["W-SLOPE"]),
    ] {
        let bytes = Nifti { scale, ..Nifti::new([4, 4, 4]) }.counting();
        assert_eq!(&load(&bytes).unwrap().volume.voxels().to_f32()[..3], [0.0, 1.0, 2.0]);
        assert_eq!(warnings(&bytes), codes);
    }
    let bytes = Nifti { scale: [2.0, f64::NAN], ..Nifti::new([4, 4, 4]) }.counting();
    assert_eq!(&load(&bytes).unwrap().volume.voxels().to_f32()[..3], [0.0, 2.0, 4.0]);
    assert_eq!(warnings(&bytes), ["W-SLOPE"]);
}

#[test]
fn extensions_are_passed_over() {
    for n in [Nifti::new([4, 4, 4]), Nifti::new([4, 4, 4]).version_2()] {
        let n = Nifti { vox_offset: 1024.0, ..n };
        assert_eq!(load(&n.counting()).unwrap().volume.voxels().to_f32()[63], 63.0);
    }
    let n = Nifti { vox_offset: 0.0, ..Nifti::new([4, 4, 4]) };
    assert_eq!(load(&n.counting()).unwrap().volume.voxels().to_f32()[63], 63.0);
}

#[test]
fn n7_gzip_is_told_by_its_bytes_and_all_members_are_read() {
    let bytes = Nifti::new([4, 5, 6]).counting();
    let plain = load(&bytes).unwrap().volume;
    assert_eq!(load(&gzip(&bytes)).unwrap().volume, plain);
    let members = [gzip(&bytes[..100]), gzip(&bytes[100..400]), gzip(&bytes[400..])].concat();
    let loaded = load(&members).unwrap();
    assert_eq!((loaded.volume, loaded.warnings.len()), (plain, 0));
}

#[test]
fn n7_what_follows_the_voxels_is_ignored_with_a_warning() {
    let bytes = Nifti::new([4, 5, 6]).counting();
    assert_eq!(warnings(&[bytes.clone(), vec![0; 7]].concat()), ["W-TRAILING"]);
    assert_eq!(warnings(&gzip(&[bytes.clone(), vec![0; 7]].concat())), ["W-TRAILING"]);
    assert_eq!(warnings(&[gzip(&bytes), vec![0; 7]].concat()), ["W-TRAILING"]);
}

#[test]
fn n15_numbers_beyond_f32_are_counted_as_infinite() {
    let n = Nifti { datatype: 64, bitpix: 64, ..Nifti::new([4, 4, 4]) };
    let voxel = |v: u32| if v == 3 { 1e300 } else { f64::from(v) };
    let bytes = n.file(&(0..64).flat_map(|v| voxel(v).to_le_bytes()).collect::<Vec<_>>());
    let loaded = load(&bytes).unwrap();
    assert_eq!((loaded.volume.voxels().to_f32()[3], loaded.warnings[0].code), (63.0, "W-NAN"));
}
