//! Files of a model that are no files, grow what they are given, or are encoded in another way: `w14_..`
//! and `t5_..` of the fault list.

use serde_json::{Value, json};

use crate::Desk;
use crate::model_faults::Broken;

/// What `inspect` says of a model.
fn inspect(desk: &Desk) -> crate::Run {
    desk.run(["inspect", "model"])
}

#[cfg(target_os = "linux")]
#[test]
fn w14_a_file_of_a_model_that_is_a_pipe_or_a_device_is_refused_and_not_waited_for() {
    for file in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "manifest.json",
        "model.safetensors.index.json",
    ] {
        let broken = Broken::new("phi3");
        if file == "model.safetensors.index.json" {
            std::fs::remove_file(broken.file("model.safetensors")).unwrap();
        }
        let path = broken.file(file);
        let _ = std::fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        broken.infer().code_is(78).says(file).says("is a named pipe, not a regular file");
        inspect(&broken.desk).code_is(78);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        broken.infer().code_is(78).says(file).says("is a device, not a regular file");
        inspect(&broken.desk).code_is(78);
    }
}

#[test]
fn w14_a_config_that_is_longer_than_any_is_refused() {
    let broken = Broken::new("phi3").write("config.json", vec![b' '; (4 << 20) + 1]);
    broken.infer().fails(78, "R-MDL-06").says("`config.json` is longer than 4194304 bytes");
}

#[cfg(unix)]
#[test]
fn w14_files_that_are_links_into_a_cache_are_files() {
    let broken = Broken::new("phi3");
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let blob = broken.desk.path(&format!("blob-{file}"));
        std::fs::rename(broken.file(file), &blob).unwrap();
        std::os::unix::fs::symlink(&blob, broken.file(file)).unwrap();
    }
    broken.desk.infer_with(&broken.folder).succeeds();
}

#[test]
fn t5_a_tokenizer_that_multiplies_its_input_is_refused_before_it_does() {
    let between = json!({"type": "Replace", "pattern": {"String": ""}, "content": "a".repeat(24)});
    let longer = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(64)});
    for steps in [vec![between; 20], vec![longer; 5]] {
        let broken = Broken::new("phi3").json("tokenizer.json", |json| {
            json["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
        });
        broken
            .infer()
            .fails(78, "R-TOK-19")
            .says("the normalizer can make a text more than 1024 times");
        inspect(&broken.desk).code_is(78).says("R-TOK-19");
    }
}

#[test]
fn a_config_with_a_byte_order_mark_is_read_and_one_in_utf_16_is_named() {
    let broken = Broken::new("phi3");
    for file in ["config.json", "tokenizer_config.json", "tokenizer.json"] {
        let text = std::fs::read_to_string(broken.file(file)).unwrap();
        std::fs::write(broken.file(file), format!("\u{feff}{text}")).unwrap();
    }
    broken.desk.infer_with(&broken.folder).succeeds();

    let broken = Broken::new("phi3");
    let text = std::fs::read_to_string(broken.file("config.json")).unwrap();
    let _: Value = serde_json::from_str(&text).unwrap();
    let utf_16 = std::iter::once(0xfeff).chain(text.encode_utf16());
    let bytes: Vec<u8> = utf_16.flat_map(u16::to_le_bytes).collect();
    let broken = broken.write("config.json", bytes);
    broken.infer().fails(78, "R-MDL-06").says("`config.json` is UTF-16").says("UTF-8");
}
