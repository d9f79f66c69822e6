//! The child process that reads pickles. This program is both: started with an argument it is the
//! child, without one it runs the checks.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test without libtest")]

use std::fs::File;
use std::ops::ControlFlow;
use std::process::{Command, ExitCode, Stdio};

use r1seg_convert::{
    ConvertOptions, Error, ErrorKind, PickleError, PickleReading, Sandbox, SandboxError, convert,
    sandbox_main,
};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("child") => {
            return if sandbox_main() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        // A child that lies: a tensor outside the file, or no answer at all.
        Some("liar") => {
            println!(
                r#"{{"index":{{"tensors":[{{"name":"w","dtype":"f32","shape":[1000],"strides":[1],
                "start":0,"storage":[0,4000]}}],"wrappers":[],"ignored":0}}}}"#
            );
            return ExitCode::SUCCESS;
        }
        Some("babbler") => {
            println!("hello");
            return ExitCode::SUCCESS;
        }
        Some("prisoner") => return ExitCode::from(try_to_escape()),
        Some("failing") => return ExitCode::FAILURE,
        // libtest's flags, such as `--nocapture`.
        _ => {}
    }
    let checks: [(&str, fn()); 5] = [
        ("w2_a_checkpoint_is_read_in_a_child", w2_a_checkpoint_is_read_in_a_child),
        ("w2_a_refusal_crosses_the_border_as_it_is", w2_a_refusal_crosses_the_border_as_it_is),
        ("w2_a_child_is_not_believed", w2_a_child_is_not_believed),
        ("w2_what_runs_in_the_child_can_do_nothing", w2_what_runs_in_the_child_can_do_nothing),
        ("a_program_that_does_not_exist_is_an_error", a_program_that_does_not_exist_is_an_error),
    ];
    for (name, check) in checks {
        check();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn sandbox(command: &str) -> Sandbox {
    Sandbox { program: std::env::current_exe().unwrap(), arguments: vec![command.into()] }
}

/// A bare file of one f32 tensor, protocol 2; `body` replaces the pickle of the weights.
fn checkpoint(body: Option<&[u8]>) -> Vec<u8> {
    let mut out = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    out.extend(b"\x80\x02M\xe9\x03.");
    out.extend(b"\x80\x02}X\x0d\0\0\0little_endian\x88s.");
    out.extend(body.unwrap_or(
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor\n((X\x07\0\0\0storagectorch\nFloatStorage\n\
          X\x01\0\0\x000X\x03\0\0\0cpuK\x01NtQK\x00K\x01\x85K\x01\x85tRs.",
    ));
    out.extend(b"\x80\x02]X\x01\0\0\x000a.");
    out.extend(1i64.to_le_bytes());
    out.extend(5f32.to_le_bytes());
    out
}

fn converted(bytes: &[u8], sandbox: Sandbox) -> Result<Option<PickleReading>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("x.pth");
    std::fs::write(&source, bytes).unwrap();
    let options = ConvertOptions { sandbox: Some(sandbox), ..ConvertOptions::new(source) };
    let out = folder.path().join("out");
    let report = convert(&options, &out, &mut |_| ControlFlow::Continue(()))?;
    let weights = std::fs::read(out.join("model.safetensors")).unwrap();
    assert!(weights.ends_with(&5f32.to_le_bytes()));
    Ok(report.pickles)
}

fn w2_a_checkpoint_is_read_in_a_child() {
    let pickles = converted(&checkpoint(None), sandbox("child")).unwrap();
    assert_eq!(pickles, Some(PickleReading::Sandboxed));
}

fn w2_a_refusal_crosses_the_border_as_it_is() {
    let hostile = checkpoint(Some(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R."));
    let error = converted(&hostile, sandbox("child")).unwrap_err();
    let expected = PickleError::Global { name: "os.system".to_owned() };
    assert!(matches!(error, Error::Pickle { reason, .. } if reason == expected));
}

fn w2_a_child_is_not_believed() {
    let error = converted(&checkpoint(None), sandbox("liar")).unwrap_err();
    assert!(matches!(error, Error::Pickle { reason: PickleError::Tensor { .. }, .. }), "{error:?}");
    let error = converted(&checkpoint(None), sandbox("babbler")).unwrap_err();
    assert!(matches!(error, Error::Sandbox { source: SandboxError::Answer, .. }), "{error:?}");
    let error = converted(&checkpoint(None), sandbox("failing")).unwrap_err();
    assert!(matches!(error, Error::Sandbox { source: SandboxError::Stopped { .. }, .. }));
    assert_eq!(error.kind(), ErrorKind::Model);
}

fn w2_what_runs_in_the_child_can_do_nothing() {
    if !cfg!(target_os = "linux") {
        println!("skipped: only Linux limits everything");
        return;
    }
    let file = tempfile::tempfile().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .arg("prisoner")
        .stdin(Stdio::from(file))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0), "exit code: what the child could do");
}

/// What code that ran in the child would try, after the limits are in place.
fn try_to_escape() -> u8 {
    let marker = std::env::temp_dir().join("r1seg-convert-prisoner");
    if !sandbox_main() {
        return 1;
    }
    if File::open("/etc/hostname").is_ok() || File::open("/proc/self/limits").is_ok() {
        return 2;
    }
    if std::fs::write(&marker, b"x").is_ok() {
        return 3;
    }
    // The administrator may fork; what is forked cannot open a library.
    if Command::new("/bin/true").stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return 4;
    }
    if std::net::TcpListener::bind("127.0.0.1:0").is_ok() {
        return 5;
    }
    let mut memory = Vec::<u8>::new();
    if memory.try_reserve_exact(3 << 30).is_ok() {
        return 6;
    }
    0
}

fn a_program_that_does_not_exist_is_an_error() {
    let nowhere = Sandbox { program: "/nowhere/r1seg".into(), arguments: Vec::new() };
    let error = converted(&checkpoint(None), nowhere).unwrap_err();
    assert!(matches!(error, Error::Sandbox { source: SandboxError::Start(_), .. }));
    assert_eq!(error.kind(), ErrorKind::Io);
}
