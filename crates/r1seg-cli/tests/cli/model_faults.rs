//! Checkpoints that are broken, hostile or of another kind: exit code 78, and nothing is left.
//! `w..` and `t..` are rows of the fault list.

use std::fs;
use std::path::PathBuf;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{Desk, RawTensor, RawTensors, Run, data, finish, read_tensors, write_tensors};

/// A copy of a recorded checkpoint, to break.
pub(crate) struct Broken {
    pub(crate) desk: Desk,
    pub(crate) folder: PathBuf,
}

impl Broken {
    pub(crate) fn new(case: &str) -> Self {
        let desk = Desk::new();
        let folder = desk.path("model");
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(data(case)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
            }
        }
        Self { desk, folder }
    }

    #[track_caller]
    pub(crate) fn infer(&self) -> Run {
        let run = self.desk.infer_with(&self.folder);
        self.desk.is_empty_but_for(&["model"]);
        run
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn remove(self, name: &str) -> Self {
        fs::remove_file(self.file(name)).unwrap();
        self
    }

    pub(crate) fn write(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        fs::write(self.file(name), bytes).unwrap();
        self
    }

    pub(crate) fn json(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut json = serde_json::from_slice(&fs::read(self.file(name)).unwrap()).unwrap();
        change(&mut json);
        self.write(name, serde_json::to_vec(&json).unwrap())
    }

    /// `config.json` with one field changed, or without it if `value` is null.
    fn config(field: &str, value: Value) -> Self {
        Self::new("phi3").json("config.json", |json| {
            let fields = json.as_object_mut().unwrap();
            if value.is_null() {
                fields.remove(field);
            } else {
                fields.insert(field.to_string(), value);
            }
        })
    }

    fn tensors(change: impl FnOnce(&mut RawTensors)) -> Self {
        let broken = Self::new("phi3");
        let path = broken.file("model.safetensors");
        let mut tensors = read_tensors(&path);
        change(&mut tensors);
        write_tensors(&path, &tensors);
        broken
    }
}

const TENSOR: &str = "model.layers.1.self_attn.o_proj.weight";

#[test]
fn w4_a_missing_tensor_is_named() {
    let broken = Broken::tensors(|t| assert!(t.remove(TENSOR).is_some()));
    broken.infer().fails(78, "R-WGT-03").says(TENSOR).says("1 missing").says("fix: ");
}

#[test]
fn w4_a_misshaped_tensor_is_named_with_both_shapes() {
    let broken = Broken::tensors(|t| t.get_mut(TENSOR).unwrap().shape = vec![32, 128]);
    broken.infer().fails(78, "R-WGT-03").says(TENSOR).says("[64, 64]").says("[32, 128]");
}

#[test]
fn w4_a_tensor_of_the_wrong_dtype_is_named() {
    let broken = Broken::tensors(|t| t.get_mut(TENSOR).unwrap().dtype = Dtype::I32);
    broken.infer().fails(78, "R-WGT-03").says(TENSOR).says("got i32");
}

/// Missing tensors used to be made up as zeros, for the sake of one report: of these widths that is
/// more than any machine has.
#[test]
fn w4_tensors_that_are_missing_take_no_memory() {
    let broken = Broken::new("phi3").json("config.json", |json| {
        json["intermediate_size"] = json!(1 << 20);
        json["num_hidden_layers"] = json!(1024);
    });
    broken.infer().fails(78, "R-WGT-03").says("missing").says("misshaped");
}

#[test]
fn w4_an_unexpected_tensor_is_named() {
    let broken = Broken::tensors(|t| {
        let extra = RawTensor { dtype: Dtype::F32, shape: vec![1], bytes: vec![0; 4] };
        t.insert("model.surprise".to_string(), extra);
    });
    broken.infer().fails(78, "R-WGT-03").says("1 unexpected").says("model.surprise");
}

#[test]
fn w3_truncated_weights_are_refused() {
    for keep in [0, 4, 5000, 1_000_000] {
        let broken = Broken::new("phi3");
        let bytes = fs::read(broken.file("model.safetensors")).unwrap();
        let broken = broken.write("model.safetensors", &bytes[..keep]);
        broken.infer().fails(78, "R-WGT-01").says("model.safetensors").says("copy the file again");
    }
}

#[test]
fn w3_a_hostile_weights_header_is_refused() {
    let headers = [
        // 2^60 bytes of header; offsets beyond the file; a hole; overlapping tensors.
        ((1u64 << 60).to_le_bytes().to_vec(), ""),
        (vec![], r#"{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}"#),
        (vec![], r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#),
        (
            vec![],
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        ),
        (vec![], "not json"),
    ];
    for (mut file, header) in headers {
        if file.is_empty() {
            file = (header.len() as u64).to_le_bytes().to_vec();
        }
        file.extend(header.bytes());
        file.extend([0; 8]);
        Broken::new("phi3").write("model.safetensors", file).infer().fails(78, "R-WGT-01");
    }
}

#[test]
fn w1_missing_weights_are_named_and_pickles_refused() {
    let broken = Broken::new("phi3").remove("model.safetensors");
    broken.infer().fails(78, "R-MDL-03").says("model.safetensors");
    let broken = Broken::new("phi3").remove("model.safetensors").write("training_args.bin", b"x");
    broken.infer().fails(78, "R-MDL-03");
    for pickle in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let broken = Broken::new("phi3").remove("model.safetensors").write(pickle, b"\x80\x02.");
        broken.infer().fails(78, "R-WGT-02").says(pickle).says("r1seg convert");
    }
}

#[test]
fn w3_more_tensors_than_any_model_has_are_refused() {
    let entries: Vec<String> = (0..100_001)
        .map(|n| format!(r#""{n}":{{"dtype":"U8","shape":[1],"data_offsets":[{n},{}]}}"#, n + 1))
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 100_001]];
    let broken = Broken::new("phi3").write("model.safetensors", file.concat());
    broken.infer().fails(78, "R-WGT-01").says("more than 100000 tensors");
    // A longer header is not even parsed.
    let file = [&(40u64 << 20).to_le_bytes()[..], &vec![b' '; 40 << 20]].concat();
    let broken = Broken::new("phi3").write("model.safetensors", file);
    broken.infer().fails(78, "R-WGT-01").says("a header of 41943040 bytes");
}

#[test]
fn w1_a_file_of_weights_is_refused_by_name() {
    let desk = Desk::new();
    for name in ["model.bin", "SegVol_v1.pth", "a.pt", "last.ckpt"] {
        fs::write(desk.path(name), b"\x80\x02.").unwrap();
        let run = desk.infer_with(&desk.path(name));
        run.fails(78, "R-WGT-02").says(name).says("r1seg convert");
        fs::remove_file(desk.path(name)).unwrap();
        // In a folder, whatever it is called.
        let broken = Broken::new("phi3").remove("model.safetensors").write(name, b"\x80\x02.");
        broken.infer().fails(78, "R-WGT-02").says(name);
    }
}

#[test]
fn w5_an_index_may_not_leave_its_folder() {
    for name in ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""] {
        let broken = Broken::new("phi3-longrope").json("model.safetensors.index.json", |json| {
            json["weight_map"]["model.norm.weight"] = json!(name);
        });
        broken.infer().fails(78, "R-WGT-01").says("not a plain file name");
    }
}

#[test]
fn w5_a_missing_shard_is_named() {
    let shard = "model-00002-of-00003.safetensors";
    Broken::new("phi3-longrope").remove(shard).infer().fails(78, "R-MDL-03").says(shard);
}

#[test]
fn w5_a_tensor_in_two_shards_is_refused() {
    let [first, second] = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"];
    let broken = Broken::new("phi3-longrope");
    let mut tensors = read_tensors(&broken.file(first));
    let (name, tensor) = read_tensors(&broken.file(second)).pop_first().unwrap();
    tensors.insert(name.clone(), tensor);
    write_tensors(&broken.file(first), &tensors);
    broken.infer().fails(78, "R-WGT-01").says(&name).says("model-0000");
}

#[test]
fn t3_config_json_must_be_there_and_be_json() {
    Broken::new("phi3").remove("config.json").infer().fails(78, "R-MDL-03").says("config.json");
    for text in ["", "{", "[]", "null", "\u{fffd}"] {
        Broken::new("phi3").write("config.json", text).infer().fails(78, "R-CFG-01");
    }
}

#[test]
fn t3_unknown_kinds_of_model_are_named() {
    Broken::config("model_type", json!("bert")).infer().fails(78, "R-MDL-05").says("`bert`");
    Broken::config("model_type", Value::Null).infer().fails(78, "R-CFG-01").says("model_type");
    Broken::config("vision_module", Value::Null).infer().fails(78, "R-MDL-05");
}

#[test]
fn models_that_share_a_type_are_not_loaded_as_each_other() {
    // A config.json of M3D-LaMed beside the weights of R1Seg-3D, of the same type.
    let broken = Broken::new("llama3").json("config.json", |json| {
        let fields = json.as_object_mut().unwrap();
        fields.remove("vision_module");
        fields.insert("vision_tower".into(), json!("vit3d"));
        fields.insert("image_size".into(), json!([16, 64, 64]));
    });
    broken.infer().fails(78, "R-WGT-03").says("model.seg_module.").says("model.vision_module.");
    let neither = Broken::new("llama3").json("config.json", |json| {
        json.as_object_mut().unwrap().remove("vision_module");
    });
    neither.infer().fails(78, "R-MDL-05").says("without vision_module").says("r1seg models");
    Broken::config("model_type", json!("segvol")).infer().fails(78, "R-MDL-05").says("SegVol");
}

#[test]
fn t3_sizes_that_no_model_has_are_refused_by_name() {
    let huge = 1_000_000_000u64;
    for (field, value) in [
        ("num_hidden_layers", json!(huge)),
        ("hidden_size", json!(huge)),
        ("hidden_size", json!(-64)),
        ("intermediate_size", json!(huge)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(3)),
        ("num_key_value_heads", json!(3)),
        ("vocab_size", json!(1e30)),
        ("rope_theta", json!(-1.0)),
        ("rope_theta", json!("NaN")),
        ("rms_norm_eps", json!(-1.0)),
        ("max_position_embeddings", json!(0)),
        ("mm_hidden_size", json!(huge)),
        ("mm_hidden_size", json!(50)),
        ("num_layers", json!(huge)),
        ("num_heads", json!(0)),
        ("num_clicks", json!(huge)),
        ("proj_layer_num", json!(huge)),
        ("mm_projector_type", json!("magic")),
        ("image_channel", json!(3)),
    ] {
        let run = Broken::config(field, value.clone()).infer();
        assert_eq!(run.code, Some(78), "{field}: {value}: {run:#?}");
        assert!(run.stderr.contains("error[R-CFG-01]"), "{field}: {value}: {run:#?}");
    }
}

#[test]
fn t4_grids_that_do_not_divide_are_refused_by_name() {
    for (field, value) in [
        ("img_size", json!([16, 64])),
        ("img_size", json!([16, 60, 64])),
        ("img_size", json!([16, 64, 1_000_000_000])),
        ("img_size", json!([65536, 65536, 65536])),
        ("patch_size", json!([0, 16, 16])),
        ("patch_size", json!([5, 16, 16])),
        // 65 536 patches.
        ("patch_size", json!([1, 1, 1])),
        ("proj_pooling_size", json!(0)),
        ("proj_pooling_size", json!(64)),
    ] {
        let run = Broken::config(field, value.clone()).infer();
        assert_eq!(run.code, Some(78), "{field}: {value}: {run:#?}");
        assert!(run.stderr.contains("error[R-CFG-01]"), "{field}: {value}: {run:#?}");
    }
}

#[test]
fn t1_a_missing_or_broken_tokenizer_is_refused() {
    let run = Broken::new("phi3").remove("tokenizer.json").infer();
    run.fails(78, "R-TOK-03").says("tokenizer.json");
    for text in ["", "{}", "[1, 2", "{\"model\": {\"type\": \"BPE\"}}"] {
        let run = Broken::new("phi3").write("tokenizer.json", text).infer();
        assert_eq!(run.code, Some(78), "{text}: {run:#?}");
        assert!(run.stderr.starts_with("error[R-TOK-0"), "{text}: {run:#?}");
    }
}

#[test]
fn t2_a_tokenizer_of_another_model_is_refused() {
    // [SEG] without a row in the embedding table.
    let broken = Broken::tensors(|t| {
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let tensor = t.get_mut(name).unwrap();
            tensor.shape[0] = 600;
            tensor.bytes.truncate(600 * 64 * 4);
        }
    });
    broken.infer().fails(78, "R-TOK-11").says("[SEG]").says("600 rows");
    Broken::config("seg_token_id", json!(5)).infer().fails(78, "R-CFG-01").says("[SEG] is 618");
}

/// Such a text encoder would find no end in any text, or the wrong one.
#[test]
fn t2_an_end_token_that_is_not_the_tokenizers_is_refused() {
    for eos in [0, 320] {
        let broken = Broken::new("segvol").remove("manifest.json").json("config.json", |json| {
            json["text_config"]["eos_token_id"] = json!(eos);
        });
        let says = format!("text_config.eos_token_id is {eos}, but the tokenizer ends a text with");
        let mut command = broken.desk.command();
        command.arg("segment").arg("-m").arg(&broken.folder).args(["--text", "liver", "-i"]);
        command.arg(data("segvol/golden/volume.npy")).args(["--device", "cpu", "-o", "out"]);
        finish(&mut command).fails(78, "R-CFG-01").says(&says);
        let run = finish(broken.desk.command().arg("inspect").arg(&broken.folder));
        assert_eq!(run.code, Some(78), "{run:#?}");
        run.says(&says);
    }
}

#[test]
fn w11_code_in_a_checkpoint_is_ignored() {
    let broken = Broken::new("phi3").json("config.json", |json| {
        json["auto_map"] = json!({"AutoModel": "evil.Model"});
    });
    let broken = broken.write("evil.py", "raise SystemExit");
    broken.desk.infer_with(&broken.folder).succeeds();
}
