//! Converts a checkpoint, or verifies a converted one.
//!
//! ```text
//! cargo run --release -p r1seg-convert --example convert -- SOURCE OUT [bf16|f16|f32] [q8_0|q6k|q4k|FILE.gguf] [phi3|llama|qwen2] [BASE]
//! cargo run --release -p r1seg-convert --example convert -- verify FOLDER
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use r1seg_checkpoint::keys::llama_cpp::Architecture;
use r1seg_checkpoint::verify;
use r1seg_convert::{ConvertOptions, Error, Quant, Sandbox, TargetDtype, convert, sandbox_main};

/// The hidden command that reads pickles.
const SANDBOX: &str = "read-pickle";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [SANDBOX] => return if sandbox_main() { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        ["verify", folder] => verify(Path::new(folder), true)
            .map(|verified| println!("{} tensors, {} bytes", verified.tensors, verified.bytes))
            .map_err(|error| (error.code(), error.to_string())),
        [source, out, rest @ ..] => {
            run(source, out, rest).map_err(|error| (error.code(), error.to_string()))
        }
        _ => {
            eprintln!(
                "SOURCE OUT [bf16|f16|f32] [q8_0|q6k|q4k|FILE.gguf] [phi3|llama|qwen2] [BASE], or \
                 verify FOLDER"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("error[{code}]: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(source: &str, out: &str, rest: &[&str]) -> Result<(), Error> {
    let mut options = ConvertOptions::new(source);
    for word in rest {
        match *word {
            "bf16" => options.dtype = Some(TargetDtype::Bf16),
            "f16" => options.dtype = Some(TargetDtype::F16),
            "f32" => options.dtype = Some(TargetDtype::F32),
            "q8_0" => options.quant = Some(Quant::Q8_0),
            "q6k" => options.quant = Some(Quant::Q6K),
            "q4k" => options.quant = Some(Quant::Q4K),
            "phi3" => options.architecture = |_| Some(Architecture::Phi3),
            "llama" => options.architecture = |_| Some(Architecture::Llama),
            "qwen2" => options.architecture = |_| Some(Architecture::Qwen2),
            llm if llm.ends_with(".gguf") => options.llm = Some(PathBuf::from(llm)),
            base => options.base = Some(PathBuf::from(base)),
        }
    }
    options.sandbox = std::env::current_exe()
        .ok()
        .map(|program| Sandbox { program, arguments: vec![SANDBOX.into()] });
    let report = convert(&options, Path::new(out), &mut |_| ControlFlow::Continue(()))?;
    println!(
        "{} tensors, {} bytes read, {} written, pickles {:?}, prefixes {:?}, {} renamed, dropped {:?}, lora {:?}",
        report.manifest.tensors,
        report.bytes_read,
        report.bytes_written,
        report.pickles,
        report.prefixes,
        report.renamed.len(),
        report.dropped,
        report.manifest.lora,
    );
    Ok(())
}
