//! Writes a checkpoint of a published size with random weights, in the published layout.
//!
//! Such a folder loads, and costs the time and memory that the real one costs; its answers mean
//! nothing. Tensors are streamed to disk: writing never holds a whole large one in memory.
//!
//! ```sh
//! cargo run --release --example write_checkpoint -- --variant phi3-mini --out phi3-mini-random
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod hsenet;
mod layout;
mod sam_med3d;
mod tokenizer;
mod variant;
mod vista3d;
mod weights;

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;

use variant::Variant;
use weights::{Checkpoint, WeightDtype};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
Usage: write_checkpoint --variant NAME --out DIR [OPTIONS]

  --variant NAME     phi3-mini (4.0 B parameters), llama31-8b (8.2 B), segvol (0.2 B),
                     r1seg-3dsam (0.2 B), sam-med3d (0.1 B), vista3d (0.2 B), hsenet (4.1 B)
                     or tiny (for tests)
  --out DIR          folder to write, new or empty
  --layers N         of the language model [default: the variant's]
  --dtype DTYPE      bf16, f16 or f32 [default: bf16]
  --shard-size SIZE  largest weight file: bytes, or with KB, MB, GB [default: 5GB]
  --seed N           same seed, same weights, whatever the dtype and the shards [default: 0]";

const FLAGS: [&str; 6] = ["--variant", "--out", "--layers", "--dtype", "--shard-size", "--seed"];

struct Args {
    variant: Variant,
    dtype: WeightDtype,
    out: PathBuf,
    shard_size: u64,
    seed: u64,
}

fn main() -> ExitCode {
    if std::env::args_os().skip(1).any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match parse(std::env::args_os().skip(1)).and_then(|args| write_checkpoint(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn write_checkpoint(args: &Args) -> Result<()> {
    let start = Instant::now();
    create_empty_dir(&args.out)?;
    let checkpoint = Checkpoint {
        tensors: layout::tensors(&args.variant),
        dtype: args.dtype,
        shard_size: args.shard_size,
        seed: args.seed,
    };
    let bytes = weights::write(&checkpoint, &args.out)?;
    if args.variant.reads_words() {
        for (name, json) in tokenizer::files(&args.variant.vocabulary) {
            write_json(&args.out.join(name), &json)?;
        }
    }
    if args.variant.has_language_model() {
        write_json(&args.out.join("generation_config.json"), &args.variant.generation_config())?;
    }
    // The last one: without it, nothing takes the folder for a checkpoint.
    write_json(&args.out.join("config.json"), &args.variant.config(args.dtype))?;
    eprintln!(
        "{}: {} tensors, {:.2} GB, {:.1} s",
        args.out.display(),
        checkpoint.tensors.len(),
        bytes as f64 / 1e9,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn create_empty_dir(dir: &Path) -> Result<()> {
    let at_dir = |error: std::io::Error| format!("{}: {error}", dir.display());
    fs::create_dir_all(dir).map_err(at_dir)?;
    if fs::read_dir(dir).map_err(at_dir)?.next().is_some() {
        return Err(format!("{}: the folder is not empty", dir.display()).into());
    }
    Ok(())
}

/// Writes under a temporary name first: a file that bears its name is complete.
fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let written = File::create(&partial).and_then(|file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        file.flush()?;
        fs::rename(&partial, path)
    });
    written.map_err(|error| {
        // What stays behind after a full disk would keep it full.
        let _ = fs::remove_file(&partial);
        format!("{}: {error}", path.display()).into()
    })
}

fn write_json(path: &Path, json: &Value) -> Result<()> {
    write_file(path, |file| {
        serde_json::to_writer_pretty(&mut *file, json)?;
        file.write_all(b"\n")
    })
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Args> {
    let (mut variant, mut out, mut layers) = (None, None, None);
    let (mut dtype, mut shard_size, mut seed) = (WeightDtype::Bf16, 5_000_000_000, 0);
    while let Some(flag) = args.next() {
        let flag = flag.to_string_lossy().into_owned();
        if !FLAGS.contains(&flag.as_str()) {
            return Err(format!("unknown argument `{flag}`\n\n{USAGE}").into());
        }
        let value = args.next().ok_or_else(|| format!("`{flag}` needs a value"))?;
        let text = value.to_string_lossy();
        let expected = |what: &str| format!("`{flag}`: expected {what}, got `{text}`");
        match flag.as_str() {
            "--variant" => {
                let found = Variant::by_name(&text);
                variant = Some(found.ok_or_else(|| expected("a variant of --help"))?);
            }
            "--layers" => {
                let count = text.parse().ok().filter(|&count| 0 < count);
                layers = Some(count.ok_or_else(|| expected("a number of layers"))?);
            }
            "--dtype" => {
                dtype = WeightDtype::by_name(&text).ok_or_else(|| expected("bf16, f16 or f32"))?;
            }
            "--shard-size" => {
                shard_size = parse_size(&text).ok_or_else(|| expected("a size such as 5GB"))?;
            }
            "--seed" => seed = text.parse().map_err(|_| expected("a whole number"))?,
            _ => out = Some(PathBuf::from(value)),
        }
    }
    let mut variant = variant.ok_or("`--variant` is required")?;
    variant.num_hidden_layers = layers.unwrap_or(variant.num_hidden_layers);
    let out = out.ok_or("`--out` is required")?;
    Ok(Args { variant, dtype, out, shard_size, seed })
}

/// Bytes, with the decimal units of `save_pretrained(max_shard_size=...)`.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|size| 0 < *size)
}
