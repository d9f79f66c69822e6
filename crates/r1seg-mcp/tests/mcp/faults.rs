use std::path::Path;

use r1seg::ModelSource;
use r1seg_mcp::{LocalDesk, LocalOptions};
use rmcp::ServiceError;
use serde_json::{Value, json};

use crate::{Desk, LIVER, data, params};

#[tokio::test]
async fn arguments_that_do_not_fit_are_told_and_nothing_is_computed() {
    let desk = Desk::demo().await;
    let volume = "ct.nii.gz";
    let many = vec!["x"; 65];
    for (tool, args, code, words) in [
        ("ask_volume", json!({}), "R-MCP-01", "missing field `volume`"),
        ("ask_volume", json!({ "volume": volume }), "R-MCP-01", "give `questions` or `organs`"),
        ("ask_volume", json!({ "volume": volume, "questions": [] }), "R-MCP-01", "nothing to do"),
        ("ask_volume", json!({ "volume": volume, "questions": many }), "R-MCP-01", "65 prompts"),
        ("ask_volume", json!({ "volume": volume, "question": LIVER }), "R-MCP-01", "`question`"),
        ("ask_volume", json!({ "volume": 7, "questions": [LIVER] }), "R-MCP-01", "integer `7`"),
        (
            "ask_volume",
            json!({ "volume": volume, "questions": [LIVER], "max_new_tokens": 0 }),
            "R-MCP-01",
            "from 1 to 4096",
        ),
        (
            "ask_volume",
            json!({ "volume": volume, "questions": ["What is in {box}?"] }),
            "R-MCP-01",
            "give `box`",
        ),
        (
            "ask_volume",
            json!({ "volume": volume, "organs": ["liverr"] }),
            "R-MCP-05",
            "mean liver?",
        ),
        (
            "ask_volume",
            json!({ "volume": volume, "questions": [LIVER], "model": "gpt" }),
            "R-MCP-04",
            "served are demo (R1Seg-3D, takes question, organ)",
        ),
        (
            "segment_volume",
            json!({ "volume": volume, "targets": [{}] }),
            "R-MCP-01",
            "target 1 says nothing",
        ),
        (
            "segment_volume",
            json!({ "volume": volume, "targets": [{ "points": [{ "voxel": [1, 2, 3] }] }] }),
            "R-MCP-04",
            "no model that is served can take all of these targets",
        ),
        (
            "segment_volume",
            json!({ "volume": volume, "model": "demo", "targets": [{ "text": "liver" }] }),
            "R-MCP-01",
            "ask_volume",
        ),
        (
            "inspect_volume",
            json!({ "volume": volume, "read": { "spacing_mm": [1, 0, 1] } }),
            "R-MCP-01",
            "three numbers above 0",
        ),
        (
            "ask_volume",
            json!({ "volume": volume, "questions": [LIVER], "mode": "zoom" }),
            "R-ARG-02",
            "has no mode zoom",
        ),
    ] {
        let error = desk.fails(tool, args.clone()).await;
        assert_eq!(error["code"], code, "{args}: {error}");
        let said = format!("{} {}", error["message"], error["fix"]);
        assert!(said.contains(words), "{args}: {said}");
    }
    assert!(desk.written().is_empty());
}

#[tokio::test]
async fn a_tool_that_does_not_exist_is_an_error_of_the_protocol() {
    let desk = Desk::demo().await;
    let error = desk.client.call_tool(params("delete_volume", json!({}))).await.unwrap_err();
    let ServiceError::McpError(error) = error else { panic!("{error}") };
    assert_eq!(error.code.0, -32602);
    // And the connection serves on.
    desk.get("list_models", json!({})).await;
}

#[cfg(unix)]
#[tokio::test]
async fn no_path_leads_out_of_the_folders_that_are_served() {
    use std::os::unix::fs::symlink;

    let desk = Desk::demo().await;
    let secret = tempfile::tempdir().unwrap();
    std::fs::copy(desk.scan("ct.nii.gz"), secret.path().join("ct.nii.gz")).unwrap();
    symlink(secret.path().join("ct.nii.gz"), desk.scan("link.nii.gz")).unwrap();
    symlink(secret.path(), desk.scan("folder")).unwrap();
    let outside = secret.path().join("ct.nii.gz");
    let up = format!("../../../../../../../../..{}", outside.display());
    for path in [
        outside.to_str().unwrap(),
        &up,
        "../scans/../results",
        "link.nii.gz",
        "folder/ct.nii.gz",
        "folder",
        "/etc/passwd",
        "/proc/self/environ",
        "..",
    ] {
        for tool in ["inspect_volume", "ask_volume", "segment_volume"] {
            let args = match tool {
                "inspect_volume" => json!({ "volume": path }),
                "ask_volume" => json!({ "volume": path, "questions": [LIVER] }),
                _ => json!({ "volume": path, "targets": [{ "organ": "liver" }] }),
            };
            let error = desk.fails(tool, args).await;
            assert_eq!(error["code"], "R-MCP-02", "{tool} {path}: {error}");
        }
    }
    // Whether something is there is not told of what lies outside.
    let there = desk.fails("inspect_volume", json!({ "volume": "/etc/passwd" })).await;
    let absent = desk.fails("inspect_volume", json!({ "volume": "/etc/absent" })).await;
    assert_eq!(there["message"], absent["message"]);
    assert_eq!(there["code"], absent["code"]);
    assert!(desk.written().is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let desk = Desk::demo().await;
    let pipe = desk.scan("pipe.nii");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = desk.fails("inspect_volume", json!({ "volume": "pipe.nii" })).await;
    assert!(error["code"].as_str().unwrap().starts_with("R-IN-"), "{error}");
    let error = desk.fails("inspect_volume", json!({ "volume": "absent.nii.gz" })).await;
    assert_eq!(error["code"], "R-MCP-03");
}

#[tokio::test]
async fn an_earlier_mask_is_read_within_the_same_folders() {
    let desk = Desk::serving(&[&data("sam-med3d")]).await;
    std::fs::copy(data("sam-med3d/golden/ct.nii.gz"), desk.scan("ct.nii.gz")).unwrap();
    let mask = data("sam-med3d/golden/mask_one_click.nii.gz");
    let args = json!({ "volume": "ct.nii.gz", "targets": [{ "mask": { "file": mask } }] });
    assert_eq!(desk.fails("segment_volume", args).await["code"], "R-MCP-02");
}

#[tokio::test]
async fn points_outside_of_the_volume_are_told_with_its_size() {
    let desk = Desk::serving(&[&data("segvol")]).await;
    std::fs::copy(data("segvol/golden/volume.npy"), desk.scan("ct.npy")).unwrap();
    let target = json!({ "points": [{ "voxel": [64, 0, 0] }] });
    let args = json!({ "volume": "ct.npy", "targets": [target] });
    let error = desk.fails("segment_volume", args).await;
    assert_eq!(error["code"], "R-PNT-01");
    assert!(error["message"].as_str().unwrap().contains("64,0,0"), "{error}");
    let args = json!({ "volume": "ct.npy", "targets": [{ "box": [[9, 9, 9], [3, 3, 3]] }] });
    assert_eq!(desk.fails("segment_volume", args).await["code"], "R-BOX-01");
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let model = |name: &Path| ModelSource::from(name).find().unwrap();
    let demo = || model(Path::new("demo"));
    let code = |options: LocalOptions| LocalDesk::new(options).unwrap_err().code();
    let new = |models| LocalOptions::new(models, folder.path());
    assert_eq!(code(new(vec![])), "R-MCP-01");
    assert_eq!(code(new(vec![demo(), demo()])), "R-MCP-07");
    assert_eq!(code(new(vec![demo()]).with_root(folder.path().join("absent"))), "R-MCP-08");
    // Models that no tool is for.
    assert_eq!(code(new(vec![model(&data("m3d-clip"))])), "R-MCP-01");
}

#[tokio::test]
async fn an_error_never_names_an_option_of_a_program() {
    let desk = Desk::demo().await;
    let volume = r1seg::volume::Volume::new(
        vec![0.5; 4096],
        r1seg::volume::Geometry::without_affine([16; 3]),
    );
    let npy = desk.scan("ct.npy");
    r1seg::volume::write_volume(npy, &volume.unwrap(), r1seg::volume::Overwrite::Refuse).unwrap();
    let found = desk.get("inspect_volume", json!({ "volume": "ct.npy" })).await;
    let fixes: Vec<&Value> =
        found["warnings"].as_array().unwrap().iter().map(|w| &w["fix"]).collect();
    assert!(!fixes.is_empty(), "{found:#}");
    for fix in fixes {
        assert!(!fix.as_str().unwrap_or_default().contains(" --"), "{fix}");
    }
}
