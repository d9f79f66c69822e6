use std::path::Path;

use serde_json::{Value, json};

use crate::{Desk, data};

#[tokio::test]
async fn the_tools_say_what_they_take_and_whether_they_write() {
    let desk = Desk::demo().await;
    let tools = desk.client.list_all_tools().await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(names, ["list_models", "inspect_volume", "ask_volume", "segment_volume"]);
    for tool in &tools {
        let description = tool.description.as_deref().unwrap();
        assert!(description.len() < 700, "{}: {} bytes", tool.name, description.len());
        let hints = tool.annotations.as_ref().unwrap();
        let reads_only = ["list_models", "inspect_volume"].contains(&tool.name.as_ref());
        assert_eq!(hints.read_only_hint, Some(reads_only), "{}", tool.name);
        assert_eq!(hints.open_world_hint, Some(false), "{}", tool.name);
        if !reads_only {
            assert_eq!(hints.destructive_hint, Some(false), "{}", tool.name);
            assert!(description.contains("Research use only"), "{description}");
            assert!(description.contains("(i, j, k)"), "{description}");
        }
        let schema = Value::Object(tool.input_schema.as_ref().clone());
        assert_eq!(schema["type"], "object");
        let output = Value::Object(tool.output_schema.as_ref().unwrap().as_ref().clone());
        assert_eq!(output["type"], "object", "{}", tool.name);
    }
}

/// Every property of a schema, wherever it stands, with its path.
fn properties(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let Value::Object(object) = schema else { return };
    for (key, value) in object {
        let path = format!("{path}/{key}");
        if let (true, Value::Object(properties)) = (key == "properties", value) {
            found
                .extend(properties.iter().map(|(name, of)| (format!("{path}/{name}"), of.clone())));
        }
        properties_of(value, &path, found);
    }
}

fn properties_of(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| properties(item, path, found)),
        value => properties(value, path, found),
    }
}

#[tokio::test]
async fn every_argument_and_every_field_of_a_result_is_described() {
    let desk = Desk::demo().await;
    for tool in desk.client.list_all_tools().await.unwrap() {
        let output = tool.output_schema.clone().unwrap();
        for schema in [tool.input_schema.as_ref(), output.as_ref()] {
            let mut found = Vec::new();
            properties(&Value::Object(schema.clone()), "", &mut found);
            for (path, property) in found {
                let described = property["description"].as_str().is_some_and(|text| text.len() > 5);
                assert!(described, "{}{path}: {property}", tool.name);
            }
        }
    }
}

#[tokio::test]
async fn the_folders_that_are_served_are_named_to_the_client() {
    let desk = Desk::demo().await;
    let scans = desk.scan("").canonicalize().unwrap().display().to_string();
    let info = desk.client.peer_info().unwrap();
    let instructions = info.instructions.clone().unwrap();
    assert!(instructions.contains(&scans) && instructions.contains("results"), "{instructions}");
    let tools = desk.client.list_all_tools().await.unwrap();
    for tool in tools.iter().filter(|tool| tool.name != "list_models") {
        let volume = &tool.input_schema["properties"]["volume"]["description"];
        assert!(volume.as_str().unwrap().contains(&scans), "{volume}");
    }
}

#[tokio::test]
async fn models_are_listed_with_what_they_take() {
    let (segvol, clicks) = (data("segvol"), data("sam-med3d"));
    let desk = Desk::serving(&[Path::new("demo"), &segvol, &clicks]).await;
    let list = desk.get("list_models", json!({})).await;
    let models = list["models"].as_array().unwrap();
    let field = |name: &str| models.iter().map(|model| model[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("id"), ["demo", "segvol", "sam-med3d"]);
    assert_eq!(field("is_demo"), [true, false, false]);
    assert_eq!(field("loaded"), [false, false, false]);
    assert_eq!(field("tool"), ["ask_volume", "segment_volume", "segment_volume"]);
    assert_eq!(models[0]["prompts"], json!(["question", "organ"]));
    assert_eq!(models[1]["prompts"], json!(["text", "organ", "points", "box"]));
    assert_eq!(models[2]["prompts"], json!(["points", "mask"]));
    assert!(models[0]["examples"][0].as_str().is_some_and(|text| text.contains(' ')), "{list}");
    assert_eq!(list["research_use_only"], true);
}
