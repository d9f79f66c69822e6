//! VISTA3D: its weights in a folder of the repository, as safetensors and as pickles of two versions of
//! MONAI, among the code of a pipeline for transformers.

use std::fs;

use serde_json::json;

use super::Twin;
use super::repository::{Repository, in_f32, recorded, renamed};
use crate::{RawTensors, data, read_tensors};

pub(super) const REPOSITORIES: &[&str] = &["nvidia/NV-Segment-CT", "nvidia/NV-Segment-CTMR"];
const CASE: &str = "vista3d";
const CONFIG: &str = "vista3d_pretrained_model/config.json";
const RESEARCH: &str = "vista3d_pretrained_model/model_monai1.3.pt";
const PICKLE: &str = "vista3d_pretrained_model/model.pt";
const WEIGHTS: &str = "vista3d_pretrained_model/model.safetensors";

/// What both repositories have beside the weights. Either `config.json` is for another loader.
fn pipeline() -> Repository {
    Repository::default()
        .put(".gitattributes", "*.pt filter=lfs diff=lfs merge=lfs -text\n")
        .put("README.md", "# A model\n")
        .put("config.json", r#"{"hub": "a pipeline"}"#)
        .json(
            CONFIG,
            &json!({"model_type": "VISTA3D", "encoder_embed_dim": 48, "input_channels": 1}),
        )
        .put("metadata.json", r#"{"network_data_format": {}}"#)
        .put("hugging_face_pipeline.py", "raise SystemExit('code of a repository never runs')\n")
        .put("vista3d_model.py", "raise SystemExit('code of a repository never runs')\n")
        .put("scripts/evaluator.py", "raise SystemExit('code of a repository never runs')\n")
}

fn pickles() -> Repository {
    let research = fs::read(data(&format!("{CASE}/published/model_monai1.3.pt"))).unwrap();
    pipeline().pickle(PICKLE, &in_f32(recorded(CASE))).put(RESEARCH, research)
}

fn whole(prefix: &str) -> Repository {
    let tensors: RawTensors = renamed(in_f32(recorded(CASE)), "", prefix);
    Repository::default().put(WEIGHTS, crate::safetensors_of(&tensors))
}

#[test]
fn nv_segment_ct_is_ready_from_its_safetensors_whatever_stands_before_their_names() {
    for (repository, prefix) in REPOSITORIES.iter().zip(["network.", ""]) {
        let twin = Twin::publish(repository, pickles().with(whole(prefix)));
        let folder = twin.download(&["README.md", CONFIG, WEIGHTS]);
        assert!(folder.ends_with("vista3d_pretrained_model"), "{folder:?}");
        let found = twin.inspect(twin.alias());
        assert_eq!(found["model"]["name"], json!("VISTA3D"));
        let run = twin.run(["convert", twin.alias(), "-o", "model"]);
        run.succeeds().says("r1seg: config.json was recovered from the tensors: VISTA3D\n");
        let converted = read_tensors(&twin.desk.path("model/model.safetensors"));
        assert!(converted == in_f32(recorded(CASE)), "the tensors differ");
        twin.run(["verify", twin.alias()]).succeeds();
    }
}

#[test]
fn nv_segment_ct_converts_from_its_pickles_of_either_version_of_monai() {
    let twin = Twin::publish(REPOSITORIES[0], pickles());
    let folder = twin.download(&["README.md", CONFIG, PICKLE, RESEARCH]);
    // Of both, the one of today.
    twin.run(["convert", twin.alias(), "-o", "model"]).succeeds();
    let converted = read_tensors(&twin.desk.path("model/model.safetensors"));
    assert!(converted == in_f32(recorded(CASE)), "the tensors differ");

    let file = folder.join("model_monai1.3.pt");
    let run = twin.run(["convert", file.to_str().unwrap(), "--dtype", "bf16", "-o", "research"]);
    run.succeeds().says("left out: 16 tensors that no model reads");
    let converted = read_tensors(&twin.desk.path("research/model.safetensors"));
    assert!(converted == recorded(CASE), "the tensors differ");
    twin.inspect("./research");
}
