//! `segment`, with the recorded SegVol and R1Seg-3D-SAM.

use std::fs;

use r1seg::volume::{ReadOptions, read};
use serde_json::{Value, json};

use crate::checkpoints::copy;
use crate::schema::assert_keeps_to;
use crate::usage::snapshot;
use crate::{Desk, Run, data, finish, nifti, read_tensors, write_tensors};

/// A command with a recorded model and volume, exact on any processor.
fn segment(desk: &Desk, case: &str, args: &[&str]) -> Run {
    let volume = data(&format!("{case}/golden/volume.npy"));
    let mut command = desk.command();
    command.arg("segment").arg("--model").arg(data(case)).arg("--image").arg(volume);
    command.args(["--device", "cpu", "--dtype", "f32", "--preprocess", "none"]);
    finish(command.args(args))
}

fn mask(desk: &Desk, file: &str) -> Vec<u8> {
    let options = ReadOptions::default();
    let mask = read(desk.path(file), &options).unwrap().volume;
    mask.voxels().to_f32().iter().map(|v| *v as u8).collect()
}

/// The recorded mask of a case.
fn recorded(case: &str, name: &str) -> Vec<u8> {
    let tensors = read_tensors(&data(&format!("{case}/golden/expected.safetensors")));
    let bytes = &tensors[name].bytes;
    let numbers = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    numbers.map(|logit| u8::from(0.0 < logit)).collect()
}

#[track_caller]
fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len());
    let apart = got.iter().zip(expected).filter(|(a, b)| a != b).count();
    // Logits within the tolerance of 0.
    assert!(apart <= 5, "{apart} voxels");
}

#[test]
fn voxels_of_the_command_line_are_those_of_the_recording() {
    // Recorded as (d, h, w); given as i, j, k.
    let (points, neg) =
        (["--point", "20,30,5", "--point", "22,31,6:pos"], ["--point", "3,3,1:neg"]);
    let points = [&points[..], &neg[..]].concat();
    let whole = ["--box", "12,10,3,50,40,12"];
    for (name, prompt) in [
        ("text", vec!["--text", "liver"]),
        ("points", points.clone()),
        ("box", whole.to_vec()),
        ("box_text", [&["--text", "left kidney"], &whole[..]].concat()),
        ("points_text", [&["-t", "liver"], &points[..]].concat()),
        ("box_points", [&whole[..], &points[..]].concat()),
    ] {
        let desk = Desk::new();
        let args = [&prompt[..], &["--mode", "resize", "--mask", "m.npy"]].concat();
        let done = segment(&desk, "segvol", &args);
        assert!(done.succeeds().stdout.contains(" voxels ("), "{done:#?}");
        assert_same(&mask(&desk, "m.npy"), &recorded("segvol", &format!("logits.{name}")));
        assert_eq!(desk.names("."), ["m.npy"]);
    }
}

#[test]
fn a_run_leaves_what_infer_leaves_but_for_words() {
    let desk = Desk::new();
    let volume = nifti(&desk, "ct.nii.gz");
    let mut command = desk.command();
    command.arg("segment").arg("--model").arg(data("segvol")).arg("--image").arg(&volume);
    command.args(["--device", "cpu", "--text", "liver", "--text", "spleen", "--json"]);
    let done = finish(&mut command);
    let report: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    assert_keeps_to("segment", &report);
    let folder = desk.names("ct");
    for file in ["labels.json", "mask.seg.nrrd", "preview.png", "report.json"] {
        assert!(folder.iter().any(|name| name == file), "{folder:?}");
    }
    assert!(!folder.iter().any(|name| name == "answer.txt"), "{folder:?}");
    let written: Value =
        serde_json::from_slice(&fs::read(desk.path("ct/report.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    assert_eq!(report["input"]["mode"], "zoom");
    assert_eq!(report["prompts"][1]["name"], "spleen");
    assert_eq!(report["prompts"][1]["labels"], json!([2]));
    assert!(report["prompts"][0]["windows"].as_u64() >= Some(2), "{report:#}");
    assert_eq!(report["masks"].as_array().unwrap().len(), 2);
    assert_eq!(report["model"]["model_type"], "segvol");
}

#[test]
fn places_in_mm_are_those_in_voxels() {
    let desk = Desk::new();
    let volume = nifti(&desk, "ct.nii.gz");
    let report = |args: &[&str]| {
        let mut command = desk.command();
        command.arg("segment").arg("--model").arg(data("segvol")).arg("--image").arg(&volume);
        command.args(["--device", "cpu", "--mode", "resize", "--json", "--report", "r.json"]);
        let done = finish(command.arg("--force").args(args));
        let report: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
        assert_keeps_to("segment", &report);
        report["prompts"][0].clone()
    };
    let voxels = ["--point", "20,30,5", "--point", "3,3,1:neg", "--box", "12,10,3,50,40,12"];
    let expected = report(&voxels);
    assert_eq!(expected["points"][1], json!({"voxel": [3, 3, 1], "positive": false}));
    assert_eq!(expected["box"], json!([[12, 10, 3], [50, 40, 12]]));
    assert_eq!(expected["name"], "points and box");
    // Voxels of 5 x 1 x 1 mm; where they lie, the file says.
    let geometry = read(&volume, &ReadOptions::default()).unwrap().volume.geometry().clone();
    let mm = |ijk: [f64; 3]| {
        let [x, y, z] = geometry.world_mm(ijk).unwrap();
        format!("{x},{y},{z}")
    };
    let corners = [mm([12.0, 10.0, 3.0]), mm([50.0, 40.0, 12.0])];
    let numbers =
        |text: &String| -> Vec<f64> { text.split(',').map(|n| n.parse().unwrap()).collect() };
    let (a, b) = (numbers(&corners[0]), numbers(&corners[1]));
    let low: Vec<String> = (0..3).map(|n| a[n].min(b[n]).to_string()).collect();
    let high: Vec<String> = (0..3).map(|n| a[n].max(b[n]).to_string()).collect();
    let whole = format!("{},{}", low.join(","), high.join(","));
    let (one, other) = (mm([20.0, 30.0, 5.0]), format!("{}:neg", mm([3.0, 3.0, 1.0])));
    let found = report(&["--point-mm", &one, "--point-mm", &other, "--box-mm", &whole]);
    assert_eq!((&found["points"], &found["box"]), (&expected["points"], &expected["box"]));
}

#[test]
fn r1seg_3d_sam_takes_a_sentence() {
    let desk = Desk::new();
    let sentence = "A computerized tomography of a liver.";
    let done = segment(&desk, "r1seg-3dsam", &["-t", sentence, "--mask", "m.npy"]);
    done.succeeds();
    assert!(done.stdout.starts_with(&format!("{sentence}: ")), "{done:#?}");
    assert_same(&mask(&desk, "m.npy"), &recorded("r1seg-3dsam", "logits.0"));
    let args = ["-t", sentence, "--num-clicks", "0", "--mask", "n.npy", "--report", "r.json"];
    segment(&desk, "r1seg-3dsam", &args).succeeds();
    assert_ne!(mask(&desk, "n.npy"), mask(&desk, "m.npy"));
    let report: Value = serde_json::from_slice(&fs::read(desk.path("r.json")).unwrap()).unwrap();
    assert_keeps_to("segment", &report);
    assert_eq!(
        (&report["model"]["num_clicks"], &report["input"]["mode"]),
        (&json!(0), &json!("sliding"))
    );
}

#[test]
fn the_mask_and_the_stages_go_where_they_are_told() {
    let desk = Desk::new();
    let args =
        ["-t", "liver", "--mode", "resize", "--trace", "t.safetensors", "--report", "r.json"];
    segment(&desk, "segvol", &args).succeeds();
    let trace = read_tensors(&desk.path("t.safetensors"));
    assert!(trace.contains_key("text.embedding") && trace.contains_key("mask.logits"));
    let args = ["-t", "liver", "--mode", "sliding", "--trace", "t.safetensors"];
    segment(&desk, "segvol", &args).fails(2, "R-ARG-03").says("--mode resize");
}

#[test]
fn q1_bad_texts_are_refused() {
    let desk = Desk::new();
    let (long, many) = ("liver ".repeat(80), "@many.txt");
    fs::write(desk.path("many.txt"), "liver\nspleen\n").unwrap();
    for (args, exit, code, says) in [
        (vec!["-t", ""], 2, "R-TOK-15", "name what to look for"),
        (vec!["-t", " \t"], 2, "R-TOK-15", "name what to look for"),
        (vec!["-t", &long], 65, "R-TOK-16", "at most 77"),
        (vec![], 2, "R-PRM-05", "give a text, points or a box"),
        (vec!["-t", many, "--point", "1,1,1"], 2, "R-ARG-03", "one only"),
    ] {
        segment(&desk, "segvol", &args).fails(exit, code).says(says);
    }
    segment(&desk, "r1seg-3dsam", &[]).fails(2, "R-PRM-05").says("give a text");
    desk.is_empty_but_for(&["many.txt"]);
}

#[test]
fn bad_places_are_refused() {
    let desk = Desk::new();
    for (args, exit, code, says) in [
        (vec!["--point", "64,0,0"], 65, "R-PNT-01", "64 x 64 x 16"),
        (vec!["--point-mm", "0,0,0"], 65, "R-PNT-01", "no affine"),
        (vec!["--box", "0,0,0,9,9,16"], 65, "R-BOX-01", "64 x 64 x 16"),
        (vec!["--point", "1,1,1:neg"], 2, "R-PRM-05", "positive point"),
        (vec!["--point", "1,1,1", "--box", "0,0,0,9,9,9"], 2, "R-PRM-05", "mode resize"),
        (vec!["--mode", "sliding", "--point", "1,1,1"], 2, "R-PRM-05", "mode zoom"),
    ] {
        segment(&desk, "segvol", &args).fails(exit, code).says(says);
    }
    for place in [["--point", "1,1,1"], ["--box", "0,0,0,9,9,9"]] {
        let args = [&["-t", "A liver."], &place[..]].concat();
        segment(&desk, "r1seg-3dsam", &args).fails(2, "R-PRM-05").says("SegVol");
    }
    for (args, says) in [
        (["--box", "9,0,0,0,9,9"], "the box is reversed: i runs from 9 to 0"),
        (["--box-mm", "0,5,0,9,0,9"], "the box is reversed: y runs from 5 to 0"),
        (["--point", "1,1"], "a point has three numbers; 2 were given"),
        (["--point", "-1,1,1"], "-1 is not a voxel index"),
        (["--point", "1,1,1:no"], "neither pos nor neg"),
        (["--mode", "wide"], "expected zoom, resize, sliding, crop or grow"),
    ] {
        let run = segment(&desk, "segvol", &args);
        assert_eq!(run.code, Some(2), "{run:#?}");
        run.says(says);
    }
    desk.is_empty_but_for(&[]);
}

#[test]
fn segment_needs_a_model_that_takes_prompts() {
    let desk = Desk::new();
    let volume = nifti(&desk, "ct.nii");
    for (model, says) in [("demo", "r1seg infer"), ("m3d-clip", "r1seg retrieve")] {
        let mut command = desk.command();
        let folder = data(model);
        command.arg("segment").arg("--model");
        command.arg(if model == "demo" { "demo".as_ref() } else { folder.as_os_str() });
        finish(command.arg("-i").arg(&volume).args(["-t", "liver"]))
            .fails(78, "R-MDL-05")
            .says(says);
    }
    // And the other way round.
    let mut command = desk.command();
    command.args(["infer", "-p", "Liver?", "--model"]).arg(data("segvol")).arg("-i").arg(&volume);
    finish(&mut command).fails(78, "R-MDL-05").says("r1seg segment");
    segment(&desk, "segvol", &["-t", "liver", "--num-clicks", "2", "-o", "x"])
        .fails(2, "R-ARG-02")
        .says("nothing to refine");
    segment(&desk, "r1seg-3dsam", &["-t", "liver", "--num-clicks", "65", "-o", "x"])
        .fails(2, "R-ARG-02")
        .says("num_clicks: 65 passes, expected 0 to 64");
}

#[test]
fn a_converted_folder_can_be_hashed_and_read_into_memory() {
    let desk = Desk::new();
    let args = ["-t", "liver", "--mode", "resize", "--verify", "--no-mmap", "--mask", "m.npy"];
    segment(&desk, "segvol", &args).succeeds();
    assert_same(&mask(&desk, "m.npy"), &recorded("segvol", "logits.text"));
}

#[test]
fn the_help_of_segment_is_complete() {
    let desk = Desk::new();
    snapshot(&desk, "help_segment", &desk.run(["segment", "--help"]).succeeds().stdout);
}

#[test]
fn q4_an_empty_mask_is_no_mask_that_is_required() {
    let desk = Desk::new();
    let folder = desk.path("nothing");
    copy(&data("segvol"), &folder);
    fs::remove_file(folder.join("manifest.json")).unwrap();
    // Every voxel is the same, and what the text is compared with is far from it.
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path);
    let text = "mask_decoder.txt_align_upscaled_embedding";
    for (name, value) in [
        ("mask_decoder.output_upscaling.3.weight", 0.0),
        ("mask_decoder.output_upscaling.3.bias", 10.0),
        (&format!("{text}.weight"), 0.0),
        (&format!("{text}.bias"), -1000.0_f32),
    ] {
        let bytes = &mut tensors.get_mut(name).unwrap().bytes;
        // bf16, which all of these are in.
        *bytes = value.to_le_bytes()[2..].repeat(bytes.len() / 2);
    }
    write_tensors(&path, &tensors);
    let volume = data("segvol/golden/volume.npy");
    let ask = |options: &[&str]| {
        let mut command = desk.command();
        command.arg("segment").arg("--model").arg(&folder).arg("--image").arg(&volume);
        command.args(["--device", "cpu", "--preprocess", "none", "-t", "liver"]);
        finish(command.args(["--mask", "m.npy"]).args(options))
    };
    ask(&[]).succeeds().says("warning[W-EMPTY]");
    let done = ask(&["--require-mask", "--force"]);
    assert_eq!(done.code, Some(3), "{done:#?}");
    assert!(mask(&desk, "m.npy").iter().all(|&voxel| voxel == 0));
    // A mask that was found fulfills it.
    segment(&desk, "segvol", &["-t", "liver", "--require-mask", "--mask", "m.npy", "--force"])
        .succeeds();
}
