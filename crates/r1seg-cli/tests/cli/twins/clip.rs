//! M3D-CLIP: `vocab.txt` without `tokenizer.json`, and a vision transformer's pickle that nothing needs.

use std::fs;

use ::r1seg::volume::{Geometry, Overwrite, Volume, write_volume};
use serde_json::{Value, json};

use super::Twin;
use super::repository::{Repository, in_f32, recorded, renamed};
use super::vocabulary;
use crate::torch_file::{Tensor, TorchFile, Val, ordered};
use crate::{RawTensors, data, finish, read_tensors};

pub(super) const REPOSITORIES: &[&str] = &["GoodBaiBai88/M3D-CLIP"];

/// The vision transformer as views of one storage that is twice as long as they are together.
fn shared_storage(tensors: &RawTensors) -> Vec<u8> {
    let bytes: Vec<u8> = tensors.values().flat_map(|tensor| tensor.bytes.clone()).collect();
    let mut file = TorchFile::new(2);
    let numbers = bytes.len() as i64;
    let storage =
        file.add("BFloat16Storage", &[numbers], [vec![0xaa; bytes.len()], bytes].concat());
    let mut offset = numbers / 2;
    let mut entries = Vec::new();
    for (name, tensor) in tensors {
        let shape: Vec<i64> = tensor.shape.iter().map(|axis| *axis as i64).collect();
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        let length: i64 = shape.iter().product();
        entries.push((
            name.as_str(),
            Val::Tensor(Tensor { offset, shape, strides, ..storage.clone() }),
        ));
        offset += length;
    }
    file.root = ordered(entries);
    file.zip()
}

fn twin() -> Twin {
    let own = json!({
        "_name_or_path": "GoodBaiBai88/M3D-CLIP", "architectures": ["M3DCLIP"],
        "auto_map": {"AutoConfig": "configuration_m3d_clip.M3DCLIPConfig", "AutoModel": "modeling_m3d_clip.M3DCLIP"},
        "language_model_name_or_path": "bert-base-uncased", "torch_dtype": "float32",
    });
    let vision = renamed(recorded("m3d-clip"), "vision_encoder.", "");
    let files = Repository::default()
        .config("m3d-clip", own)
        .whole(&in_f32(recorded("m3d-clip")))
        .put("pretrained_ViT.bin", shared_storage(&vision))
        .with(vocabulary::vocab_txt("m3d-clip"))
        .strays();
    Twin::publish(REPOSITORIES[0], files)
}

/// The recorded volumes, in the folder `scans`, and the recorded texts.
fn scans(twin: &Twin) -> Vec<String> {
    let desk = &twin.desk;
    fs::create_dir(desk.path("scans")).unwrap();
    let file = fs::read(data("m3d-clip/golden/volumes.npy")).unwrap();
    let numbers: Vec<f32> =
        file[128..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    for (i, voxels) in numbers.chunks(16 * 64 * 64).enumerate() {
        let geometry = Geometry::with_spacing([16, 64, 64], [5.0, 1.0, 1.0]).unwrap();
        let volume = Volume::new(voxels.to_vec(), geometry).unwrap();
        write_volume(desk.path(&format!("scans/v{i}.nii.gz")), &volume, Overwrite::Refuse).unwrap();
    }
    let case = fs::read(data("m3d-clip/golden/case.json")).unwrap();
    let case: Value = serde_json::from_slice(&case).unwrap();
    serde_json::from_value(case["texts"].clone()).unwrap()
}

#[test]
fn m3d_clip_finds_scans_from_vocab_txt_without_a_tokenizer_json() {
    let twin = twin();
    twin.download(&[
        "README.md",
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]);
    twin.inspect("M3D-CLIP");
    let texts = scans(&twin);
    let own = data("m3d-clip");
    for text in texts.iter().map(String::as_str).chain(["Aneurysm of the abdominal aorta."]) {
        let ranked = |model: &str| {
            let args = ["retrieve", "-m", model, "--device", "cpu", "--dtype", "f32", "--json"];
            let run = twin.run(args.into_iter().chain(["-t", text, "scans"]));
            let found: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
            found["queries"].clone()
        };
        let found = ranked("M3D-CLIP");
        assert_eq!(found[0]["results"].as_array().unwrap().len(), 4, "{found}");
        assert_eq!(found, ranked(own.to_str().unwrap()), "{text}");
    }
    let args = ["embed", "-m", "M3D-CLIP", "-i", "scans/v0.nii.gz", "-t", "A cyst.", "-o", "v.npy"];
    twin.run(args).succeeds();
}

#[test]
fn the_vision_transformer_beside_m3d_clip_converts_from_its_shared_storage() {
    let twin = twin();
    let mut command = twin.desk.command();
    command.env("HF_ENDPOINT", format!("http://127.0.0.1:{}", twin.server.port()));
    let run = finish(command.args(["download", "M3D-CLIP", "--include", "pretrained_ViT.bin"]));
    let pickle = format!("{}/pretrained_ViT.bin", run.succeeds().stdout.trim_end());
    let run = twin.run(["convert", &pickle, "-o", "vit"]);
    run.succeeds();
    let expected = renamed(recorded("m3d-clip"), "vision_encoder.", "");
    assert_eq!(read_tensors(&twin.desk.path("vit/model.safetensors")), expected);
}
