//! One set of weights, saved in every way that torch and its users have.

use r1seg_convert::{ConvertOptions, PickleReading, TargetDtype};
use safetensors::Dtype;
use zip::write::SimpleFileOptions;

use crate::torch_file::{Tensor, TorchFile, Val, dict, ordered, text};
use crate::{Place, Tensors, f32_bytes, tensors_of};

const WEIGHT: [f32; 6] = [1.0, -2.5, 3.25, 0.0, -0.0, 1e-20];
const BIAS: [f32; 2] = [0.5, 7.0];

fn expected(prefix: &str) -> Tensors {
    Tensors::from([
        (format!("{prefix}weight"), (Dtype::F32, vec![2, 3], f32_bytes(&WEIGHT))),
        (format!("{prefix}bias"), (Dtype::F32, vec![2], f32_bytes(&BIAS))),
    ])
}

fn weights(file: &mut TorchFile) -> (Tensor, Tensor) {
    (file.add_f32(&[2, 3], &WEIGHT), file.add_f32(&[2], &BIAS))
}

fn converted(name: &str, bytes: &[u8]) -> Tensors {
    let place = Place::new();
    let report = place.convert_bytes(name, bytes).unwrap();
    assert_eq!(report.pickles, Some(PickleReading::InProcess));
    tensors_of(&place.out())
}

#[test]
fn protocols_2_to_5_in_zip_and_bare_files_give_the_same_tensors() {
    for protocol in 2..=5 {
        let mut file = TorchFile::new(protocol);
        let (weight, bias) = weights(&mut file);
        let tensors = vec![("a.weight", Val::Tensor(weight)), ("a.bias", Val::Tensor(bias))];
        for root in [dict(tensors.clone()), ordered(tensors)] {
            file.root = root;
            assert_eq!(converted("pytorch_model.bin", &file.zip()), expected("a."));
            assert_eq!(converted("old.pth", &file.legacy()), expected("a."));
        }
    }
}

#[test]
fn zip64_and_any_name_of_the_folder_in_the_archive_are_read() {
    let mut file = TorchFile::new(2);
    let (weight, bias) = weights(&mut file);
    file.root = dict(vec![("weight", Val::Tensor(weight)), ("bias", Val::Tensor(bias))]);
    let bytes = file.zip_with(SimpleFileOptions::default().large_file(true), "SegVol_v1");
    assert_eq!(converted("x.pt", &bytes), expected(""));
}

#[test]
fn parameters_are_their_tensors() {
    let mut file = TorchFile::new(2);
    let (weight, bias) = weights(&mut file);
    file.root = ordered(vec![("weight", Val::Parameter(weight)), ("bias", Val::Parameter(bias))]);
    assert_eq!(converted("x.ckpt", &file.zip()), expected(""));
}

#[test]
fn weights_under_model_or_state_dict_are_found_and_the_rest_is_ignored() {
    for wrapper in ["model", "state_dict", "model_state_dict", "module"] {
        let mut file = TorchFile::new(2);
        let (weight, bias) = weights(&mut file);
        let momentum = file.add_f32(&[2], &[9.0, 9.0]);
        let state =
            Val::Dict(vec![(Val::Int(0), dict(vec![("m", Val::Tensor(momentum.clone()))]))]);
        file.root = dict(vec![
            ("epoch", Val::Int(7)),
            ("random_state", Val::Tensor(momentum.clone())),
            ("loss", Val::Float(0.5)),
            (
                wrapper,
                ordered(vec![("w.weight", Val::Tensor(weight)), ("w.bias", Val::Tensor(bias))]),
            ),
            ("optimizer", dict(vec![("state", state), ("name", text("adam")), ("p", Val::None)])),
        ]);
        for bytes in [file.zip(), file.legacy()] {
            let place = Place::new();
            let report = place.convert_bytes("x.pth", &bytes).unwrap();
            assert_eq!(tensors_of(&place.out()), expected("w."));
            assert_eq!((report.wrappers, report.ignored), (vec![wrapper.to_owned()], 4));
        }
    }
}

#[test]
fn prefixes_of_data_parallel_training_go_and_nested_dicts_become_names() {
    let mut file = TorchFile::new(4);
    let (weight, bias) = weights(&mut file);
    let inner = dict(vec![("weight", Val::Tensor(weight)), ("bias", Val::Tensor(bias))]);
    file.root = dict(vec![("module.enc", inner)]);
    let place = Place::new();
    let report = place.convert_bytes("x.pth", &file.zip()).unwrap();
    assert_eq!(tensors_of(&place.out()), expected("enc."));
    assert_eq!(report.prefixes, ["module."]);
}

#[test]
fn segvol_loses_its_prefix_and_its_counter() {
    let mut file = TorchFile::new(2);
    let (weight, bias) = weights(&mut file);
    let ids =
        file.add("LongStorage", &[2], [0i64, 1].iter().flat_map(|i| i.to_le_bytes()).collect());
    file.root = ordered(vec![
        ("model.image_encoder.weight", Val::Tensor(weight)),
        ("model.mask_decoder.bias", Val::Tensor(bias)),
        ("model.text_encoder.clip_text_model.text_model.embeddings.position_ids", Val::Tensor(ids)),
    ]);
    let place = Place::new();
    let report = place.convert_bytes("pytorch_model.bin", &file.zip()).unwrap();
    let names: Vec<_> = tensors_of(&place.out()).into_keys().collect();
    assert_eq!(names, ["image_encoder.weight", "mask_decoder.bias"]);
    assert_eq!((report.prefixes, report.dropped.len()), (vec!["model."], 1));
}

#[test]
fn every_storage_type_keeps_its_numbers() {
    let kinds: [(&str, Dtype, Vec<u8>); 9] = [
        ("HalfStorage", Dtype::F16, vec![0x00, 0x3c, 0xff, 0x7b]),
        ("BFloat16Storage", Dtype::BF16, vec![0x80, 0x3f, 0x01, 0x00]),
        ("FloatStorage", Dtype::F32, f32_bytes(&[1.5, -3.0])),
        ("LongStorage", Dtype::I64, vec![1; 16]),
        ("IntStorage", Dtype::I32, vec![2; 8]),
        ("ShortStorage", Dtype::I16, vec![3; 4]),
        ("CharStorage", Dtype::I8, vec![0xff, 5]),
        ("ByteStorage", Dtype::U8, vec![0xff, 5]),
        ("BoolStorage", Dtype::BOOL, vec![1, 0]),
    ];
    let mut file = TorchFile::new(2);
    let mut entries = Vec::new();
    for (kind, _, bytes) in &kinds {
        let tensor = file.add(kind, &[2], bytes.clone());
        entries.push((*kind, Val::Tensor(tensor)));
    }
    // r1seg reads no f64: it becomes f32.
    let double = [1.0f64 + 1e-12, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    entries.push(("DoubleStorage", Val::Tensor(file.add("DoubleStorage", &[2], double))));
    file.root = dict(entries);
    for bytes in [file.zip(), file.legacy()] {
        let got = converted("x.bin", &bytes);
        for (kind, dtype, bytes) in &kinds {
            assert_eq!(got[*kind], (*dtype, vec![2], bytes.clone()), "{kind}");
        }
        assert_eq!(got["DoubleStorage"], (Dtype::F32, vec![2], f32_bytes(&[1.0, -2.0])));
    }
}

#[test]
fn bytes_with_a_dtype_of_their_own_are_read() {
    let mut file = TorchFile::new(2);
    let mut tensor = file.add("UntypedStorage", &[2], vec![1, 0, 2, 0, 3, 0]);
    tensor.numbers = 6;
    // `_rebuild_tensor_v3(storage, 1, (2,), (1,), False, OrderedDict(), torch.uint16)`
    let mut raw = b"ctorch._utils\n_rebuild_tensor_v3\n((X\x07\0\0\0storage".to_vec();
    raw.extend(b"ctorch.storage\nUntypedStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ");
    raw.extend(b"K\x01K\x02\x85K\x01\x85\x89}ctorch\nuint16\ntR");
    file.root = Val::Dict(vec![(text("x"), Val::Raw(raw))]);
    let got = converted("x.bin", &file.zip());
    assert_eq!(got["x"], (Dtype::U16, vec![2], vec![2, 0, 3, 0]));
}

#[test]
fn strides_offsets_and_shared_storages_are_resolved() {
    let mut file = TorchFile::new(2);
    let numbers: Vec<f32> = (0..24u8).map(f32::from).collect();
    let whole = file.add_f32(&[4, 6], &numbers);
    let view = |offset, shape: &[i64], strides: &[i64]| {
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        Val::Tensor(Tensor { offset, shape, strides, ..whole.clone() })
    };
    file.root = dict(vec![
        ("whole", view(0, &[4, 6], &[6, 1])),
        ("tied", view(0, &[4, 6], &[6, 1])),
        ("transposed", view(0, &[6, 4], &[1, 6])),
        ("rows", view(6, &[2, 6], &[6, 1])),
        ("column", view(2, &[4], &[6])),
        ("every_second", view(1, &[2, 3], &[12, 2])),
        ("expanded", view(3, &[2, 2], &[0, 1])),
        ("scalar", view(5, &[], &[])),
        ("one", view(23, &[1, 1], &[17, 99])),
    ]);
    for bytes in [file.zip(), file.legacy()] {
        let place = Place::new();
        let report = place.convert_bytes("x.pt", &bytes).unwrap();
        let got = tensors_of(&place.out());
        let check = |name: &str, shape: &[usize], expected: &[f32]| {
            let expected = (Dtype::F32, shape.to_vec(), f32_bytes(expected));
            assert_eq!(got[name], expected, "{name}");
        };
        check("whole", &[4, 6], &numbers);
        check("tied", &[4, 6], &numbers);
        let transposed: Vec<f32> = (0..24).map(|i| numbers[(i % 4) * 6 + i / 4]).collect();
        check("transposed", &[6, 4], &transposed);
        check("rows", &[2, 6], &numbers[6..18]);
        check("column", &[4], &[2.0, 8.0, 14.0, 20.0]);
        check("every_second", &[2, 3], &[1.0, 3.0, 5.0, 13.0, 15.0, 17.0]);
        check("expanded", &[2, 2], &[3.0, 4.0, 3.0, 4.0]);
        check("scalar", &[], &[5.0]);
        check("one", &[1, 1], &[23.0]);
        assert_eq!(report.tied, 2);
    }
}

#[test]
fn a_view_of_a_storage_in_an_old_file_is_followed() {
    let mut file = TorchFile::new(2);
    file.add_f32(&[4], &[1.0, 2.0, 3.0, 4.0]);
    let mut raw = b"ctorch._utils\n_rebuild_tensor\n((X\x07\0\0\0storage".to_vec();
    raw.extend(
        b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04(X\x01\0\0\09K\x01K\x02ttQ",
    );
    raw.extend(b"K\x01K\x02\x85K\x01\x85tR");
    file.root = Val::Dict(vec![(text("x"), Val::Raw(raw))]);
    let got = converted("x.bin", &file.legacy());
    assert_eq!(got["x"].2, f32_bytes(&[3.0, 4.0]));
}

#[test]
fn old_python_strings_and_ordered_dicts_of_pairs_are_read() {
    let mut file = TorchFile::new(2);
    let weight = file.add_f32(&[2], &BIAS);
    // OrderedDict([[b'bias', tensor]]) as Python 2 wrote it.
    let mut inner = TorchFile::new(2);
    inner.root = Val::Tensor(weight);
    let tensor = inner.pickle();
    let tensor = &tensor[2..tensor.len() - 1];
    let mut pairs = b"ccollections\nOrderedDict\n(](](U\x04bias".to_vec();
    pairs.extend(tensor);
    pairs.extend(b"eetR");
    file.root = Val::Raw(pairs);
    let got = converted("x.bin", &file.zip());
    assert_eq!(got["bias"], (Dtype::F32, vec![2], f32_bytes(&BIAS)));
}

#[test]
fn numpy_numbers_and_random_states_beside_the_weights_are_inert() {
    let mut file = TorchFile::new(2);
    let (weight, bias) = weights(&mut file);
    let mut scalar =
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\0\0\0f8K\0K\x01tR".to_vec();
    scalar.extend(b"(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
    scalar.extend(b"c_codecs\nencode\n(X\x02\0\0\0abX\x06\0\0\0latin1tRtR");
    file.root = dict(vec![
        ("best", Val::Raw(scalar)),
        ("names", Val::List(vec![text("a"), Val::Int(1 << 40)])),
        ("seen", Val::Raw(b"cbuiltins\nset\n(](K\x01K\x02etR".to_vec())),
        ("device", Val::Raw(b"ctorch\ndevice\nX\x03\0\0\0cpu\x85R".to_vec())),
        ("size", Val::Raw(b"ctorch\nSize\n(K\x01K\x02t\x85R".to_vec())),
        ("dtype", Val::Raw(b"ctorch\nbfloat16\n".to_vec())),
        ("state", Val::Raw(b"ccollections\ndefaultdict\ncbuiltins\ndict\n\x85R".to_vec())),
        ("weight", Val::Tensor(weight)),
        ("bias", Val::Tensor(bias)),
    ]);
    assert_eq!(converted("x.pth", &file.zip()), expected(""));
}

#[test]
fn bf16_rounds_to_nearest_even_and_config_says_so() {
    let mut file = TorchFile::new(2);
    // 1 + 1/256 is a tie: to even is down; 1 + 3/256 a tie that goes up.
    let numbers = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 1.0 + 1.1 / 256.0, -3.0];
    let weight = file.add_f32(&[4], &numbers);
    let ids = file.add("LongStorage", &[1], vec![7; 8]);
    file.root = dict(vec![("w", Val::Tensor(weight)), ("ids", Val::Tensor(ids))]);
    let place = Place::new();
    place.write("src/pytorch_model.bin", &file.zip());
    place.write(
        "src/config.json",
        br#"{"torch_dtype":"float32","auto_map":{"AutoModel":"evil.py"},"_name_or_path":"x",
            "rms_norm_eps":1e-05,"img_size":[32,256,256],"rope_scaling":null}"#,
    );
    let options =
        ConvertOptions { dtype: Some(TargetDtype::Bf16), ..ConvertOptions::new(place.path("src")) };
    let report = place.convert(&options).unwrap();
    let got = tensors_of(&place.out());
    let bits = [0x3f80u16, 0x3f82, 0x3f81, 0xc040];
    let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
    assert_eq!(got["w"], (Dtype::BF16, vec![4], bytes));
    assert_eq!(got["ids"], (Dtype::I64, vec![1], vec![7; 8]));
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.out().join("config.json")).unwrap()).unwrap();
    let expected = serde_json::json!({
        "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5, "img_size": [32, 256, 256],
        "rope_scaling": null,
    });
    assert_eq!(config, expected);
    assert!(report.has_config && !report.has_tokenizer);
}
