//! SAM-Med3D: one training dump, without a `config.json` or a vocabulary.

use std::fs;

use serde_json::{Value, json};

use super::Twin;
use super::repository::{Repository, recorded};
use crate::{data, read_tensors};

pub(super) const REPOSITORIES: &[&str] = &["blueyo0/SAM-Med3D"];
const CASE: &str = "sam-med3d";
const FILE: &str = "sam_med3d_turbo.pth";

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn sam_med3d_is_known_by_its_tensors_and_gets_a_config_of_its_own() {
    let files = Repository::default()
        .copy(CASE, FILE)
        .put(".gitattributes", "*.pth filter=lfs diff=lfs merge=lfs -text\n")
        .put("README.md", "# A model\n");
    let twin = Twin::publish(REPOSITORIES[0], files);
    let folder = twin.download(&["README.md", FILE]);

    let run = twin.run(["inspect", "SAM-Med3D", "--json"]);
    run.code_is(78).says("error[R-WGT-02]").says("r1seg convert");
    let found = json_of(run.stdout.as_bytes());
    assert_eq!(found["model"]["name"], json!("SAM-Med3D"));
    assert_eq!(found["model"]["model_type"], json!("sam_med3d"));
    let file = folder.join(FILE);
    let run = twin.run(["inspect", file.to_str().unwrap()]);
    run.code_is(78).says("error[R-WGT-02]");
    assert!(run.stdout.contains("SAM-Med3D, by its tensors"), "{run:#?}");

    let run = twin.run(["convert", "SAM-Med3D", "-o", "model"]);
    run.succeeds().says("r1seg: config.json was recovered from the tensors: SAM-Med3D\n");
    let config = json_of(&fs::read(twin.desk.path("model/config.json")).unwrap());
    assert_eq!(config, json_of(&fs::read(data(&format!("{CASE}/config.json"))).unwrap()));
    let converted = read_tensors(&twin.desk.path("model/model.safetensors"));
    assert!(converted == recorded(CASE), "the tensors differ");
}
