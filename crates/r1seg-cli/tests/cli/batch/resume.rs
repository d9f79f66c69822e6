//! What a run that ended, however it ended, leaves to the next one.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{
    assert_same, batch, command, everything, hostile, lines, list, phantom, phantoms, results,
};
use crate::{Desk, Run};

/// Waits for a run to come to a state.
#[track_caller]
fn wait_until(child: &mut Child, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(120), "it takes too long");
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn spawn(desk: &Desk, args: &str) -> Child {
    command(desk, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Whole lines of results.
fn count(desk: &Desk) -> usize {
    let text = fs::read(desk.path("out/results.jsonl")).unwrap_or_default();
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// The ids that a run printed.
fn printed(run: &Run) -> Vec<String> {
    let mut ids: Vec<String> =
        run.stdout.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn b1_a_run_that_was_killed_goes_on_and_ends_as_any_other() {
    let desk = Desk::new();
    phantoms(&desk, 6);
    let mut rows = hostile(&desk);
    // More volumes than the killed runs get through.
    let row = |n: usize| {
        let image = format!("in/p{}.nii.gz", n % 6);
        serde_json::json!({"id": format!("p{n}"), "image": image})
    };
    rows.extend((0..12).map(row));
    list(&desk, "list.jsonl", &rows);
    let line = "--manifest list.jsonl --organ liver --no-preview -q";
    batch(&desk, line).code_is(4);
    let expected = everything(&desk, "out");
    fs::remove_dir_all(desk.path("out")).unwrap();
    for more in [1, 4, 1] {
        let before = count(&desk);
        let mut child = spawn(&desk, &format!("{line} --resume"));
        wait_until(&mut child, || count(&desk) >= before + more);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut file =
            fs::OpenOptions::new().append(true).open(desk.path("out/results.jsonl")).unwrap();
        file.write_all(b"{\"schema_version\":1,\"id\":\"p").unwrap();
    }
    batch(&desk, &format!("{line} --resume")).code_is(4);
    assert_same(&everything(&desk, "out"), &expected);
    let leftovers: Vec<String> =
        walk(&desk.path("out")).into_iter().filter(|p| p.ends_with(".part")).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

fn walk(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        all.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            all.extend(walk(&entry.path()));
        }
    }
    all
}

#[test]
fn a_resumed_run_does_what_changed_and_nothing_else() {
    let desk = Desk::new();
    phantoms(&desk, 3);
    let line = "in --organ liver --no-preview";
    batch(&desk, line).succeeds();
    let before = everything(&desk, "out");
    let resumed = |args: &str| printed(batch(&desk, &format!("{args} --resume")).succeeds());
    assert_eq!(resumed(line), [""; 0]);
    assert_same(&everything(&desk, "out"), &before);
    // Another input of the same name, a report that is gone, a new volume.
    fs::remove_file(desk.path("in/p0.nii.gz")).unwrap();
    phantom(&desk, "in/p0.nii.gz", 50);
    let folder = results(&desk, "out")["p1"]["folder"].as_str().unwrap().to_owned();
    fs::remove_file(desk.path("out").join(folder).join("report.json")).unwrap();
    phantom(&desk, "in/p3.nii.gz", 3);
    assert_eq!(resumed(line), ["p0", "p1", "p3"]);
    // An input with another time and the same bytes; one that is gone keeps its results.
    let bytes = fs::read(desk.path("in/p2.nii.gz")).unwrap();
    fs::write(desk.path("in/p2.nii.gz"), bytes).unwrap();
    list(
        &desk,
        "list.jsonl",
        &[
            serde_json::json!({"id": "p2", "image": "in/p2.nii.gz"}),
            serde_json::json!({"id": "p3", "image": "in/p3.nii.gz"}),
        ],
    );
    fs::remove_file(desk.path("in/p3.nii.gz")).unwrap();
    assert_eq!(resumed("--manifest list.jsonl --organ liver --no-preview --rehash"), [""; 0]);
    // Other prompts, and other options that results depend on.
    assert_eq!(resumed("in --organ spleen --no-preview"), ["p0", "p1", "p2"]);
    assert_eq!(resumed("in --organ spleen --no-preview --max-new-tokens 99"), ["p0", "p1", "p2"]);
    assert_eq!(resumed("in --organ spleen --no-preview --max-new-tokens 99 --jobs-io 3"), [""; 0]);
    // A limit that is raised: results do not depend on it.
    let limits = "--max-voxels 2000000000 --max-input-bytes 5GiB";
    assert_eq!(
        resumed(&format!("in --organ spleen --no-preview --max-new-tokens 99 {limits}")),
        [""; 0]
    );
    assert_eq!(lines(&desk.path("out/results.jsonl")).len(), 4);
}

#[test]
fn what_failed_is_tried_again() {
    let desk = Desk::new();
    phantoms(&desk, 1);
    list(
        &desk,
        "list.jsonl",
        &[
            serde_json::json!({"id": "p0", "image": "in/p0.nii.gz"}),
            serde_json::json!({"id": "late", "image": "in/late.nii.gz"}),
        ],
    );
    let line = "--manifest list.jsonl --organ liver --no-preview";
    batch(&desk, line).code_is(4);
    let again = batch(&desk, &format!("{line} --resume"));
    assert_eq!(printed(again.code_is(4)), ["late"]);
    phantom(&desk, "in/late.nii.gz", 5);
    assert_eq!(printed(batch(&desk, &format!("{line} --resume")).succeeds()), ["late"]);
    let listed = batch(&desk, &format!("{line} --list")).succeeds().stdout.clone();
    assert_eq!(listed, "done\tp0\ndone\tlate\n");
    batch(&desk, line).fails(73, "R-BAT-05");
    assert_eq!(printed(batch(&desk, &format!("{line} --force")).succeeds()), ["late", "p0"]);
}

#[test]
fn a_folder_with_results_of_another_division_is_refused_and_one_of_other_parts_is_not() {
    let desk = Desk::new();
    phantoms(&desk, 2);
    let line = "in --organ liver --no-preview";
    for part in ["0/2", "1/2"] {
        batch(&desk, &format!("{line} --shard {part}")).succeeds();
    }
    for other in ["", "--shard 0/3", "--shard 1/2"] {
        batch(&desk, &format!("{line} {other}")).code_is(73).says("R-BAT-05").says("--resume");
    }
    // Nothing is made by a run that is refused.
    assert!(!desk.path("out/results.jsonl").exists());
    let resumed = batch(&desk, &format!("{line} --resume"));
    assert_eq!(printed(resumed.succeeds()), [""; 0]);
    let again = batch(&desk, &format!("{line} --force"));
    assert_eq!(printed(again.succeeds()), ["p0", "p1"]);
}

/// Leaves the files of a run that dies while it works on a volume, on which this many runs have died
/// before.
fn died(desk: &Desk, id: &str, deaths: u32) {
    let folder = desk.path("out/.running");
    fs::create_dir_all(&folder).unwrap();
    let marker = serde_json::json!({"id": id, "deaths": deaths, "active": true});
    let name = &r1seg::files::sha256_of(id.as_bytes())[..32];
    fs::write(folder.join(name), marker.to_string()).unwrap();
}

#[test]
fn b2_a_volume_that_the_program_dies_of_twice_is_left_alone() {
    let desk = Desk::new();
    phantoms(&desk, 2);
    let line = "in --organ liver,spleen,aorta --no-preview --resume";
    // A single failure is not enough.
    died(&desk, "p0", 0);
    assert_eq!(printed(batch(&desk, line).succeeds()), ["p0", "p1"]);
    fs::remove_dir_all(desk.path("out")).unwrap();
    died(&desk, "p0", 1);
    let run = batch(&desk, line);
    run.code_is(4).says("1 of 2 volumes have results; 1 failed");
    let found = results(&desk, "out");
    assert_eq!(
        (&found["p0"]["code"], &found["p0"]["poisoned"]),
        (&"R-BAT-08".into(), &true.into())
    );
    assert_eq!(found["p1"]["status"], "ok");
    let again = batch(&desk, line);
    assert_eq!(printed(again.code_is(4)), [""; 0]);
    assert!(batch(&desk, &format!("{line} --list")).stdout.contains("poisoned\tp0"));
    let tried = batch(&desk, &format!("{line} --retry-poisoned"));
    assert_eq!(printed(tried.succeeds()), ["p0"]);
    assert!(!desk.path("out/.running").exists());
}

#[test]
fn b1_two_runs_do_not_write_to_one_folder() {
    let desk = Desk::new();
    phantoms(&desk, 1);
    let line = "in --organ liver --no-preview --resume";
    // As another run holds it.
    fs::create_dir_all(desk.path("out")).unwrap();
    let lock = fs::File::create(desk.path("out/.results.jsonl.lock")).unwrap();
    lock.try_lock().unwrap();
    batch(&desk, line).fails(75, "R-BAT-04").says("--shard 0/2");
    drop(lock);
    batch(&desk, line).succeeds();
}

#[cfg(target_os = "linux")]
#[test]
fn r3_a_batch_that_is_stopped_leaves_whole_lines_and_goes_on() {
    let desk = Desk::new();
    phantoms(&desk, 2);
    // Many more volumes than are finished before the signals arrive.
    let row = |n: usize| {
        let image = format!("in/p{}.nii.gz", n % 2);
        serde_json::json!({"id": format!("p{n}"), "image": image})
    };
    list(&desk, "list.jsonl", &(0..24).map(row).collect::<Vec<_>>());
    let line = "--manifest list.jsonl --organ liver --no-preview --resume";
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let before = count(&desk);
        let mut child = spawn(&desk, line);
        wait_until(&mut child, || count(&desk) > before);
        let start = Instant::now();
        let kill = format!("kill -{name} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        assert!(String::from_utf8(output.stderr).unwrap().contains("error[R-RUN-01]: cancelled"));
        lines(&desk.path("out/results.jsonl"));
    }
    let listed = batch(&desk, &format!("{line} --list")).succeeds().stdout.clone();
    assert!(!listed.contains("poisoned"), "{listed}");
    batch(&desk, line).succeeds();
    assert_eq!(results(&desk, "out").len(), 24);
}
