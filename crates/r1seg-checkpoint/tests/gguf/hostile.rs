use std::io::{Seek, SeekFrom, Write};

use r1seg_checkpoint::NumberFormat;
use r1seg_checkpoint::gguf::{Error, Gguf, Layout, NewTensor, Value};

use crate::Raw;

const F32: u32 = 0;
const Q4K: u32 = 12;

fn refused(raw: Raw) -> Error {
    Gguf::parse(&raw.data(32, 4096)).unwrap_err()
}

/// One tensor entry, followed by 4096 bytes of data.
fn refused_tensor(axes: &[u64], number: u32, offset: u64) -> Error {
    refused(Raw::new(3, 1, 0).tensor("w", axes, number, offset))
}

#[test]
fn g1_what_is_no_gguf_is_told_so() {
    let error = Gguf::parse(b"PK\x03\x04 and so on").unwrap_err();
    assert!(matches!(error, Error::Magic { .. }) && error.code() == "R-GGUF-01", "{error}");
    assert!(matches!(Gguf::parse(b"").unwrap_err(), Error::EndsEarly { .. }));
}

#[test]
fn g1_other_versions_are_refused_by_number() {
    for version in [0, 1, 4, u32::MAX] {
        let error = refused(Raw::new(version, 0, 0));
        assert!(matches!(error, Error::Version { version: v } if v == version), "{error}");
    }
    assert!(Gguf::parse(&Raw::new(2, 0, 0).data(32, 0)).is_ok());
}

#[test]
fn g1_big_endian_files_are_refused_as_such() {
    assert!(matches!(refused(Raw::new(3u32.swap_bytes(), 0, 0)), Error::BigEndian));
}

#[test]
fn g1_a_header_cut_off_at_any_byte_is_refused() {
    let whole = Raw::new(3, 1, 2)
        .text("a")
        .u32(8)
        .text("text")
        .text("b")
        .u32(9)
        .u32(8)
        .u64(2)
        .text("x")
        .text("yy")
        .tensor("w", &[32, 2], F32, 0);
    let header = whole.0.len();
    let file = whole.data(32, 256);
    assert!(Gguf::parse(&file).is_ok());
    for length in 0..header {
        let error = Gguf::parse(&file[..length]).unwrap_err();
        assert!(matches!(error, Error::EndsEarly { .. }), "{length}: {error}");
    }
    for length in header..file.len() {
        let error = Gguf::parse(&file[..length]).unwrap_err();
        assert!(matches!(error, Error::BeyondEnd { .. }), "{length}: {error}");
    }
}

#[test]
fn g1_lengths_are_believed_only_as_far_as_the_file_goes() {
    for length in [5000, 1 << 40, u64::MAX] {
        // A key, a string, an array of bytes, of longs and of strings, and a tensor's name.
        let long = [
            Raw::new(3, 0, 1).u64(length),
            Raw::new(3, 0, 1).text("a").u32(8).u64(length),
            Raw::new(3, 0, 1).text("a").u32(9).u32(0).u64(length),
            Raw::new(3, 0, 1).text("a").u32(9).u32(10).u64(length),
            Raw::new(3, 0, 1).text("a").u32(9).u32(8).u64(length),
            Raw::new(3, 1, 0).u64(length),
        ];
        for raw in long {
            let error = refused(raw);
            assert!(matches!(error, Error::EndsEarly { .. }), "{length}: {error}");
        }
    }
}

#[test]
fn g1_counts_are_limited_before_anything_is_read() {
    for (tensors, fields, what) in
        [(65_537, 0, "tensors"), (u64::MAX, 0, "tensors"), (0, 4097, "fields")]
    {
        let error = refused(Raw::new(3, tensors, fields));
        assert!(matches!(error, Error::TooMany { what: w, .. } if w == what), "{error}");
    }
}

#[test]
fn g1_long_names_are_refused() {
    let error = refused(Raw::new(3, 1, 0).tensor(&"x".repeat(1025), &[1], F32, 0));
    assert!(matches!(error, Error::TooMany { count: 1025, .. }), "{error}");
    let key = "x".repeat(65_536);
    let error = refused(Raw::new(3, 0, 1).text(&key).u32(7).bytes(&[1]));
    assert!(matches!(error, Error::TooMany { count: 65_536, .. }), "{error}");
}

#[test]
fn g1_unknown_value_types_are_refused() {
    for raw in [
        Raw::new(3, 0, 1).text("a").u32(13),
        Raw::new(3, 0, 1).text("a").u32(9).u32(u32::MAX).u64(0),
    ] {
        let error = refused(raw);
        assert!(error.to_string().contains("there is no value type"), "{error}");
    }
}

#[test]
fn g1_a_bool_is_0_or_1() {
    let bool = |byte: u8| Raw::new(3, 0, 1).text("a").u32(7).bytes(&[byte]);
    assert!(Gguf::parse(&bool(1).data(32, 0)).is_ok());
    assert!(refused(bool(2)).to_string().contains("a bool is 2"));
}

#[test]
fn g1_names_and_strings_are_utf8() {
    for raw in [
        Raw::new(3, 0, 1).u64(2).bytes(&[0xff, 0xfe]).u32(7).bytes(&[1]),
        Raw::new(3, 0, 1).text("a").u32(8).u64(1).bytes(&[0x80]),
        Raw::new(3, 1, 0).u64(1).bytes(&[0xc0]),
    ] {
        assert!(refused(raw).to_string().contains("not UTF-8"));
    }
}

#[test]
fn g1_lists_nest_four_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let mut raw = Raw::new(3, 0, 1).text("a").u32(9);
        for _ in 1..depth {
            raw = raw.u32(9).u64(1);
        }
        raw.u32(0).u64(3).bytes(&[1, 2, 3])
    };
    assert!(Gguf::parse(&nested(4).data(32, 0)).is_ok());
    for depth in [5, 100_000] {
        let error = refused(nested(depth));
        assert!(error.to_string().contains("lists are more than 4 deep"), "{error}");
    }
}

#[test]
fn g1_the_alignment_is_a_power_of_two_in_bounds() {
    let aligned = |n: u32| Raw::new(3, 0, 1).text("general.alignment").u32(4).u32(n);
    for n in [8, 32, 64, 65_536] {
        assert_eq!(Gguf::parse(&aligned(n).data(32, 0)).unwrap().alignment, u64::from(n));
    }
    for n in [0, 1, 4, 48, 131_072, u32::MAX] {
        assert!(matches!(refused(aligned(n)), Error::Alignment { .. }), "{n}");
    }
    let text = Raw::new(3, 0, 1).text("general.alignment").u32(8).text("32");
    assert!(matches!(refused(text), Error::Alignment { .. }));
}

#[test]
fn g1_names_are_there_once() {
    let field = |raw: Raw| raw.text("a").u32(7).bytes(&[1]);
    let error = refused(field(field(Raw::new(3, 0, 2))));
    assert!(matches!(error, Error::DuplicateField { .. }), "{error}");
    let two = Raw::new(3, 2, 0).tensor("w", &[8], F32, 0).tensor("w", &[8], F32, 32);
    assert!(matches!(refused(two), Error::DuplicateTensor { .. }));
}

#[test]
fn g1_unknown_tensor_types_are_refused_by_number() {
    for number in [4, 5, 16, 19, 31, 39, u32::MAX] {
        let error = refused_tensor(&[256], number, 0);
        assert!(matches!(error, Error::TensorType { number: n, .. } if n == number), "{error}");
    }
}

#[test]
fn g1_a_tensor_has_one_to_four_axes() {
    for axes in [&[][..], &[1; 5], &[1; 1000]] {
        assert!(matches!(refused_tensor(axes, F32, 0), Error::Damaged { .. }), "{axes:?}");
    }
    assert!(Gguf::parse(&Raw::new(3, 1, 0).tensor("w", &[1; 4], F32, 0).data(32, 4)).is_ok());
}

#[test]
fn g1_shapes_that_hold_nothing_or_cannot_be_counted_are_refused() {
    let huge = 1 << 40;
    for axes in [&[0][..], &[8, 0], &[huge, huge], &[u64::MAX, u64::MAX, 2], &[1 << 62]] {
        let error = refused_tensor(axes, F32, 0);
        assert!(matches!(error, Error::Shape { .. }), "{axes:?}: {error}");
    }
}

#[test]
fn g1_a_row_is_whole_blocks() {
    // 512 numbers are two blocks, but no row of 128 is one.
    let error = refused_tensor(&[128, 4], Q4K, 0);
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let file = Raw::new(3, 1, 0).tensor("w", &[256, 4], Q4K, 0).data(32, 4 * 144);
    assert_eq!(Gguf::parse(&file).unwrap().tensors["w"].shape, [4, 256]);
}

#[test]
fn g1_tensors_lie_where_the_alignment_says() {
    for offset in [1, 4, 31, 33] {
        let error = refused_tensor(&[8], F32, offset);
        assert!(matches!(error, Error::Misaligned { offset: o, .. } if o == offset), "{error}");
    }
}

#[test]
fn g1_tensors_lie_within_the_file() {
    for (axes, offset) in
        [(&[1025][..], 0), (&[8], 4096), (&[8], u64::MAX - 31), (&[1 << 50, 16], 0)]
    {
        let error = refused_tensor(axes, F32, offset);
        assert!(matches!(error, Error::BeyondEnd { .. }), "{axes:?}: {error}");
    }
    assert!(Gguf::parse(&Raw::new(3, 1, 0).tensor("w", &[1024], F32, 0).data(32, 4096)).is_ok());
}

#[test]
fn g1_tensors_do_not_overlap() {
    let two = |second: u64| {
        Raw::new(3, 2, 0).tensor("a", &[16], F32, 32).tensor("b", &[8], F32, second).data(32, 128)
    };
    for offset in [32, 64] {
        let error = Gguf::parse(&two(offset)).unwrap_err();
        assert!(matches!(error, Error::Overlap { .. }), "{offset}: {error}");
    }
    // Before it, and after it.
    assert!(Gguf::parse(&two(0)).is_ok() && Gguf::parse(&two(96)).is_ok());
}

#[test]
fn g1_a_header_has_an_end() {
    // A list of 70 MB in a file that has them, as a hole.
    let raw = Raw::new(3, 0, 1).text("a").u32(9).u32(0).u64(70 << 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&raw.0).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.set_len(80 << 20).unwrap();
    assert!(matches!(Gguf::open(&file).unwrap_err(), Error::HeaderTooLong { .. }));
}

#[test]
fn g1_a_damaged_header_never_points_out_of_the_file() {
    let tensors = [
        NewTensor::new("blk.0.attn_q.weight", NumberFormat::Q8_0, vec![4, 64]),
        NewTensor::new("output_norm.weight", NumberFormat::F32, vec![64]),
    ];
    let fields = [("a.text".to_owned(), Value::String("x".repeat(40)))];
    let layout = Layout::new(&fields, &tensors).unwrap();
    let mut file = layout.header().to_vec();
    for i in 0..2 {
        file.resize(file.len() + layout.bytes(i) as usize + layout.padding(i), 0);
    }
    assert!(Gguf::parse(&file).is_ok());
    let (mut accepted, mut refused) = (0, 0);
    for at in 0..layout.header().len() {
        for with in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] = with;
            match Gguf::parse(&damaged) {
                Ok(gguf) => {
                    let ends = gguf.tensors.values().map(|info| info.range.end);
                    assert!(ends.max().unwrap_or(0) <= file.len() as u64);
                    accepted += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(100 < accepted && 100 < refused, "{accepted} accepted, {refused} refused");
}
