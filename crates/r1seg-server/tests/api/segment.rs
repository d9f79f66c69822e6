//! Prompts and what they got.

use r1seg_server::Config;
use serde_json::{Value, json};

use crate::support::{LIVER, Running, demo, liver, phantom, recorded, uploaded};

#[test]
fn a_question_gets_words_a_mask_and_the_files_of_the_command_line() {
    let client = Running::shared().client();
    let id = uploaded(&client, 7);
    let reply = client.post("/v1/segment", &liver(&id));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let result = reply.json();
    assert_eq!((&result["object"], &result["model"]), (&json!("result"), &json!("demo")));
    assert_eq!(result["volume"], id.as_str());
    let answer = &result["answers"][0];
    assert_eq!((&answer["prompt"], &answer["status"]), (&json!(LIVER), &json!("found")));
    assert!(answer["text"].as_str().unwrap().contains("[SEG]"), "{answer}");
    assert_eq!((&answer["finish_reason"], &answer["labels"]), (&json!("stop"), &json!([1])));
    let mask = &result["masks"][0];
    assert_eq!((&mask["label"], &mask["name"]), (&json!(1), &json!("liver")));
    assert!(mask["voxels"].as_u64().unwrap() > 0 && mask["volume_ml"].as_f64().unwrap() > 0.0);
    assert_eq!((&mask["refines"], &mask["file"]), (&json!(null), &json!("mask.nii.gz")));
    for axis in 0..3 {
        let at = |field: &Value| field[axis].as_f64().unwrap();
        let (low, high) = (at(&mask["bbox"][0]), at(&mask["bbox"][1]));
        assert!((low..=high).contains(&at(&mask["centroid_voxel"])), "{mask}");
    }
    let files =
        ["answer.txt", "labels.json", "mask.nii.gz", "mask.seg.nrrd", "preview.png", "report.json"];
    assert_eq!(result["files"], json!(files));
    assert!(result["timings_ms"]["total"].as_f64().unwrap() > 0.0);
    let codes: Vec<_> = result["warnings"].as_array().unwrap().iter().map(|w| &w["code"]).collect();
    assert!(codes.contains(&&json!("W-DEMO")), "{codes:?}");

    let result = result["id"].as_str().unwrap();
    for file in files {
        let got = client.get(&format!("/v1/results/{result}/files/{file}"));
        assert_eq!(got.status, 200, "{file}");
        assert!(!got.body.is_empty());
    }
    let report = client.get(&format!("/v1/results/{result}/files/report.json")).json();
    assert_eq!(
        (&report["input"]["path"], &report["output_folder"]),
        (&json!("ct.nii.gz"), &json!(null))
    );
    let folder = Running::shared().folder.path().display().to_string();
    assert!(!report.to_string().contains(&folder), "{report}");
    let (whole, short) =
        (format!("/v1/results/{result}/files/mask.nii.gz"), format!("/v1/masks/{result}.nii.gz"));
    assert_eq!(client.get(&whole).body, client.get(&short).body);
    assert_eq!(client.get(&format!("/v1/masks/{result}.seg.nrrd")).status, 200);
    assert!(client.get(&format!("/v1/masks/{result}.png")).body.starts_with(b"\x89PNG"));
    assert_eq!(client.get(&format!("/v1/masks/{result}.stl")).status, 404);
    let archive = client.get(&format!("/v1/results/{result}.zip"));
    assert!(archive.body.starts_with(b"PK"));
    for file in files {
        assert!(archive.body.windows(file.len()).any(|w| w == file.as_bytes()), "{file}");
    }
    let overlaid = client.get(&format!("/v1/volumes/{id}/slice.png?result={result}"));
    let plain = client.get(&format!("/v1/volumes/{id}/slice.png"));
    assert!(overlaid.status == 200 && overlaid.body != plain.body);

    assert_eq!(client.delete(&format!("/v1/results/{result}")).status, 204);
    assert_eq!(client.get(&format!("/v1/results/{result}")).status, 404);
    assert_eq!(client.get(&short).status, 404);
}

#[test]
fn events_tell_of_each_stage_and_their_texts_make_the_answer() {
    let client = Running::shared().client();
    let id = uploaded(&client, 11);
    let mut request = liver(&id);
    request["stream"] = json!(true);
    let reply = client.post("/v1/segment", &request);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
    let events = reply.events();
    let data = |event: &(String, String)| serde_json::from_str::<Value>(&event.1).unwrap();
    let stages: Vec<String> = events
        .iter()
        .filter(|(name, _)| name == "stage")
        .map(|event| data(event)["stage"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(stages, ["encoding", "reading", "answering", "drawing", "saving"]);
    assert_eq!(events[0].0, "queued");
    let text: String = events
        .iter()
        .filter(|(name, _)| name == "text")
        .map(|event| data(event)["text"].as_str().unwrap().to_string())
        .collect();
    let last = events.last().unwrap();
    assert_eq!(last.0, "result");
    assert_eq!(data(last)["answers"][0]["text"], text);
}

#[test]
fn a_file_can_come_along_with_what_is_asked_about_it() {
    let client = Running::shared().client();
    let request = json!({"model": "demo", "prompts": [{"organ": "Leber"}, {"question": LIVER}]});
    let send = |request: &Value| {
        let bytes = phantom(5);
        let request = request.to_string();
        client.form(
            "/v1/segment",
            &[("file", Some("a.nii.gz"), &bytes), ("request", None, request.as_bytes())],
        )
    };
    let reply = send(&request);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let result = reply.json();
    assert_eq!(result["masks"][0]["name"], "liver");
    assert_eq!(result["masks"].as_array().unwrap().len(), 2);
    // Both are the liver, so that each has a file of its own.
    assert_eq!(result["masks"][1]["file"], "mask_2.nii.gz");
    let id = result["id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/v1/masks/{id}.nii.gz")).status, 200);
    let mut named = request.clone();
    named["volume"] = json!("vol_0");
    assert_eq!(send(&named).status, 422);
    let bytes = phantom(5);
    let without = client.form("/v1/segment", &[("file", None, &bytes)]);
    assert_eq!((without.status, without.code().as_str()), (422, "R-SRV-09"));
}

#[test]
fn prompts_that_cannot_be_used_are_refused_before_anything_runs() {
    let client = Running::shared().client();
    let id = uploaded(&client, 4);
    let with = |prompts: Value| json!({"model": "demo", "volume": id, "prompts": prompts});
    let question = |more: Value| {
        let mut request = with(json!([{"question": LIVER}]));
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    for (request, status) in [
        (with(json!([])), 422),
        (with(json!([{}])), 422),
        (with(json!([{"name": "liver"}])), 422),
        (with(json!([{"question": LIVER, "text": "liver"}])), 422),
        (with(json!([{"organ": "pancras"}])), 422),
        (with(json!([{"points": [{"voxel": [1, 2, 3]}]}])), 422),
        (with(json!([{"question": ""}])), 422),
        (with(json!([{"question": LIVER, "box": [[0, 0, 0], [64, 1, 1]]}])), 422),
        (with(json!([{"question": LIVER, "box": [[5, 0, 0], [4, 1, 1]]}])), 422),
        (with(json!([{"question": LIVER, "url": "http://localhost/"}])), 422),
        (with(json!([{"question": LIVER, "mask": {"result": "res_0", "label": 1}}])), 404),
        (with(json!(vec![json!({"question": LIVER}); 65])), 422),
        (question(json!({"max_new_tokens": 0})), 422),
        (question(json!({"max_new_tokens": -1})), 422),
        (question(json!({"max_new_tokens": "9"})), 422),
        (question(json!({"max_new_tokens": 1e9})), 422),
        (question(json!({"mode": "zoom"})), 422),
        (question(json!({"mode": "fast"})), 422),
        (question(json!({"model": "other"})), 404),
        (question(json!({"refine_with": "other"})), 404),
        (question(json!({"refine_with": "demo"})), 422),
        (question(json!({"volume": "vol_0"})), 404),
        (question(json!({"path": "/etc/passwd"})), 422),
        (json!({"model": "demo", "prompts": [{"question": LIVER}]}), 422),
    ] {
        let reply = client.post("/v1/segment", &request);
        assert_eq!(reply.status, status, "{request}: {}", reply.text());
        assert!(!reply.json()["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn points_boxes_and_masks_prompt_a_model_that_takes_them() {
    let running = Running::of(vec![recorded("sam-med3d"), recorded("segvol")], |_: &mut Config| {});
    let client = running.client();
    let models = client.get("/v1/models").json();
    assert_eq!(models["object"], "list");
    let kinds = &models["data"][0]["capabilities"]["prompts"];
    assert!(kinds.as_array().unwrap().contains(&json!("points")), "{models}");
    let [sam, segvol] = [0, 1].map(|n| models["data"][n]["id"].as_str().unwrap().to_string());
    // No demo model, no phantoms.
    assert_eq!(client.post("/v1/volumes/phantom", &json!({"seed": 1})).status, 404);

    let id = uploaded(&client, 9);
    let ask = |model: &str, prompt: Value| {
        let request = json!({"model": model, "volume": id, "prompts": [prompt]});
        let reply = client.post("/v1/segment", &request);
        assert_eq!(reply.status, 200, "{request}: {}", reply.text());
        reply.json()
    };
    let clicked = ask(&sam, json!({"points": [{"voxel": [30, 30, 8]}], "name": "kidney"}));
    assert_eq!(clicked["answers"][0]["text"], "");
    assert_eq!(clicked["answers"][0]["finish_reason"], json!(null));
    let boxed = ask(&segvol, json!({"text": "liver", "box": [[8, 8, 2], [40, 40, 12]]}));
    assert!(boxed["answers"][0]["status"].is_string());
    for found in [&clicked, &boxed] {
        let Some(mask) = found["masks"].as_array().unwrap().first() else { continue };
        if mask["voxels"] == 0 {
            continue;
        }
        let earlier = json!({"result": found["id"], "label": mask["label"]});
        let again = ask(&sam, json!({"mask": earlier, "points": [{"voxel": [30, 30, 8]}]}));
        assert_eq!(again["answers"].as_array().unwrap().len(), 1);
    }
    let refused = json!({"model": sam, "volume": id, "prompts": [{"question": LIVER}]});
    assert_eq!(client.post("/v1/segment", &refused).status, 422);
    let outside =
        json!({"model": sam, "volume": id, "prompts": [{"points": [{"voxel": [64, 0, 0]}]}]});
    let outside = client.post("/v1/segment", &outside);
    assert_eq!((outside.status, outside.code().as_str()), (422, "R-PNT-01"));
}

#[test]
fn a_second_model_refines_what_the_first_one_found() {
    let running = Running::of(vec![demo(), recorded("sam-med3d")], |_| {});
    let client = running.client();
    let sam = client.get("/v1/models").json()["data"][1]["id"].clone();
    let mut request = liver(&uploaded(&client, 7));
    request["refine_with"] = sam;
    let reply = client.post("/v1/segment", &request);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let result = reply.json();
    let masks = result["masks"].as_array().unwrap();
    assert_eq!((masks.len(), result["answers"].as_array().unwrap().len()), (2, 1), "{result}");
    assert_eq!((&masks[0]["refines"], &masks[1]["refines"]), (&json!(null), &json!(1)));
    assert!(masks[1]["name"].as_str().unwrap().contains("refined by"), "{result}");
}
