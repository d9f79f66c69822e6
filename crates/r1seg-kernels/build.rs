//! Compiles the kernels for GPUs to PTX where `cuda` is on. nvcc needs no GPU.
//!
//! PTX for compute capability 8.0 is read by the drivers of all later ones, so that these kernels,
//! unlike candle's, need no build for each GPU.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const OLDEST: &str = "compute_80";

fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    for source in sources.iter().filter(|source| source.extension().is_some_and(|e| e == "cu")) {
        let ptx = out.join(source.strip_prefix("src")?).with_extension("ptx");
        fs::create_dir_all(ptx.parent().ok_or("a file without a folder")?)?;
        let status = Command::new(&nvcc)
            .args(["-ptx", "-arch", OLDEST, "-std=c++17", "-O3", "-Isrc", "-o"])
            .arg(&ptx)
            .arg(source)
            .status()
            .map_err(|e| {
                format!("cannot run {} ({e}); set NVCC to CUDA's compiler", nvcc.display())
            })?;
        if !status.success() {
            return Err(
                format!("{} failed on {}: {status}", nvcc.display(), source.display()).into()
            );
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
