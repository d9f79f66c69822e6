//! `batch`: many volumes, with the demo model on small phantoms.
//!
//! - `lists`: what is given, and what is refused before anything is run.
//! - `results`: what is written, and that parts, repetitions and forms of lists change nothing.
//! - `resume`: what a run that ended, however it ended, leaves to the next one.

mod lists;
mod results;
mod resume;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use r1seg::phantom::Phantom;
use r1seg::volume::{Geometry, Overwrite, Volume, write_volume};
use serde_json::{Value, json};

use crate::{Desk, Run, finish};

/// What is different between two runs that do the same.
const TIMES: [&str; 3] = ["seconds", "model_seconds", "finished_unix_ms"];

/// A phantom of a quarter of its size in each slice, every other slice of it.
fn phantom(desk: &Desk, name: &str, seed: u64) -> PathBuf {
    let Phantom { shape, volume, .. } = Phantom::draw(seed);
    let [d, h, w] = shape.map(|n| n.div_ceil(2));
    let [h, w] = [h / 2, w / 2];
    let at = |n: usize| {
        volume[(2 * (n / (h * w)) * shape[1] + 4 * (n / w % h)) * shape[2] + 4 * (n % w)]
    };
    let small: Vec<f32> = (0..d * h * w).map(at).collect();
    let affine = [
        [-5.2, 0.0, 0.0, 100.0],
        [0.0, -5.2, 0.0, 100.0],
        [0.0, 0.0, 16.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let volume = Volume::new(small, Geometry::with_affine([d, h, w], affine).unwrap()).unwrap();
    let path = desk.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_volume(&path, &volume, Overwrite::Refuse).unwrap();
    path
}

/// So many phantoms as `in/p0.nii.gz` and so on.
fn phantoms(desk: &Desk, count: u64) {
    for seed in 0..count {
        phantom(desk, &format!("in/p{seed}.nii.gz"), seed);
    }
}

/// One volume of each kind that cannot be used, and its row.
fn hostile(desk: &Desk) -> Vec<Value> {
    let whole = fs::read(phantom(desk, "in/truncated.nii.gz", 90)).unwrap();
    fs::write(desk.path("in/truncated.nii.gz"), &whole[..whole.len() / 2]).unwrap();
    let nowhere = Geometry::with_spacing([16, 64, 64], [5.0, 1.0, 1.0]).unwrap();
    // The writer refuses what no reader takes.
    let zeros = Volume::new(vec![0.0_f32; 16 * 64 * 64], nowhere).unwrap();
    write_volume(desk.path("in/nan.nii"), &zeros, Overwrite::Refuse).unwrap();
    let mut bytes = fs::read(desk.path("in/nan.nii")).unwrap();
    let start = bytes.len() - 4 * 16 * 64 * 64;
    bytes[start..]
        .chunks_exact_mut(4)
        .for_each(|voxel| voxel.copy_from_slice(&f32::NAN.to_le_bytes()));
    fs::write(desk.path("in/nan.nii"), bytes).unwrap();
    fs::write(desk.path("in/text.nii"), "not a volume\n".repeat(100)).unwrap();
    phantom(desk, "in/fine.nii.gz", 91);
    vec![
        json!({"id": "truncated", "image": "in/truncated.nii.gz"}),
        json!({"id": "nan", "image": "in/nan.nii"}),
        json!({"id": "missing", "image": "in/missing.nii.gz"}),
        json!({"id": "text", "image": "in/text.nii"}),
        json!({"id": "wrong prompt", "image": "in/fine.nii.gz", "organ": "livver"}),
    ]
}

/// Of `hostile`, the exit codes.
const HOSTILE: [(&str, u8); 5] =
    [("truncated", 65), ("nan", 65), ("missing", 66), ("text", 65), ("wrong prompt", 2)];

fn list(desk: &Desk, name: &str, rows: &[Value]) {
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(desk.path(name), lines).unwrap();
}

/// `batch` with the demo model into `out`, where nothing else is said.
fn command(desk: &Desk, args: &str) -> Command {
    let mut command = desk.command();
    command.args(["batch", "--device", "cpu"]);
    for (flag, value) in [(" -m ", ["-m", "demo"]), (" -o ", ["-o", "out"])] {
        if !format!(" {args} ").contains(flag) {
            command.args(value);
        }
    }
    command.args(args.split_whitespace());
    command
}

fn batch(desk: &Desk, args: &str) -> Run {
    finish(&mut command(desk, args))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of all files of results, by id, without times.
fn results(desk: &Desk, out: &str) -> BTreeMap<String, Value> {
    let names = desk.names(out).into_iter().filter(|name| name.starts_with("results"));
    let lines = names.flat_map(|name| lines(&desk.path(out).join(name)));
    let mut all = BTreeMap::new();
    for mut line in lines {
        let fields = line.as_object_mut().unwrap();
        for time in TIMES {
            assert!(fields.remove(time).unwrap().is_number());
        }
        // When the copy of an input was written.
        if let Some(Value::Object(input)) = fields.get_mut("input") {
            input.remove("modified_ns");
        }
        let id = line["id"].as_str().unwrap().to_owned();
        assert!(all.insert(id.clone(), line).is_none(), "{id} is there twice");
    }
    all
}

/// Everything in a folder of results but times: files by their paths, and lines by their ids.
fn everything(desk: &Desk, out: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![desk.path(out)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            let relative = path.strip_prefix(desk.path(out)).unwrap().display().to_string();
            let is_lines = name.starts_with("results") && name.ends_with(".jsonl");
            if path.is_dir() {
                folders.push(path);
            } else if name == "report.json" {
                let mut report: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
                for time in ["timings_ms", "peak_rss_mb"] {
                    report.as_object_mut().unwrap().remove(time);
                }
                for answer in report["answers"].as_array_mut().into_iter().flatten() {
                    for history in ["timings_ms", "drafts"] {
                        answer.as_object_mut().unwrap().remove(history);
                    }
                }
                all.insert(relative, report.to_string());
            } else if !name.starts_with('.') && !is_lines {
                let bytes = fs::read(path).unwrap();
                all.insert(relative, bytes.iter().map(|byte| format!("{byte:02x}")).collect());
            }
        }
    }
    for (id, line) in results(desk, out) {
        all.insert(format!("line {id}"), line.to_string());
    }
    all
}

#[track_caller]
fn assert_same(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) {
    let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    for (name, content) in a {
        let short = |text: &str| text.chars().take(600).collect::<String>();
        assert!(*content == b[name], "{name}: {}\n{}", short(content), short(&b[name]));
    }
}
