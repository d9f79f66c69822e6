//! What `doctor` says, and what it keeps to itself.

use serde_json::Value;

use crate::{Desk, Run, data, finish};

#[test]
fn the_machine_and_the_build_are_described_for_a_bug_report() {
    let desk = Desk::new();
    let run = desk.run(["doctor"]);
    let text = &run.succeeds().stdout;
    let version = format!("r1seg      {} (", env!("CARGO_PKG_VERSION"));
    assert!(text.starts_with(&version), "{text}");
    let facts = "build system cpu kernels threads memory cuda models variables verdict";
    for fact in facts.split(' ') {
        assert!(text.lines().any(|line| line.starts_with(fact)), "{fact}: {text}");
    }
    assert!(text.ends_with("verdict    OK\n"), "{text}");
}

#[test]
fn the_same_is_one_json_object() {
    let desk = Desk::new();
    let run = desk.run(["doctor", "--json"]);
    let found: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(found["r1seg"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(found["r1seg"]["target"].as_str().unwrap().contains('-'), "{found:#}");
    let kernels = found["cpu"]["kernels"].as_str().unwrap();
    let avx2 = found["cpu"]["features"].as_array().unwrap().contains(&"avx2".into());
    assert_eq!(kernels != "portable", avx2, "{found:#}");
    assert_eq!(found["cuda"]["built_in"], cfg!(feature = "cuda"));
    if !cfg!(feature = "cuda") {
        assert_eq!(found["cuda"]["problem"], "this r1seg was built without CUDA");
    }
    if cfg!(feature = "hub") {
        assert_eq!(
            (&found["models"]["models"], &found["models"]["offline"]),
            (&0.into(), &false.into())
        );
    }
    if cfg!(target_os = "linux") {
        let bytes = |field: &str| found["memory"][field].as_u64().unwrap();
        assert!(0 < bytes("available_bytes") && 0 < bytes("total_bytes"), "{found:#}");
        assert!(found["memory"]["limited_by"].is_string());
    }
    assert_eq!(found["problem"], Value::Null);
}

#[test]
fn kernels_are_held_to_a_weaker_instruction_set_and_answers_stay_the_same() {
    let desk = Desk::new();
    let under = |isa: &str, args: &[&str]| finish(desk.command().env("R1SEG_ISA", isa).args(args));
    let found: Value =
        serde_json::from_str(&under("portable", &["doctor", "--json"]).succeeds().stdout).unwrap();
    assert_eq!(found["cpu"]["kernels"], "portable");
    under("sse9", &["doctor"])
        .fails(2, "R-ARG-03")
        .says("R1SEG_ISA: unknown instruction set `sse9`");

    let volume = data("phi3/golden/volume.npy");
    let ask = || desk.infer_command(&volume, "--force --json");
    let answer = |run: &Run, isa: &Value| {
        let report: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
        assert_eq!(&report["cpu_kernels"], isa);
        report["answers"][0]["answer"].clone()
    };
    let best: Value = serde_json::from_str(&under("", &["doctor", "--json"]).stdout).unwrap();
    let own = answer(&finish(&mut ask()), &best["cpu"]["kernels"]);
    assert!(own.is_string());
    for isa in ["portable", "avx2"] {
        let run = finish(ask().env("R1SEG_ISA", isa));
        // A processor may have none.
        if isa != "avx2" || run.code != Some(2) {
            assert_eq!(answer(&run, &isa.into()), own, "{isa}");
        }
    }
}

#[test]
fn names_of_variables_are_told_and_neither_their_values_nor_the_home_folder() {
    let desk = Desk::new();
    let home = desk.path("jane.doe");
    for json in [&[][..], &["--json"]] {
        let mut command = desk.command();
        command.env("HOME", &home).env("HF_HOME", home.join("hf")).env("HF_TOKEN", "hf_secret");
        command.env("R1SEG_MODEL", "private-model").env("HF_HUB_OFFLINE", "1");
        let run = finish(command.arg("doctor").args(json));
        let text = &run.succeeds().stdout;
        for name in ["HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "R1SEG_MODEL", "offline"] {
            assert!(text.contains(name), "{name}: {text}");
        }
        for secret in ["hf_secret", "private-model", "jane.doe", "R1SEG_RESTARTED"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        if cfg!(feature = "hub") {
            let cache = std::path::Path::new("~").join("hf").join("hub");
            assert!(text.contains(cache.to_str().unwrap()), "{text}");
        }
    }
}
