//! Reports keep to `docs/report.schema.json`, and what is inspected to `docs/inspect.schema.json`
//! and `docs/inspect-model.schema.json`; `compare` holds what is compared to `docs/compare.schema.json`.
//!
//! The checker below knows the part of JSON Schema (draft 2020-12) that the schema uses, and
//! refuses a schema that uses more.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Desk, data, finish, nifti, prompt};

fn schema() -> Value {
    schema_of("report")
}

fn schema_of(what: &str) -> Value {
    let file = format!("../../docs/{what}.schema.json");
    serde_json::from_slice(&fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap())
        .unwrap()
}

/// All that is wrong with `value`, each with its place.
fn faults(root: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let mut check = |ok: bool, what: &str, rule: &Value| {
        if !ok {
            found.push(format!("{place}: {what} is {rule}, found {value}"));
        }
    };
    let length = value.as_array().map(|a| a.len() as u64);
    let mut inner = Vec::new();
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "$defs" => {}
            "$ref" => {
                let target = root.pointer(rule.as_str().unwrap().trim_start_matches('#'));
                inner.push((target.unwrap(), value, place.to_string()));
            }
            "type" => {
                let one = [rule.clone()];
                let types = rule.as_array().map_or(&one[..], Vec::as_slice);
                check(types.iter().any(|t| is(value, t.as_str().unwrap())), keyword, rule);
            }
            "enum" => check(rule.as_array().unwrap().contains(value), keyword, rule),
            "const" => check(rule == value, keyword, rule),
            "minimum" => check(value.as_f64() >= rule.as_f64() || value.is_null(), keyword, rule),
            "maximum" => check(value.as_f64() <= rule.as_f64() || value.is_null(), keyword, rule),
            "minItems" => check(length.is_none_or(|n| n >= rule.as_u64().unwrap()), keyword, rule),
            "maxItems" => check(length.is_none_or(|n| n <= rule.as_u64().unwrap()), keyword, rule),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                inner.extend(items.map(|(n, item)| (rule, item, format!("{place}[{n}]"))));
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    let missing = value.get(name.as_str().unwrap()).is_none();
                    check(!missing || !value.is_object(), "required", name);
                }
            }
            "dependentRequired" => {
                for (name, others) in rule.as_object().unwrap() {
                    let is_there = |n: &Value| value.get(n.as_str().unwrap()).is_some();
                    let all = others.as_array().unwrap().iter().all(is_there);
                    check(value.get(name).is_none() || all, keyword, rule);
                }
            }
            "properties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rule.get(name) {
                        inner.push((rule, item, format!("{place}.{name}")));
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false), "{place}");
                for name in value.as_object().into_iter().flat_map(|o| o.keys()) {
                    check(
                        schema["properties"].get(name).is_some(),
                        "no such property",
                        &json!(name),
                    );
                }
            }
            other => panic!("the checker does not know `{other}`"),
        }
    }
    for (schema, value, place) in inner {
        faults(root, schema, value, &place, found);
    }
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("no type `{other}`"),
    }
}

#[track_caller]
fn assert_valid(report: &Value) {
    assert_keeps_to("report", report);
}

/// `value` keeps to the schema of this name.
#[track_caller]
pub(crate) fn assert_keeps_to(what: &str, value: &Value) {
    let schema = schema_of(what);
    let mut found = Vec::new();
    faults(&schema, &schema, value, what, &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The report of a run that printed it.
fn report(run: &crate::Run) -> Value {
    serde_json::from_str(&run.succeeds().stdout).unwrap()
}

#[test]
fn every_property_of_the_schema_is_described() {
    fn check(schema: &Value, place: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}.{name}");
            assert!(property["description"].as_str().is_some_and(|d| d.ends_with('.')), "{place}");
            check(property, &place);
        }
    }
    check(&schema_of("inspect"), "inspect");
    check(&schema_of("inspect-model"), "inspect-model");
    check(&schema_of("error"), "error");
    for what in ["report", "compare"] {
        let schema = schema_of(what);
        check(&schema, what);
        for (name, def) in schema["$defs"].as_object().unwrap() {
            assert!(def["description"].is_string(), "{name}");
            check(def, name);
        }
    }
}

#[test]
fn the_checker_finds_what_is_wrong_with_a_report() {
    let desk = Desk::new();
    let good = report(&desk.infer("--json --no-preview"));
    assert_valid(&good);
    let root = schema();
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut report = good.clone();
        change(&mut report);
        let mut found = Vec::new();
        faults(&root, &root, &report, "report", &mut found);
        found.len()
    };
    assert_eq!(wrong(&|r| r["extra"] = json!(1)), 1);
    assert_eq!(wrong(&|r| drop(r.as_object_mut().unwrap().remove("git"))), 1);
    assert_eq!(wrong(&|r| drop(r.as_object_mut().unwrap().remove("answer"))), 1);
    assert_eq!(wrong(&|r| r["schema_version"] = json!(1)), 1);
    assert_eq!(wrong(&|r| r["status"] = json!("lost")), 1);
    assert_eq!(wrong(&|r| r["input"]["shape"] = json!([1, 2])), 1);
    assert_eq!(wrong(&|r| r["input"]["shape"][0] = json!(1.5)), 1);
    assert_eq!(wrong(&|r| r["masks"][0]["voxels"] = Value::Null), 1);
    assert_eq!(wrong(&|r| r["masks"][0]["label"] = json!(0)), 1);
    assert_eq!(wrong(&|r| r["answers"] = json!([])), 1);
}

#[test]
fn the_report_of_one_prompt_has_its_answer_at_the_top_too() {
    let desk = Desk::new();
    let report = report(&desk.infer_volume(&nifti(&desk, "ct.nii.gz"), "--json"));
    assert_valid(&report);
    let answer = &report["answers"][0];
    assert_eq!(report["answers"].as_array().unwrap().len(), 1);
    for name in ["prompt", "answer", "finish_reason", "tokens", "status", "seg_token"] {
        assert!(!report[name].is_null(), "{name}");
        assert_eq!(report[name], answer[name], "{name}");
    }
}

#[test]
fn the_report_names_the_manifest_and_the_quantization_of_the_model() {
    let desk = Desk::new();
    let (volume, question) = (data("phi3/golden/volume.npy"), prompt("phi3/golden/case1"));
    let model = desk.path("model");
    let mut command = desk.command();
    command.arg("convert").arg(data("phi3")).args(["--quant", "q8_0", "-o"]).arg(&model);
    finish(&mut command).succeeds();
    let of = |out: &str| {
        let arguments = format!("--json --no-preview --out {out}");
        let report = report(&desk.ask(&model, &volume, &question, &arguments));
        assert_valid(&report);
        report["model"].clone()
    };
    let converted = of("first");
    let manifest = Sha256::digest(fs::read(model.join("manifest.json")).unwrap());
    assert_eq!(converted["sha256"], json!(format!("{manifest:x}")));
    assert_eq!(converted["quant"], "q8_0");
    // Most weights of so small a model are not quantized, and nothing says now that any are.
    fs::remove_file(model.join("manifest.json")).unwrap();
    let model = of("second");
    assert_eq!((&model["sha256"], &model["quant"]), (&Value::Null, &Value::Null));
}

#[test]
fn the_report_of_several_prompts_has_an_answer_each() {
    let desk = Desk::new();
    let other = prompt("phi3/golden/case2");
    let mut command = desk.infer_command(&nifti(&desk, "ct.nii"), "--json --temperature 0.1");
    let report = report(&finish(command.args(["--prompt", &other])));
    assert_valid(&report);
    assert_eq!(report["prompt"], Value::Null);
    assert_eq!(report["answers"][1]["prompt"], other);
    assert_eq!(
        report["sampling"],
        json!({"temperature": 0.1, "top_k": 50, "top_p": 1.0, "seed": 0})
    );
}

#[test]
fn reports_without_a_mask_without_mm_of_windows_and_of_the_demo_are_valid() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    let question = prompt("phi3/golden/case2");
    let none = report(&desk.ask(&data("phi3"), &volume, &question, "--json --out none"));
    assert_eq!((&none["masks"], &none["input"]["affine"]), (&json!([]), &Value::Null));
    assert_valid(&none);
    let sliding = data("phi3/golden/sliding.volume.npy");
    let sliding = report(&desk.infer_volume(&sliding, "--json --mode sliding"));
    assert_eq!(sliding["windows"].as_array().unwrap().len(), 8);
    assert_valid(&sliding);
    let demo = report(&desk.run(["demo", "--json", "--device", "cpu"]));
    assert_eq!(demo["answers"].as_array().unwrap().len(), 7);
    assert_valid(&demo);
    let written = fs::read(desk.path("r1seg-demo/report.json")).unwrap();
    assert_eq!(demo, serde_json::from_slice::<Value>(&written).unwrap());
}
