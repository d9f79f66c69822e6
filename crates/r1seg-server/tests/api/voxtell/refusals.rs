//! What is refused, in words that viewers show, and what no proper client sends.

use r1seg_server::{Config, Keys, Server};
use r1seg_viewers::ElementType;
use serde_json::{Value, json};

use super::*;
use crate::support::{KEYS, LIVER, Reply, eventually, metric, uploaded};

/// The words of a refusal, which stand in the body and behind the status.
fn detail(reply: &Reply) -> String {
    let detail = reply.json()["detail"].as_str().unwrap().to_string();
    assert_eq!(reply.reason, detail, "{}", reply.status);
    detail
}

#[test]
fn a_server_whose_models_take_no_words_does_not_start() {
    let mut config = Config::default();
    voxtell(&mut config);
    let error = Server::new(config, vec![recorded("sam-med3d")]).unwrap_err();
    let said = "VoxTell's plug-ins send texts, and no model that is served takes any";
    assert_eq!((error.code(), error.to_string().as_str()), ("R-SRV-21", said));
}

#[test]
fn refusals_say_what_is_wrong_behind_the_status() {
    let running = serving(vec![demo()]);
    let client = running.client();
    let own = image(&client, &phantom(7));
    let forgotten = "the server does not know this image, or no more: load it again";
    let no_job = "the server does not know this job, or no more";
    let blank = "a job needs prompts, and none of them may be blank";
    let job = |image: &str, prompts: Value| {
        client.post("/jobs", &json!({"image_id": image, "prompts": prompts}))
    };
    let unknown = "0".repeat(32);
    for (reply, status, words) in [
        (job(&unknown, json!([LIVER])), 404, forgotten),
        (job("../../etc/passwd", json!([LIVER])), 404, forgotten),
        (job(&own, json!([])), 400, blank),
        (job(&own, json!([LIVER, "  "])), 400, blank),
        (job(&own, json!("")), 400, blank),
        (client.get(&format!("/jobs/{unknown}/events")), 404, no_job),
        (client.get(&format!("/jobs/{unknown}/result")), 404, no_job),
        (client.post_text(&format!("/jobs/{unknown}/cancel"), ""), 404, no_job),
        (client.post_text(&format!("/images/{unknown}/export"), ""), 404, forgotten),
    ] {
        assert_eq!((reply.status, detail(&reply).as_str()), (status, words));
    }
    for prompts in [json!(7), json!([7]), json!({"a": "b"}), json!(null), json!([[LIVER]])] {
        let reply = job(&own, prompts);
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(!detail(&reply).is_empty());
    }
    let reply = client.get("/jobs");
    assert_eq!((reply.status, detail(&reply).is_empty()), (405, false));
    let reply = client.get("/images/1/2/3");
    assert_eq!((reply.status, detail(&reply).is_empty()), (404, false));
    let reply = client.send("POST", "/images?include_image=perhaps", "", &phantom(7));
    assert_eq!((reply.status, detail(&reply).is_empty()), (400, false));

    // More prompts than a request may have: the job ends with it, where viewers show it.
    let many = begun(&client, &own, json!(vec![LIVER; 65]));
    let told = events(&client, &many);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["message"], "1 to 64 prompts are taken");
}

#[test]
fn files_that_are_no_volume_and_labels_that_do_not_fit_are_refused() {
    let running = serving(vec![demo()]);
    let client = running.client();
    let post = |path: &str, body: &[u8]| client.send("POST", path, "", body);
    for body in [&b""[..], b"no volume", &phantom(7)[..500], &vec![0x1f; 5000]] {
        let reply = post("/images?include_image=false", body);
        assert_eq!(reply.status, 400, "{}", reply.text());
        let folder = running.folder.path().display().to_string();
        assert!(!detail(&reply).contains(&folder), "{}", reply.text());
    }
    assert_eq!(running.files(), Vec::<std::path::PathBuf>::new());

    let image = image(&client, &phantom(7));
    let export = |array: &Array| {
        let mut body = Vec::new();
        vxa2::write(&mut body, array).unwrap();
        post(&format!("/images/{image}/export"), &body)
    };
    let of = |element: ElementType, shape: [usize; 3], byte: u8| {
        let bytes = vec![byte; shape.iter().product::<usize>() * element.size()];
        Array::new(element, shape.to_vec(), bytes).unwrap()
    };
    let reply = export(&of(ElementType::U8, [64, 64, 16], 1));
    assert_eq!(reply.status, 400);
    let words = "the labels have the shape [64, 64, 16], and the image [16, 64, 64]";
    assert_eq!(detail(&reply), words);
    let reply = export(&of(ElementType::I16, [16, 64, 64], 0xff));
    assert_eq!(reply.status, 400);
    assert_eq!(detail(&reply), "an element of the array is not a whole number from 0 to 65535");
}

#[test]
fn arrays_that_claim_too_much_or_are_broken_take_no_memory() {
    let running = Running::of(vec![demo()], |config| {
        voxtell(config);
        config.limits.max_volume_bytes = 1 << 20;
    });
    let client = running.client();
    let image = image(&client, &phantom(7));
    let export = |body: &[u8]| client.send("POST", &format!("/images/{image}/export"), "", body);
    let mut claims = b"VXA2\x03|u1\x03".to_vec();
    for size in [1_u64 << 20, 1 << 20, 1 << 10, 1 << 50] {
        claims.extend(size.to_le_bytes());
    }
    let reply = export(&claims);
    assert_eq!(reply.status, 413);
    assert!(detail(&reply).contains("at most 1048576 are read"), "{}", reply.text());

    let array = Array::new(ElementType::U8, vec![16, 64, 64], vec![3; 16 * 64 * 64]).unwrap();
    let mut good = Vec::new();
    vxa2::write(&mut good, &array).unwrap();
    for length in (0..good.len()).step_by(7) {
        assert_eq!(export(&good[..length]).status, 400, "{length}");
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x81;
        let status = export(&changed).status;
        assert!([200, 400, 413].contains(&status), "{at}: {status}");
    }
    assert_eq!(metric(&client, "r1seg_panics_total"), 0.0);
    // What was received for it is gone.
    let kept = metric(&client, "r1seg_memory_bytes");
    assert!(kept <= 2.0 * 16.0 * 64.0 * 64.0 * 4.0, "{kept}");
    assert_eq!(export(&good).status, 200);
}

#[test]
fn junk_instead_of_json_is_refused_and_the_server_goes_on() {
    let running = serving(vec![demo()]);
    let client = running.client();
    let deep = format!("{{\"prompts\": {}", "[".repeat(100_000));
    for body in ["", "{", "[]", "null", "{\"image_id\": 3}", "\u{0}", deep.as_str()] {
        let reply = client.post_text("/jobs", body);
        assert_eq!(reply.status, 400, "{body:.20}");
        assert!(!detail(&reply).is_empty());
    }
    let long = format!("{{\"image_id\": \"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(client.post_text("/jobs", &long).status, 413);
    // A path that is not UTF-8.
    let reply = client.get("/jobs/%ff%fe/events");
    assert_eq!((reply.status, detail(&reply).is_empty()), (400, false));
    assert_eq!(client.get("/healthz").status, 200);
    assert_eq!(metric(&client, "r1seg_panics_total"), 0.0);
}

#[test]
fn images_and_jobs_are_for_their_key_alone() {
    let running = Running::of(vec![demo()], |config| {
        voxtell(config);
        config.keys = Keys::of_lines(&KEYS.join("\n")).unwrap();
    });
    let [one, other] = KEYS.map(|key| running.client().with_key(key));
    let anybody = running.client();
    assert_eq!(anybody.get("/healthz").json(), json!({"ok": true}));
    let reply = anybody.get("/capabilities");
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")));
    assert!(detail(&reply).contains("key"), "{}", reply.text());

    let image = image(&one, &phantom(7));
    let job = begun(&one, &image, json!(LIVER));
    assert_eq!(events(&one, &job).last(), Some(&json!({"status": "done"})));
    let request = json!({"image_id": image, "prompts": [LIVER]});
    assert_eq!(other.post("/jobs", &request).status, 404);
    for path in ["events", "result"] {
        assert_eq!(other.get(&format!("/jobs/{job}/{path}")).status, 404);
        assert_eq!(anybody.get(&format!("/jobs/{job}/{path}")).status, 401);
    }
    assert_eq!(other.post_text(&format!("/jobs/{job}/cancel"), "").status, 404);
    // A page of another origin gets nothing, nor does a detour by another name.
    let page = one.clone().with_header("Origin", "http://evil.example");
    assert_eq!(page.post("/jobs", &request).status, 403);
    let detour = one.clone().with_header("Host", "evil.example");
    assert_eq!(detour.get("/capabilities").status, 421);
}

#[test]
fn earlier_images_of_viewers_make_room_for_later_ones_and_other_volumes_do_not() {
    // Room for the voxels of two and a half phantoms.
    let phantoms = |count: f64| (count * 16.0 * 64.0 * 64.0 * 4.0) as u64;
    let running = Running::of(vec![demo()], |config| {
        voxtell(config);
        config.limits.max_memory_bytes = phantoms(2.5);
    });
    let client = running.client();
    let volume = uploaded(&client, 1);
    let first = image(&client, &phantom(2));
    let second = image(&client, &phantom(3));
    let ask = |image: &str| client.post("/jobs", &json!({"image_id": image, "prompts": [LIVER]}));
    assert_eq!(ask(&first).status, 404);
    assert_eq!(ask(&second).status, 200);
    assert_eq!(client.get(&format!("/v1/volumes/{volume}")).status, 200);
    // A volume of the API does not push an image out.
    assert_eq!(client.upload("ct.nii.gz", &phantom(4)).status, 429);
    assert_eq!(ask(&second).status, 200);
}

#[test]
fn what_was_uploaded_and_asked_goes_when_nobody_uses_it() {
    let running = Running::of(vec![demo()], |config| {
        voxtell(config);
        config.limits.ttl = std::time::Duration::from_secs(2);
    });
    let client = running.client();
    let image = image(&client, &phantom(7));
    let job = begun(&client, &image, json!(LIVER));
    events(&client, &job);
    masks(&client, &job);
    eventually("the job goes", || client.get("/metrics").text().contains("r1seg_results 0"));
    eventually("all files go", || running.files().is_empty());
    assert_eq!(client.get(&format!("/jobs/{job}/result")).status, 404);
    assert_eq!(client.post("/jobs", &json!({"image_id": image, "prompts": [LIVER]})).status, 404);
}
