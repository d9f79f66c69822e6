use r1seg_volume::{
    Error, ErrorKind, Loaded, Mask, MaskFormat, ReadOptions, Remedy, read_from, write_mask_to,
};

use crate::builder::{Nifti, code, gzip, load, npy, nrrd};

/// 4 x 5 x 6 voxels, 3 x 2 frames; voxels count from 0 through all frames, in i16.
fn frames() -> (Nifti, Vec<u8>) {
    let mut n = Nifti { datatype: 4, bitpix: 16, ..Nifti::new([4, 5, 6]) };
    (n.dim[0], n.dim[4], n.dim[5]) = (5, 3, 2);
    let bytes = n.file(&(0..720_i16).flat_map(i16::to_le_bytes).collect::<Vec<_>>());
    (n, bytes)
}

fn frame(bytes: &[u8], frame: usize) -> Result<Loaded, Error> {
    read_from(bytes, "x", &ReadOptions::default().with_frame(frame))
}

#[test]
fn n14_one_frame_in_more_dimensions_is_a_volume() {
    let mut n = Nifti::new([4, 5, 6]);
    n.dim[0] = 5;
    assert_eq!(load(&n.counting()).unwrap().volume.shape(), [6, 5, 4]);
}

#[test]
fn n14_four_dimensional_file_lists_its_frames() {
    let (_, bytes) = frames();
    let error = load(&bytes).unwrap_err();
    assert_eq!(error.message(), "volume has 6 frames (4x5x6x3x2); one 3D volume is needed");
    assert_eq!((error.code(), error.kind()), ("R-NII-11", ErrorKind::BadData));
    assert_eq!(error.remedy(), Some(Remedy::ChooseFrame { frames: 6 }));
}

#[test]
fn n14_the_chosen_frame_is_read_and_the_others_are_passed_over() {
    let (_, bytes) = frames();
    for file in [bytes.clone(), gzip(&bytes)] {
        for k in 0..6_u8 {
            let loaded = frame(&file, k.into()).unwrap();
            let first = f32::from(k) * 120.0;
            assert_eq!(loaded.warnings.len(), 0);
            assert_eq!(loaded.volume.shape(), [6, 5, 4]);
            assert_eq!(loaded.volume.voxels().get(0), Some(first));
            assert_eq!(loaded.volume.voxels().get(119), Some(first + 119.0));
        }
    }
    let trailing = frame(&[bytes, vec![0]].concat(), 0).unwrap();
    assert_eq!(trailing.warnings[0].code, "W-TRAILING");
}

#[test]
fn n14_a_frame_that_is_not_there_is_a_usage_error_with_the_count() {
    let error = frame(&frames().1, 6).unwrap_err();
    assert_eq!(error.message(), "frame 6 does not exist: the file has 6, counted from 0");
    assert_eq!((error.code(), error.kind()), ("R-IN-13", ErrorKind::Usage));
    assert_eq!(error.remedy(), Some(Remedy::ChooseFrame { frames: 6 }));
    for file in [
        Nifti::new([4, 5, 6]).counting(),
        npy("|u1", "False", "(4, 5, 6)", &[1; 120]),
        npy("|u1", "False", "(1, 4, 5, 6)", &[1; 120]),
        nrrd(&["type: uchar", "encoding: raw"], &[1; 120]),
    ] {
        assert_eq!(frame(&file, 0).unwrap().volume, load(&file).unwrap().volume);
        let error = frame(&file, 1).unwrap_err();
        assert_eq!((error.code(), error.remedy()), ("R-IN-13", Some(Remedy::OmitFrame)));
    }
}

#[test]
fn n14_a_file_that_ends_in_a_later_frame_ends_early() {
    let (_, bytes) = frames();
    let short = &bytes[..bytes.len() - 1];
    for file in [short.to_vec(), gzip(short)] {
        assert_eq!(frame(&file, 0).unwrap_err().code(), "R-NII-07");
        assert_eq!(frame(&file, 5).unwrap_err().code(), "R-NII-07");
    }
}

#[test]
fn n14_the_limit_of_voxels_is_for_one_frame_and_that_of_bytes_for_all() {
    let (n, bytes) = frames();
    let limits = |voxels, max_bytes| {
        let options = ReadOptions::default().with_max_voxels(voxels).with_max_bytes(max_bytes);
        read_from(bytes.as_slice(), "x", &options.with_frame(2)).map_err(|e| e.code()).map(|_| ())
    };
    assert_eq!(limits(120, 1440), Ok(()));
    assert_eq!(limits(119, 1440), Err("R-IN-07"));
    assert_eq!(limits(120, 1439), Err("R-IN-07"));
    let mut huge = n;
    huge.dim = [7, 4, 5, 6, 32767, 32767, 32767, 32767];
    assert_eq!(frame(&huge.file(&[]), 3).unwrap_err().code(), "R-IN-07");
    assert_eq!(code(&huge.file(&[])), "R-NII-11");
}

#[test]
fn n14_the_mask_of_a_frame_has_three_dimensions() {
    let (data, geometry) = frame(&frames().1, 1).unwrap().volume.into_parts();
    let mask = Mask::new(vec![1; data.len()], geometry).unwrap();
    let mut bytes = Vec::new();
    write_mask_to(&mut bytes, &mask, MaskFormat::Nifti).unwrap();
    assert_eq!(bytes[40..50], [3_i16, 4, 5, 6, 1].map(i16::to_le_bytes).concat());
}

#[test]
fn n14_a_four_dimensional_array_has_its_frames_along_the_first_axis() {
    // numpy.arange(240, dtype="<i2").reshape(2, 4, 5, 6), and numpy.asfortranarray of it.
    let (n, d, h, w) = (2, 4, 5, 6);
    let c: Vec<u8> = (0..240_i16).flat_map(i16::to_le_bytes).collect();
    let mut fortran = Vec::new();
    for at in 0..n * d * h * w {
        let [f, z, y, x] = [at % n, at / n % d, at / n / d % h, at / n / d / h];
        let v = i16::try_from(((f * d + z) * h + y) * w + x).unwrap();
        fortran.extend(v.to_le_bytes());
    }
    for (order, data) in [("False", c), ("True", fortran)] {
        let file = npy("<i2", order, "(2, 4, 5, 6)", &data);
        for k in 0..2_u8 {
            let volume = frame(&file, k.into()).unwrap().volume;
            let expected: Vec<f32> =
                (0..120).map(|v: u8| f32::from(v) + 120.0 * f32::from(k)).collect();
            assert_eq!((volume.shape(), &*volume.voxels().to_f32()), ([4, 5, 6], &*expected));
            assert!(!volume.geometry().npy_leading_axis());
        }
        let error = load(&file).unwrap_err();
        assert_eq!(error.message(), "array is 2x4x5x6; one 3D volume (D,H,W) or 1xDxHxW is needed");
        let remedy = Some(Remedy::ChooseAlongFirstAxis);
        assert_eq!((error.code(), error.remedy()), ("R-NPY-03", remedy));
        assert_eq!(frame(&file, 2).unwrap_err().code(), "R-IN-13");
        assert_eq!(frame(&file[..file.len() - 1], 0).unwrap_err().code(), "R-NPY-06");
    }
}

#[test]
fn n14_an_array_of_no_frames_is_no_volume_whichever_is_asked_for() {
    let bytes = npy("<i2", "False", "(0, 4, 5, 6)", &[]);
    for error in [load(&bytes).unwrap_err(), frame(&bytes, 1).unwrap_err()] {
        assert_eq!(error.message(), "array is 0x4x5x6; one 3D volume (D,H,W) or 1xDxHxW is needed");
        assert_eq!(error.remedy(), Some("save it as one volume".into()));
    }
}
