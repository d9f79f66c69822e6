//! Pickles that want to run something, or to be more than they are: refused, and nothing runs.

use r1seg_convert::{Error, ErrorKind, PickleError};

use crate::torch_file::{Tensor, TorchFile, Val, dict, global, pickle, text, zip_of_pickle};
use crate::{Place, f32_bytes, index_of};

fn refused(body: &[u8]) -> PickleError {
    let bytes = pickle(2, &[body, b"."].concat());
    index_of(&zip_of_pickle(&bytes)).unwrap_err()
}

fn one_tensor() -> TorchFile {
    let mut file = TorchFile::new(2);
    let tensor = file.add_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    file.root = dict(vec![("w", Val::Tensor(tensor))]);
    file
}

/// The file with its one tensor changed.
fn with(change: impl FnOnce(&mut Tensor)) -> Vec<u8> {
    let mut file = one_tensor();
    if let Val::Dict(entries) = &mut file.root
        && let Val::Tensor(tensor) = &mut entries[0].1
    {
        change(tensor);
    }
    file.zip()
}

#[test]
fn w2_a_call_of_os_system_is_refused_by_name_and_does_not_run() {
    let place = Place::new();
    let marker = place.path("ran");
    let command = format!("touch {}", marker.display());
    for protocol in [2, 4] {
        for (module, name) in [("os", "system"), ("posix", "system"), ("builtins", "eval")] {
            let mut file = one_tensor();
            file.protocol = protocol;
            let mut raw = global(protocol, module, name);
            raw.extend([b"X".as_slice(), &(command.len() as u32).to_le_bytes()].concat());
            raw.extend(command.bytes());
            raw.extend([0x85, b'R']);
            let Val::Dict(entries) = &mut file.root else { panic!() };
            entries.push((text("payload"), Val::Raw(raw)));
            for bytes in [file.zip(), file.legacy()] {
                let error = place.convert_bytes("pytorch_model.bin", &bytes).unwrap_err();
                let expected = PickleError::Global { name: format!("{module}.{name}") };
                assert!(
                    matches!(&error, Error::Pickle { reason, .. } if *reason == expected),
                    "{error:?}"
                );
                assert_eq!((error.kind(), error.code()), (ErrorKind::Model, "R-CNV-06"));
                assert!(!marker.exists() && !place.out().exists());
            }
        }
    }
}

#[test]
fn w2_the_name_of_a_global_is_shown_without_control_characters() {
    let error = refused(b"cev\x1b[31m`il\nsys\ttem\n)R");
    assert_eq!(error, PickleError::Global { name: "ev?[31m?il.sys?tem".to_owned() });
    let long = [b"c".as_slice(), &[b'a'; 5000], b"\nb\n"].concat();
    let PickleError::Global { name } = refused(&long) else { panic!() };
    assert_eq!(name.len(), 122);
}

#[test]
fn w2_a_name_that_is_only_assembled_at_the_end_is_refused() {
    // STACK_GLOBAL over strings from the memo.
    let body = b"X\x02\0\0\0osq\0X\x06\0\0\0systemq\x010 0h\0h\x01\x93)R".to_vec();
    let body: Vec<u8> = body.into_iter().filter(|b| *b != b' ').collect();
    assert_eq!(refused(&body), PickleError::Global { name: "os.system".to_owned() });
    assert!(matches!(refused(b"K\x01K\x02\x93"), PickleError::Malformed { .. }));
}

#[test]
fn w2_opcodes_that_construct_objects_or_reach_registries_are_refused() {
    for (body, name) in [
        (b"(ios\nsystem\n".as_slice(), "INST"),
        (b"(X\x01\0\0\0ao", "OBJ"),
        (b"\x82\x01", "EXT1"),
        (b"\x83\x01\x00", "EXT2"),
        (b"\x84\x01\0\0\0", "EXT4"),
        (b"Pstorage\n", "PERSID"),
        (b"I1\n", "INT"),
        (b"S'a'\n", "STRING"),
        (b"\x97", "NEXT_BUFFER"),
        (b"\xfe", "0xfe"),
    ] {
        let expected =
            PickleError::Opcode { at: 2 + usize::from(body[0] == b'('), opcode: name.into() };
        let got = refused(body);
        match &got {
            PickleError::Opcode { opcode, .. } if name == "OBJ" => assert_eq!(opcode, "OBJ"),
            _ => assert_eq!(got, expected),
        }
    }
}

#[test]
fn w2_calls_builds_and_new_objects_of_anything_else_are_refused() {
    for body in [
        // A string, a dict and a dtype are called.
        b"X\x01\0\0\0a)R".as_slice(),
        b"})R",
        b"ctorch\nfloat32\n)R",
        b"ctorch\nFloatStorage\nK\x08\x85\x81",
        b"ctorch\nTensor\n)\x81",
        // State for a class, a tuple, a list.
        b"ccollections\nOrderedDict\n}b",
        b")}b",
        b"]}b",
        // Keyword arguments.
        b"ccollections\nOrderedDict\n)}X\x01\0\0\0aK\x01s\x92",
        // Items for what is no dict.
        b")K\x01K\x02s",
        b"}K\x01a",
    ] {
        assert!(matches!(refused(body), PickleError::Malformed { .. }), "{body:?}");
    }
}

#[test]
fn w2_short_tuples_and_odd_types_are_refused_without_a_panic() {
    let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n".as_slice();
    for arguments in
        [b")R".as_slice(), b"K\x01\x85R", b"(K\x01K\x02K\x03tR", b"((((tttK\0))tR", b"NR"]
    {
        let body = [rebuild, arguments].concat();
        assert!(matches!(refused(&body), PickleError::Malformed { .. }), "{arguments:?}");
    }
    let parameter = b"ctorch._utils\n_rebuild_parameter\n".as_slice();
    for arguments in [b")R".as_slice(), b"K\x01\x89}\x87R"] {
        let body = [parameter, arguments].concat();
        assert!(matches!(refused(&body), PickleError::Malformed { .. }), "{arguments:?}");
    }
}

#[test]
fn w2_persistent_ids_of_odd_types_are_refused() {
    for body in [
        b"NQ".as_slice(),
        b"K\x01Q",
        b"X\x07\0\0\0storageQ",
        b")Q",
        b"}Q",
        b"(X\x07\0\0\0storageK\x01K\x01K\x01K\x01tQ",
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nK\x01X\x03\0\0\0cpuK\x01tQ",
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\xff\xff\xff\xfftQ",
        b"(X\x06\0\0\0modulectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ",
        b"(X\x07\0\0\0storagectorch\nSize\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ",
    ] {
        assert!(matches!(refused(body), PickleError::Malformed { .. }), "{body:?}");
    }
}

#[test]
fn w2_huge_lengths_end_at_the_end_of_the_file() {
    for body in [
        b"X\xff\xff\xff\xff".as_slice(),
        b"T\xff\xff\xff\x7f",
        b"B\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x96\0\0\0\0\0\0\0\x80",
        b"\x8a\xff\x01",
        b"\x8b\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\xff",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xff",
        b"cos",
    ] {
        assert!(matches!(refused(body), PickleError::Truncated { .. }), "{body:?}");
    }
}

#[test]
fn w2_integers_beyond_64_bits_are_kept_as_bytes_and_no_length() {
    let long = [b"\x8a\xff".as_slice(), &[0x7f; 255]].concat();
    assert!(matches!(refused(&long), PickleError::Container { .. }));
    let body = [
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu".as_slice(),
        &long,
        b"tQ",
    ];
    assert!(matches!(refused(&body.concat()), PickleError::Malformed { .. }));
}

#[test]
fn w2_the_stack_and_the_memo_cannot_be_taken_from_below() {
    for body in [
        b"".as_slice(),
        b"0",
        b"1",
        b"2",
        b"t",
        b"a",
        b"s",
        b"u",
        b"e",
        b"R",
        b"b",
        b"Q",
        b"\x93",
        b"\x87",
        b"h\x05",
        b"j\xff\xff\xff\xff",
        b"q\0",
        b"\x94",
        b"K\x01(\x85",
        b"K\x01(2",
        b"K\x01(q\0",
        b"}(K\x01s",
        b"}(K\x01u",
    ] {
        assert!(matches!(refused(body), PickleError::Malformed { .. }), "{body:?}");
    }
}

#[test]
fn w2_a_billion_laughs_costs_no_memory_and_is_refused() {
    // Each dict holds the one before ten times: 10^40 leaves.
    let mut body = b"}q\0".to_vec();
    for level in 0..40u8 {
        body.extend(b"0}(");
        for key in b'0'..=b'9' {
            body.extend([b'X', 1, 0, 0, 0, key, b'h', level]);
        }
        body.extend([b'u', b'q', level + 1]);
    }
    assert!(matches!(refused(&body), PickleError::Limit { .. }));

    // The same with lists: nobody looks into them.
    let mut body = b"]q\0".to_vec();
    for level in 0..40u8 {
        body.extend(b"0](");
        for _ in 0..10 {
            body.extend([b'h', level]);
        }
        body.extend([b'e', b'q', level + 1]);
    }
    assert!(matches!(refused(&body), PickleError::Container { .. }));
}

#[test]
fn w2_a_dict_that_holds_itself_ends() {
    assert!(matches!(refused(b"}q\0X\x01\0\0\0ah\0s"), PickleError::Limit { .. }));
    assert!(matches!(refused(b"}q\0X\x05\0\0\0modelh\0s"), PickleError::Limit { .. }));
}

#[test]
fn w2_deep_nesting_ends_without_recursion() {
    let marks = vec![b'('; 1 << 20];
    assert!(matches!(refused(&marks), PickleError::Limit { .. }));

    let mut tuples = b")".to_vec();
    tuples.extend(vec![0x85; 1 << 20]);
    assert!(matches!(refused(&tuples), PickleError::Container { .. }));

    let mut dicts = b"}".to_vec();
    for _ in 0..100_000 {
        dicts.extend(b"q\0}X\x01\0\0\0ah\0s");
    }
    assert!(matches!(refused(&dicts), PickleError::Limit { .. }));
}

#[test]
fn w2_more_values_or_opcodes_than_weights_need_are_refused() {
    assert!(matches!(refused(&vec![b'N'; 4 << 20]), PickleError::Limit { .. }));
    assert!(matches!(refused(&b"N0".repeat(4 << 20)), PickleError::Limit { .. }));
    let many_axes = [
        b"ctorch._utils\n_rebuild_tensor\n((X\x07\0\0\0storagectorch\nFloatStorage\n".as_slice(),
        b"X\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0(",
        &b"K\x01".repeat(1000),
        b"t)tR",
    ]
    .concat();
    assert!(matches!(refused(&many_axes), PickleError::Limit { .. }));
}

#[test]
fn w2_a_file_cut_at_any_byte_is_refused() {
    let file = one_tensor();
    for bytes in [file.zip(), file.legacy()] {
        assert!(index_of(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(index_of(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
    }
}

#[test]
fn w2_tensors_beyond_their_storage_are_refused() {
    type Change = fn(&mut Tensor);
    let changes: [(&str, Change); 9] = [
        ("offset", |t| t.offset = 1),
        ("negative offset", |t| t.offset = -1),
        ("offset beyond 64 bits", |t| t.offset = i64::MAX),
        ("shape", |t| t.shape = vec![3, 3]),
        ("negative shape", |t| t.shape = vec![-2, -3]),
        ("shape beyond 64 bits", |t| t.shape = vec![1 << 40, 1 << 40]),
        ("stride", |t| t.strides = vec![4, 1]),
        ("stride beyond 64 bits", |t| t.strides = vec![i64::MAX, i64::MAX]),
        ("numbers", |t| t.numbers = 7),
    ];
    for (what, change) in changes {
        assert!(index_of(&with(change)).is_err(), "{what}");
    }
    assert!(index_of(&with(|t| t.strides = vec![1])).is_err(), "as many strides as axes");
    assert!(index_of(&with(|t| t.storage = 5)).is_err(), "no such storage");
    assert!(index_of(&with(|t| t.kind = "QUInt8Storage")).is_err(), "no such type");
}

#[test]
fn w2_a_small_file_does_not_become_a_full_disk() {
    let bytes = with(|t| (t.shape, t.strides) = (vec![1 << 20, 1 << 20], vec![0, 0]));
    assert!(matches!(index_of(&bytes), Err(PickleError::Container { .. })));
}

#[test]
fn w2_names_that_are_no_names_or_there_twice_are_refused() {
    for name in ["", "__metadata__", "a\nb", "\u{7f}"] {
        let mut file = TorchFile::new(2);
        let tensor = file.add_f32(&[1], &[1.0]);
        file.root = dict(vec![(name, Val::Tensor(tensor))]);
        assert!(matches!(index_of(&file.zip()), Err(PickleError::Tensor { .. })), "{name:?}");
    }
    let mut file = TorchFile::new(2);
    let tensor = file.add_f32(&[1], &[1.0]);
    let inner = dict(vec![("b", Val::Tensor(tensor.clone()))]);
    file.root = dict(vec![("a.b", Val::Tensor(tensor)), ("a", inner)]);
    assert!(matches!(index_of(&file.zip()), Err(PickleError::Tensor { .. })));
}

#[test]
fn w2_two_sets_of_weights_in_one_file_are_not_chosen_between() {
    let mut file = TorchFile::new(2);
    let tensor = file.add_f32(&[1], &[1.0]);
    let weights = dict(vec![("w", Val::Tensor(tensor))]);
    file.root = dict(vec![("model", weights.clone()), ("state_dict", weights.clone())]);
    assert!(matches!(index_of(&file.zip()), Err(PickleError::Container { .. })));
    file.root = dict(vec![("model", weights.clone()), ("model", weights)]);
    assert!(matches!(index_of(&file.zip()), Err(PickleError::Container { .. })));
}

#[test]
fn w1_weights_left_empty_by_sharded_training_are_named_with_the_way_out() {
    let mut file = TorchFile::new(2);
    let whole = file.add("FloatStorage", &[1], f32_bytes(&[1.0]));
    let empty = file.add("FloatStorage", &[0], Vec::new());
    file.root = dict(vec![("a", Val::Tensor(whole)), ("b", Val::Tensor(empty))]);
    let place = Place::new();
    let error = place.convert_bytes("pytorch_model.bin", &file.zip()).unwrap_err();
    assert_eq!(error.message(), "1 tensor has no numbers: `b`");
    assert!(format!("{:?}", error.remedy()).contains("zero_to_fp32"));
    assert!(!place.out().exists());
}

#[test]
fn w2_a_checksum_that_does_not_hold_is_a_fault_of_the_file_not_of_the_disk() {
    let mut bytes = one_tensor().zip();
    // `data.pkl` is stored first, behind its local header; one bit of its text is flipped.
    let name = bytes.windows(8).position(|part| part == b"torch._u").unwrap();
    bytes[name] ^= 0x20;
    let error = Place::new().convert_bytes("pytorch_model.bin", &bytes).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Model, "R-CNV-06"), "{error}");
    assert!(error.message().contains("damaged"), "{error}");
}

#[test]
fn w3_a_name_in_a_message_about_a_header_keeps_its_quotes() {
    let header = br#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 12]].concat();
    let error = Place::new().convert_bytes("model.safetensors", &bytes).unwrap_err().message();
    assert!(error.contains("`b`") && !error.contains("  "), "{error}");
}
