//! What a batch writes, and what does not change it.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{
    HOSTILE, assert_same, batch, command, everything, hostile, lines, list, phantom, phantoms,
    results,
};
use crate::{Desk, finish};

#[test]
fn every_volume_has_a_line_a_folder_and_rows_and_those_that_fail_stop_nothing() {
    let desk = Desk::new();
    phantoms(&desk, 3);
    let mut rows = hostile(&desk);
    for n in 0..3 {
        rows.insert(
            2 * n as usize,
            json!({"id": format!("p{n}"), "image": format!("in/p{n}.nii.gz")}),
        );
    }
    list(&desk, "list.jsonl", &rows);
    let run = batch(&desk, "--manifest list.jsonl --organ liver,spleen -v");
    run.code_is(4).says("3 of 8 volumes have results; 5 failed").says("research use only");
    let loads =
        run.stderr.lines().filter(|line| line.split_whitespace().any(|word| word == "load:"));
    assert_eq!(loads.count(), 1, "{}", run.stderr);
    assert!(!run.stderr.contains("p0.nii") && !run.stderr.contains("livver"), "{}", run.stderr);
    assert_eq!(run.stdout.lines().count(), 8);
    assert!(run.stdout.contains("missing: failed [R-"), "{}", run.stdout);

    let found = results(&desk, "out");
    assert_eq!(found.len(), 8);
    for (id, exit) in HOSTILE {
        let line = &found[id];
        assert_eq!(
            (&line["status"], &line["exit_code"]),
            (&"failed".into(), &exit.into()),
            "{line}"
        );
        assert!(
            line["code"].as_str().unwrap().starts_with("R-")
                && !line["text"].as_str().unwrap().is_empty()
        );
        assert!(line["folder"].is_null() && line["masks"] == json!([]));
    }
    assert_eq!(
        found["wrong prompt"]["fix"].as_str().unwrap().split('?').next(),
        Some("did you mean liver")
    );
    for n in 0..3 {
        let line = &found[&format!("p{n}")];
        let folder = line["folder"].as_str().unwrap();
        let names = desk.names(&format!("out/{folder}"));
        let expected = [
            "answer.txt",
            "labels.json",
            "mask.nii.gz",
            "mask.seg.nrrd",
            "preview.png",
            "report.json",
        ];
        assert!(expected.iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
        let report: Value = serde_json::from_slice(
            &fs::read(desk.path(&format!("out/{folder}/report.json"))).unwrap(),
        )
        .unwrap();
        crate::schema::assert_keeps_to("report", &report);
        assert_eq!(report["input"]["sha256"], line["input"]["sha256"]);
        assert_eq!(report["masks"][0]["volume_ml"], line["masks"][0]["volume_ml"]);
        assert_eq!(line["answers"].as_array().unwrap().len(), 2);
        assert!(line["answers"][0]["answer"].as_str().unwrap().contains("[SEG]"));
    }
    for line in lines(&desk.path("out/results.jsonl")) {
        crate::schema::assert_keeps_to("batch", &line);
    }
    // In the order of the list, as the table is.
    let order: Vec<String> = lines(&desk.path("out/results.jsonl"))
        .iter()
        .map(|l| l["id"].as_str().unwrap().to_owned())
        .collect();
    let wanted: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(order, wanted);
    let table = fs::read_to_string(desk.path("out/summary.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 2 * 3 + 5, "{table}");
    assert!(
        table.starts_with("id,label,name,status,voxels,volume_ml,")
            && table.contains("missing,,R-")
    );
    let hidden: Vec<String> =
        desk.names("out").into_iter().filter(|name| name.ends_with(".part")).collect();
    assert!(hidden.is_empty() && !desk.path("out/.running").exists(), "{hidden:?}");
}

#[test]
fn the_files_of_a_volume_are_those_of_infer() {
    let desk = Desk::new();
    phantoms(&desk, 1);
    batch(&desk, "in --organ liver,spleen").succeeds();
    let folder = results(&desk, "out")["p0"]["folder"].as_str().unwrap().to_owned();
    let line = "infer -m demo --device cpu -i in/p0.nii.gz --organ liver,spleen -o alone";
    finish(desk.command().args(line.split(' '))).succeeds();
    let names = desk.names("alone");
    assert_eq!(desk.names(&format!("out/{folder}")), names);
    for name in names.iter().filter(|name| *name != "report.json") {
        let read = |folder: &str| fs::read(desk.path(folder).join(name)).unwrap();
        assert!(read("alone") == read(&format!("out/{folder}")), "{name}");
    }
}

#[test]
fn parts_make_what_one_run_makes_and_the_last_one_sums_up() {
    let desk = Desk::new();
    phantoms(&desk, 6);
    let mut rows = hostile(&desk);
    rows.extend((0..6).map(|n| json!({"id": format!("p{n}"), "image": format!("in/p{n}.nii.gz")})));
    list(&desk, "list.jsonl", &rows);
    let line = "--manifest list.jsonl --organ liver --no-preview -q";
    batch(&desk, line).code_is(4);
    let whole = everything(&desk, "out");
    fs::rename(desk.path("out"), desk.path("whole")).unwrap();
    let part = |k: usize| {
        let mut command = command(&desk, &format!("{line} --shard {k}/3"));
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    for mut child in [0, 1, 2].map(part) {
        assert!(matches!(child.wait().unwrap().code(), Some(0 | 4)));
    }
    let names = desk.names("out");
    for k in 0..3 {
        assert!(names.contains(&format!("results.{k}-of-3.jsonl")), "{names:?}");
    }
    assert_same(&everything(&desk, "out"), &whole);
    // All of it is done, whichever way it is looked at.
    let again = batch(&desk, &format!("{line} --resume --shard 1/2 --json"));
    assert!(again.stdout.lines().all(|line| line.contains("\"failed\"")), "{}", again.stdout);
}

#[test]
fn json_lines_on_standard_output_are_those_of_the_file() {
    let desk = Desk::new();
    phantoms(&desk, 3);
    let run = batch(&desk, "in --organ liver --no-preview --json -q");
    assert_eq!(run.succeeds().stderr, "");
    let mut printed: Vec<Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    printed.sort_by_key(|line| line["id"].as_str().unwrap().to_owned());
    assert_eq!(printed, lines(&desk.path("out/results.jsonl")));
    let refused = batch(&desk, "in --organ liver --json");
    refused.fails(73, "R-BAT-05").says("--resume");
    let object: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(object["error"]["exit_code"], 73);
}

#[test]
fn failures_stop_a_run_where_that_is_wanted() {
    let desk = Desk::new();
    let row = |n: usize| json!({"id": format!("{n}"), "image": format!("none{n}.nii")});
    list(&desk, "list.jsonl", &(0..40).map(row).collect::<Vec<_>>());
    for (flags, most) in [("--fail-fast", 1), ("--max-errors 4", 5)] {
        let run = batch(&desk, &format!("--manifest list.jsonl --organ liver {flags} --jobs-io 1"));
        run.code_is(4).says("stopped after").says("--resume goes on");
        let count = lines(&desk.path("out/results.jsonl")).len();
        assert!((most..most + 4).contains(&count), "{flags}: {count}");
        fs::remove_dir_all(desk.path("out")).unwrap();
    }
    batch(&desk, "--manifest list.jsonl --organ liver --max-errors 40").code_is(4);
    assert_eq!(lines(&desk.path("out/results.jsonl")).len(), 40);
}

#[test]
fn b2_a_volume_that_takes_too_long_fails_alone() {
    let desk = Desk::new();
    phantoms(&desk, 2);
    let run = batch(&desk, "in --organ liver --no-preview --item-timeout 0.001");
    run.code_is(4);
    let found = results(&desk, "out");
    assert!(
        found.values().all(|line| line["code"] == "R-BAT-09" && line["attempts"] == 1),
        "{found:?}"
    );
    assert!(found.values().all(|line| line["exit_code"] == 75 && line["poisoned"] == false));
    batch(&desk, "in --organ liver --no-preview --resume").succeeds();
}

#[test]
fn a_folder_that_cannot_be_written_stops_the_run_and_inputs_are_kept() {
    let desk = Desk::new();
    phantoms(&desk, 1);
    fs::write(desk.path("file"), "mine").unwrap();
    batch(&desk, "in --organ liver -o file").code_is(73);
    assert_eq!(fs::read_to_string(desk.path("file")).unwrap(), "mine");
    // Two volumes in flight are enough, and so is less memory than one has.
    phantom(&desk, "in/p1.nii.gz", 1);
    batch(&desk, "in --organ liver --no-preview --max-in-flight 1kB --jobs-io 8").succeeds();
    // What is in the way of a folder of results.
    let folder = results(&desk, "out")["p1"]["folder"].as_str().unwrap().to_owned();
    fs::remove_dir_all(desk.path("out").join(&folder)).unwrap();
    fs::write(desk.path("out").join(&folder), "mine").unwrap();
    let run = batch(&desk, "in --organ liver --no-preview --resume");
    run.fails(73, "R-OUT-02");
    assert_eq!(fs::read_to_string(desk.path("out").join(folder)).unwrap(), "mine");
}
