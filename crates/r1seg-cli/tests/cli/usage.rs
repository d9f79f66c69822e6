//! Arguments that make no sense, help, and the words of the most important messages.

use crate::{Desk, Run, data, finish};

/// Messages without the paths of one machine.
fn settings(desk: &Desk) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("snapshots");
    let escape = |path: &std::path::Path| {
        path.display()
            .to_string()
            .chars()
            .flat_map(|c| {
                let special = !c.is_alphanumeric() && c != '/';
                special.then_some('\\').into_iter().chain([c])
            })
            .collect::<String>()
    };
    settings.add_filter(&escape(&data("")), "DATA/");
    settings.add_filter(&escape(desk.folder.path()), "DESK");
    settings.add_filter(r"r1seg \d+\.\d+\.\d+", "r1seg VERSION");
    settings.add_filter(r"r1seg\.exe", "r1seg");
    settings.add_filter(r"\\", "/");
    settings
}

#[track_caller]
pub(crate) fn snapshot(desk: &Desk, name: &str, text: &str) {
    settings(desk).bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn version_and_help_need_no_model() {
    let desk = Desk::new();
    assert_eq!(
        desk.run(["--version"]).succeeds().stdout,
        concat!("r1seg ", env!("CARGO_PKG_VERSION"), "\n")
    );
    snapshot(&desk, "help", &desk.run(["--help"]).succeeds().stdout);
    snapshot(&desk, "help_inspect", &desk.run(["inspect", "--help"]).succeeds().stdout);
    snapshot(&desk, "help_infer", &desk.run(["infer", "--help"]).succeeds().stdout);
    let run = desk.run([]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("Usage: "), "{run:?}");
}

#[test]
fn every_model_is_listed_with_its_tasks_names_and_licenses() {
    let desk = Desk::new();
    snapshot(&desk, "models", &desk.run(["models"]).succeeds().stdout);
    let json = desk.run(["models", "--json"]);
    let models: serde_json::Value = serde_json::from_str(&json.succeeds().stdout).unwrap();
    let m3d = models.as_array().unwrap().iter().find(|model| model["name"] == "M3D-LaMed").unwrap();
    assert_eq!(m3d["command"], "infer");
    assert_eq!(m3d["published"][0]["alias"], "M3D-LaMed-Phi-3-4B");
    assert_eq!(m3d["published"][0]["repository"], "GoodBaiBai88/M3D-LaMed-Phi-3-4B");
    assert_eq!(m3d["tasks"][0]["separator"], "none");
    let stated = |row: usize| [&m3d["licenses"][row]["part"], &m3d["licenses"][row]["license"]];
    assert_eq!(stated(0), ["code", "MIT"]);
    assert_eq!(stated(1), ["GoodBaiBai88/M3D-LaMed-Phi-3-4B", "apache-2.0"]);
}

#[test]
fn there_is_no_silent_default_model() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    let volume = volume.to_str().unwrap();
    let run = desk.run(["infer", "-i", volume, "-p", "Segment the liver."]);
    run.fails(2, "R-ARG-03").says("--model demo").says("R1SEG_MODEL").says("folder");
    snapshot(&desk, "no_model", &run.stderr);
    let run = finish(
        desk.command().args(["infer", "-i", volume, "-p", "Segment."]).env("R1SEG_MODEL", ""),
    );
    run.fails(2, "R-ARG-03");
}

#[test]
fn a_model_that_is_not_there_is_said_to_be_missing() {
    let desk = Desk::new();
    let infer = |model: &str| desk.infer_with(model.as_ref());
    infer("R1Seg-9").fails(2, "R-MDL-02").says("`R1Seg-9`").says("demo");
    infer("someone/R1Seg-9").fails(66, "R-HUB-02").says("r1seg download someone/R1Seg-9");
    infer("./R1Seg-9").fails(66, "R-MDL-01");
    infer("models/r1seg/9").fails(66, "R-MDL-01");
    let run = desk.infer_with(&data("phi3/config.json"));
    run.fails(66, "R-MDL-08").says("this is a file");
    desk.is_empty_but_for(&[]);
}

#[test]
fn arguments_out_of_range_are_refused_before_anything_is_read() {
    let desk = Desk::new();
    for options in [
        "--dtype q4",
        "--device tpu",
        "--device cuda:x",
        "--mode slide",
        "--preprocess window:40",
        "--preprocess window:40,0",
        "--separator comma",
        "--temperature -1",
        "--temperature nan",
        "--temperature inf",
        "--top-p 0",
        "--top-p 1.5",
        "--top-p=-1",
        "--max-new-tokens 0",
        "--max-new-tokens -1",
        "--seed x",
        "--num-clicks 65",
        "--num-clicks 18446744073709551615",
        "--unknown",
    ] {
        let run = desk.infer(options);
        assert_eq!(run.code, Some(2), "{options}: {run:#?}");
        assert!(run.stderr.contains("error"), "{options}: {run:#?}");
        desk.is_empty_but_for(&[]);
    }
}

#[test]
fn r4_a_device_that_is_not_there_is_said_to_be_missing() {
    let desk = Desk::new();
    // No machine has so many.
    desk.infer("--device cuda:99").fails(69, "R-DEV-01").says("--device cpu");
    desk.is_empty_but_for(&[]);
}

#[test]
fn messages_say_what_where_and_how_to_go_on() {
    let desk = Desk::new();
    let mut text = String::new();
    let mut add = |run: Run| {
        text.push_str(&format!("exit {}\n{}\n", run.code.unwrap(), run.stderr));
    };
    add(desk.infer_volume(&desk.path("ct.nii.gz"), ""));
    add(desk.infer_volume(&desk.path(""), ""));
    add(desk.infer_volume(&data("phi3/config.json"), ""));
    add(desk.infer_with("R1Seg-9".as_ref()));
    add(desk.infer_with("./R1Seg-9".as_ref()));
    add(desk.infer_with(&data("phantom")));
    add(desk.infer("--dtype q4"));
    add(desk.infer("--preprocess ct"));
    add(desk.infer("--temperature -1"));
    add(desk.infer("--num-clicks 65"));
    add(desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), " ", ""));
    let long = "liver ".repeat(9000);
    add(desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), &long, ""));
    if !cfg!(feature = "cuda") {
        add(desk.infer("--device cuda"));
    }
    std::fs::create_dir(desk.path("out")).unwrap();
    std::fs::write(desk.path("out/mask.npy"), "").unwrap();
    add(desk.infer(""));
    snapshot(&desk, "messages", &text);
}
