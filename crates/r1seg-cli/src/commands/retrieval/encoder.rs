//! An M3D-CLIP, and what a person is told while it works.

use std::path::Path;

use anyhow::Result;
use r1seg::volume::{Loaded, ReadOptions, Warning};
use r1seg::{CancelToken, Error, M3dClip, Preprocess};

use crate::args::{ModelArgs, PrepareArgs, VolumeArgs};
use crate::exit::CliError;
use crate::input::{self, is_stdin};
use crate::progress::Progress;
use crate::{prompts, study};

/// A volume or a text, as a vector of length 1.
pub(super) struct Embedded {
    pub(super) name: String,
    /// How a volume was prepared.
    pub(super) recipe: Option<String>,
    pub(super) vector: Vec<f32>,
}

/// A model, and how volumes are read for it.
pub(super) struct Encoder {
    pub(super) clip: M3dClip,
    /// What reports call the model.
    pub(super) model: String,
    read_options: ReadOptions,
    preprocess: Preprocess,
    quiet: bool,
    cancel: CancelToken,
    warnings: Vec<Warning>,
}

impl Encoder {
    pub(super) fn open(
        model: &ModelArgs,
        volume: &VolumeArgs,
        prepare: &PrepareArgs,
        quiet: bool,
        cancel: CancelToken,
    ) -> Result<Self> {
        let (source, name) = study::source(model)?;
        let progress = Progress::new(quiet);
        progress.stage("loading the model");
        study::verify(model, &cancel)?;
        let clip = M3dClip::open(&source, &study::load_options(model, 0))?;
        progress.clear();
        if !quiet {
            let device = clip.device_name();
            study::announce_on(&device, clip.dtype_name(), &name.id, model.device);
        }
        Ok(Self {
            clip,
            model: name.id,
            read_options: volume.read_options(),
            preprocess: prepare.preprocess,
            quiet,
            cancel,
            warnings: Vec::new(),
        })
    }

    /// Embeds volumes one after the other, so that only one is in memory.
    pub(super) fn volumes<P: AsRef<Path>>(&mut self, paths: &[P]) -> Result<Vec<Embedded>> {
        let progress = Progress::new(self.quiet);
        let mut all = Vec::with_capacity(paths.len());
        for (index, path) in paths.iter().enumerate() {
            let path = path.as_ref();
            self.check_cancelled()?;
            progress.stage(format!("volume {} of {}", index + 1, paths.len()));
            let loaded = self.read(path).map_err(|e| about(e, path))?;
            let seen = self.clip.embed_volume(&loaded.volume, self.preprocess);
            let seen = seen.map_err(|e| about(e, path))?;
            let name = path.display().to_string();
            for mut warning in loaded.warnings.into_iter().chain(seen.warnings) {
                warning.text = format!("{name}: {}", warning.text);
                self.warnings.push(warning);
            }
            let recipe = Some(seen.recipe.to_string());
            all.push(Embedded { name, recipe, vector: seen.embedding });
        }
        progress.clear();
        Ok(all)
    }

    fn read(&self, path: &Path) -> Result<Loaded, Error> {
        Ok(input::load(path, &self.read_options)?)
    }

    pub(super) fn texts(&mut self, texts: &[String]) -> Result<Vec<Embedded>> {
        let mut all = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            self.check_cancelled()?;
            let seen = self.clip.embed_text(text);
            let seen = seen.map_err(|e| prompts::which("text", e, (index, texts.len())))?;
            if seen.dropped_tokens > 0 {
                let text = format!(
                    "text {} is {} tokens too long, which were cut off its end",
                    index + 1,
                    seen.dropped_tokens
                );
                self.warnings.push(Warning::new("W-TEXT", text));
            }
            all.push(Embedded { name: text.clone(), recipe: None, vector: seen.embedding });
        }
        Ok(all)
    }

    /// Everything that was found, shown unless nobody wants to know.
    pub(super) fn take_warnings(&mut self) -> Vec<Warning> {
        let warnings = std::mem::take(&mut self.warnings);
        if !self.quiet {
            warnings.iter().for_each(study::warn);
        }
        warnings
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// An error of one volume of several, with its path where the error does not know it.
fn about(error: Error, path: &Path) -> anyhow::Error {
    if error.path().is_some() || is_stdin(path) {
        return error.into();
    }
    CliError {
        code: error.code(),
        kind: error.kind(),
        what: error.to_string(),
        path: Some(path.to_path_buf()),
        fix: error.fix(),
    }
    .into()
}
