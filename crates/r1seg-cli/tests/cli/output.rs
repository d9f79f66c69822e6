//! Nothing is replaced, half-written or left behind.

use std::fs;
use std::path::PathBuf;

use crate::{Desk, data, prompt};

#[test]
fn r7_existing_files_are_refused_before_anything_is_computed_and_replaced_on_request() {
    let desk = Desk::new();
    fs::create_dir(desk.path("out")).unwrap();
    fs::write(desk.path("out/report.json"), "mine").unwrap();
    let run = desk.infer("");
    // Not even the model was loaded.
    run.fails(73, "R-OUT-01").says("report.json").says("--force");
    assert!(!run.stderr.contains("research use"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(desk.path("out/report.json")).unwrap(), "mine");
    assert_eq!(desk.names("out"), ["report.json"]);

    desk.infer("--force").succeeds();
    assert_eq!(desk.report()["status"], "found");
    assert_eq!(desk.names("out").len(), 5);
}

#[test]
fn a_folder_with_other_files_is_used_and_they_stay() {
    let desk = Desk::new();
    fs::create_dir(desk.path("out")).unwrap();
    fs::write(desk.path("out/notes.txt"), "mine").unwrap();
    desk.infer("").succeeds();
    assert_eq!(desk.names("out").len(), 6);
}

#[test]
fn a_replaced_run_leaves_no_mask_beside_a_report_without_one() {
    let desk = Desk::new();
    desk.infer("").succeeds();
    fs::write(desk.path("out/mask.nii.gz"), "of a run on the original").unwrap();
    let question = prompt("phi3/golden/case2");
    let volume = data("phi3/golden/volume.npy");
    desk.ask(&data("phi3"), &volume, &question, "--force --no-preview").succeeds();
    assert_eq!(desk.names("out"), ["answer.txt", "report.json"]);
}

#[test]
fn a_file_in_the_way_of_the_folder_is_refused() {
    let desk = Desk::new();
    fs::write(desk.path("file"), "").unwrap();
    desk.infer("--out file").fails(73, "R-OUT-02").says("not a folder");
    desk.infer("--out file/deeper").fails(73, "R-OUT-02");
    fs::create_dir_all(desk.path("dir/mask.npy")).unwrap();
    desk.infer("--out dir --force").fails(73, "R-OUT-03");
    assert_eq!(desk.names("dir"), ["mask.npy"]);
}

#[cfg(target_os = "linux")]
#[test]
fn r2_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_computed() {
    let desk = Desk::new();
    // Not even an administrator creates files here.
    let run = desk.infer("--out /proc/r1seg");
    run.fails(73, "R-OUT-02").says("fix: choose a folder");
    assert!(!run.stderr.contains("research use"), "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn r2_a_read_only_folder_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    fs::create_dir(desk.path("ro")).unwrap();
    fs::set_permissions(desk.path("ro"), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(desk.path("ro/probe"), "").is_ok() {
        eprintln!("skipped: an administrator may write everywhere");
        return;
    }
    desk.infer("--out ro").fails(73, "R-OUT-02");
    desk.infer("--out ro/new").fails(73, "R-OUT-02");
}

#[test]
fn r7_the_input_is_never_replaced() {
    let desk = Desk::new();
    fs::create_dir(desk.path("out")).unwrap();
    let image = desk.path("out/mask.npy");
    fs::copy(data("phi3/golden/volume.npy"), &image).unwrap();
    let before = fs::read(&image).unwrap();
    for options in ["", "--force", "--out other --force --trace out/mask.npy"] {
        desk.infer_volume(&image, options).fails(73, "R-OUT-06").says("mask.npy");
    }
    let dotted: PathBuf = desk.path("out/../out/mask.npy");
    desk.infer_volume(&dotted, "--force").fails(73, "R-OUT-06");
    assert_eq!(fs::read(&image).unwrap(), before);
}

#[test]
fn a_trace_that_cannot_be_written_is_refused_before_anything_is_computed() {
    let desk = Desk::new();
    fs::write(desk.path("t.safetensors"), "mine").unwrap();
    desk.infer("--trace t.safetensors").fails(73, "R-OUT-01").says("--force");
    desk.infer("--trace no/t.safetensors").fails(73, "R-OUT-02");
    desk.infer("--trace .").fails(73, "R-OUT-03");
    desk.is_empty_but_for(&["t.safetensors"]);
}

#[test]
fn nested_folders_are_created() {
    let desk = Desk::new();
    desk.infer("--out a/b/c").succeeds();
    assert_eq!(desk.names("a/b/c").len(), 5);
}

#[cfg(unix)]
#[test]
fn r12_what_a_killed_run_left_is_removed_unless_another_run_is_at_work_there() {
    let desk = Desk::new();
    for leftover in ["out/.r1seg-dead01.part", "out/.r1seg-alive1.part", "out/.r1seg-other"] {
        fs::create_dir_all(desk.path(leftover)).unwrap();
        fs::write(desk.path(leftover).join("mask.nii.gz"), "half").unwrap();
    }
    let lock = fs::File::open(desk.path("out/.r1seg-alive1.part")).unwrap();
    lock.lock().unwrap();
    desk.infer("--no-preview").succeeds();
    let mut hidden = desk.names("out");
    hidden.retain(|name| name.starts_with('.'));
    assert_eq!(hidden, [".r1seg-alive1.part", ".r1seg-other"]);
    drop(lock);
    desk.infer("--no-preview --force").succeeds();
    assert!(!desk.path("out/.r1seg-alive1.part").exists());
}

#[cfg(target_os = "linux")]
mod interrupted {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, ChildStdin, Command, Stdio};
    use std::time::{Duration, Instant};

    use crate::{Desk, data};

    fn signal(child: &Child, name: &str) {
        let pid = child.id().to_string();
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
        assert!(status.unwrap().success());
    }

    /// Waits until the program has a handler for SIGINT.
    fn wait_for_handler(child: &Child) {
        let status = format!("/proc/{}/status", child.id());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            let text = std::fs::read_to_string(&status).unwrap();
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            if u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no handler for SIGINT");
    }

    /// A run that reads its question from the pipe that comes with it, which is to stay open:
    /// waiting for the program would close it.
    fn waiting_for_a_question(desk: &Desk) -> (Child, Option<ChildStdin>) {
        let mut command = desk.command();
        command.args(["infer", "-o", "out", "-p", "-", "-m"]).arg(data("phi3")).arg("-i");
        command.arg(data("phi3/golden/volume.npy")).stdin(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        wait_for_handler(&child);
        (child, stdin)
    }

    #[test]
    fn r3_while_it_waits_for_a_question_it_stops_within_a_second() {
        let desk = Desk::new();
        let (mut child, _stdin) = waiting_for_a_question(&desk);
        let start = Instant::now();
        signal(&child, "INT");
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        desk.is_empty_but_for(&[]);
    }

    #[test]
    fn with_json_a_run_that_is_stopped_says_so_in_one_object() {
        let desk = Desk::new();
        let mut command = desk.command();
        command.args(["infer", "--json", "-o", "out", "-p", "-", "-m"]).arg(data("phi3"));
        command.arg(data("phi3/golden/volume.npy")).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _stdin = child.stdin.take();
        wait_for_handler(&child);
        signal(&child, "TERM");
        let output = child.wait_with_output().unwrap();
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&object["error"]["code"], output.status.code()),
            (&"R-RUN-01".into(), Some(143))
        );
        assert_eq!(object["error"]["exit_code"], 143);
    }

    #[test]
    fn a_run_under_nohup_goes_on_when_the_terminal_closes() {
        let desk = Desk::new();
        let mut command = desk.command_of("nohup");
        command.args([env!("CARGO_BIN_EXE_r1seg"), "infer", "-o", "out", "-p", "-", "-m"]);
        command.arg(data("phi3")).arg("-i").arg(data("phi3/golden/volume.npy"));
        command.args(["--max-new-tokens", "1", "--device", "cpu"]).stdin(Stdio::piped());
        let Ok(mut child) = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn() else {
            eprintln!("skipped: no nohup here");
            return;
        };
        wait_for_handler(&child);
        signal(&child, "HUP");
        std::thread::sleep(Duration::from_millis(200));
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"Liver?").unwrap();
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn r3_a_second_signal_ends_the_process_at_once() {
        let desk = Desk::new();
        let (child, _stdin) = waiting_for_a_question(&desk);
        let pid = child.id();
        let both = format!("kill -INT {pid}; sleep 0.1; kill -INT {pid}");
        assert!(Command::new("sh").args(["-c", &both]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        // It did not take the time to explain itself.
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        desk.is_empty_but_for(&[]);
    }

    #[test]
    fn r3_in_the_middle_of_an_answer_nothing_is_left() {
        for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            let desk = Desk::new();
            let mut command = desk.command();
            command.arg("demo").stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            // Said before the first of seven questions is asked.
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            assert!(line.starts_with("phantom 7"), "{line}");
            signal(&child, name);
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{stderr}");
            assert!(stderr.contains("error[R-RUN-01]: cancelled"), "{stderr}");
            desk.is_empty_but_for(&[]);
        }
    }
}
