//! What a run of a model on a volume takes, before there is one.

use std::path::Path;

use anyhow::Result;
use r1seg::volume::Volume;
use r1seg::{AutomaticConfig, CheckpointSource, InferenceMode};
use r1seg_results::{WorkingMemory, Workload};
use serde::Serialize;

use super::findings::Memory;

#[derive(Debug, Serialize)]
pub(super) struct Planned {
    pub(super) image: String,
    pub(super) mode: &'static str,
    /// Of a model with classes.
    pub(super) windows: Option<usize>,
    /// The voxels as they are stored.
    pub(super) volume_bytes: u64,
    pub(super) stitching_bytes: u64,
    pub(super) results_bytes: u64,
    /// What is added where all classes of "everything" keep the voxels that they share.
    pub(super) overlaps_bytes: Option<u64>,
    /// All of it on a CPU, with the model.
    pub(super) memory: Vec<RunMemory>,
}

#[derive(Debug, Serialize)]
pub(super) struct RunMemory {
    pub(super) dtype: &'static str,
    pub(super) bytes: u64,
}

impl Planned {
    /// One prompt, or any number of classes, in the mode that is used where none is chosen.
    pub(super) fn new(
        source: &CheckpointSource,
        image: &Path,
        volume: &Volume,
        turns: bool,
        memory: &[Memory],
    ) -> Result<Self> {
        let mode = source.capabilities()?.default_mode().unwrap_or(InferenceMode::Resize);
        let work = Workload { source, mode, turns, volume, prompts: 1, apart: 0 };
        let working = WorkingMemory::of(&work)?;
        let overlaps_bytes = match source.family()?.has_classes() {
            true => {
                let apart = AutomaticConfig::read(source)?.everything.len();
                let kept = WorkingMemory::of(&Workload { apart, ..work })?;
                Some(kept.peak.saturating_sub(working.peak))
            }
            false => None,
        };
        let volume_bytes = volume.voxels().bytes();
        let beside = working.peak.saturating_add(volume_bytes);
        let on_cpu = memory.iter().filter(|need| need.device == "cpu");
        Ok(Self {
            image: image.display().to_string(),
            mode: mode.as_str(),
            windows: working.windows,
            volume_bytes,
            stitching_bytes: working.stitching,
            results_bytes: working.results,
            overlaps_bytes,
            memory: on_cpu
                .map(|need| RunMemory {
                    dtype: need.dtype,
                    bytes: need.bytes.saturating_add(beside),
                })
                .collect(),
        })
    }
}
