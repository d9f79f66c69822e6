//! What training scripts save: weights among optimizer states, arguments and the state of a trainer.

use std::fs;
use std::path::{Path, PathBuf};

use r1seg_convert::{
    ConvertOptions, Error, ErrorKind, PickleError, Recovered, RecoveredConfig, Shapes, TargetDtype,
    contents,
};
use serde_json::{Map, Value, json};

use crate::torch_file::{TorchFile, Val, dict, global, ordered, pickle, text, zip_of_pickle};
use crate::{Place, index_of, tensors_of};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

#[test]
fn a_training_dump_of_sam_med3d_converts_bit_for_bit() {
    let place = Place::new();
    let source = data("sam-med3d/sam_med3d_turbo.pth");
    let report = place.convert(&ConvertOptions::new(source)).unwrap();
    let reference = Place::new();
    let weights = fs::read(data("sam-med3d/model.safetensors")).unwrap();
    reference.write("model.safetensors", &weights);
    assert_eq!(tensors_of(&place.out()), tensors_of(&reference.path("")));
    assert_eq!(report.manifest.tensors, 189);
    assert_eq!(report.wrappers, ["model_state_dict"]);
    // Nine of ten top keys: the optimizer's tensors have the shapes of weights and are none.
    assert_eq!((report.ignored, report.dropped), (9, vec![]));
}

#[test]
fn a_checkpoint_of_lightning_loses_its_prefix_and_the_buffer_of_its_loss() {
    for in_folder in [false, true] {
        let place = Place::new();
        let bytes = fs::read(data("neurosam3d-vit/last.ckpt")).unwrap();
        let file = place.write("src/last.ckpt", &bytes);
        let source = if in_folder { place.path("src") } else { file };
        let report = place.convert(&ConvertOptions::new(source)).unwrap();
        let names: Vec<String> = tensors_of(&place.out()).into_keys().collect();
        assert_eq!(names.len(), 205);
        let parts = ["image_encoder.", "prompt_encoder.", "mask_decoder."];
        for name in names {
            assert!(parts.iter().any(|part| name.starts_with(part)), "{name}");
        }
        assert_eq!((report.wrappers, report.prefixes), (vec!["state_dict".into()], vec!["model."]));
        assert_eq!(report.dropped, ["seg_loss.dice.class_weight"]);
    }
}

#[test]
fn every_part_of_a_training_dump_is_described_under_the_names_of_the_weights() {
    let sam = contents(&data("sam-med3d/sam_med3d_turbo.pth"), None).unwrap();
    assert!(sam.has_pickles);
    assert!(sam.tensors.iter().any(|tensor| tensor.name == "image_encoder.pos_embed"));
    let lightning = contents(&data("neurosam3d-vit/last.ckpt"), None).unwrap();
    assert!(lightning.tensors.iter().any(|tensor| tensor.name == "image_encoder.pos_embed"));
}

/// `argparse.Namespace` with a state, as opcodes.
fn namespace(protocol: u8, state: &[u8]) -> Vec<u8> {
    [&global(protocol, "argparse", "Namespace")[..], b")\x81", state, b"b"].concat()
}

/// A dump whose arguments are these opcodes, beside one tensor of weights and one of the optimizer.
fn dump(protocol: u8, args: Vec<u8>) -> TorchFile {
    let mut file = TorchFile::new(protocol);
    let weight = file.add_f32(&[2], &[1.0, 2.0]);
    let momentum = file.add_f32(&[2], &[3.0, 4.0]);
    file.root = dict(vec![
        ("epoch", Val::Int(3)),
        ("model_state_dict", ordered(vec![("w", Val::Tensor(weight))])),
        ("optimizer_state_dict", dict(vec![("w", Val::Tensor(momentum))])),
        ("args", Val::Raw(args)),
    ]);
    file
}

#[test]
fn arguments_and_paths_of_a_training_script_are_skipped() {
    for protocol in [2, 4] {
        let text = b"X\x01\0\0\0a".as_slice();
        let path = [&global(protocol, "pathlib", "PosixPath")[..], text, b"\x85R"].concat();
        let counter = [&global(protocol, "collections", "Counter")[..], b"}K\x01K\x02s\x85R"];
        let device = [&global(protocol, "torch", "device")[..], text, b"\x85R"].concat();
        let inner = namespace(protocol, b"}");
        for value in [&path[..], &counter.concat(), &device, &inner, b"]K\x01a", b"N", b"\x88"] {
            let state = [b"}".as_slice(), text, value, b"s"].concat();
            let file = dump(protocol, namespace(protocol, &state));
            for bytes in [file.zip(), file.legacy()] {
                let index = index_of(&bytes).unwrap();
                let names: Vec<&str> = index.tensors.iter().map(|t| t.name.as_str()).collect();
                assert_eq!((names, index.ignored), (vec!["w"], 3), "{value:?}");
            }
        }
    }
}

#[test]
fn w2_names_that_run_code_are_refused_inside_the_arguments_of_a_dump() {
    let place = Place::new();
    let marker = place.path("ran");
    let command = format!("touch {}", marker.display());
    for (module, name) in [
        ("os", "system"),
        ("builtins", "getattr"),
        ("argparse", "FileType"),
        ("pathlib", "Path"),
        ("torch.optim.lr_scheduler", "StepLR"),
        ("__main__", "Stage"),
    ] {
        let mut call = global(2, module, name);
        call.extend([b"X".as_slice(), &(command.len() as u32).to_le_bytes()].concat());
        call.extend(command.bytes());
        call.extend([0x85, b'R']);
        let in_state = [b"}X\x01\0\0\0a".as_slice(), &call, b"s"].concat();
        for args in [namespace(2, &in_state), namespace(2, &call), call] {
            let error = place.convert_bytes("x.pth", &dump(2, args).zip()).unwrap_err();
            let expected = PickleError::Global { name: format!("{module}.{name}") };
            assert!(
                matches!(&error, Error::Pickle { reason, .. } if *reason == expected),
                "{error:?}"
            );
            assert!(!marker.exists() && !place.out().exists());
        }
    }
}

#[test]
fn w2_arguments_with_anything_but_fields_for_a_state_are_refused() {
    let class = global(2, "argparse", "Namespace");
    let called = |rest: &[u8]| [&class[..], rest].concat();
    for args in [
        // A tuple, a list, nothing, a number, a class and another namespace for a state.
        namespace(2, b")"),
        namespace(2, b"N}\x86"),
        namespace(2, b"]"),
        namespace(2, b"N"),
        namespace(2, b"K\x01"),
        namespace(2, &class),
        namespace(2, &namespace(2, b"}")),
        // A state for the class itself, arguments, and items that only a dict or a list takes.
        called(b"}b"),
        called(b"K\x01\x85\x81"),
        called(b"}\x85R"),
        called(b")}X\x01\0\0\0aK\x01s\x92"),
        called(b")\x81K\x01K\x02s"),
        called(b")\x81K\x01a"),
        called(b")\x81(K\x01\x90"),
        // What was built is called.
        called(b")\x81)R"),
    ] {
        let error = index_of(&dump(2, args.clone()).zip()).unwrap_err();
        assert!(matches!(error, PickleError::Malformed { .. }), "{args:?}: {error}");
    }
}

#[test]
fn w2_arguments_nested_without_end_end_without_recursion() {
    // Each namespace is the only field of the next.
    let class = global(2, "argparse", "Namespace");
    let next = [b"q\x000", &class[..], b")\x81}X\x01\0\0\0ah\0sb"].concat();
    let args = [namespace(2, b"}"), next.repeat(50_000)].concat();
    assert_eq!(index_of(&dump(2, args).zip()).unwrap().tensors.len(), 1);
    let args = [namespace(2, b"}"), next.repeat(1 << 20)].concat();
    assert!(matches!(index_of(&dump(2, args).zip()), Err(PickleError::Limit { .. })));

    // A namespace that holds itself is looked into by nobody.
    let args = [&class[..], b")\x81q\0}X\x01\0\0\0ah\0sb"].concat();
    assert_eq!(index_of(&dump(2, args).zip()).unwrap().tensors.len(), 1);
}

#[test]
fn w2_tensors_among_arguments_are_no_weights() {
    let mut file = TorchFile::new(2);
    let tensor = Val::Tensor(file.add_f32(&[1], &[1.0]));
    let of_tensor = TorchFile { root: tensor.clone(), ..file.clone() }.pickle();
    let state = [b"}X\x01\0\0\0w".as_slice(), &of_tensor[2..of_tensor.len() - 1], b"s"].concat();
    let args = Val::Raw(namespace(2, &state));
    file.root = dict(vec![("model_state_dict", args.clone()), ("v", tensor)]);
    let names: Vec<String> =
        index_of(&file.zip()).unwrap().tensors.into_iter().map(|tensor| tensor.name).collect();
    assert_eq!(names, ["v"]);
    // Nor does a file of arguments alone hold weights.
    file.root = args;
    assert!(matches!(index_of(&file.zip()), Err(PickleError::Container { .. })));
}

#[test]
fn w2_a_dump_with_weights_under_two_names_is_not_chosen_between() {
    let mut file = dump(2, namespace(2, b"}"));
    let weight = file.add_f32(&[2], &[1.0, 2.0]);
    let Val::Dict(entries) = &mut file.root else { panic!() };
    entries.push((text("state_dict"), ordered(vec![("w", Val::Tensor(weight))])));
    assert!(matches!(index_of(&file.zip()), Err(PickleError::Container { .. })));
}

#[test]
fn w2_a_pickle_of_arguments_alone_is_no_checkpoint() {
    let body = [&namespace(2, b"}")[..], b"."].concat();
    let error = index_of(&zip_of_pickle(&pickle(2, &body))).unwrap_err();
    assert!(matches!(error, PickleError::Container { .. }), "{error}");
}

/// Knows a model by its one tensor, and its `config.json` by the width.
fn recover(
    shapes: &Shapes,
    own: Option<&Map<String, Value>>,
    published: Option<&str>,
) -> Recovered {
    if own.is_some_and(|own| own.contains_key("width")) {
        return None;
    }
    let width = shapes.get("w")?.first()?;
    let mut fields = Map::from_iter([("width".to_owned(), Value::from(*width))]);
    fields.extend(published.map(|name| ("of".to_owned(), Value::from(name))));
    Some(Ok(RecoveredConfig { model: "Toy", config: fields }))
}

fn config_of(place: &Place) -> Value {
    serde_json::from_slice(&fs::read(place.out().join("config.json")).unwrap()).unwrap()
}

#[test]
fn a_config_that_the_tensors_tell_is_written_where_there_is_none() {
    let place = Place::new();
    let source = place.write("src/x.pth", &dump(2, namespace(2, b"}")).zip());
    let options = ConvertOptions { recover, ..ConvertOptions::new(&source) };
    let report = place.convert(&options).unwrap();
    assert_eq!((report.recovered_config, report.has_config), (Some("Toy"), true));
    assert_eq!(config_of(&place), json!({"width": 2}));
    assert!(report.manifest.files.iter().any(|file| file.name == "config.json"));

    let place = Place::new();
    let in_bf16 = ConvertOptions { dtype: Some(TargetDtype::Bf16), ..options.clone() };
    place.convert(&in_bf16).unwrap();
    assert_eq!(config_of(&place), json!({"width": 2, "torch_dtype": "bfloat16"}));

    let place = Place::new();
    let named = ConvertOptions { published: Some("toys/bear"), ..options.clone() };
    place.convert(&named).unwrap();
    assert_eq!(config_of(&place), json!({"width": 2, "of": "toys/bear"}));

    // What was published counts, whatever the tensors tell.
    let place = Place::new();
    let source = place.write("src/x.pth", &fs::read(source).unwrap());
    place.write("src/config.json", br#"{"width": 3}"#);
    let report = place.convert(&ConvertOptions { source, ..options }).unwrap();
    assert_eq!((report.recovered_config, report.has_config), (None, true));
    assert_eq!(config_of(&place), json!({"width": 3}));
}

#[test]
fn a_config_of_another_loader_gives_way_to_the_base_s_and_to_what_the_tensors_tell() {
    let place = Place::new();
    let source = place.write("src/x.pth", &dump(2, namespace(2, b"}")).zip());
    place.write("src/config.json", br#"{"model_type": "pipeline"}"#);
    let options = ConvertOptions { recover, ..ConvertOptions::new(&source) };
    let report = place.convert(&options).unwrap();
    assert_eq!((report.recovered_config, report.has_config), (Some("Toy"), true));
    assert_eq!(config_of(&place), json!({"width": 2}));

    let base = Place::new();
    base.write("base/config.json", br#"{"width": 4}"#);
    let with_base =
        ConvertOptions { base: Some(base.path("base")), replace: true, ..options.clone() };
    let report = place.convert(&with_base).unwrap();
    assert_eq!((report.recovered_config, report.has_config), (None, true));
    assert_eq!(config_of(&place), json!({"width": 4}));

    // Nothing is better than what there is.
    let unknown = |_: &_, _: Option<&_>, _: Option<&_>| Some(Err("name `heads`".to_owned()));
    for recover in [ConvertOptions::new("").recover, unknown] {
        let report = place.convert(&ConvertOptions { recover, replace: true, ..options.clone() });
        assert_eq!(report.unwrap().recovered_config, None);
        assert_eq!(config_of(&place), json!({"model_type": "pipeline"}));
    }
}

#[test]
fn a_config_that_the_tensors_do_not_tell_is_asked_for_by_its_fields() {
    let place = Place::new();
    let source = place.write("x.pth", &dump(2, namespace(2, b"}")).zip());
    let unknown = ConvertOptions { recover: |_, _, _| None, ..ConvertOptions::new(&source) };
    let half = ConvertOptions {
        recover: |_, _, _| Some(Err("name `heads`".to_owned())),
        ..unknown.clone()
    };
    let error = place.convert(&half).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Model, "R-CNV-10"));
    assert_eq!(error.message(), "config.json: name `heads`");
    assert!(!place.out().exists());
    let report = place.convert(&unknown).unwrap();
    assert_eq!((report.recovered_config, report.has_config), (None, false));
}
