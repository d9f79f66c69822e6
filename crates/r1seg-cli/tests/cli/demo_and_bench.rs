//! The other two commands.

use std::fs;

use r1seg::volume::{ReadOptions, read};
use serde_json::Value;

use crate::{Desk, data};

#[test]
fn the_demo_finds_the_organs_of_its_phantom_twice_alike() {
    let desk = Desk::new();
    let run = desk.run(["demo"]);
    let dice: Vec<f64> = run
        .succeeds()
        .stdout
        .lines()
        .filter_map(|line| line.split_once("Dice ")?.1.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(dice.len(), 7, "{}", run.stdout);
    let mean = dice[6];
    assert!(run.stdout.ends_with(&format!("\nmean Dice {mean:.3}\n")), "{}", run.stdout);
    assert!(mean > 0.9, "{mean}");
    let files = ["mask.nii.gz", "phantom.nii.gz", "preview.png", "report.json", "truth.nii.gz"];
    assert_eq!(desk.names("r1seg-demo"), files);

    let mask = fs::read(desk.path("r1seg-demo/mask.nii.gz")).unwrap();
    let labels = read(desk.path("r1seg-demo/mask.nii.gz"), &ReadOptions::default()).unwrap();
    let spacing = labels.volume.geometry().spacing_mm().unwrap();
    assert!(spacing.iter().zip([8.0, 1.3, 1.3]).all(|(a, b)| (a - b).abs() < 1e-6));
    let report: Value =
        serde_json::from_slice(&fs::read(desk.path("r1seg-demo/report.json")).unwrap()).unwrap();
    assert_eq!(report["masks"].as_array().unwrap().len(), 6);
    // In liters as in people.
    let liver = report["masks"][0]["volume_ml"].as_f64().unwrap();
    assert!((1000.0..2500.0).contains(&liver), "{liver}");

    // An earlier demo's files are replaced, by the same ones.
    let run = desk.run(["demo", "--json"]);
    let printed: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(printed["masks"], report["masks"]);
    assert_eq!(fs::read(desk.path("r1seg-demo/mask.nii.gz")).unwrap(), mask);
}

#[test]
fn the_demo_model_is_in_the_program_once() {
    let files = r1seg::phantom::checkpoint_files();
    let (_, weights) = files.iter().find(|(name, _)| *name == "model.safetensors").unwrap();
    let part = &weights[weights.len() / 2..][..64];
    let count = |bytes: &[u8]| bytes.windows(64).filter(|w| w[0] == part[0] && *w == part).count();
    let program = fs::read(env!("CARGO_BIN_EXE_r1seg")).unwrap();
    assert_eq!((count(weights), count(&program)), (1, 1), "6 MB for each more");
}

#[test]
fn the_demo_does_not_replace_anything_but_a_demo() {
    let desk = Desk::new();
    fs::create_dir(desk.path("study")).unwrap();
    fs::write(desk.path("study/mask.nii.gz"), "mine").unwrap();
    desk.run(["demo", "--out", "study"]).fails(73, "R-OUT-01").says("--force");
    assert_eq!(fs::read_to_string(desk.path("study/mask.nii.gz")).unwrap(), "mine");
}

#[test]
fn a_benchmark_times_every_stage() {
    let desk = Desk::new();
    let model = data("phi3");
    let model = model.to_str().unwrap();
    let run = desk.run(["bench", "--model", model, "--runs", "2"]);
    for stage in ["load", "vision transformer", "projector", "prefill", "decode", "mask"] {
        assert!(run.succeeds().stdout.contains(&format!("\n| {stage}")), "{}", run.stdout);
    }
    let run = desk.run(["bench", "-m", model, "-o", "json", "--tokens", "5", "--seg-step", "3"]);
    let bench: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!((&bench["model"], &bench["generated_tokens"]), (&"phi3".into(), &5.into()));
    assert!(bench["mask_s"].as_f64().unwrap() > 0.0, "{bench}");
    assert!(bench["several"].is_null(), "{bench}");
    let run = desk.run(["bench", "-m", model, "-o", "json", "--questions", "7"]);
    let bench: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(bench["several"]["questions"], 7);
    for time in ["one_by_one_s", "at_once_s"] {
        assert!(bench["several"][time].as_f64().unwrap() > 0.0, "{bench}");
    }
    desk.is_empty_but_for(&[]);
}

#[test]
fn a_benchmark_says_what_a_token_reads_and_takes_a_volume() {
    let desk = Desk::new();
    let (model, volume) = (data("phi3"), data("phi3/golden/volume.npy"));
    let bench = |options: &[&str]| -> Value {
        let mut command = desk.command();
        command.args(["bench", "-o", "json", "--device", "cpu", "-m"]).arg(&model).args(options);
        serde_json::from_str(&crate::finish(&mut command).succeeds().stdout).unwrap()
    };
    let volume = volume.to_str().unwrap();
    let read = bench(&["--volume", volume]);
    let seconds = |key: &str| read[key].as_f64().unwrap();
    assert!(0.0 < seconds("read_s") && seconds("read_s") < seconds("first_answer_s"), "{read}");
    // Bytes of `model.layers.*` and `lm_head.weight` in the file's header.
    assert_eq!((seconds("decode_gb_per_token") * 1e9).round(), 438_016.0);
    // So little lies in caches.
    assert!(read["read_gb_per_s"].is_null() && read["decode_share_of_read"].is_null(), "{read}");

    // A processor has the best instruction set that its kernels know, unless it is held to a weaker one.
    assert_eq!(read["cpu_kernels"], r1seg::cpu_kernels());
    let mut command = desk.command();
    command.env("R1SEG_ISA", "portable").args(["bench", "--device", "cpu", "-m"]).arg(&model);
    let run = crate::finish(&mut command);
    let title = "phi3 on cpu (f32, portable kernels), ";
    assert!(run.succeeds().stdout.starts_with(title), "{}", run.stdout);

    // Kept in another dtype than the file's, and noise.
    let converted = bench(&["--dtype", "bf16"]);
    assert!(converted["decode_gb_per_token"].is_null(), "{converted}");
    assert!(converted["read_s"].is_null(), "{converted}");
}

#[test]
fn a_benchmark_of_a_promptable_model_times_its_stages_and_modes() {
    let desk = Desk::new();
    for (case, clicks) in [("segvol", None), ("r1seg-3dsam", Some("2"))] {
        let model = data(case);
        let model = model.to_str().unwrap();
        let volume = data(&format!("{case}/golden/volume.npy"));
        let mut options = vec!["bench", "-m", model, "-o", "json", "--device", "cpu"];
        options.extend(["--volume", volume.to_str().unwrap(), "--prompt", "spleen", "--runs", "2"]);
        options.extend(clicks.iter().flat_map(|clicks| ["--num-clicks", clicks]));
        let bench: Value = serde_json::from_str(&desk.run(options).succeeds().stdout).unwrap();
        let times = ["load_s", "read_s", "vit_s", "text_s", "mask_s", "first_mask_s"];
        for time in [&times[..], &["second_mask_s"]].concat() {
            assert!(bench[time].as_f64().unwrap() > 0.0, "{time}: {bench}");
        }
        assert_eq!((&bench["model"], &bench["runs"]), (&case.into(), &2.into()));
        let modes = bench["modes"].as_array().unwrap();
        let names: Vec<_> = modes.iter().map(|mode| mode["mode"].as_str().unwrap()).collect();
        assert_eq!(names, ["zoom", "sliding"]);
        for mode in modes {
            assert!(mode["seconds"].as_f64().unwrap() > 0.0, "{bench}");
            assert!(mode["windows"].as_u64().unwrap() > 0, "{bench}");
        }
    }
    let model = data("segvol");
    let run = desk.run(["bench", "-m", model.to_str().unwrap(), "--device", "cpu"]);
    for row in
        ["load", "vision transformer", "text embedding", "mask", "second mask", "mask, mode zoom"]
    {
        assert!(run.succeeds().stdout.contains(&format!("\n| {row}")), "{}", run.stdout);
    }
    desk.is_empty_but_for(&[]);
}

#[test]
fn a_benchmark_of_m3d_clip_times_both_embeddings() {
    let desk = Desk::new();
    let model = data("m3d-clip");
    let model = model.to_str().unwrap();
    let run = desk.run(["bench", "-m", model, "-o", "json", "--device", "cpu"]);
    let bench: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    for time in ["load_s", "volume_embedding_s", "text_embedding_s"] {
        assert!(bench[time].as_f64().unwrap() > 0.0, "{time}: {bench}");
    }
    assert!(bench["read_s"].is_null(), "{bench}");
    let run = desk.run(["bench", "-m", model, "--device", "cpu", "--prompt", "A cyst."]);
    for row in ["load", "volume embedding", "text embedding"] {
        assert!(run.succeeds().stdout.contains(&format!("\n| {row}")), "{}", run.stdout);
    }
}

#[test]
fn a_benchmark_refuses_by_name_what_means_nothing_for_a_model() {
    let desk = Desk::new();
    for (case, flags) in [
        ("segvol", &["--tokens", "--seg-step", "--prompt-tokens", "--questions"][..]),
        ("m3d-clip", &["--tokens", "--questions", "--num-clicks"]),
    ] {
        for flag in flags {
            let mut command = desk.command();
            let run =
                crate::finish(command.arg("bench").arg("-m").arg(data(case)).args([flag, "3"]));
            run.fails(2, "R-ARG-03").says(&format!("{flag} does not apply"));
        }
    }
}

#[test]
fn a_benchmark_beyond_the_model_is_refused() {
    let desk = Desk::new();
    let model = data("phi3");
    for options in [
        "--tokens 1",
        "--tokens 4096",
        "--tokens 18446744073709551615",
        "--runs 0",
        "--tokens 4 --seg-step 5",
        "--prompt-tokens 4096",
        "--prompt-tokens 18446744073709551615",
        "--num-clicks 1000000",
    ] {
        let mut command = desk.command();
        command.arg("bench").arg("-m").arg(&model).args(options.split_whitespace());
        let run = crate::finish(&mut command);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{options}: {run:#?}");
    }
}
