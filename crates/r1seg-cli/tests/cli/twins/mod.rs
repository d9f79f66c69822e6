//! Twins of the published repositories: their file names, their layouts, their tokenizer files, and the
//! recorded weights in them, whose widths are small. Each goes the whole way of a user: `download` from a
//! hub on this machine, `inspect`, `convert` where there are only pickles, and the command of the README,
//! without a connection. What comes out equals what the recorded checkpoint gives.
//!
//! `config.json` has the fields of the published file and, beside them, those that size the encoders
//! (`num_layers`, `text_config` ..), which published files leave to the defaults of full size.
//!
//! - `repository`: files in the making; `vocabulary`: tokenizer files of each published kind.
//! - `lamed`, `clip`, `promptable`, `sam`, `vista`: repositories whose list of files is known.
//! - `r1seg`: those whose list is not known: every list that the authors' code can have written.

mod clip;
mod lamed;
mod promptable;
mod r1seg;
mod repository;
mod sam;
mod vista;
mod vocabulary;

use std::fs;
use std::path::{Path, PathBuf};

use ::r1seg::registry::MODELS;
use ::r1seg::volume::{Geometry, Overwrite, Volume, write_volume};
use serde_json::Value;

use crate::hub_server::{COMMIT, Server};
use crate::{Desk, Run, data, finish};
use repository::Repository;

/// A repository on a hub of its own, and the desk of someone who downloads it.
struct Twin {
    desk: Desk,
    server: Server,
    name: &'static str,
}

impl Twin {
    fn publish(name: &'static str, files: Repository) -> Self {
        let server = Server::publish(name, files.into_files());
        Self { desk: Desk::new(), server, name }
    }

    /// The short name, which the README uses.
    fn alias(&self) -> &'static str {
        self.name.split('/').next_back().unwrap()
    }

    /// Downloads it by its short name: no code, nothing of the training, and nothing beyond `expected`.
    #[track_caller]
    fn download(&self, expected: &[&str]) -> PathBuf {
        let mut command = self.desk.command();
        command.env("HF_ENDPOINT", format!("http://127.0.0.1:{}", self.server.port()));
        let run = finish(command.args(["download", self.alias(), "--json"]));
        let done: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
        assert_eq!((&done["model"], &done["commit"]), (&self.name.into(), &COMMIT.into()));
        let mut names: Vec<&str> =
            done["files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        names.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected, "{}", self.name);
        PathBuf::from(done["path"].as_str().unwrap())
    }

    /// A command without a network.
    fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        let mut command = self.desk.command();
        // Whoever tried to connect would fail.
        command.env("HF_ENDPOINT", "http://127.0.0.1:1").env("HF_HUB_OFFLINE", "1");
        finish(command.args(args))
    }

    /// `inspect` calls the model ready.
    #[track_caller]
    fn inspect(&self, model: &str) -> Value {
        let text = self.run(["inspect", model]);
        assert!(text.succeeds().stdout.contains("\nOK: "), "{text:#?}");
        serde_json::from_str(&self.run(["inspect", model, "--json"]).succeeds().stdout).unwrap()
    }

    /// The recorded volume of a case as `ct.nii.gz`.
    fn take_ct(&self, case: &str) {
        let file = fs::read(data(&format!("{case}/golden/volume.npy"))).unwrap();
        let numbers = file[file.len() - 4 * 16 * 64 * 64..].as_chunks().0;
        let voxels: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let geometry = Geometry::with_spacing([16, 64, 64], [5.0, 1.0, 1.0]).unwrap();
        let volume = Volume::new(voxels, geometry).unwrap();
        write_volume(self.desk.path("ct.nii.gz"), &volume, Overwrite::Refuse).unwrap();
    }

    /// Runs a command into the folder `out`, in f32 whatever the weights are; what it said, and its mask.
    #[track_caller]
    fn mask(&self, command: &str, model: &Path, prompt: &[&str], out: &str) -> (String, Vec<u8>) {
        let model = model.to_str().unwrap();
        let args = [
            command,
            "-m",
            model,
            "-i",
            "ct.nii.gz",
            "--device",
            "cpu",
            "--dtype",
            "f32",
            "-o",
            out,
        ];
        let run = self.run(args.into_iter().chain(prompt.iter().copied()));
        let said = run.succeeds().stdout.clone();
        let mask = fs::read(self.desk.path(out).join("mask.nii.gz"));
        (said, mask.unwrap_or_else(|e| panic!("{out}: {e}: {run:#?}")))
    }

    /// Asks for a mask as the README does, and the recorded checkpoint for the same; answers and masks
    /// are equal. `model` is what the user names.
    #[track_caller]
    fn answers_as_recorded(&self, model: &str, case: &str, own: &[&str]) {
        if !self.desk.path("ct.nii.gz").exists() {
            self.take_ct(case);
        }
        let question = crate::prompt(&format!("{case}/golden/case0"));
        let ask = |model: &Path, out: &str, more: &[&str]| {
            let prompt = [&["-p", &question, "--force"][..], more].concat();
            self.mask("infer", model, &prompt, out)
        };
        let (said, mask) = ask(Path::new(model), "own", own);
        // The recorded tokenizer is a fast one: it writes the space between image and question itself.
        let (recorded, expected) = ask(&data(case), "recorded", &["--separator", "none"]);
        let words = |text: &str| text.replace([' ', '\n'], "");
        assert_eq!(
            words(&said),
            words(&recorded),
            "{}: {:?}",
            self.name,
            self.desk.names("hf/hub")
        );
        assert!(said.contains("[SEG]"), "{said}");
        assert!(mask == expected, "{}: the masks differ", self.name);
    }

    /// `convert` of the downloaded model, into a folder of its short name.
    #[track_caller]
    fn convert(&self) -> String {
        let out = format!("./{}", self.alias());
        self.run(["convert", self.alias(), "-o", &out]).succeeds();
        out
    }
}

#[test]
fn every_published_repository_has_a_twin() {
    let twins = [
        lamed::REPOSITORIES,
        clip::REPOSITORIES,
        promptable::REPOSITORIES,
        sam::REPOSITORIES,
        vista::REPOSITORIES,
        r1seg::REPOSITORIES,
    ]
    .concat();
    for repository in MODELS.iter().flat_map(|entry| entry.repositories()) {
        assert!(twins.contains(&repository), "{repository}");
    }
}
