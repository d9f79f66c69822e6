//! Compiles the kernels for GPUs to PTX where `cuda` is on. nvcc needs no GPU.
//!
//! PTX for compute capability 8.0 is read by the drivers of all later ones, so that these kernels,
//! unlike candle's, need no build for each GPU.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::{env, fs};

const OLDEST: &str = "compute_80";

/// Compilations that run side by side: enough for a laptop, little enough for its memory.
const AT_ONCE: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Not the folder, in which CPU kernels change as well: touch this file after adding a `.cu`.
    println!("cargo::rerun-if-changed=build.rs");
    let mut sources = Vec::new();
    find_sources(Path::new("src"), &mut sources)?;
    for source in &sources {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    for variable in ["NVCC", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let nvcc = env::var_os("NVCC")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("CUDA_HOME")?).join("bin/nvcc")))
        .unwrap_or_else(|| PathBuf::from("nvcc"));
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compilations = Vec::new();
    for source in sources.iter().filter(|source| source.extension().is_some_and(|e| e == "cu")) {
        for number in ["f32", "f16", "bf16"] {
            let name = format!(
                "{}_{number}.ptx",
                source.strip_prefix("src")?.with_extension("").display()
            );
            let ptx = out.join(name);
            fs::create_dir_all(ptx.parent().ok_or("a file without a folder")?)?;
            let child = Command::new(&nvcc)
                .args(["-ptx", "-arch", OLDEST, "-std=c++17", "-O3", "-Isrc"])
                // What only one of the types uses.
                .args(["-diag-suppress", "177", "-o"])
                .arg(&ptx)
                .arg(format!("-DR1SEG_{}", number.to_uppercase()))
                .arg(source)
                .spawn()
                .map_err(|e| {
                    format!("cannot run {} ({e}); set NVCC to CUDA's compiler", nvcc.display())
                })?;
            compilations.push((source, child));
            if compilations.len() == AT_ONCE {
                finish(&mut compilations)?;
            }
        }
    }
    finish(&mut compilations)
}

/// Waits for compilations.
fn finish(compilations: &mut Vec<(&PathBuf, Child)>) -> Result<(), Box<dyn std::error::Error>> {
    for (source, mut child) in compilations.drain(..) {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("nvcc failed on {}: {status}", source.display()).into());
        }
    }
    Ok(())
}

fn find_sources(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_sources(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "cu" || e == "cuh") {
            found.push(path);
        }
    }
    Ok(())
}
