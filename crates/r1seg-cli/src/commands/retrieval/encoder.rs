//! An M3D-CLIP or an HSENet-CLIP, and its progress and warnings.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::volume::{ReadOptions, Warning};
use r1seg::{CancelToken, EncodeOptions, Error, M3dClip, RunContext, SliceFeatures};

use super::batch::series_name;
use crate::args::{ModelArgs, PrepareArgs, VolumeArgs};
use crate::exit::CliError;
use crate::input;
use crate::progress::Progress;
use crate::{model, prompts};

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
    embed_options: EncodeOptions,
    /// Files of features of slices, by the volume that they are of.
    slice_features: HashMap<PathBuf, PathBuf>,
    pub(super) quiet: bool,
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
        let (source, name) = model::source(model)?;
        let progress = Progress::new(quiet);
        progress.stage("loading the model");
        model::verify(model, &cancel)?;
        let options = model::load_options(&model.load, 0).with_cancel(cancel.clone());
        let clip = M3dClip::load_with(source, &options)?;
        progress.clear();
        if !quiet {
            model::announce(&clip, &name.id);
        }
        Ok(Self {
            clip,
            model: name.id,
            read_options: volume.read_options(),
            embed_options: volume
                .with_orient(EncodeOptions::default().with_preprocess(prepare.preprocess)),
            slice_features: HashMap::new(),
            quiet,
            cancel,
            warnings: Vec::new(),
        })
    }

    /// Takes features of slices, of these volumes in their order.
    pub(super) fn with_slice_features(
        mut self,
        volumes: &[PathBuf],
        features: &[PathBuf],
    ) -> Result<Self> {
        if !features.is_empty() && features.len() != volumes.len() {
            return Err(CliError::usage(
                format!(
                    "--slice-features is given {} times, and the number of volumes is {}",
                    features.len(),
                    volumes.len()
                ),
                "give it once for each volume, in their order",
            ));
        }
        self.slice_features = volumes.iter().cloned().zip(features.iter().cloned()).collect();
        Ok(self)
    }

    /// Embeds a volume; `series` is which one of a folder of DICOM files, by its number.
    pub(super) fn volume(&mut self, path: &Path, series: Option<usize>) -> Result<Embedded, Error> {
        self.cancel.check()?;
        let (name, options) = match series {
            Some(number) => {
                let options = self.read_options.clone().with_series(number.to_string());
                (series_name(path, number), options)
            }
            None => (path.display().to_string(), self.read_options.clone()),
        };
        let loaded = input::load(path, &options)?;
        let mut run = RunContext::from(&self.cancel);
        let mut options = self.embed_options.clone();
        if let Some(features) = self.slice_features.get(path) {
            options = options.with_slice_features(SliceFeatures::read(features)?);
        }
        let embedded = self.clip.embed_volume_with(&loaded.volume, &options, &mut run)?;
        for mut warning in loaded.warnings.into_iter().chain(embedded.warnings) {
            warning.text = format!("{name}: {}", warning.text);
            self.warn(warning);
        }
        let recipe = Some(embedded.recipe.to_string());
        Ok(Embedded { name, recipe, vector: embedded.embedding })
    }

    /// Notes what [`Encoder::take_warnings`] shows.
    pub(super) fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }

    pub(super) fn texts(&mut self, texts: &[String]) -> Result<Vec<Embedded>> {
        let mut all = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let embedded = self.clip.embed_text_with(text, &mut RunContext::from(&self.cancel));
            let embedded = embedded.map_err(|e| prompts::which("text", e, (index, texts.len())))?;
            if embedded.dropped_tokens > 0 {
                let text = format!(
                    "text {} is {} tokens too long, which were cut off its end",
                    index + 1,
                    embedded.dropped_tokens
                );
                self.warnings.push(Warning::new("W-TEXT", text));
            }
            all.push(Embedded { name: text.clone(), recipe: None, vector: embedded.embedding });
        }
        Ok(all)
    }

    /// Everything that was found, shown unless nobody wants to know.
    pub(super) fn take_warnings(&mut self) -> Vec<Warning> {
        let warnings = std::mem::take(&mut self.warnings);
        if !self.quiet {
            warnings.iter().for_each(model::warn);
        }
        warnings
    }
}
