//! What people expect of any command line: arguments by position, errors for programs, help for shells,
//! variables, and messages that nobody can forge.

use std::fs;

use serde_json::Value;

use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data, finish, nifti, prompt};

/// The one object on standard output, which says why a command failed.
#[track_caller]
fn error_of(run: &Run) -> Value {
    let object: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run:#?}"));
    assert_keeps_to("error", &object);
    assert_eq!(object["error"]["exit_code"].as_i64(), run.code.map(i64::from), "{run:#?}");
    object["error"].clone()
}

#[test]
fn an_image_is_given_by_position_or_by_flag_and_once() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    let question = prompt("phi3/golden/case0");
    let infer = |images: &[&str], out: &str| {
        let mut command = desk.command();
        command.args(["infer", "--device", "cpu", "--separator", "none", "-p", &question, "-m"]);
        finish(command.arg(data("phi3")).args(["-o", out]).args(images))
    };
    let path = volume.to_str().unwrap();
    let by_position = infer(&[path], "a");
    let by_flag = infer(&["-i", path], "b");
    assert_eq!(by_position.succeeds().stdout, by_flag.succeeds().stdout);
    assert_eq!(
        fs::read(desk.path("a/mask.npy")).unwrap(),
        fs::read(desk.path("b/mask.npy")).unwrap()
    );

    for (images, says) in [(&[path, "-i", path][..], "cannot be used with"), (&[], "not provided")]
    {
        let run = infer(images, "c");
        assert_eq!(run.code, Some(2), "{run:#?}");
        run.says(says).says("--image <IMAGE>");
    }
    let segment = desk.run(["segment", "-m", "demo", path, "-i", path, "-t", "liver"]);
    assert_eq!(segment.code, Some(2), "{segment:#?}");
    let embed = desk.run(["embed", "-m", "demo", path, "-i", path, "-o", "x.npy"]);
    assert_eq!(embed.code, Some(2), "{embed:#?}");
    assert_eq!(desk.names("."), ["a", "b"]);
}

#[test]
fn embed_takes_volumes_by_position() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    // The model is another family's, which is found out after the arguments are understood.
    let run = desk.run([
        "embed",
        "-m",
        "demo",
        "--device",
        "cpu",
        volume.to_str().unwrap(),
        "-o",
        "x.npy",
    ]);
    assert!(!run.stderr.contains("nothing to embed") && run.code != Some(2), "{run:#?}");
}

#[test]
fn with_json_an_error_is_one_object_on_stdout_and_text_on_stderr() {
    let desk = Desk::new();
    let missing = desk.run(["infer", "-m", "demo", "no.nii.gz", "-p", "Liver?", "--json"]);
    missing.says("error[R-IN-01]: no such file\n  --> no.nii.gz\n  fix: ");
    let error = error_of(&missing);
    assert_eq!((&error["code"], &error["path"]), (&"R-IN-01".into(), &"no.nii.gz".into()));
    assert_eq!(error["message"], "no such file");
    assert!(error["fix"].is_string());
    assert_eq!(missing.code, Some(66));

    // Arguments that only the program itself finds odd, and arguments that clap refuses.
    let usage = desk.infer("--temperature -1 --json");
    assert_eq!(error_of(&usage)["code"], "R-ARG-03");
    let parsed = desk.infer("--dtype q4 --json");
    let error = error_of(&parsed);
    assert_eq!((&error["code"], parsed.code), (&"R-ARG-04".into(), Some(2)));
    assert!(error["message"].as_str().unwrap().starts_with("invalid value 'q4'"), "{error}");
    let none = error_of(&desk.run(["infer", "-m", "demo", "-p", "Liver?", "--json"]));
    let message = "the following required arguments were not provided: <IMAGE|--image <IMAGE>>";
    assert_eq!(none["message"], message);

    for command in [
        &["inspect", "no.nii.gz"][..],
        &["segment", "-m", "no/model", "no.nii.gz", "-t", "liver"],
        &["embed", "-m", "no/model", "-t", "liver", "-o", "x.npy"],
        &["retrieve", "-m", "no/model", "-t", "liver", "no.nii.gz"],
        &["convert", "no.bin", "-o", "out"],
        &["bench", "-m", "./no", "--format", "json"],
    ] {
        let json = if command[0] == "bench" { &[][..] } else { &["--json"] };
        let run = finish(desk.command().args(command).args(json));
        assert!(error_of(&run)["code"].is_string(), "{run:#?}");
        assert!(run.stderr.contains("error["), "{run:#?}");
    }
    // Without it standard output stays empty.
    desk.run(["inspect", "no.nii.gz"]).fails(66, "R-IN-01");
    desk.is_empty_but_for(&[]);
}

#[test]
fn a_model_that_cannot_be_used_is_reported_once_with_json() {
    let desk = Desk::new();
    fs::create_dir(desk.path("model")).unwrap();
    fs::write(desk.path("model/config.json"), "{}").unwrap();
    let run = desk.run(["inspect", "model", "--json"]);
    assert_eq!(run.code, Some(78), "{run:#?}");
    let findings: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(findings["problem"]["code"].is_string(), "{findings:#}");
}

#[test]
fn a_mistyped_model_is_answered_with_the_name_that_was_meant() {
    let desk = Desk::new();
    let run = desk.infer_with("R1Seg-3D-Phi3-4B".as_ref());
    run.fails(2, "R-MDL-02").says("fix: did you mean R1Seg-3D-Phi-3-4B?");
    let run = desk.run(["download", "segvoll"]);
    run.says("did you mean SegVol?");
    let run = desk.infer_with("nothing-like-any-model".as_ref());
    run.fails(2, "R-MDL-02").says("fix: use the short name");
}

#[test]
fn strict_inspection_fails_for_a_volume_with_warnings() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    let clean = finish(desk.command().args(["inspect", "--strict"]).arg(&image));
    clean.succeeds();
    let array = data("phi3/golden/volume.npy");
    let inspect =
        |options: &[&str]| finish(desk.command().arg("inspect").arg(&array).args(options));
    assert!(inspect(&[]).succeeds().stdout.contains("warning[W-GEOM]"));
    let strict = inspect(&["--strict"]);
    assert_eq!(strict.code, Some(65), "{strict:#?}");
    strict.says("error[R-INS-01]: --strict refuses a volume with warnings: W-GEOM");
    assert!(strict.stdout.contains("warning[W-GEOM]"));
    let json = inspect(&["--strict", "--json"]);
    assert_eq!(json.code, Some(65));
    let findings: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(findings["verdict"], "warnings");
}

#[test]
fn completions_know_every_command_and_flag() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.run(["completions", shell]).succeeds().stdout.clone();
        for word in ["infer", "segment", "doctor", "max-new-tokens", "affine-from", "threads"] {
            assert!(script.contains(word), "{word} is not in the script for {shell}");
        }
        assert!(!script.contains("read-pickle"), "{shell} shows what is hidden");
    }
    assert_eq!(desk.run(["completions", "tcsh"]).code, Some(2));
}

#[test]
fn there_is_a_manual_page_for_every_command_and_other_files_are_kept() {
    let desk = Desk::new();
    let run = desk.run(["man", "man1"]);
    assert_eq!(run.succeeds().stdout, "");
    let pages = desk.names("man1");
    let help = desk.run(["--help"]).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let mut count = 0;
    for line in commands.take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        // Wrapped descriptions are further to the right.
        if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
            assert!(pages.contains(&format!("r1seg-{name}.1")), "{name}: {pages:?}");
            count += 1;
        }
    }
    assert!(count > 10, "{help}");
    assert!(pages.contains(&"r1seg.1".to_string()));
    let page = fs::read_to_string(desk.path("man1/r1seg-infer.1")).unwrap();
    assert!(page.contains(".TH r1seg-infer 1") && page.contains("max\\-new\\-tokens"), "{page}");

    desk.run(["man", "man1"]).succeeds();
    fs::write(desk.path("man1/r1seg-infer.1"), "mine").unwrap();
    desk.run(["man", "man1"]).fails(73, "R-OUT-01");
    assert_eq!(fs::read_to_string(desk.path("man1/r1seg-infer.1")).unwrap(), "mine");
    desk.run(["man", "man1", "--force"]).succeeds();
    assert_eq!(fs::read_to_string(desk.path("man1/r1seg-infer.1")).unwrap(), page);
}

#[test]
fn stages_are_told_with_their_times_and_without_what_they_are_about() {
    let desk = Desk::new();
    let run = desk.infer("-v");
    let stages = ["read", "load", "vit", "projector", "answer", "mask", "save"];
    for stage in stages {
        run.says(&format!(" s  {stage}: "));
    }
    run.succeeds().says("prefill_s=").says("decode_s=");
    assert!(!run.stderr.contains(" vit .."), "{run:#?}");
    let words = prompt("phi3/golden/case0");
    let all = desk.infer("-vv --force");
    all.succeeds().says("vit ..").says("prompts=1");
    for text in [&run.stderr, &all.stderr] {
        assert!(!text.contains(&words), "the question is in the log: {text}");
    }
    let quiet = desk.infer("-q --force");
    assert_eq!(quiet.succeeds().stderr, "");
}

#[test]
fn variables_stand_for_flags_and_an_empty_one_is_none() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    let infer = |name: &str, value: &str| {
        let mut command = desk.command();
        command.args(["infer", "-p", "Liver?", "--max-new-tokens", "1", "-o", "out", "--force"]);
        finish(command.arg("-m").arg(data("phi3")).arg(&volume).env(name, value))
    };
    infer("R1SEG_DEVICE", "cuda:99").fails(69, "R-DEV-01");
    infer("R1SEG_DTYPE", "bf16").succeeds().says("bf16 weights");
    for name in ["R1SEG_DEVICE", "R1SEG_DTYPE", "R1SEG_THREADS"] {
        infer(name, "").succeeds();
        let run = infer(name, "nonsense");
        assert_eq!(run.code, Some(2), "{run:#?}");
    }
}

#[test]
fn a_benchmark_has_a_format_and_other_commands_an_output() {
    let desk = Desk::new();
    for flag in ["--format", "-o", "--output"] {
        let run =
            desk.run(["bench", "-m", "demo", "--device", "cpu", "--tokens", "2", flag, "json"]);
        let bench: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
        assert_eq!(bench["model"], "demo");
    }
}

#[test]
fn an_empty_cache_is_said_to_be_empty() {
    let desk = Desk::new();
    let run = desk.run(["cache", "list"]);
    assert_eq!(run.succeeds().stdout, "");
    run.says("r1seg: no models in ");
    let json = desk.run(["cache", "list", "--json"]);
    assert_eq!((json.succeeds().stdout.as_str(), json.stderr.as_str()), ("[]\n", ""));
}

#[test]
fn two_readers_of_standard_input_are_named() {
    let desk = Desk::new();
    let run = desk.run(["infer", "-m", "demo", "-", "-p", "-"]);
    run.fails(2, "R-ARG-03").says("--image - and --prompt - both read standard input");
}

#[test]
fn a_prompt_file_without_a_name_is_no_file() {
    let desk = Desk::new();
    let run = desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), "@", "");
    run.fails(2, "R-ARG-03").says("--prompt @ names no file");
    assert!(!run.stderr.contains("-->"), "{run:#?}");
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use serde_json::Value;

    use crate::{Desk, data, finish, nifti, prompt};

    #[test]
    fn a_name_with_a_newline_begins_no_line_of_its_own() {
        let desk = Desk::new();
        let name = "ct\n  fix: rm -r ~\x1b[31m.nii.gz";
        let run = finish(desk.command().args(["inspect", name]));
        run.fails(66, "R-IN-01").says("--> ct\\n  fix: rm -r ~.nii.gz");
        assert_eq!(run.stderr.lines().filter(|line| line.starts_with("  fix: ")).count(), 1);

        // Of a file that can be read, in what is found and in what was written.
        let image = desk.path("ct\nOK: forged.nii.gz");
        fs::rename(nifti(&desk, "ct.nii.gz"), &image).unwrap();
        let run = finish(desk.command().arg("inspect").arg(&image));
        assert!(
            !run.succeeds().stdout.lines().any(|line| line.starts_with("OK: forged")),
            "{run:#?}"
        );
        let run = desk.run_infer(&image, "");
        assert!(
            !run.succeeds().stderr.lines().any(|line| line.starts_with("OK: forged")),
            "{run:#?}"
        );
    }

    #[test]
    fn a_pipe_of_the_shell_is_read_as_standard_input_is() {
        let desk = Desk::new();
        let image = nifti(&desk, "ct.nii.gz");
        if Command::new("bash").arg("-c").arg("true").status().is_err() {
            eprintln!("skipped: no bash here");
            return;
        }
        let script = "exec \"$0\" inspect <(cat ct.nii.gz) --json";
        let mut command = desk.command_of("bash");
        let run = finish(command.args(["-c", script, env!("CARGO_BIN_EXE_r1seg")]));
        let found: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
        assert_eq!(found["input"]["shape"], serde_json::json!([64, 64, 16]));
        assert_eq!(found["input"]["bytes"], Value::Null);

        let script = "exec \"$0\" infer -i <(cat ct.nii.gz) -p \"$2\" -m \"$1\" --device cpu \
                      --separator none -o out";
        let mut command = desk.command_of("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_r1seg")]).arg(data("phi3"));
        finish(command.arg(prompt("phi3/golden/case0"))).succeeds();
        let piped = fs::read(desk.path("out/mask.nii.gz")).unwrap();
        let hash = desk.report()["input"]["sha256"].clone();
        desk.infer_volume(&image, "--force").succeeds();
        assert_eq!(piped, fs::read(desk.path("out/mask.nii.gz")).unwrap());
        assert_eq!(hash, desk.report()["input"]["sha256"]);
    }

    #[test]
    fn a_pipe_in_a_folder_is_refused_with_the_way_that_works() {
        let desk = Desk::new();
        assert!(Command::new("mkfifo").arg(desk.path("p")).status().unwrap().success());
        desk.infer_volume(&desk.path("p"), "").fails(66, "R-IN-04").says("-i -");
    }

    #[test]
    fn a_circle_of_links_is_no_question_of_permissions() {
        let desk = Desk::new();
        symlink("b.nii.gz", desk.path("a.nii.gz")).unwrap();
        symlink("a.nii.gz", desk.path("b.nii.gz")).unwrap();
        let run = desk.infer_volume(&desk.path("a.nii.gz"), "");
        run.fails(66, "R-IN-02").says("fix: check that the path leads to a file");
        assert!(!run.stderr.contains("permissions"), "{run:#?}");
    }

    /// The words are those of a desk that is gone.
    #[test]
    fn a_folder_that_was_removed_is_said_to_be_gone() {
        let desk = Desk::new();
        let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" demo";
        let mut command = desk.command_of("sh");
        let run = finish(command.args(["-c", script, env!("CARGO_BIN_EXE_r1seg")]));
        run.fails(73, "R-OUT-02").says("does not exist any more");
    }
}
