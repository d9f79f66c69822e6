//! What is given to a batch, and what is refused before anything is run.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use super::{assert_same, batch, command, everything, list, phantom, phantoms, results};
use crate::usage::snapshot;
use crate::{Desk, data, finish};

#[test]
fn help_says_what_lists_hold() {
    let desk = Desk::new();
    snapshot(&desk, "help_batch", &desk.run(["batch", "--help"]).succeeds().stdout);
}

#[test]
fn b3_a_list_that_is_wrong_is_refused_with_its_line_before_anything_is_run() {
    let desk = Desk::new();
    phantoms(&desk, 1);
    for (text, code, says) in [
        (
            "{\"image\": \"in/p0.nii.gz\", \"prompz\": \"x\"}",
            "R-BAT-01",
            "line 1: `prompz` is not a field: did you mean `prompt`?",
        ),
        ("{\"image\": \"in/p0.nii.gz\"", "R-BAT-01", "line 1: this is not a JSON object"),
        (
            "{\"image\": \"a\", \"prompt\": \"x\"}\n{\"id\": \"b\"}",
            "R-BAT-01",
            "line 2: it has no `image`",
        ),
        ("\n{\"image\": \"in/p0.nii.gz\"}", "R-BAT-01", "line 2: this volume has no prompt"),
        (
            "{\"id\": \"a\", \"image\": \"a.nii\", \"organ\": \"liver\"}\n\n{\"id\": \"a\", \"image\": \"b.nii\"}",
            "R-BAT-03",
            "line 3: the id `a` is that of line 1, too",
        ),
        (
            "{\"image\": \"a\", \"classes\": [\"liver\"]}",
            "R-BAT-10",
            "line 1: R1Seg-3D takes no classes",
        ),
        ("{\"image\": \"a\", \"text\": \"liver\"}", "R-BAT-10", "line 1: R1Seg-3D takes no texts"),
        ("", "R-BAT-01", "no volumes in the list"),
    ] {
        fs::write(desk.path("list.jsonl"), text).unwrap();
        let run = batch(&desk, "--manifest list.jsonl");
        run.fails(65, code).says(says).says("--> list.jsonl");
        assert!(!run.stderr.contains("research use"), "{run:#?}");
    }
    batch(&desk, "--manifest none.jsonl --organ liver").fails(66, "R-BAT-02");
    batch(&desk, "in").fails(2, "R-ARG-03").says("this volume has no prompt").says("--organ NAME");
    batch(&desk, "in/*.nrrd --organ liver").fails(66, "R-BAT-11").says("nothing is found");
    batch(&desk, "in --organ liver --shard 3/3").code_is(2).says("the last of 3 is 2");
    batch(&desk, "in --manifest list.jsonl").code_is(2);
    desk.is_empty_but_for(&["in", "list.jsonl"]);
}

#[test]
fn a_model_that_takes_no_prompts_is_refused() {
    let desk = Desk::new();
    phantoms(&desk, 1);
    let model = data("m3d-clip").display().to_string();
    batch(&desk, &format!("in --organ liver -m {model}")).fails(78, "R-MDL-05");
    desk.is_empty_but_for(&["in"]);
}

#[test]
fn tables_lines_and_standard_input_say_the_same() {
    let desk = Desk::new();
    phantoms(&desk, 2);
    list(
        &desk,
        "list.jsonl",
        &[
            json!({"id": "a", "image": "in/p0.nii.gz", "organs": ["liver", "spleen"], "labels": ["l", "s"]}),
            json!({"id": "b", "image": "in/p1.nii.gz", "prompt": "Which organ makes bile, then?"}),
        ],
    );
    let table = "id,image,organs,labels,prompt\na,in/p0.nii.gz,liver|spleen,l|s,\n\
                 b,in/p1.nii.gz,,,\"Which organ makes bile, then?\"\n";
    fs::write(desk.path("list.csv"), table).unwrap();
    let read = |from: &str| {
        batch(&desk, &format!("--manifest {from} --no-preview")).succeeds();
        let all = everything(&desk, "out");
        fs::remove_dir_all(desk.path("out")).unwrap();
        all
    };
    let lines = read("list.jsonl");
    assert_same(&lines, &read("list.csv"));
    for file in ["list.jsonl", "list.csv"] {
        let mut child = command(&desk, "--manifest - --no-preview")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let text = fs::read(desk.path(file)).unwrap();
        child.stdin.take().unwrap().write_all(&text).unwrap();
        assert!(child.wait().unwrap().success());
        assert_same(&lines, &everything(&desk, "out"));
        fs::remove_dir_all(desk.path("out")).unwrap();
    }
}

#[test]
fn folders_patterns_and_dicom_studies_are_volumes() {
    let desk = Desk::new();
    phantom(&desk, "in/p1/ct.nii.gz", 1);
    phantom(&desk, "in/p2/ct.nii.gz", 2);
    let slice = |n: u8| {
        let name = format!("{n}.dcm");
        crate::inspect_dicom::slice(&desk, &name, "7", "CT", 5.0 * f64::from(n));
        fs::create_dir_all(desk.path("in/series")).unwrap();
        fs::rename(desk.path("study").join(&name), desk.path("in/series").join(&name)).unwrap();
    };
    (0..6).for_each(slice);
    let run = batch(&desk, "in --organ liver --no-preview");
    run.succeeds();
    let found = results(&desk, "out");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["p1/ct", "p2/ct", "series"]);
    assert_eq!(found["series"]["status"], "ok");
    assert_eq!(found["series"]["input"]["sha256"].as_str().unwrap().len(), 64);
    // Another slice makes it another volume.
    slice(6);
    let again = batch(&desk, "in --organ liver --no-preview --resume");
    assert!(again.succeeds().stdout.starts_with("series: ") && again.stdout.lines().count() == 1);

    let listed =
        batch(&desk, "in/*/ct.nii.gz --organ liver --list -o other").succeeds().stdout.clone();
    assert_eq!(listed, "new\tp1/ct\nnew\tp2/ct\n");
    assert!(!desk.path("other").exists());
    let listed =
        batch(&desk, "in --organ liver --no-preview --list --json").succeeds().stdout.clone();
    let standing =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["standing"].clone();
    assert!(listed.lines().all(|line| standing(line) == "done"), "{listed}");
}

#[test]
fn points_boxes_and_texts_of_a_row_are_those_of_segment() {
    let desk = Desk::new();
    crate::nifti(&desk, "ct.nii.gz");
    list(
        &desk,
        "list.jsonl",
        &[
            json!({"id": "points", "image": "ct.nii.gz", "points": [[20, 30, 5], "3,3,1:neg"], "label": "cyst"}),
            json!({"id": "box", "image": "ct.nii.gz", "box": [12, 10, 3, 50, 40, 12]}),
            json!({"id": "texts", "image": "ct.nii.gz", "texts": ["liver", "spleen"]}),
            json!({"id": "both", "image": "ct.nii.gz", "text": "liver", "box": "12,10,3,50,40,12"}),
            json!({"id": "outside", "image": "ct.nii.gz", "points": [[64, 30, 5]]}),
            json!({"id": "two", "image": "ct.nii.gz", "texts": ["liver", "spleen"], "points": [[20, 30, 5]]}),
        ],
    );
    let model = data("segvol").display().to_string();
    let run = batch(&desk, &format!("--manifest list.jsonl -m {model} --mode resize --no-preview"));
    run.code_is(4);
    let found = results(&desk, "out");
    let status = |id: &str| {
        (found[id]["status"].as_str().unwrap(), found[id]["exit_code"].as_u64().unwrap())
    };
    assert_eq!([status("points"), status("both")], [("ok", 0); 2]);
    assert_eq!(status("outside"), ("failed", 65));
    assert_eq!(found["two"]["code"], "R-BAT-10");
    assert_eq!(found["points"]["masks"][0]["name"], "cyst");
    assert!(found["points"]["answers"][0]["answer"].is_null());
    for (id, args) in [
        ("points", "--point 20,30,5 --point 3,3,1:neg --label cyst"),
        ("box", "--box 12,10,3,50,40,12"),
        ("texts", "--text liver --text spleen"),
        ("both", "--text liver --box 12,10,3,50,40,12"),
    ] {
        let mut command = desk.command();
        command.args([
            "segment",
            "-m",
            &model,
            "-i",
            "ct.nii.gz",
            "--mode",
            "resize",
            "--device",
            "cpu",
        ]);
        command.args(["-o", id, "--no-preview"]).args(args.split_whitespace());
        finish(&mut command).succeeds();
        let folder = desk.path("out").join(found[id]["folder"].as_str().unwrap());
        assert_eq!(
            desk.names(id),
            desk.names(folder.strip_prefix(desk.folder.path()).unwrap().to_str().unwrap())
        );
        for file in desk.names(id).iter().filter(|name| *name != "report.json") {
            let same =
                fs::read(desk.path(id).join(file)).unwrap() == fs::read(folder.join(file)).unwrap();
            assert!(same, "{id}/{file}");
        }
    }
}
