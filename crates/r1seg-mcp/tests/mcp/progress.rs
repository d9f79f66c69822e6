use std::time::{Duration, Instant};

use rmcp::model::{ClientRequest, Request};
use rmcp::service::PeerRequestOptions;
use serde_json::json;

use crate::{Desk, LIVER, ask_liver, params};

#[tokio::test]
async fn a_client_hears_of_every_stage_and_its_count_only_grows() {
    let desk = Desk::demo().await;
    desk.get("ask_volume", ask_liver()).await;
    let heard = desk.client.service().heard();
    assert!(heard.windows(2).all(|pair| pair[0].progress < pair[1].progress), "{heard:#?}");
    let messages = desk.client.service().messages();
    for stage in
        ["reading", "loading", "encoding", "answering question 1: ", "drawing mask 1", "writing"]
    {
        assert!(messages.iter().any(|message| message.contains(stage)), "{stage}: {messages:#?}");
    }
    // Nothing of what was asked or answered is reported on the way.
    assert!(!messages.join("").contains("liver"), "{messages:#?}");
}

#[tokio::test]
async fn windows_are_counted() {
    let desk = Desk::demo().await;
    let mut args = ask_liver();
    args["mode"] = json!("sliding");
    desk.get("ask_volume", args).await;
    let messages = desk.client.service().messages();
    assert!(messages.iter().any(|message| message.starts_with("window 1 of ")), "{messages:#?}");
}

#[tokio::test]
async fn a_call_that_is_cancelled_stops_soon_and_leaves_nothing() {
    let desk = Desk::demo().await;
    let args = json!({ "volume": "ct.nii.gz", "questions": vec![LIVER; 64] });
    let request = ClientRequest::CallToolRequest(Request::new(params("ask_volume", args)));
    let options = PeerRequestOptions::no_options();
    let handle = desk.client.send_cancellable_request(request, options).await.unwrap();
    let heard = || desk.client.service().messages();
    let begun = Instant::now();
    while !heard().iter().any(|message| message.starts_with("answering")) {
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", heard());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    handle.cancel(Some("enough".to_string())).await.unwrap();
    // The next call has its turn at once: the other 60 questions are not answered first.
    let start = Instant::now();
    let outcome = desk.get("ask_volume", ask_liver()).await;
    assert_eq!(outcome["answers"].as_array().unwrap().len(), 1);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!(desk.written(), ["ct"]);
}

#[tokio::test]
async fn calls_at_the_same_time_are_all_answered() {
    let desk = Desk::demo().await;
    let ask = || desk.get("ask_volume", ask_liver());
    let look = desk.get("inspect_volume", json!({ "volume": "ct.nii.gz" }));
    let (first, second, third, looked) = tokio::join!(ask(), ask(), ask(), look);
    for outcome in [&first, &second, &third] {
        assert_eq!(outcome["masks"], first["masks"]);
    }
    assert_eq!(looked["kind"], "nifti-1");
    assert_eq!(desk.written(), ["ct", "ct-2", "ct-3"]);
    let messages = desk.client.service().messages();
    assert!(messages.iter().any(|message| message.starts_with("waiting for ")), "{messages:#?}");
}
