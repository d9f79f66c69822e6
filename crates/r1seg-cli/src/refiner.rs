//! The second model of `--refine-with` and `/refine`, which draws again what a first one found.

use std::path::Path;

use anyhow::Result;
use r1seg::volume::Volume;
use r1seg::{
    CancelToken, CheckpointSource, EncodeOptions, EncodedVolume, Error, Event, InferenceMode,
    Model, RunContext,
};
use r1seg_results::{Obtained, Refiner, WorkingMemory, Workload, refining_mode};

use crate::args::{ModelArgs, VolumeArgs};
use crate::model::{self, ModelName};
use crate::progress::Progress;

/// A model that is known to be able to refine, and is not loaded yet.
pub(crate) struct SecondModel {
    pub(crate) source: CheckpointSource,
    pub(crate) name: ModelName,
    mode: InferenceMode,
}

/// The same, loaded, with the volume encoded.
pub(crate) struct LoadedSecond {
    pub(crate) of: SecondModel,
    pub(crate) model: Model,
    encoded: EncodedVolume,
}

impl SecondModel {
    /// The model of this name or in this folder, before anything large is read.
    pub(crate) fn find(path: &Path, mode: Option<InferenceMode>) -> Result<Self> {
        let (source, name) = model::source_of(path)?;
        let family = source.segmenter()?;
        let mode = refining_mode(family, &source.capabilities()?, mode)?;
        Ok(Self { source, name, mode })
    }

    /// Refuses a model that could not be loaded, or for which there is not memory enough, before the first
    /// one has worked in vain. The two are never in memory together.
    pub(crate) fn check(&self, volume: &Volume, args: &VolumeArgs, labels: usize) -> Result<()> {
        let summary = self.source.summary(None)?;
        if let Some(problem) = summary.problem {
            return Err(problem.into());
        }
        let on_cpu = summary.memory.iter().find(|need| need.device == "cpu");
        let needed = on_cpu.map_or(0, |need| need.bytes);
        let Some(limit) = r1seg::available_memory() else { return Ok(()) };
        let limit = limit.saturating_sub(self.reserved(volume, args, labels)?);
        if limit < needed {
            let path = self.source.path();
            return Err(Error::NotEnoughMemory { path, needed, limit }.into());
        }
        Ok(())
    }

    fn reserved(&self, volume: &Volume, args: &VolumeArgs, labels: usize) -> Result<u64> {
        // The deepest voxel is looked for with four bytes per voxel.
        let depths = 4 * volume.voxels().len() as u64;
        let (source, mode, turns) = (&self.source, self.mode, args.turns());
        let work = Workload { source, mode, turns, volume, prompts: labels, apart: 0 };
        Ok(WorkingMemory::of(&work)?.peak.saturating_add(depths))
    }

    /// Loads it, and encodes the volume.
    pub(crate) fn load(
        self,
        volume: &Volume,
        (model_args, volume_args): (&ModelArgs, &VolumeArgs),
        labels: usize,
        (progress, cancel): (&Progress, &CancelToken),
    ) -> Result<LoadedSecond> {
        progress.stage(format!("loading {}", self.name.id));
        let reserved = self.reserved(volume, volume_args, labels)?;
        let options = model::load_options(&model_args.load, reserved).with_cancel(cancel.clone());
        let model = r1seg::load(&self.source, &options)?;
        let options = volume_args.with_orient(EncodeOptions::default().with_mode(self.mode));
        let encoded = model.encode_with(volume, &options, &mut RunContext::from(cancel))?;
        Ok(LoadedSecond { of: self, model, encoded })
    }
}

impl LoadedSecond {
    /// Draws labels again.
    pub(crate) fn refine(
        &self,
        obtained: &mut Obtained,
        labels: &[u16],
        (progress, cancel): (&Progress, &CancelToken),
    ) -> Result<()> {
        let mut which = String::new();
        let mut on_event = |event: Event<'_>| match event {
            Event::Prompt { prompt } => {
                which = match labels {
                    [_] => "refining".to_string(),
                    several => format!("refining {} of {}", prompt + 1, several.len()),
                };
                progress.stage(which.clone());
            }
            Event::Window { index, of } => {
                progress.stage(format!("{which}: window {} of {of}", index + 1));
            }
            _ => {}
        };
        let LoadedSecond { of: SecondModel { source, .. }, model, encoded } = self;
        let with = Refiner { model, source, encoded };
        Ok(obtained.refine(labels, &with, cancel, &mut on_event)?)
    }
}
