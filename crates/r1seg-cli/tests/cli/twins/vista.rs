//! VISTA3D: its weights in a folder of the repository, as safetensors and as pickles of two versions of
//! MONAI, among the code of a pipeline for transformers.

use std::fs;

use serde_json::json;

use super::Twin;
use super::repository::{Repository, in_f32, recorded, renamed};
use crate::{RawTensors, data, read_tensors};

pub(super) const REPOSITORIES: &[&str] = &["nvidia/NV-Segment-CT", "nvidia/NV-Segment-CTMR"];
const MODEL_TYPES: [&str; 2] = ["vista3d", "vista3d_ctmr"];
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
    let of_each = REPOSITORIES.iter().zip(["network.", ""]).zip(MODEL_TYPES);
    for ((repository, prefix), expected) in of_each {
        let twin = Twin::publish(repository, pickles().with(whole(prefix)));
        let folder = twin.download(&["README.md", CONFIG, WEIGHTS]);
        assert!(folder.ends_with("vista3d_pretrained_model"), "{folder:?}");
        let found = twin.inspect(twin.alias());
        assert_eq!(found["model"]["name"], json!("VISTA3D"));
        let run = twin.run(["convert", twin.alias(), "-o", "model"]);
        run.succeeds().says("r1seg: config.json was recovered from the tensors: VISTA3D\n");
        let converted = read_tensors(&twin.desk.path("model/model.safetensors"));
        assert!(converted == in_f32(recorded(CASE)), "the tensors differ");
        assert_eq!(model_type(&twin, "model"), expected);
        assert_eq!(found["model"]["model_type"], json!(expected));
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

#[test]
fn nv_segment_ctmr_converts_from_its_pickles_and_is_not_taken_for_the_model_of_the_same_tensors() {
    let twin = Twin::publish(REPOSITORIES[1], pickles());
    let folder = twin.download(&["README.md", CONFIG, PICKLE, RESEARCH]);
    let [pickle, research] = ["model.pt", "model_monai1.3.pt"].map(|name| folder.join(name));
    let (pickle, research) = (pickle.to_str().unwrap(), research.to_str().unwrap());
    for (source, out) in [(twin.alias(), "model"), (pickle, "file"), (research, "research")] {
        let run = twin.run(["convert", source, "-o", out]);
        assert!(!run.succeeds().stderr.contains("W-TWIN"), "{run:#?}");
        assert_eq!(model_type(&twin, out), MODEL_TYPES[1], "{source}");
        // A window is its own again, and not that of the other model.
        let found = twin.inspect(&format!("./{out}"));
        assert_eq!(found["model"]["model_type"], json!(MODEL_TYPES[1]));
    }

    // A file that was moved elsewhere says nothing of where it comes from.
    fs::copy(pickle, twin.desk.path("moved.pt")).unwrap();
    let run = twin.run(["convert", "moved.pt", "-o", "unknown"]);
    run.succeeds().says("warning[W-TWIN]").says("--as NV-Segment-CTMR");
    assert_eq!(model_type(&twin, "unknown"), MODEL_TYPES[0]);
    for (name, expected) in [("nv-segment-ctmr", 1), ("nvidia/NV-Segment-CT", 0)] {
        let run = twin.run(["convert", "moved.pt", "--as", name, "-o", "named", "--force"]);
        assert!(!run.succeeds().stderr.contains("W-TWIN"), "{run:#?}");
        assert_eq!(model_type(&twin, "named"), MODEL_TYPES[expected]);
    }
    let run = twin.run(["convert", "moved.pt", "--as", "SegVol", "-o", "other"]);
    run.fails(2, "R-ARG-03").says("not those of BAAI/SegVol, but of VISTA3D");
    let run = twin.run(["convert", "moved.pt", "--as", "nobody", "-o", "other"]);
    assert_eq!(run.code, Some(2), "{run:#?}");
    run.says("no published model has this name");
    let run = twin.run(["convert", "named", "--as", "NV-Segment-CT", "-o", "other"]);
    run.fails(2, "R-ARG-03").says("config.json says that already");
    assert!(!twin.desk.path("other").exists());
}

/// That of a folder that was converted.
fn model_type(twin: &Twin, folder: &str) -> String {
    let json = fs::read(twin.desk.path(folder).join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&json).unwrap();
    config["model_type"].as_str().unwrap().to_owned()
}
