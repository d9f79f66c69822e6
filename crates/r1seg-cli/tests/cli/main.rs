//! The command line as its users see it: streams, files and exit codes of the built program.
//!
//! - `infer`: what a question gives, on stdout, on stderr and in the folder; `prompts`: what
//!   several give; `destinations`: elsewhere than in the folder.
//! - `batch`: many volumes, and what a run that ended leaves to the next one.
//! - `bounded`: what is read of a model has limits.
//! - `boxes`: boxes in answers, and questions about boxes.
//! - `chat`: conversations whose lines come from a pipe; `refine`: what a second model draws again.
//! - `compare`: what two masks have in common.
//! - `inspect`, `inspect_dicom`: what a volume, or a study of several, is said to be.
//! - `inspect_model`: what a model is said to be.
//! - `volume_options`: which volume of a file is meant; `orientation`: which way a model sees it.
//! - `schema`: reports keep to their schema.
//! - `input_faults`, `model_faults`, `machine_faults`, `usage`: what goes wrong is said, by exit
//!   code and message.
//! - `not_finite`: NaN and infinity end in an error that names the stage.
//! - `output`: nothing is replaced, half-written or left behind; `kept`: inputs and models least of
//!   all; `left`: what a run leaves where nothing is named or found; `readme`: its commands.
//! - `classes`: what VISTA3D does; `hsenet`: what HSENet and HSENet-CLIP do.
//! - `checkpoints`: where models come from: the cache, and conversion; `conversion`: what it says.
//! - `retrieval`: what M3D-CLIP does; `segment`: what SegVol and R1Seg-3D-SAM do.
//! - `twins`: the published repositories, file by file, from `download` to the answer.
//! - `demo_and_bench`, `doctor`: the commands that need no file.
//! - `serve`: how the server begins and ends.
//! - `reproduce`: recorded results, measured again.
//! - `habits`: what people expect of any command line.
//! - `mcp`: what a client of the Model Context Protocol reads; `agents`: what SKILL.md and AGENTS.md say.
//! - `words`: what an answer without a mask suggests, `prompts`, and `--organ`.
//!
//! Tests of a row of `docs/faults.md` are named for it: `q1_..` are questions, `r1_..` the machine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test helper may fail"
)]

mod agents;
mod batch;
mod bounded;
mod boxes;
mod chat;
mod checkpoints;
mod classes;
mod clicks;
mod compare;
mod conversion;
mod demo_and_bench;
mod destinations;
mod doctor;
mod drafts;
mod eval;
mod habits;
mod hsenet;
mod infer;
mod input_faults;
mod inspect;
mod inspect_dicom;
mod inspect_model;
mod kept;
mod left;
mod machine_faults;
mod mcp;
mod model_faults;
mod not_finite;
mod orientation;
mod output;
mod prompts;
mod readme;
mod refine;
mod reproduce;
mod retrieval;
mod schema;
mod segment;
mod serve;
mod twins;
mod usage;
mod volume_options;
mod words;

#[path = "../../../r1seg-hub/tests/hub/server.rs"]
#[allow(dead_code, reason = "only the tests of r1seg-hub use all of it")]
mod hub_server;
#[path = "../../../r1seg-convert/tests/convert/torch_file.rs"]
#[allow(dead_code, reason = "only the tests of r1seg-convert use all of it")]
mod torch_file;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use r1seg::volume::{Geometry, Overwrite, Volume, write_volume};
use serde_json::Value;
use tempfile::TempDir;

/// A file of the recorded cases.
fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(path)
}

/// What a run of the program left.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// The run failed with this exit code and error code, printed nothing on stdout but the JSON object
    /// that says so with `--json`, and did not panic.
    #[track_caller]
    fn fails(&self, exit: i32, error: &str) -> &Self {
        assert_eq!(self.code, Some(exit), "{self:#?}");
        assert!(self.stderr.contains(&format!("error[{error}]: ")), "{self:#?}");
        let object = serde_json::from_str(&self.stdout).unwrap_or(Value::Null);
        assert!(self.stdout.is_empty() || object["error"]["code"] == error, "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    #[track_caller]
    fn code_is(&self, exit: i32) -> &Self {
        assert_eq!(self.code, Some(exit), "{self:#?}");
        self
    }

    #[track_caller]
    fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "`{text}` is not in {self:#?}");
        self
    }

    #[track_caller]
    fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }
}

/// A folder of its own, in which the program runs.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_r1seg"))
    }

    /// Another program, to run r1seg in.
    fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        // The tester's own settings are none of the program's business here.
        command.env("RUST_BACKTRACE", "1").env_remove("COLUMNS").env_remove("RAYON_NUM_THREADS");
        for variable in std::env::vars_os().map(|(name, _)| name) {
            if ["HF_", "R1SEG_"].iter().any(|of| variable.to_string_lossy().starts_with(of)) {
                command.env_remove(variable);
            }
        }
        command.env("HF_HOME", self.path("hf")).env_remove("TRANSFORMERS_OFFLINE");
        // What a run leaves for later ones has tests of its own.
        command.env("R1SEG_DRAFTS", "memory");
        command
    }

    fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        finish(self.command().args(args))
    }

    /// `infer` with the small model and volume and the question that it segments, changed by
    /// options that come after.
    fn infer(&self, options: &str) -> Run {
        let volume = data("phi3/golden/volume.npy");
        self.infer_volume(&volume, options)
    }

    fn infer_volume(&self, volume: &Path, options: &str) -> Run {
        self.ask(&data("phi3"), volume, &prompt("phi3/golden/case0"), options)
    }

    /// `infer` with a checkpoint folder.
    fn infer_with(&self, model: &Path) -> Run {
        self.ask(model, &data("phi3/golden/volume.npy"), &prompt("phi3/golden/case0"), "")
    }

    /// The command of [`Desk::infer_volume`], to add to.
    fn infer_command(&self, volume: &Path, options: &str) -> Command {
        self.ask_command(&data("phi3"), volume, &prompt("phi3/golden/case0"), options)
    }

    /// [`Desk::infer_volume`] without a folder to write to.
    fn run_infer(&self, volume: &Path, options: &str) -> Run {
        finish(&mut self.bare_command(volume, options))
    }

    fn bare_command(&self, volume: &Path, options: &str) -> Command {
        let mut command = self.command();
        command.args(["infer", "--separator", "none", "--device", "cpu", "--model"]);
        command.arg(data("phi3")).arg("--image").arg(volume);
        command.args(["--prompt", &prompt("phi3/golden/case0")]);
        command.args(options.split_whitespace());
        command
    }

    fn ask(&self, model: &Path, volume: &Path, prompt: &str, options: &str) -> Run {
        finish(&mut self.ask_command(model, volume, prompt, options))
    }

    fn ask_command(&self, model: &Path, volume: &Path, prompt: &str, options: &str) -> Command {
        let mut command = self.command();
        command.arg("infer").arg("--model").arg(model).arg("--image").arg(volume);
        command.args(["--prompt", prompt, "--separator", "none"]);
        if !options.contains("--out") {
            command.args(["--out", "out"]);
        }
        // A build with CUDA says the same, on the same device.
        if !options.contains("--device") {
            command.args(["--device", "cpu"]);
        }
        command.args(options.split_whitespace());
        command
    }

    fn report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("out/report.json")).unwrap()).unwrap()
    }

    /// Names of all that lies in a folder, sorted; hidden files too.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A failed run leaves nothing behind.
    #[track_caller]
    fn is_empty_but_for(&self, files: &[&str]) {
        assert_eq!(self.names("."), files);
    }
}

fn finish(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A volume of the small model's size without a pattern, 5 x 1 x 1 mm.
fn nifti(desk: &Desk, name: &str) -> PathBuf {
    let geometry = Geometry::with_spacing([16, 64, 64], [5.0, 1.0, 1.0]).unwrap();
    let data: Vec<f32> = (0..16 * 64 * 64).map(|n| (n * 7919 % 1000) as f32 / 1000.0).collect();
    let volume = Volume::new(data, geometry).unwrap();
    write_volume(desk.path(name), &volume, Overwrite::Refuse).unwrap();
    desk.path(name)
}

/// The recorded question of a case.
fn prompt(case: &str) -> String {
    let json = fs::read(data(&format!("{case}.json"))).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    json["prompt"].as_str().unwrap().to_string()
}

/// A tensor of a safetensors file: dtype, shape and bytes.
#[derive(Debug, Clone, PartialEq)]
struct RawTensor {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

type RawTensors = BTreeMap<String, RawTensor>;

fn read_tensors(path: &Path) -> RawTensors {
    let bytes = fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| {
            let tensor = RawTensor {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            };
            (name.to_string(), tensor)
        })
        .collect()
}

fn write_tensors(path: &Path, tensors: &RawTensors) {
    fs::write(path, safetensors_of(tensors)).unwrap();
}

/// The bytes of a safetensors file, as transformers writes it.
fn safetensors_of(tensors: &RawTensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, t)| {
        let view = safetensors::tensor::TensorView::new(t.dtype, t.shape.clone(), &t.bytes);
        (name.as_str(), view.unwrap())
    });
    let metadata = [("format".to_string(), "pt".to_string())];
    safetensors::serialize(views, Some(metadata.into())).unwrap()
}
