//! Tells the program for which target it is built, and from which commit, where that is known.

#![allow(clippy::print_stdout, reason = "cargo listens")]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=R1SEG_TARGET={target}");
    println!("cargo::rerun-if-env-changed=R1SEG_GIT");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // A package that was unpacked inside somebody's repository is not of that repository's commit.
    if std::env::var_os("R1SEG_GIT").is_some() || !root.join(".git").exists() {
        return;
    }
    let git = |args: &[&str]| -> Option<String> {
        let output = Command::new("git").arg("-C").arg(&root).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    };
    // Every commit and checkout adds a line to this log.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && root.join(&log).exists()
    {
        println!("cargo::rerun-if-changed={}", root.join(log).display());
    }
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        println!("cargo::rustc-env=R1SEG_GIT={commit}");
    }
}
