//! What comes out: shards, small files, the manifest, all of it or nothing.

use std::ops::ControlFlow;

use r1seg_checkpoint::Manifest;
use r1seg_convert::{ConvertOptions, Error, ErrorKind, TargetDtype, convert, prepare};
use safetensors::Dtype;
use sha2::{Digest, Sha256};

use crate::torch_file::{TorchFile, Val, dict};
use crate::{Place, f32_bytes, go_on, safetensors, tensors_of};

fn source(place: &Place, tensors: usize) -> ConvertOptions {
    let names: Vec<String> = (0..tensors).map(|i| format!("t{i}")).collect();
    let numbers: Vec<f32> = (0..100u8).map(f32::from).collect();
    let tensors: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), Dtype::F32, [100].as_slice(), f32_bytes(&numbers)))
        .collect();
    place.write("src/model.safetensors", &safetensors(&tensors));
    ConvertOptions::new(place.path("src"))
}

fn manifest(place: &Place) -> Manifest {
    serde_json::from_slice(&std::fs::read(place.out().join("manifest.json")).unwrap()).unwrap()
}

/// Nothing in the folder but what a test put there.
fn names(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("")).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn shards_hold_no_more_than_asked_and_the_index_finds_every_tensor() {
    let place = Place::new();
    let mut options = source(&place, 5);
    options.dtype = Some(TargetDtype::F16);
    // Two tensors of 200 bytes fit, three do not.
    options.max_shard_bytes = 599;
    let report = place.convert(&options).unwrap();
    let files: Vec<_> = report.manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        files,
        [
            "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json",
        ]
    );
    let index: serde_json::Value = serde_json::from_slice(
        &std::fs::read(place.out().join("model.safetensors.index.json")).unwrap(),
    )
    .unwrap();
    assert_eq!(index["metadata"]["total_size"], 1000);
    let map = index["weight_map"].as_object().unwrap();
    assert_eq!(map.len(), 5);
    for (name, file) in map {
        let bytes = std::fs::read(place.out().join(file.as_str().unwrap())).unwrap();
        let shard = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(shard.tensor(name).unwrap().dtype(), Dtype::F16);
    }
    // The output is a source again.
    let again =
        ConvertOptions { dtype: Some(TargetDtype::F32), ..ConvertOptions::new(place.out()) };
    convert(&again, &place.path("again"), &mut go_on).unwrap();
    assert_eq!(tensors_of(&place.path("again")), tensors_of(&place.path("src")));
}

#[test]
fn a_tensor_larger_than_a_shard_has_one_of_its_own() {
    let place = Place::new();
    let mut options = source(&place, 3);
    options.max_shard_bytes = 1;
    assert_eq!(place.convert(&options).unwrap().manifest.files.len(), 4);
    options.max_shard_bytes = 0;
    assert_eq!(place.convert(&options).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn wide_numbers_come_first_so_that_all_are_aligned() {
    let mut file = TorchFile::new(2);
    let odd = file.add("ByteStorage", &[3], vec![1, 2, 3]);
    let half = file.add("HalfStorage", &[1], vec![0, 0]);
    let wide = file.add("LongStorage", &[1], vec![9; 8]);
    file.root = dict(vec![
        ("odd", Val::Tensor(odd)),
        ("half", Val::Tensor(half)),
        ("wide", Val::Tensor(wide)),
    ]);
    let place = Place::new();
    place.convert_bytes("x.pt", &file.zip()).unwrap();
    let bytes = std::fs::read(place.out().join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(header % 8, 0);
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.offset_keys(), ["wide", "half", "odd"]);
    let format = metadata.metadata().as_ref().unwrap();
    assert_eq!(format["format"], "pt");
}

#[test]
fn the_manifest_has_the_hash_of_every_file_and_repeats_itself() {
    let place = Place::new();
    let options = source(&place, 2);
    place.write("src/config.json", b"{}");
    place.write("src/tokenizer.json", b"{}");
    let report = place.convert(&options).unwrap();
    let manifest = manifest(&place);
    assert_eq!(manifest, report.manifest);
    assert_eq!((manifest.tensors, manifest.parameters, manifest.schema_version), (2, 200, 1));
    let check = |folder: &str, records: &[r1seg_checkpoint::FileRecord]| {
        for record in records {
            let bytes = std::fs::read(place.path(folder).join(&record.name)).unwrap();
            let digest = Sha256::digest(&bytes);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((record.bytes, &record.sha256), (bytes.len() as u64, &hex));
        }
    };
    check("out", &manifest.files);
    check("src", &manifest.sources);
    assert_eq!(manifest.files.len(), 3);

    convert(&options, &place.path("second"), &mut go_on).unwrap();
    for record in manifest.files.iter().map(|file| file.name.as_str()).chain(["manifest.json"]) {
        let read = |folder: &str| std::fs::read(place.path(folder).join(record)).unwrap();
        assert!(read("out") == read("second"), "{record}");
    }
}

#[test]
fn w11_only_known_small_files_come_along() {
    let place = Place::new();
    let options = source(&place, 1);
    for name in [
        "modeling_lamed.py",
        "training_args.bin",
        "optimizer.pt",
        "chat_template.jinja",
        "tokenizer.model",
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "generation_config.json",
        "LICENSE",
    ] {
        place.write(&format!("src/{name}"), name.as_bytes());
    }
    place.convert(&options).unwrap();
    let names: Vec<_> = manifest(&place).files.into_iter().map(|file| file.name).collect();
    assert_eq!(
        names,
        [
            "LICENSE",
            "added_tokens.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.model",
            "tokenizer_config.json",
        ]
    );
    for name in names {
        if name != "model.safetensors" {
            assert_eq!(std::fs::read(place.out().join(&name)).unwrap(), name.as_bytes());
        }
    }
}

#[test]
fn a_tokenizer_comes_whole_from_one_folder() {
    let place = Place::new();
    let mut options = source(&place, 1);
    place.write("src/added_tokens.json", b"of the source");
    place.write(
        "base/model.safetensors",
        &std::fs::read(place.path("src/model.safetensors")).unwrap(),
    );
    place.write("base/tokenizer.model", b"of the base");
    place.write("base/added_tokens.json", b"of the base");
    options.base = Some(place.path("base"));
    place.convert(&options).unwrap();
    // The same from a folder without weights.
    std::fs::remove_file(place.path("base/model.safetensors")).unwrap();
    options.replace = true;
    place.convert(&options).unwrap();
    let read = std::fs::read(place.out().join("added_tokens.json")).unwrap();
    assert_eq!(read, b"of the base");
}

#[test]
fn t3_a_config_that_is_no_json_or_of_quantized_weights_is_refused() {
    for config in ["[1]", "{\"a\": NaN}", "", r#"{"quantization_config": {"bits": 4}}"#] {
        let place = Place::new();
        let options = source(&place, 1);
        place.write("src/config.json", config.as_bytes());
        let error = place.convert(&options).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{config}: {error:?}");
        assert_eq!(names(&place), ["src"]);
    }
}

#[test]
fn w6_nan_and_infinity_are_named_and_nothing_is_written() {
    let place = Place::new();
    let tensors = [
        ("fine", Dtype::F32, [1].as_slice(), f32_bytes(&[1.0])),
        ("nan", Dtype::F32, [2].as_slice(), f32_bytes(&[1.0, f32::NAN])),
        ("inf", Dtype::F16, [1].as_slice(), vec![0x00, 0x7c]),
    ];
    place.write("src/model.safetensors", &safetensors(&tensors));
    for dtype in [None, Some(TargetDtype::Bf16), Some(TargetDtype::F32)] {
        let mut options = ConvertOptions { dtype, ..ConvertOptions::new(place.path("src")) };
        let error = place.convert(&options).unwrap_err();
        let (text, kind) = (error.message(), error.kind());
        assert!(text.starts_with("2 tensors hold NaN or infinity: `"), "{text}");
        assert!(text.contains("`nan`") && text.contains("`inf`"), "{text}");
        assert_eq!(kind, ErrorKind::Model);
        assert_eq!(names(&place), ["src"]);
        options.check_tensors = false;
        convert(&options, &place.path("out"), &mut go_on).unwrap();
        std::fs::remove_dir_all(place.path("out")).unwrap();
    }
}

#[test]
fn a_number_beyond_f16_is_an_error_that_names_the_tensor() {
    let place = Place::new();
    let tensors = [("big", Dtype::F32, [2].as_slice(), f32_bytes(&[1.0, 70000.0]))];
    place.write("src/model.safetensors", &safetensors(&tensors));
    let dtype = Some(TargetDtype::F16);
    let error = place
        .convert(&ConvertOptions { dtype, ..ConvertOptions::new(place.path("src")) })
        .unwrap_err();
    assert_eq!(error.message(), "tensor `big` holds 1 numbers beyond the range of f16");
    assert_eq!(names(&place), ["src"]);
}

#[test]
fn r7_an_existing_output_is_kept_unless_r1seg_made_it_and_may_replace_it() {
    let place = Place::new();
    let mut options = source(&place, 1);
    place.convert(&options).unwrap();
    assert!(matches!(place.convert(&options), Err(Error::Exists { .. })));
    options.replace = true;
    options.dtype = Some(TargetDtype::Bf16);
    place.convert(&options).unwrap();
    assert_eq!(manifest(&place).dtype, Some(TargetDtype::Bf16.format()));
    assert_eq!(names(&place), ["out", "src"]);

    // A folder of somebody's own is never lost.
    for name in ["precious/thesis.tex", "precious2/deep/manifest.json", "precious3"] {
        place.write(name, b"x");
        let target = place.path(name.split('/').next().unwrap());
        let error = convert(&options, &target, &mut go_on).unwrap_err();
        assert!(matches!(error, Error::NotReplaceable { .. }), "{error:?}");
        assert!(place.path(name).exists());
    }
    // Nor is the source, even if r1seg made it.
    options.source = place.out();
    assert_eq!(place.convert(&options).unwrap_err().kind(), ErrorKind::Usage);
    options.source = place.path("src");

    std::fs::create_dir(place.path("empty")).unwrap();
    options.replace = false;
    convert(&options, &place.path("empty"), &mut go_on).unwrap();
}

#[test]
fn r3_a_caller_who_stops_leaves_nothing_behind() {
    let place = Place::new();
    let options = source(&place, 10);
    let mut seen = Vec::new();
    let error = convert(&options, &place.out(), &mut |progress| {
        seen.push((progress.done, progress.total, progress.tensor.to_owned()));
        if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(error, Err(Error::Cancelled)));
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[2].0, seen[2].1), (1200, 4000));
    assert_eq!(names(&place), ["src"]);
}

#[cfg(unix)]
#[test]
fn r12_what_a_killed_conversion_left_is_removed_by_the_next_one() {
    let place = Place::new();
    let options = source(&place, 1);
    let name = place.out().file_name().unwrap().to_str().unwrap().to_owned();
    let [dead, alive] = ["dead01", "alive1"].map(|x| place.path(&format!(".{name}.{x}.part")));
    let other = place.path(&format!(".{name}.v2.dead01.part"));
    for folder in [&dead, &alive, &other] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("model.safetensors"), "half").unwrap();
    }
    let lock = std::fs::File::open(&alive).unwrap();
    lock.lock().unwrap();
    place.convert(&options).unwrap();
    assert!(!dead.exists() && alive.exists() && other.exists());
    drop(lock);
}

#[cfg(target_os = "linux")]
#[test]
fn w14_small_files_that_are_pipes_or_devices_are_refused_and_not_waited_for() {
    for name in ["config.json", "tokenizer.json", "LICENSE"] {
        let place = Place::new();
        let options = source(&place, 1);
        let path = place.path(&format!("src/{name}"));
        let pipe = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(pipe.success());
        let piped = place.convert(&options);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let endless = place.convert(&options);
        for result in [piped, endless] {
            let error = result.map(|_| ()).unwrap_err();
            assert_eq!((error.code(), error.kind()), ("R-CNV-27", ErrorKind::Model), "{name}");
        }
    }
}

#[test]
fn chunks_of_a_large_tensor_come_out_in_order() {
    // More than one chunk, and not a whole number of them.
    let numbers: Vec<f32> = (0..2_500_003u32).map(|i| i as f32).collect();
    let place = Place::new();
    let shape = [numbers.len()];
    let tensors = [("big", Dtype::F32, shape.as_slice(), f32_bytes(&numbers))];
    place.write("src/model.safetensors", &safetensors(&tensors));
    place.convert(&ConvertOptions::new(place.path("src"))).unwrap();
    assert!(tensors_of(&place.out()) == tensors_of(&place.path("src")));
}

#[test]
fn a_prepared_folder_is_whole_and_appears_only_when_it_is_published() {
    let place = Place::new();
    let options = source(&place, 2);
    let prepared = prepare(&options, &place.out(), &mut go_on).unwrap();
    assert_eq!(r1seg_checkpoint::verify(prepared.folder(), true).unwrap().tensors, 2);
    assert!(!place.out().exists());
    drop(prepared);
    assert_eq!(names(&place), ["src"]);

    let prepared = prepare(&options, &place.out(), &mut go_on).unwrap();
    let report = prepared.report().clone();
    assert_eq!(prepared.publish().unwrap(), report);
    assert_eq!(names(&place), ["out", "src"]);
}
