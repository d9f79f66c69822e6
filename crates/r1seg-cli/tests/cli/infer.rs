//! What a question gives.

use std::fs;
use std::process::Stdio;

use r1seg::volume::{AffineSource, Geometry, Overwrite, ReadOptions, Volume, read, write_volume};
use serde_json::Value;

use crate::input_faults::npy_of;
use crate::{Desk, data, finish, prompt, read_tensors};

const ANSWER: &str = "Sure, it is[SEG].";

#[test]
fn stdout_is_the_answer_and_the_folder_holds_five_files() {
    let desk = Desk::new();
    let run = desk.infer("");
    assert_eq!(run.succeeds().stdout, format!("{ANSWER}\n"));
    assert_eq!(
        desk.names("out"),
        ["answer.txt", "labels.json", "mask.npy", "preview.png", "report.json"]
    );
    assert_eq!(fs::read_to_string(desk.path("out/answer.txt")).unwrap(), format!("{ANSWER}\n"));
    assert!(fs::read(desk.path("out/preview.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn the_folder_is_named_after_the_image_unless_told() {
    let desk = Desk::new();
    let mut command = desk.command();
    command.args(["infer", "-p", "Can you segment the liver in this image?", "-m"]);
    command.arg(data("phi3")).arg("-i").arg(data("phi3/golden/volume.npy")).arg("--no-preview");
    finish(&mut command).succeeds();
    assert_eq!(desk.names("volume").len(), 4);
}

#[test]
fn mask_and_trace_equal_the_recorded_ones() {
    let desk = Desk::new();
    desk.infer("--trace trace.safetensors").succeeds();
    let expected = read_tensors(&data("phi3/golden/case0.expected.safetensors"));
    let trace = read_tensors(&desk.path("trace.safetensors"));
    for name in ["input_ids", "output_ids", "mask.packed", "mask.empty"] {
        assert_eq!(trace[name], expected[name], "{name}");
    }
    let shape = |name: &str| (trace[name].dtype, trace[name].shape.clone());
    use safetensors::Dtype;
    assert_eq!(shape("mask.logits"), (Dtype::F32, vec![16, 64, 64]));
    assert_eq!(shape("mask.packed").0, Dtype::U8);
    assert_eq!(shape("input_ids").0, Dtype::I64);
    for (name, tensor) in &expected {
        // Full logits stand in place of the sampled ones.
        if !name.starts_with("mask.logit_") {
            assert_eq!(shape(name), (tensor.dtype, tensor.shape.clone()), "{name}");
        }
    }

    let mask = read(desk.path("out/mask.npy"), &ReadOptions::default()).unwrap().volume;
    let packed = &expected["mask.packed"].bytes;
    let bit = |n: usize| f32::from(packed[n / 8] >> (7 - n % 8) & 1);
    assert!(mask.voxels().iter().enumerate().all(|(n, voxel)| voxel == bit(n)));
}

#[test]
fn json_is_one_object_and_equals_the_report() {
    let desk = Desk::new();
    let run = desk.infer("--json");
    let printed: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(printed, desk.report());
}

#[test]
fn the_report_says_what_was_found_and_that_an_array_has_no_millimeters() {
    let desk = Desk::new();
    let run = desk.infer("");
    run.succeeds().says("warning[W-GEOM]");
    let report = desk.report();
    assert_eq!(report["schema_version"], 2);
    assert_eq!(report["research_use_only"], true);
    assert_eq!(report["status"], "found");
    assert_eq!(report["answer"], ANSWER);
    assert_eq!(report["prompt"], prompt("phi3/golden/case0"));
    assert_eq!(report["finish_reason"], "stop");
    assert_eq!(report["tokens"]["generated"], 6);
    assert_eq!(report["seg_token"]["positions"], serde_json::json!([3]));
    assert!(report["seg_token"]["logprobs"][0].as_f64().unwrap() > -0.01);
    assert_eq!(report["model"]["id"], "phi3");
    assert_eq!(report["device"], "cpu");
    let mask = &report["masks"][0];
    assert_eq!((&mask["path"], &mask["voxels"]), (&"mask.npy".into(), &4661.into()));
    assert_eq!((&mask["volume_ml"], &mask["centroid_mm"]), (&Value::Null, &Value::Null));
    assert_eq!(report["warnings"][0]["code"], "W-GEOM");
    assert!(report["timings_ms"]["total"].as_f64().unwrap() > 0.0);
}

#[test]
fn q4_an_answer_without_seg_is_an_answer_and_fails_only_on_request() {
    let desk = Desk::new();
    let question = prompt("phi3/golden/case2");
    let ask =
        |options| desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), &question, options);
    assert_eq!(ask("").succeeds().stdout, "The phantom shows the liver.\n");
    assert_eq!(desk.names("out"), ["answer.txt", "preview.png", "report.json"]);
    let report = desk.report();
    assert_eq!(
        (&report["status"], &report["masks"]),
        (&"not_found".into(), &Vec::<u8>::new().into())
    );
    let run = ask("--require-mask --force");
    assert_eq!(run.code, Some(3), "{run:?}");
    assert_eq!(run.stdout, "The phantom shows the liver.\n");
}

#[test]
fn q4_a_leading_seg_is_used_only_on_request() {
    let desk = Desk::new();
    let question = prompt("phi3/golden/case4");
    let ask =
        |options| desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), &question, options);
    ask("").succeeds().says("--first-seg");
    assert_eq!(desk.report()["status"], "not_found");
    ask("--first-seg --force").succeeds();
    assert_eq!(desk.report()["status"], "found");
}

#[test]
fn q4_several_seg_tokens_share_one_mask() {
    let desk = Desk::new();
    let question = prompt("phi3/golden/case1");
    desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), &question, "").succeeds();
    let report = desk.report();
    assert_eq!(report["seg_token"]["count"], 2);
    assert_eq!(report["masks"].as_array().unwrap().len(), 1);
    assert_eq!(report["masks"][0]["voxels"], 4990);
}

#[test]
fn q4_a_mask_without_a_voxel_is_called_empty_and_is_no_mask_that_is_required() {
    let desk = Desk::new();
    let zeros = npy_of("<f4", "(16, 64, 64)", &[0; 4 * 16 * 64 * 64]);
    fs::write(desk.path("zeros.npy"), zeros).unwrap();
    let ask = |options| {
        let question = prompt("phi3-clicks/golden/case0");
        desk.ask(&data("phi3-clicks"), &desk.path("zeros.npy"), &question, options)
    };
    ask("--preprocess none").succeeds().says("warning[W-EMPTY]").says("0 voxels (0 components)");
    let report = desk.report();
    assert_eq!(
        (&report["status"], &report["masks"][0]["voxels"]),
        (&"empty_mask".into(), &0.into())
    );
    assert_eq!(report["masks"][0]["mean_intensity"], Value::Null);
    assert_eq!(ask("--preprocess none --require-mask --force").code, Some(3));
}

#[test]
fn q5_a_question_for_advice_is_answered_under_the_notice() {
    let desk = Desk::new();
    let question = "Which treatment do you recommend?";
    let run = desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), question, "");
    run.succeeds().says("research use only, not a medical device");
    assert_eq!(desk.report()["research_use_only"], true);
}

#[test]
fn q6_terminal_control_in_a_question_reaches_no_terminal() {
    let desk = Desk::new();
    let question = "Can you segment\x1b[31m the liver\x1b]0;title\x07 in this image?";
    let mut command = desk.infer_command(&data("phi3/golden/volume.npy"), "");
    let run = finish(command.args(["-p", question]));
    let clean = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
    assert!(clean(&run.succeeds().stdout) && clean(&run.stderr), "{run:?}");
    assert_eq!(desk.report()["answers"][1]["prompt"], question);
}

#[test]
fn q4_a_longer_answer_than_allowed_says_so() {
    let desk = Desk::new();
    let run = desk.infer("--max-new-tokens 2");
    run.succeeds().says("warning[W-LENGTH]");
    assert_eq!(desk.report()["finish_reason"], "length");
}

#[test]
fn random_draws_are_named_by_their_seed() {
    let [first, again] = ["out", "out"].map(|_| {
        let desk = Desk::new();
        desk.infer("--temperature 5 --seed 11 --max-new-tokens 12").succeeds().stdout.clone()
    });
    assert_eq!(first, again);
}

/// The recorded volume with an oblique affine.
fn oblique(desk: &Desk) -> (std::path::PathBuf, [[f64; 4]; 4]) {
    let recorded = read(data("phi3/golden/volume.npy"), &ReadOptions::default()).unwrap().volume;
    // NIfTI stores 32-bit floats: these are such numbers.
    let affine = [
        [-1.40625, 0.109375, 0.25, 40.5],
        [0.125, -1.390625, 0.40625, 30.25],
        [0.0625, 0.1875, 4.96875, -120.75],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let geometry = Geometry::with_affine(recorded.shape(), affine).unwrap();
    let volume = Volume::new(recorded.into_parts().0, geometry).unwrap();
    let path = desk.path("ct.nii.gz");
    write_volume(&path, &volume, Overwrite::Refuse).unwrap();
    (path, affine)
}

#[test]
fn a_mask_lies_on_its_oblique_nifti_bit_for_bit() {
    let desk = Desk::new();
    let (image, affine) = oblique(&desk);
    desk.infer_volume(&image, "--preprocess none").succeeds().says(" mL (");
    assert_eq!(
        desk.names("out"),
        ["answer.txt", "labels.json", "mask.nii.gz", "mask.seg.nrrd", "preview.png", "report.json"]
    );

    let mask = read(desk.path("out/mask.nii.gz"), &ReadOptions::default()).unwrap().volume;
    let image = read(&image, &ReadOptions::default()).unwrap().volume;
    assert_eq!(mask.shape(), image.shape());
    assert_eq!(mask.geometry().affine(), Some(&affine));
    assert_eq!(mask.geometry().affine_source(), AffineSource::Sform);
    let voxels = mask.voxels().iter().filter(|v| *v == 1.0).count();
    assert_eq!(voxels, 4661);

    let report = &desk.report()["masks"][0];
    assert_eq!(report["voxels"], voxels);
    let determinant: f64 = {
        let [a, b, c, _] = affine;
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0])
    };
    let volume_ml = voxels as f64 * determinant.abs() / 1000.0;
    assert!((report["volume_ml"].as_f64().unwrap() / volume_ml - 1.0).abs() < 1e-9);
}

#[test]
fn sliding_windows_answer_one_by_one_and_are_counted() {
    let desk = Desk::new();
    let volume = data("phi3/golden/sliding.volume.npy");
    let run = desk.infer_volume(&volume, "--mode sliding --trace t.safetensors");
    assert_eq!(run.succeeds().stdout, format!("{ANSWER} (8 windows)\n"));
    assert_eq!(desk.report()["windows"].as_array().unwrap().len(), 8);
    let expected = read_tensors(&data("phi3/golden/sliding.expected.safetensors"));
    let trace = read_tensors(&desk.path("t.safetensors"));
    assert_eq!(trace["mask.packed"], expected["mask.packed"]);
    assert!(trace.contains_key("window.7.output_ids"));

    let run = desk.infer_volume(&volume, "--mode sliding --abstain --json --force");
    let printed: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(printed["windows"][7]["answer"], ANSWER);
}

#[test]
fn q5_the_first_line_on_stderr_names_device_dtype_model_and_the_notice_once() {
    let desk = Desk::new();
    let run = desk.infer("");
    let first = run.succeeds().stderr.lines().next().unwrap();
    assert_eq!(
        first,
        "r1seg: research use only, not a medical device. device=cpu (f32), model phi3"
    );
    assert_eq!(run.stderr.matches("research use only").count(), 1);
    let run = desk.infer("--force --dtype bf16");
    run.succeeds().says("device=cpu (bf16 weights, f32 sums)");
}

#[test]
fn quiet_says_nothing_but_errors() {
    let desk = Desk::new();
    let run = desk.infer("-q");
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("Sure, it is[SEG].\n", ""));
    assert_eq!(desk.report()["warnings"][0]["code"], "W-GEOM");
    desk.infer("-q").fails(73, "R-OUT-01");
}

#[test]
fn without_a_terminal_there_is_neither_color_nor_progress() {
    let desk = Desk::new();
    let run = desk.infer("");
    assert!(!run.stderr.contains(['\x1b', '\r']) && !run.stdout.contains(['\x1b', '\r']));
    assert_eq!(run.stderr.lines().count(), 4, "{}", run.stderr);
}

#[test]
fn a_question_comes_from_a_file_or_from_standard_input() {
    let desk = Desk::new();
    let file = desk.path("question.txt");
    // An editor ends the last line.
    fs::write(&file, prompt("phi3/golden/case0") + "\n").unwrap();
    let mut command = desk.command();
    command.args(["infer", "-o", "out", "--separator", "none", "-p", "@question.txt", "-m"]);
    command.arg(data("phi3")).arg("-i").arg(data("phi3/golden/volume.npy"));
    assert_eq!(finish(&mut command).succeeds().stdout, format!("{ANSWER}\n"));

    let mut command = desk.command();
    command.args(["infer", "-o", "out2", "--separator", "none", "-p", "-", "-m"]);
    command.arg(data("phi3")).arg("-i").arg(data("phi3/golden/volume.npy"));
    command.stdin(Stdio::from(fs::File::open(&file).unwrap()));
    assert_eq!(finish(&mut command).succeeds().stdout, format!("{ANSWER}\n"));
}

#[test]
fn q2_special_tokens_in_a_question_are_plain_text() {
    let desk = Desk::new();
    let question = "Say [SEG] <im_patch></s>";
    desk.ask(
        &data("phi3"),
        &data("phi3/golden/volume.npy"),
        question,
        "--trace t.safetensors --max-new-tokens 2",
    )
    .succeeds();
    let ids = &read_tensors(&desk.path("t.safetensors"))["input_ids"];
    let ids: Vec<i64> =
        ids.bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    let report = desk.report();
    assert_eq!(report["tokens"]["prompt"], ids.len());
    // 618 is [SEG]; the image has eight placeholders and the question adds none.
    assert!(!ids.contains(&618), "{ids:?}");
    let placeholder = ids[3];
    assert_eq!(ids.iter().filter(|id| **id == placeholder).count(), 8);
}

#[test]
fn the_demo_model_warns_about_a_volume_that_is_no_phantom() {
    let desk = Desk::new();
    let run = desk.ask(
        std::path::Path::new("demo"),
        &data("phi3/golden/volume.npy"),
        "Can you segment the liver in this image?",
        "--no-preview",
    );
    run.succeeds().says("warning[W-DEMO]").says("means nothing");
}

#[test]
fn the_model_is_taken_from_the_environment() {
    let desk = Desk::new();
    let mut command = desk.command();
    command.args(["infer", "-p", "Segment.", "-o", "out", "-i"]);
    command.arg(data("phi3/golden/volume.npy")).env("R1SEG_MODEL", data("phi3"));
    finish(&mut command).succeeds().says("model phi3");
}

#[cfg(unix)]
#[test]
fn r3_a_reader_that_leaves_early_is_no_fault_and_files_are_written() {
    for options in ["", "--json", "-q"] {
        let desk = Desk::new();
        let mut command = desk.command();
        command.arg("infer").arg("-m").arg(data("phi3")).arg("-i");
        command.arg(data("phi3/golden/volume.npy")).args(["-o", "out", "-p"]);
        command.arg(prompt("phi3/golden/case0")).args(["--separator", "none"]);
        command.args(options.split_whitespace());
        // The other end is closed before anything is written, as `| head -c0` may do.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer.try_clone().unwrap());
        if options != "-q" {
            command.stderr(writer);
        }
        let status = command.status().unwrap();
        assert_eq!(status.code(), Some(0), "{options}");
        assert_eq!(desk.names("out").len(), 5, "{options}");
    }
}
