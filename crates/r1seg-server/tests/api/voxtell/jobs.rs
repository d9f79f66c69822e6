//! Prompts, their progress, and their masks.

use std::io::BufRead;

use r1seg_viewers::ElementType;
use serde_json::json;

use super::*;
use crate::support::{LIVER, metric};

/// A question that gets words alone.
const CAPTION: &str = r1seg::phantom::CAPTION_QUESTION;

#[test]
fn questions_get_the_masks_of_the_api_and_their_answers_as_messages() {
    let running = serving(vec![demo()]);
    let client = running.client();
    let file = phantom(7);
    let image = image(&client, &file);
    let (said, masks) = run(&client, &image, json!([LIVER, CAPTION]));
    assert_eq!((masks.element(), masks.shape()), (ElementType::U8, &[2, 16, 64, 64][..]));
    let asked = json!([{"question": LIVER}, {"question": CAPTION}]);
    let expected = of_the_api(&client, &json!("demo"), &file, asked);
    assert!(expected[0].contains(&1) && !expected[1].contains(&1));
    assert!(masks.bytes() == expected.concat());
    let said_of = |prompt: &str| {
        let begins = format!("{prompt}: ");
        let own = said.iter().filter_map(|words| words.strip_prefix(&begins));
        own.map(str::to_string).collect::<Vec<_>>()
    };
    assert!(said_of(LIVER)[0].contains("[SEG]"), "{said:?}");
    assert_eq!(said_of(CAPTION).len(), 1);
    // What the report warns of, too: the demo model is not for patients.
    assert!(said.iter().any(|words| words.contains("phantom")), "{said:?}");

    // A lone prompt counts as a list of one, and the image is still there.
    let (_, alone) = run(&client, &image, json!(format!("  {LIVER} ")));
    assert_eq!(alone.shape(), [1, 16, 64, 64]);
    assert!(alone.bytes() == mask(&masks, 0));
}

#[test]
fn texts_get_a_mask_each_from_a_model_that_takes_them() {
    let running = serving(vec![recorded("sam-med3d"), recorded("segvol")]);
    let client = running.client();
    let segvol = client.get("/v1/models").json()["data"][1]["id"].clone();
    // The first of the models that can.
    assert_eq!(client.get("/capabilities").json()["model"], segvol);
    let file = phantom(9);
    let image = image(&client, &file);
    let (_, masks) = run(&client, &image, json!(["liver", "spleen"]));
    let asked = json!([{"text": "liver"}, {"text": "spleen"}]);
    let expected = of_the_api(&client, &segvol, &file, asked);
    assert!(expected.iter().all(|mask| mask.contains(&1)) && expected[0] != expected[1]);
    assert!(masks.bytes() == expected.concat());
}

#[test]
fn classes_are_named_by_name_number_or_group_and_an_unknown_one_is_said() {
    let running = serving(vec![recorded("vista3d")]);
    let client = running.client();
    let known = client.get("/capabilities").json();
    let words = known["available_embeddings"].as_array().unwrap();
    assert!(words.contains(&json!("liver")) && words.contains(&json!("lung")), "{known}");

    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    let file = std::fs::read(data.join("vista3d/golden/ct.nii.gz")).unwrap();
    let image = image(&client, &file);
    let (_, masks) = run(&client, &image, json!(["Liver", "3", "kidney"]));
    let asked = json!([{"text": "liver"}, {"text": "spleen"}, {"text": "kidney"}]);
    let expected = of_the_api(&client, &known["model"], &file, asked);
    assert!(expected.iter().all(|mask| mask.contains(&1)));
    assert!(masks.bytes() == expected.concat());

    let job = begun(&client, &image, json!(["spleen", "livr"]));
    let told = events(&client, &job);
    assert_eq!((told.len(), &told[0]["status"]), (1, &json!("error")), "{told:?}");
    let message = told[0]["message"].as_str().unwrap();
    assert!(message.contains("livr") && message.contains("liver"), "{message}");
    let reply = client.get(&format!("/jobs/{job}/result"));
    assert_eq!((reply.status, &reply.json()["detail"]), (500, &told[0]["message"]));
}

#[test]
fn events_are_told_from_the_start_to_whoever_comes_and_progress_is_counted() {
    let running = serving(vec![demo()]);
    let client = running.client();
    let image = image(&client, &phantom(7));
    let job = begun(&client, &image, json!([LIVER, LIVER, CAPTION]));
    let told = events(&client, &job);
    assert_eq!(told, events(&client, &job));
    let steps: Vec<_> = told.iter().filter(|event| event.get("total").is_some()).collect();
    assert!(!steps.is_empty(), "{told:?}");
    for step in &steps {
        assert!(step["done"].as_u64().unwrap() <= step["total"].as_u64().unwrap(), "{step}");
    }
    assert_eq!(**steps.last().unwrap(), json!({"done": 3, "total": 3}));
    assert_eq!(told.last(), Some(&json!({"status": "done"})));
    assert_eq!(told.iter().filter(|event| event.get("status").is_some()).count(), 1);
}

#[test]
fn only_the_largest_part_of_a_mask_is_kept_where_that_is_asked_for() {
    let running = serving(vec![recorded("segvol")]);
    let client = running.client();
    let image = image(&client, &phantom(9));
    let whole = run(&client, &image, json!("liver")).1;
    let request = json!({"image_id": image, "prompts": ["liver"], "keep_largest": true});
    let job = client.post("/jobs", &request).json()["job_id"].as_str().unwrap().to_string();
    assert_eq!(events(&client, &job).last(), Some(&json!({"status": "done"})));
    let largest = masks(&client, &job);
    let count = |array: &Array| array.bytes().iter().filter(|voxel| **voxel == 1).count();
    let expected =
        r1seg::volume::ConnectedComponents::by_faces(whole.bytes(), [16, 64, 64], |voxel| {
            voxel == 1
        });
    let parts = expected.unwrap();
    // Otherwise this says nothing.
    assert!(parts.count() > 1, "{}", parts.count());
    assert!(largest.bytes() == parts.mask(|part| Some(part) == parts.largest()));
    assert!(0 < count(&largest) && count(&largest) < count(&whole));
}

#[test]
fn a_job_that_is_cancelled_says_so_and_frees_its_place() {
    let running = serving(vec![demo()]);
    let client = running.client();
    let image = image(&client, &phantom(7));
    let job = begun(&client, &image, json!(vec![LIVER; 64]));
    let waiting = begun(&client, &image, json!(vec![CAPTION; 64]));
    // Somebody listens while it is cancelled, and somebody else does not.
    let head = client.head("GET", &format!("/jobs/{job}/events"), "", None);
    let mut listening = std::io::BufReader::new(client.open(head.as_bytes()));
    let mut line = String::new();
    while !line.contains("\"total\"") {
        line.clear();
        assert!(listening.read_line(&mut line).unwrap() > 0);
    }
    for id in [&waiting, &job, &job] {
        let reply = client.post_text(&format!("/jobs/{id}/cancel"), "");
        assert_eq!((reply.status, reply.json()), (200, json!({"cancelling": true})));
    }
    let mut rest = String::new();
    while listening.read_line(&mut rest).unwrap() > 0 {}
    assert!(rest.contains(r#"{"status":"cancelled"}"#), "{rest}");
    for id in [&job, &waiting] {
        assert_eq!(events(&client, id).last(), Some(&json!({"status": "cancelled"})));
        let reply = client.get(&format!("/jobs/{id}/result"));
        assert_eq!((reply.status, reply.reason.as_str()), (409, "the job was cancelled"));
    }
    crate::support::eventually("no model works any more", || {
        metric(&client, "r1seg_active") + metric(&client, "r1seg_queue_depth") == 0.0
    });
    // After its end, cancelling changes nothing.
    let (_, done) = run(&client, &image, json!(LIVER));
    assert!(done.bytes().contains(&1));
}
