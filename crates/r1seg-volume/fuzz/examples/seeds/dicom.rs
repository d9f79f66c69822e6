//! Series of three slices, single slices and multi-frame files, one behind the other.

use crate::Seed;
use crate::builder::{
    BIG_ENDIAN, DEFLATED, Dcm, EXPLICIT, IMPLICIT, Items, JPEG_LOSSLESS, JPEG_LS, RLE, Value,
    series, zip,
};
use crate::encoders::codestreams;

pub(crate) fn seeds() -> Vec<Seed> {
    const METHODS: [::zip::CompressionMethod; 2] =
        [::zip::CompressionMethod::Stored, ::zip::CompressionMethod::Deflated];
    let join = |files: &[Dcm]| files.iter().flat_map(Dcm::file).collect::<Vec<u8>>();
    // Three slices, each changed the same way.
    let all = |change: &dyn Fn(&mut Dcm)| {
        let mut files = series(3);
        files.iter_mut().for_each(change);
        join(&files)
    };
    // One slice of three, changed.
    let one = |change: &dyn Fn(&mut Dcm)| {
        let mut files = series(3);
        change(&mut files[1]);
        join(&files)
    };
    // A single slice as one file.
    let alone = |change: &dyn Fn(&mut Dcm)| {
        let mut file = Dcm::slice(1);
        change(&mut file);
        file.file()
    };
    let nested = (0..20).fold(Value::Sequence(vec![]), |inner, _| {
        Value::Sequence(vec![Items::from([((9, 0x1002), ("SQ", inner))])])
    });
    let multi = |frames: u16, change: &dyn Fn(&mut Dcm)| {
        let mut file = multi_frame(frames);
        change(&mut file);
        file.file()
    };
    let slices: Vec<Vec<u8>> = series(3).iter().map(Dcm::file).collect();
    let [a, b, c] = [&slices[0], &slices[1], &slices[2]];
    let members = [("a/1", a.as_slice()), ("../2", b.as_slice()), ("3", c.as_slice())];
    let mut seeds = vec![
        ("one", alone(&|_| ())),
        ("three", all(&|_| ())),
        ("implicit", all(&|f| f.syntax = IMPLICIT)),
        ("explicit", all(&|f| f.syntax = EXPLICIT)),
        ("big-endian", all(&|f| f.syntax = BIG_ENDIAN)),
        ("deflated", all(&|f| f.syntax = DEFLATED)),
        ("d1-two-series", one(&|f| _ = f.series("1.2.3.5"))),
        ("d1-localizer", one(&|f| _ = f.text((8, 8), "CS", "ORIGINAL\\PRIMARY\\LOCALIZER"))),
        ("d2-gap", one(&|f| _ = f.position([-20.0, -30.0, 41.0]))),
        ("d2-same", one(&|f| _ = f.position([-20.0, -30.0, 40.0]))),
        ("d2-copy", one(&|f| _ = f.instance("1.2.3.0"))),
        ("d3-tilt", one(&|f| _ = f.position([-20.0, -28.0, 42.5]))),
        ("d3-orientation", one(&|f| _ = f.orientation([0.0, 1.0, 0.0, 1.0, 0.0, 0.0]))),
        ("d5-scales", one(&|f| _ = f.text((0x28, 0x1053), "DS", "0.5"))),
        ("d5-fraction", all(&|f| _ = f.text((0x28, 0x1053), "DS", "0.25"))),
        (
            "d5-large",
            all(&|f| _ = f.text((0x28, 0x1053), "DS", "0.5").text((0x28, 0x1052), "DS", "1e300")),
        ),
        ("d5-slope-0", all(&|f| _ = f.text((0x28, 0x1053), "DS", "0"))),
        ("d5-absent", all(&|f| _ = f.remove((0x28, 0x1052)).remove((0x28, 0x1053)))),
        ("d5-signed", all(&|f| _ = f.bits(16, 12, true))),
        ("d5-padding", all(&|f| _ = f.words((0x28, 0x120), &[63]).words((0x28, 0x121), &[1020]))),
        (
            "eight-bits",
            all(&|f| {
                _ = f.bits(8, 8, false).set((0x7fe0, 0x10), "OB", Value::Bytes((0..24).collect()))
            }),
        ),
        ("d6-unknown", all(&|f| f.syntax = "1.2.840.10008.1.2.4.202")),
        ("d7-frames", multi(4, &|_| ())),
        ("d7-frames-implicit", multi(3, &|f| f.syntax = IMPLICIT)),
        ("d7-frames-undefined", multi(3, &|f| f.undefined_lengths = true)),
        ("d7-mr", all(&|f| _ = f.text((8, 0x60), "CS", "MR"))),
        ("d7-inverted", all(&|f| _ = f.text((0x28, 4), "CS", "MONOCHROME1"))),
        ("d7-color", alone(&|f| _ = f.text((0x28, 4), "CS", "RGB").words((0x28, 2), &[3]))),
        ("d8-nested", alone(&|f| _ = f.set((9, 0x1002), "SQ", nested.clone()))),
        (
            "d8-nested-undefined",
            alone(&|f| {
                f.undefined_lengths = true;
                f.set((9, 0x1002), "SQ", nested.clone());
            }),
        ),
        ("d8-odd", alone(&|f| _ = f.set((9, 0x1001), "UN", Value::Bytes(vec![7; 13])))),
        ("d8-cut", b[..b.len() - 1].to_vec()),
        ("d8-claim", alone(&|f| _ = f.words((0x28, 0x10), &[900]).words((0x28, 0x11), &[1000]))),
        ("d9-burned-in", alone(&|f| _ = f.text((0x28, 0x301), "CS", "YES"))),
        ("d10-stored", zip(&members, METHODS[0])),
        ("d10-deflated", zip(&members, METHODS[1])),
    ];
    for (syntax, stream) in codestreams() {
        let name = match syntax {
            RLE => "d6-rle",
            JPEG_LOSSLESS => "d6-jpeg",
            JPEG_LS => "d6-jpeg-ls",
            _ => "d6-jpeg-2000",
        };
        seeds.push((name, alone(&|f| _ = f.fragments(syntax, std::slice::from_ref(&stream)))));
    }
    seeds
}

/// One file of `count` frames, which share their spacing and orientation.
fn multi_frame(count: u16) -> Dcm {
    let item = |tag, (group, element, text): (u16, u16, &str)| {
        let value = ((group, element), ("DS", Value::Text(text.to_owned())));
        (tag, ("SQ", Value::Sequence(vec![Items::from([value])])))
    };
    let shared = Items::from([
        item((0x28, 0x9110), (0x28, 0x30, "0.8\\0.7")),
        item((0x20, 0x9116), (0x20, 0x37, "1\\0\\0\\0\\1\\0")),
    ]);
    let frame = |k: u16| {
        let position = format!("-20\\-30\\{}", 40.0 + 2.5 * f64::from(k));
        Items::from([item((0x20, 0x9113), (0x20, 0x32, &position))])
    };
    let mut file = Dcm::slice(0);
    for tag in [(0x20, 0x32), (0x20, 0x37), (0x28, 0x30)] {
        file.remove(tag);
    }
    file.text((0x28, 8), "IS", &count.to_string())
        .set((0x5200, 0x9229), "SQ", Value::Sequence(vec![shared]))
        .set((0x5200, 0x9230), "SQ", Value::Sequence((0..count).map(frame).collect()))
        .pixels(&(0..count * 24).map(|n| n * 37).collect::<Vec<_>>());
    file
}
