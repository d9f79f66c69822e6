//! `infer --refine-with`: the demo model finds in a phantom, and recorded models draw again.

use std::fs;
use std::path::PathBuf;

use r1seg::phantom::{self, CAPTION_QUESTION, Phantom};
use r1seg::volume::{LabelMap, Overwrite, ReadOptions, read, write_volume};
use serde_json::{Value, json};

use crate::schema::assert_keeps_to;
use crate::{Desk, RawTensors, Run, data, finish, prompt, read_tensors, write_tensors};

const LIVER: &str = "Can you segment the liver in this image?";

/// The demo model asked about phantom 7, with a second model of the recorded cases.
fn refine(desk: &Desk, second: &str, args: &[&str]) -> Run {
    refine_with(desk, data(second), args)
}

fn refine_with(desk: &Desk, second: PathBuf, args: &[&str]) -> Run {
    let image = desk.path("ct.nii.gz");
    if !image.exists() {
        let volume = phantom::volume(&Phantom::draw(7)).unwrap();
        write_volume(&image, &volume, Overwrite::Refuse).unwrap();
    }
    let mut command = desk.command();
    command.args(["infer", "-m", "demo", "--device", "cpu", "ct.nii.gz", "--refine-with"]);
    finish(command.arg(second).args(args))
}

fn labels(desk: &Desk, file: &str) -> LabelMap {
    let volume = read(desk.path(file), &ReadOptions::default()).unwrap().volume;
    LabelMap::from_volume(&volume).unwrap()
}

fn report(desk: &Desk) -> Value {
    let report = desk.report();
    assert_keeps_to("report", &report);
    report
}

#[test]
fn both_masks_are_kept_and_the_report_says_which_is_which() {
    let desk = Desk::new();
    let run = refine(&desk, "sam-med3d", &["-p", LIVER, "--label", "liver", "-o", "out"]);
    run.succeeds().says("refining with sam-med3d").says("[2] liver (refined by SAM-Med3D): ");
    let report = report(&desk);
    let masks = report["masks"].as_array().unwrap();
    let names: Vec<_> = masks.iter().map(|mask| mask["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["liver", "liver (refined by SAM-Med3D)"]);
    assert_eq!((&masks[0]["refines"], &masks[1]["refines"]), (&Value::Null, &json!(1)));
    assert_eq!((&masks[0]["model"], &masks[1]["model"]), (&Value::Null, &json!("sam-med3d")));
    assert_eq!(report["answers"][0]["labels"], json!([1]));
    // That a mask covers the one that it refines is not news.
    assert!(!run.stderr.contains("W-OVERLAP"), "{run:#?}");

    let with = &report["refined_with"][0];
    let refined = &with["refinements"][0];
    assert_eq!(
        (&with["mode"], &with["model"]["model_type"]),
        (&json!("crop"), &json!("sam_med3d"))
    );
    assert_eq!((&refined["refines"], &refined["labels"]), (&json!(1), &json!([2])));
    assert_eq!((&refined["mask_prompt"], &refined["box"]), (&json!(true), &Value::Null));

    // The first mask is what it is without a second model, and the click lies in it.
    let mut command = desk.command();
    command.args(["infer", "-m", "demo", "--device", "cpu", "ct.nii.gz", "-p", LIVER]);
    finish(command.args(["--mask", "alone.nii.gz"])).succeeds();
    let first = labels(
        &desk,
        masks[0]["path"].as_str().map(|file| format!("out/{file}")).as_deref().unwrap(),
    );
    let alone = labels(&desk, "alone.nii.gz");
    assert_eq!(first.label_mask(1), alone.label_mask(1));
    let point = refined["points"][0]["voxel"].as_array().unwrap();
    let [i, j, k] = [0, 1, 2].map(|n| point[n].as_u64().unwrap() as usize);
    let [_, h, w] = alone.shape();
    assert_eq!(alone.labels()[(k * h + j) * w + i], 1);

    let file = format!("out/{}", masks[1]["path"].as_str().unwrap());
    let second = labels(&desk, &file);
    second.geometry().check_same_grid(alone.geometry()).unwrap();
    let voxels = masks[1]["voxels"].as_u64().unwrap() as usize;
    assert_eq!(second.voxels(2), voxels);
    let named: Value =
        serde_json::from_slice(&fs::read(desk.path("out/labels.json")).unwrap()).unwrap();
    assert_eq!(named["2"]["refines"], 1);
    assert!(named["1"].get("refines").is_none(), "{named:#}");
}

#[test]
fn segvol_gets_the_box_and_the_organ_that_the_question_names() {
    let desk = Desk::new();
    refine(&desk, "segvol", &["--organ", "Milz", "-o", "out"]).succeeds();
    let report = report(&desk);
    let refined = &report["refined_with"][0]["refinements"][0];
    assert_eq!((&refined["text"], &refined["points"]), (&json!("spleen"), &json!([])));
    let [low, high] = [0, 1].map(|n| refined["box"][n].clone());
    let bbox = &report["masks"][0]["bbox_vox"];
    // A voxel wider than the largest part, which is all of the mask or less.
    for n in 0..3 {
        assert!(low[n].as_u64().unwrap() + 1 >= bbox[0][n].as_u64().unwrap(), "{refined:#}");
        assert!(high[n].as_u64().unwrap() <= bbox[1][n].as_u64().unwrap() + 1, "{refined:#}");
    }
    assert_eq!(report["masks"][1]["name"], "spleen (refined by SegVol)");
}

#[test]
fn a_box_in_an_answer_without_a_mask_is_refined_from_its_middle() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    let question = prompt("phi3/golden/case3");
    let mut command =
        desk.ask_command(&data("phi3"), &volume, &question, "--spacing 5,0.5,2 --orient stored");
    let run = finish(command.arg("--refine-with").arg(data("sam-med3d")));
    run.succeeds().says("(refined by SAM-Med3D): ");
    let report = report(&desk);
    // The box is d 2..=14, h 21..=39, w 32..=49.
    let refined = &report["refined_with"][0]["refinements"][0];
    assert_eq!(refined["points"], json!([{"voxel": [40, 30, 8], "positive": true}]));
    assert_eq!((&refined["mask_prompt"], &refined["refines"]), (&json!(false), &json!(1)));
    let masks = report["masks"].as_array().unwrap();
    assert_eq!((masks.len(), &masks[0]["label"], &masks[0]["refines"]), (1, &json!(2), &json!(1)));
    assert_eq!(report["status"], "not_found");
}

/// The recorded SAM-Med3D in a folder of this desk, with some of its tensors changed.
fn changed(desk: &Desk, change: impl Fn(&mut RawTensors)) -> PathBuf {
    let folder = desk.path("changed");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(data("sam-med3d/config.json"), folder.join("config.json")).unwrap();
    let mut tensors = read_tensors(&data("sam-med3d/model.safetensors"));
    change(&mut tensors);
    write_tensors(&folder.join("model.safetensors"), &tensors);
    folder
}

#[test]
fn where_nothing_was_found_the_second_model_is_not_loaded() {
    let desk = Desk::new();
    let run = refine(&desk, "sam-med3d", &["-p", CAPTION_QUESTION, "-o", "out"]);
    run.succeeds().says("warning[W-REFINE]: nothing was found").says("was not loaded");
    assert!(report(&desk).get("refined_with").is_none());
}

#[test]
fn what_was_found_is_written_though_refining_fails() {
    let desk = Desk::new();
    let broken = changed(&desk, |tensors| {
        let tensor = tensors.get_mut("image_encoder.patch_embed.proj.bias").unwrap();
        tensor.bytes.chunks_mut(4).for_each(|f32| f32.copy_from_slice(&f32::NAN.to_le_bytes()));
    });
    let run = refine_with(&desk, broken, &["-p", LIVER, "-o", "out"]);
    run.code_is(78).says("warning[W-REFINE]: ").says("masks stay as they are");
    assert!(desk.path("out/mask.nii.gz").is_file());
    assert_eq!(report(&desk)["masks"].as_array().unwrap().len(), 1);

    // What cannot be loaded is refused before the first model answers.
    let torn = changed(&desk, |tensors| drop(tensors.pop_last()));
    let run = refine_with(&desk, torn, &["-p", LIVER, "-o", "torn"]);
    run.code_is(78);
    assert!(run.stdout.is_empty() && !desk.path("torn").exists(), "{run:#?}");
}

#[test]
fn a_refined_mask_without_voxels_is_a_warning_and_the_first_one_stays() {
    let desk = Desk::new();
    // Every logit of the mask is a product with what the last layers of the decoder give.
    let empty = changed(&desk, |tensors| {
        for (name, tensor) in tensors {
            if name.contains("output_hypernetworks_mlps") || name.contains("output_upscaling") {
                tensor.bytes.fill(0);
            }
        }
    });
    let run = refine_with(&desk, empty, &["-p", LIVER, "-o", "out", "--require-mask"]);
    run.succeeds().says("warning[W-REFINE]: ").says("the mask of label 1 stays as it is");
    let report = report(&desk);
    assert_eq!((&report["masks"][1]["voxels"], &report["status"]), (&json!(0), &json!("found")));
    assert!(report["masks"][0]["voxels"].as_u64() > Some(0));
}

#[test]
fn a_model_that_cannot_refine_is_refused_before_anything_is_read() {
    let desk = Desk::new();
    for second in ["r1seg-3dsam", "m3d-clip", "phi3", "none"] {
        let run = refine(&desk, second, &["-p", LIVER, "-o", "out"]);
        assert_ne!(run.code, Some(0), "{run:#?}");
        assert!(run.stderr.starts_with("error["), "{run:#?}");
        assert!(!desk.path("out").exists());
    }
    refine(&desk, "r1seg-3dsam", &["-p", LIVER]).says("cannot refine");
    let sliding = ["-p", LIVER, "--refine-mode", "sliding"];
    refine(&desk, "segvol", &sliding).says("in windows");
    refine(&desk, "sam-med3d", &["-p", LIVER, "--mask", "-"]).fails(2, "R-ARG-03");
    let onto = ["-p", LIVER, "--force", "--report"];
    let model = data("sam-med3d/config.json").display().to_string();
    refine(&desk, "sam-med3d", &[&onto[..], &[&model]].concat()).fails(73, "R-OUT-06");
}
