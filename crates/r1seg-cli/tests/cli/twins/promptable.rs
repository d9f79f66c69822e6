//! SegVol and R1Seg-3D-SAM: pickles, a text encoder's vocabulary, or none.

use std::path::Path;

use safetensors::Dtype;
use serde_json::json;

use super::Twin;
use super::repository::{Repository, in_f32, recorded, renamed};
use super::vocabulary;
use crate::{RawTensor, data};

pub(super) const REPOSITORIES: &[&str] = &["BAAI/SegVol", "lihao0011/R1Seg-3D-SAM"];

/// What the README asks of SegVol, in the grid of the recorded volume.
const PROMPTS: [&[&str]; 3] = [
    &["--text", "liver"],
    &["--point", "21,18,4", "--point", "15,18,4:neg"],
    &["--text", "liver", "--box", "10,10,2,40,44,12"],
];

/// What the model gives for a prompt, and that the recorded checkpoint gives the same.
#[track_caller]
fn segments_as_recorded(twin: &Twin, model: &str, case: &str, prompt: &[&str]) {
    if !twin.desk.path("ct.nii.gz").exists() {
        twin.take_ct(case);
    }
    let prompt = [prompt, &["--force", "--empty-mask"]].concat();
    let (_, own) = twin.mask("segment", Path::new(model), &prompt, "own");
    let (_, expected) = twin.mask("segment", &data(case), &prompt, "recorded");
    assert!(own == expected, "{}: the masks of {prompt:?} differ", twin.name);
}

#[test]
fn segvol_segments_once_its_pickle_is_converted_and_leaves_its_ct_on_the_hub() {
    let mut tensors = renamed(in_f32(recorded("segvol")), "", "model.");
    let counter: Vec<u8> = (0..77i64).flat_map(i64::to_le_bytes).collect();
    tensors.insert(
        "model.text_encoder.clip_text_model.text_model.embeddings.position_ids".to_owned(),
        RawTensor { dtype: Dtype::I64, shape: vec![1, 77], bytes: counter },
    );
    let own = json!({
        "architectures": ["SegVolModel"], "torch_dtype": "float32", "transformers_version": "4.18.0",
        "auto_map": {"AutoConfig": "model_segvol_single.SegVolConfig", "AutoModel": "model_segvol_single.SegVolModel"},
        "spatial_size": [16, 64, 64], "test_mode": true,
    });
    let files = Repository::default()
        .config("segvol", own)
        .pickle("pytorch_model.bin", &tensors)
        .copy("segvol", "tokenizer.json")
        .with(vocabulary::vocab_and_merges("segvol"))
        .json("tokenizer_config.json", &json!({"tokenizer_class": "CLIPTokenizer"}))
        .json("special_tokens_map.json", &json!({"eos_token": "<|endoftext|>"}))
        // The encoder before the training of the whole.
        .put("vit_pretrain.ckpt", "353 MB")
        .put("Case_image_00001_0000.nii.gz", "a CT of 125 MB")
        .put("Case_label_00001.nii.gz", "its truth")
        .put("model_segvol_single.py", "raise SystemExit\n")
        .strays();
    let twin = Twin::publish(REPOSITORIES[0], files);
    twin.download(&[
        "README.md",
        "config.json",
        "merges.txt",
        "pytorch_model.bin",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]);

    twin.run(["inspect", "SegVol"]).code_is(78).says("error[R-WGT-02]").says("r1seg convert");
    twin.take_ct("segvol");
    let run = twin.run(["segment", "-m", "SegVol", "-i", "ct.nii.gz", "-t", "liver"]);
    run.fails(78, "R-WGT-02").says("fix: r1seg convert");
    let model = twin.convert();
    twin.inspect(&model);
    for prompt in PROMPTS {
        segments_as_recorded(&twin, &model, "segvol", prompt);
    }
}

const SENTENCE: &[&str] = &["-t", "A computerized tomography of a liver."];

#[test]
fn r1seg_3d_sam_segments_from_every_list_of_files_that_its_code_can_have_written() {
    let case = "r1seg-3dsam";
    let tensors = in_f32(recorded(case));
    let config = || {
        let own = json!({"architectures": ["SegmentationVisionModule"], "torch_dtype": "float32"});
        Repository::default().config(case, own).strays()
    };
    let json = Repository::default().copy(case, "tokenizer.json");
    let words = vocabulary::vocab_and_merges(case);
    let lists: [(Repository, &[&str]); 4] = [
        (config().whole(&tensors).with(json.clone()), &["model.safetensors", "tokenizer.json"]),
        (
            config().whole(&recorded(case)).with(words.clone()),
            &["model.safetensors", "vocab.json", "merges.txt"],
        ),
        (
            config().pickle("pytorch_model.bin", &tensors).with(words),
            &["pytorch_model.bin", "vocab.json", "merges.txt"],
        ),
        // The name in the authors' scripts.
        (
            config().pickle("r1seg_3dsam.bin", &tensors).with(json),
            &["r1seg_3dsam.bin", "tokenizer.json"],
        ),
    ];
    for (files, names) in lists {
        let twin = Twin::publish(REPOSITORIES[1], files);
        twin.download(&[names, &["README.md", "config.json"]].concat());
        let is_pickle = names[0].ends_with(".bin");
        let model = if is_pickle { twin.convert() } else { twin.alias().to_owned() };
        twin.inspect(&model);
        segments_as_recorded(&twin, &model, case, SENTENCE);
    }
}

#[test]
fn r1seg_3d_sam_without_a_vocabulary_says_which_one_to_add() {
    let case = "r1seg-3dsam";
    let files = Repository::default().config(case, json!({})).whole(&recorded(case)).strays();
    let twin = Twin::publish(REPOSITORIES[1], files);
    twin.download(&["README.md", "config.json", "model.safetensors"]);
    twin.take_ct(case);
    for command in
        [&["inspect", "R1Seg-3D-SAM"][..], &["segment", "-m", "R1Seg-3D-SAM", "-i", "ct.nii.gz"]]
    {
        let more = if command[0] == "segment" { SENTENCE } else { &[] };
        let run = twin.run(command.iter().chain(more).copied());
        run.code_is(78).says("error[R-TOK-22]").says("openai/clip-vit-base-patch32");
    }
}
