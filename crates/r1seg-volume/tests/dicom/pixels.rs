use r1seg_volume::{ReadOptions, Scale, Voxels};

use crate::builder::{
    BIG_ENDIAN, DEFLATED, Dcm, EXPLICIT, IMPLICIT, JPEG_2000, JPEG_LOSSLESS, JPEG_LS, RLE, Value,
    codes, error, expected_hu, load, load_with, series,
};
use crate::encoders::{jpeg_2000, jpeg_lossless, jpeg_ls, rle};

/// A series whose slices are compressed by `encode`.
fn compressed(syntax: &'static str, encode: impl Fn(&[u16]) -> Vec<Vec<u8>>) -> Vec<Dcm> {
    let mut files = series(5);
    for file in &mut files {
        let parts = encode(&file.stored());
        file.fragments(syntax, &parts);
    }
    files
}

#[test]
fn d6_uncompressed_syntaxes_are_one_volume() {
    for syntax in [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN] {
        let mut files = series(5);
        files.iter_mut().for_each(|f| f.syntax = syntax);
        assert_eq!(*load(&files).volume.voxels(), Voxels::from(expected_hu(5)), "{syntax}");
    }
}

#[test]
fn d6_lossless_syntaxes_are_one_volume() {
    type Encode = fn(&[u16]) -> Vec<Vec<u8>>;
    let encoders: [(&str, Encode); 5] = [
        (RLE, |w| vec![rle(w)]),
        (JPEG_LOSSLESS, |w| vec![jpeg_lossless(w, 12, 1)]),
        (JPEG_LS, |w| vec![jpeg_ls(w, 0)]),
        (JPEG_2000, |w| vec![jpeg_2000(w)]),
        // One frame may lie in several fragments.
        (JPEG_2000, |w| jpeg_2000(w).chunks(30).map(<[u8]>::to_vec).collect()),
    ];
    for (syntax, encode) in encoders {
        let volume = load(&compressed(syntax, encode)).volume;
        assert_eq!(*volume.voxels(), Voxels::from(expected_hu(5)), "{syntax}");
    }
}

#[test]
fn d6_every_predictor_of_lossless_jpeg_is_read() {
    for predictor in 1..=7 {
        for (bits, signed) in [(12, false), (16, false), (16, true)] {
            let mut files = series(5);
            for (k, file) in (0..).zip(&mut files) {
                let words: Vec<u16> = (0..24).map(|n| (n * 2311_u16) >> (16 - bits) ^ k).collect();
                let jpeg = jpeg_lossless(&words, bits as u8, predictor);
                file.bits(16, bits, signed).fragments(JPEG_LOSSLESS, &[jpeg]);
            }
            let voxels = load(&files).volume.voxels().to_f32().into_owned();
            for (n, v) in voxels.iter().enumerate() {
                let word = ((n % 24) as u16 * 2311) >> (16 - bits) ^ (n / 24) as u16;
                let word = if signed { f32::from(word as i16) } else { f32::from(word) };
                assert_eq!(*v, word - 1024.0, "{predictor} {bits} {signed} {n}");
            }
        }
    }
}

#[test]
fn d6_near_lossless_jpeg_ls_stays_within_its_bound() {
    let volume = load(&compressed(JPEG_LS, |w| vec![jpeg_ls(w, 3)])).volume;
    let apart = volume.voxels().iter().zip(expected_hu(5)).map(|(a, b)| (a - b).abs());
    let apart = apart.fold(0.0, f32::max);
    assert!(0.0 < apart && apart <= 3.0, "{apart}");
}

/// 6 rows of 8 numbers `211 y - 97 x - 700` (or `211 y + 97 x + 3`, unsigned), as GDCM 2.3 in
/// SimpleITK 2.5 wrote them.
const GDCM: [(&str, bool, &str); 4] = [
    (
        JPEG_2000,
        true,
        "ff4fff5100290000000000080000000600000000000000000000000800000006000000000000000000018f0101\
         ff52000c00000001000104040001ff5c00074080888890ff64002a000143726561746564206279204744434d2f\
         4f70656e4a5045472076657273696f6e20322e332e30ff90000a0000000000380001ff93c0fe44c016bc3aec83\
         514b3b1c658b1d3646a9c4864957c007da0b003f00601cf437317f0cbda80d349bffd9",
    ),
    (
        JPEG_2000,
        false,
        "ff4fff5100290000000000080000000600000000000000000000000800000006000000000000000000010f0101\
         ff52000c00000001000104040001ff5c00074080888890ff64002a000143726561746564206279204744434d2f\
         4f70656e4a5045472076657273696f6e20322e332e30ff90000a0000000000380001ff93cffc305008ec653cf1\
         8750f297b6ea0ef9ba0faaddd00d7fc007da09003f00601bee66620cbda80d349bffd9",
    ),
    (
        JPEG_LOSSLESS,
        true,
        "ffd8ffc3000b100006000801011100ffc40016000101010000000000000000000000000007080fffda00080101\
         00010000df5107878787878787ad31e1e1e1e1e1e1eb4c7878787878787ad31e1e1e1e1e1e1eb4c7878787878\
         787ad31e1e1e1e1e1e1efffd9",
    ),
    (
        JPEG_LOSSLESS,
        false,
        "ffd8ffc3000b100006000801011100ffc40016000101010000000000000000000000000007080fffda00080101\
         00010000c000985858585858586d361616161616161b4d85858585858586d361616161616161b4d85858585858\
         586d361616161616161fffd9",
    ),
];

/// 32 rows of 40 numbers `21 y + 17 x + 3` as OpenJPEG 2.5 wrote them, lossy, with an error of at
/// most 1.
const LOSSY: &str = "ff4fff5100290000000000280000002000000000000000000000002800000020000000000000000000010f0101\
     ff52000c00000001000504040000ff5c002342b720b6f0b6f0b6c0af00af00aee0a750a750a768900590059047\
     97d397d39762ff640025000143726561746564206279204f70656e4a5045472076657273696f6e20322e352e32\
     ff90000a0000000000c60001ff93cffcb81c093141fb6862bfc0007de05003fe028009ef026772ff7fc001f903\
     4007f0120de86d5457bf0b3c23bb149a72c707c003f20f8007e424273b058df5d785daddc6523270148803801b\
     27d105c54295d183a59cde80b2953fc001f4908007d82640e3ea7fad61429459f492203c51591947e8382305ab\
     e16faf47b309097ee41498c307c0007c64a0007cc5c0742de0489186a82b978eec66ea0000c0c69baa7229dedc\
     cc53ff1881a4030908a53d000000522217bfffd900";

/// 10 rows of 14 numbers over all of 16 bits (`n * 2654435761 >> 16`, lowest bits), as OpenJPEG 2.5 wrote
/// them, lossless with three decompositions.
const NOISE: &str = "ff4fff51002900000000000e0000000a00000000000000000000000e0000000a000000000000\
     000000010f0101ff52000c00000001000304040001ff5c000d4080888890888890888890ff640025000143726561\
     746564206279204f70656e4a5045472076657273696f6e20322e352e34ff90000a00000000014f0001ff93c1fe02\
     000969db8519b6673fc7fe181307fe000907fe0c080e307682b02ff003c0043d4c6106fc7a67c7fe18271ff8607c\
     7fe241c01aea93c0e8a33312a2d118f1d762d68fd50c4f12955932801d6e85d845b235d57b4c0e5d278f793b090b\
     181dc4a76db6cffc490e7fe24893ff0c248017fcd538b910b66c10807e64e5ed197fc72a5a029b31221c6a866df5\
     29ea06a508959860aa6beddbd7bdf9b3aa857ce280af1ca434aecc72ce238eadbe9ccda3c9b80f0f75261e1afc90\
     f1a2d6f6b0ac285972f36910955d16b1549f30d9668e5e02cd1fc4031961089b65623e599952cdb6650b46d98cad\
     1a68a9e83aa575ab32552ee997f3471eeac360ae034b47edf2377bb719101b02f516ec0313b937de19814658e10f\
     2cb19ad4f2c6ef56cb194d572c6e157cb1aed5f2c69758cb19743e58ca21f2c6450f96267eb04c6eaa9fffd9";

fn bytes_of(hex: &str) -> Vec<u8> {
    let byte = |n: usize| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap();
    (0..hex.len() / 2).map(byte).collect()
}

#[test]
fn d6_lossy_jpeg_2000_of_openjpeg_is_read_within_its_error() {
    let mut files = series(5);
    for file in &mut files {
        file.words((0x28, 0x10), &[32]).words((0x28, 0x11), &[40]).bits(16, 16, false);
        file.remove((0x28, 0x1052)).fragments("1.2.840.10008.1.2.4.91", &[bytes_of(LOSSY)]);
    }
    let volume = load(&files).volume;
    let number = |n: u16| f32::from(21 * (n / 40) + 17 * (n % 40) + 3);
    let apart = (0..1280).zip(volume.voxels().iter()).map(|(n, v)| (v - number(n)).abs());
    let apart = apart.fold(0.0, f32::max);
    assert!(apart <= 2.0, "{apart}");
}

#[test]
fn d6_lossless_jpeg_2000_of_openjpeg_keeps_all_16_bits() {
    let mut files = series(5);
    for file in &mut files {
        file.words((0x28, 0x10), &[10]).words((0x28, 0x11), &[14]).bits(16, 16, false);
        file.remove((0x28, 0x1052)).fragments(JPEG_2000, &[bytes_of(NOISE)]);
    }
    let volume = load(&files).volume;
    let word = |n: u32| ((n % 140).wrapping_mul(2_654_435_761) >> 16) as f32;
    let differ = (0..5 * 140).zip(volume.voxels().iter()).filter(|(n, v)| word(*n) != *v).count();
    assert_eq!((volume.voxels().len(), differ), (700, 0));
}

#[test]
fn d6_codestreams_of_gdcm_are_read_with_their_sign() {
    for (syntax, signed, hex) in GDCM {
        let bytes = bytes_of(hex);
        let mut files = series(5);
        for file in &mut files {
            file.words((0x28, 0x10), &[6]).words((0x28, 0x11), &[8]).bits(16, 16, signed);
            file.remove((0x28, 0x1052)).fragments(syntax, std::slice::from_ref(&bytes));
        }
        let voxels = load(&files).volume.voxels().to_f32().into_owned();
        let expected: Vec<f32> = (0..5 * 48_i16)
            .map(|n| (n % 48 / 8, n % 8))
            .map(|(y, x)| {
                f32::from(if signed { 211 * y - 97 * x - 700 } else { 211 * y + 97 * x + 3 })
            })
            .collect();
        assert_eq!(voxels, expected, "{syntax} {signed}");
    }
}

#[test]
fn d6_unknown_transfer_syntax_is_named_with_a_way_out() {
    for (uid, text) in [
        ("1.2.840.10008.1.2.4.202", "transfer syntax 1.2.840.10008.1.2.4.202 is not supported"),
        ("1.2.840.113619.5.2", "transfer syntax of a private kind is not supported"),
    ] {
        let mut files = series(5);
        files.iter_mut().for_each(|f| f.syntax = uid);
        let error = error(&files);
        assert_eq!((error.message().as_str(), error.code()), (text, "R-DCM-09"));
        for tool in ["gdcmconv --raw", "dcmdjpeg", "dcm2niix"] {
            assert!(format!("{:?}", error.remedy()).contains(tool));
        }
    }
}

#[test]
fn d5_rescale_is_the_identity_where_it_is_absent() {
    let mut files = series(5);
    files.iter_mut().for_each(|f| _ = f.remove((0x28, 0x1052)).remove((0x28, 0x1053)));
    let expected: Vec<f32> = expected_hu(5).iter().map(|v| v + 1024.0).collect();
    assert_eq!(*load(&files).volume.voxels(), Voxels::from(expected));
}

#[test]
fn d5_rescale_is_applied_slice_by_slice() {
    let mut files = series(5);
    for (k, file) in files.iter_mut().enumerate() {
        file.text((0x28, 0x1053), "DS", &format!("{}.5 ", k)).text((0x28, 0x1052), "DS", "-7");
    }
    let voxels = load(&files).volume.voxels().to_f32().into_owned();
    let expected = expected_hu(5)
        .into_iter()
        .enumerate()
        .map(|(n, v)| (v + 1024.0) * ((n / 24) as f32 + 0.5) - 7.0);
    assert_eq!(voxels, expected.collect::<Vec<_>>());
}

#[test]
fn d5_one_fractional_scale_is_kept_beside_16_bit_voxels() {
    let mut files = series(5);
    files.iter_mut().for_each(|f| _ = f.text((0x28, 0x1053), "DS", "0.25"));
    let loaded = load(&files);
    let Voxels::I16 { stored, scale } = loaded.volume.voxels() else { panic!() };
    assert_eq!((stored[25], *scale), (1101, Scale { slope: 0.25, inter: -1024.0 }));
}

#[test]
fn d5_scale_beyond_f32_never_gives_a_voxel_that_is_not_finite() {
    let mut files = series(5);
    files.iter_mut().for_each(|f| _ = f.text((0x28, 0x1053), "DS", "0.5"));
    let mut all = files.clone();
    all.iter_mut().for_each(|f| _ = f.text((0x28, 0x1052), "DS", "1e300"));
    assert_eq!(error(&all).code(), "R-IN-09");
    files[4].text((0x28, 0x1052), "DS", "1e300");
    let loaded = load(&files);
    assert_eq!((loaded.volume.voxels().get(119), codes(&loaded)), (Some(-356.5), vec!["W-NAN"]));
}

#[test]
fn d5_slope_of_zero_is_taken_for_one() {
    let mut files = series(5);
    files.iter_mut().for_each(|f| _ = f.text((0x28, 0x1053), "DS", "0"));
    let loaded = load(&files);
    assert_eq!(codes(&loaded), ["W-SLOPE"]);
    assert_eq!(*loaded.volume.voxels(), Voxels::from(expected_hu(5)));
}

#[test]
fn d5_scaling_of_one_slice_that_is_no_number_is_not_taken_for_the_usual_one_silently() {
    for (element, text, says) in [
        (0x1053, "NaN", "RescaleSlope of 1 of 5 slices is 0 or not a number: taken for 1"),
        (0x1053, "one", "RescaleSlope of 1 of 5 slices is 0 or not a number: taken for 1"),
        (0x1052, "inf", "RescaleIntercept of 1 of 5 slices is not a number: taken for 0"),
    ] {
        let mut files = series(5);
        files[3].text((0x28, element), "DS", text);
        let loaded = load(&files);
        assert_eq!(codes(&loaded), ["W-SLOPE"], "{text}");
        assert_eq!(loaded.warnings[0].text, says);
    }
    // Nothing is there to be doubted where nothing is given.
    let mut files = series(5);
    files[3].text((0x28, 0x1053), "DS", "");
    assert!(codes(&load(&files)).is_empty());
}

#[test]
fn d5_stored_bits_are_masked_and_their_sign_extended() {
    // 10 bits at the top of 12, dirt above and below.
    let raw: Vec<u16> = (0..24).map(|n| 0xf003 | (n * 40) << 2).collect();
    for (signed, number) in [
        (false, (|n| n * 40) as fn(i32) -> i32),
        (true, |n| if n * 40 < 512 { n * 40 } else { n * 40 - 1024 }),
    ] {
        let mut files = series(5);
        for file in &mut files {
            file.bits(16, 10, signed).words((0x28, 0x102), &[11]).pixels(&raw);
        }
        let voxels = load(&files).volume.voxels().to_f32().into_owned();
        let expected: Vec<f32> = (0..5 * 24).map(|n| (number(n % 24) - 1024) as f32).collect();
        assert_eq!(voxels, expected);
    }
}

#[test]
fn d5_unsigned_numbers_beyond_16_bits_of_hu_are_kept() {
    let mut files = series(5);
    let pixels: Vec<u16> = (0..24).map(|n| 65535 - n).collect();
    files.iter_mut().for_each(|f| _ = f.bits(16, 16, false).pixels(&pixels));
    let loaded = load(&files);
    assert!(matches!(loaded.volume.voxels(), Voxels::F32(_)));
    assert_eq!(loaded.volume.voxels().get(25), Some(65535.0 - 1.0 - 1024.0));
}

#[test]
fn eight_bit_pixels_are_read() {
    let mut files = series(5);
    for file in &mut files {
        file.bits(8, 8, false).set((0x7fe0, 0x10), "OB", Value::Bytes((200..224).collect()));
    }
    let volume = load(&files).volume;
    assert_eq!((volume.voxels().get(0), volume.voxels().get(47)), (Some(-824.0), Some(-801.0)));
}

#[test]
fn d5_padding_outside_of_tissue_becomes_air() {
    let with_padding = |padding: &[u16], limit: &[u16], modality: &str| {
        let mut files = series(5);
        for file in &mut files {
            let mut pixels: Vec<u16> = file.stored();
            pixels[0] = (-2000_i16) as u16;
            pixels[1] = (-1999_i16) as u16;
            file.bits(16, 16, true).pixels(&pixels).words((0x28, 0x120), padding);
            file.text((8, 0x60), "CS", modality);
            if !limit.is_empty() {
                file.words((0x28, 0x121), limit);
            }
        }
        let loaded = load_with(&files, &ReadOptions::default().with_allow_modality(true)).unwrap();
        let voxels = loaded.volume.voxels().to_f32()[..3].to_vec();
        (voxels, loaded.warnings.first().map(|w| w.text.clone()))
    };
    let minus_2000 = (-2000_i16) as u16;
    let (voxels, text) = with_padding(&[minus_2000], &[], "CT");
    assert_eq!(voxels, [-1024.0, -3023.0, -22.0]);
    assert!(text.unwrap().starts_with("5 of 120 voxels are padding"));
    let (voxels, text) = with_padding(&[minus_2000], &[minus_2000 + 9], "CT");
    assert_eq!(voxels, [-1024.0, -1024.0, -22.0]);
    assert!(text.unwrap().starts_with("10 of 120 voxels are padding"));
    // A padding value that tissue may have, and another modality.
    let (voxels, text) = with_padding(&[1002], &[], "CT");
    assert_eq!((voxels, text), (vec![-3024.0, -3023.0, -22.0], None));
    let (voxels, text) = with_padding(&[minus_2000], &[], "MR");
    assert_eq!((voxels, text), (vec![-3024.0, -3023.0, -22.0], None));
}

#[test]
fn d7_monochrome1_is_inverted_and_said() {
    let mut files = series(5);
    files.iter_mut().for_each(|f| _ = f.text((0x28, 4), "CS", "MONOCHROME1"));
    let loaded = load(&files);
    assert_eq!(codes(&loaded), ["W-INVERTED"]);
    let expected: Vec<f32> =
        expected_hu(5).iter().map(|v| 4095.0 - (v + 1024.0) - 1024.0).collect();
    assert_eq!(*loaded.volume.voxels(), Voxels::from(expected));
    files.iter_mut().for_each(|f| _ = f.bits(16, 12, true));
    assert_eq!(load(&files).volume.voxels().get(0), Some(-1001.0 - 1024.0));
}

#[test]
fn d7_color_and_odd_layouts_are_refused() {
    type Change = fn(&mut Dcm);
    let changes: [(Change, &str); 6] = [
        (|f| _ = f.words((0x28, 2), &[3]), "R-DCM-10"),
        (|f| _ = f.text((0x28, 4), "CS", "PALETTE COLOR"), "R-DCM-10"),
        (|f| _ = f.text((0x28, 4), "CS", "YBR_FULL"), "R-DCM-10"),
        (|f| _ = f.words((0x28, 0x100), &[32]), "R-DCM-11"),
        (|f| _ = f.words((0x28, 0x102), &[16]), "R-DCM-11"),
        (|f| _ = f.set((0x28, 0x3000), "SQ", Value::Sequence(vec![])), "R-DCM-11"),
    ];
    for (change, code) in changes {
        let mut files = series(5);
        change(&mut files[4]);
        assert_eq!(error(&files).code(), code);
    }
}
