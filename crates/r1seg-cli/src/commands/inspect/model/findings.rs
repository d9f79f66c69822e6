//! What there is to say about a model; with `--json`, as it is.

use std::path::Path;

use r1seg::checkpoint::Manifest;
use r1seg::registry::Family;
use r1seg::{
    CheckpointSource, DtypeSummary, LoadReport, ModelSummary, WeightsFileSummary, WeightsSummary,
};
use serde::Serialize;

use super::planned::Planned;
use crate::commands::models::LicenseRow;
use crate::exit::CliError;
use crate::hints;
use crate::model::ModelName;

/// Raised when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub(super) struct Findings {
    schema_version: u32,
    r1seg_version: &'static str,
    pub(super) model: Model,
    /// Of a file of weights by itself.
    pub(super) file: Option<WeightsFile>,
    pub(super) vision: Option<Vision>,
    pub(super) language: Option<Language>,
    pub(super) weights: Option<Weights>,
    pub(super) load: Option<Load>,
    pub(super) memory: Vec<Memory>,
    /// Where a volume was named.
    pub(super) run: Option<Planned>,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) license: Option<License>,
    /// What is known beside what the folder says.
    pub(super) published_licenses: Vec<LicenseRow>,
    pub(super) provenance: Option<Provenance>,
    /// What `r1seg verify` would compare with.
    pub(super) verified_by: Option<&'static str>,
    pub(super) files: Vec<File>,
    pub(super) problem: Option<Problem>,
    pub(super) verdict: &'static str,
    research_use_only: bool,
    /// Whether a pass of its networks is over a window of the volume.
    #[serde(skip)]
    pub(super) has_windows: bool,
    /// Whether a file was named, which `infer` does not take.
    #[serde(skip)]
    pub(super) is_part: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct WeightsFile {
    pub(super) format: &'static str,
    pub(super) bytes: u64,
    pub(super) gguf_version: Option<u32>,
    pub(super) architecture: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub(super) path: String,
    pub(super) id: String,
    pub(super) revision: Option<String>,
    pub(super) model_type: Option<String>,
    pub(super) name: Option<&'static str>,
    pub(super) supported: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Vision {
    pub(super) image_size: [usize; 3],
    pub(super) patch_size: [usize; 3],
    pub(super) grid: [usize; 3],
    pub(super) hidden_size: usize,
    pub(super) mlp_dim: usize,
    pub(super) num_layers: usize,
    pub(super) num_heads: usize,
    pub(super) visual_tokens: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct Language {
    pub(super) family: Option<String>,
    pub(super) hidden_size: Option<u64>,
    pub(super) intermediate_size: Option<u64>,
    pub(super) num_layers: Option<u64>,
    pub(super) num_heads: Option<u64>,
    pub(super) num_key_value_heads: Option<u64>,
    pub(super) vocab_size: Option<u64>,
    pub(super) max_positions: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Weights {
    pub(super) tensors: usize,
    pub(super) parameters: u64,
    pub(super) bytes: u64,
    pub(super) is_pickle: bool,
    pub(super) dtypes: Vec<Dtype>,
}

#[derive(Debug, Serialize)]
pub(super) struct Dtype {
    pub(super) dtype: String,
    pub(super) tensors: usize,
    pub(super) parameters: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Load {
    pub(super) loaded: usize,
    pub(super) missing: Vec<String>,
    pub(super) unexpected: Vec<String>,
    pub(super) misshaped: Vec<Misshaped>,
    pub(super) unused: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Misshaped {
    pub(super) name: String,
    pub(super) expected: String,
    pub(super) found: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Memory {
    pub(super) device: &'static str,
    pub(super) dtype: &'static str,
    pub(super) bytes: u64,
    pub(super) weights_bytes: u64,
    pub(super) pass_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Tokenizer {
    pub(super) kind: &'static str,
    pub(super) vocab_size: usize,
    pub(super) bos: Option<u32>,
    pub(super) eos: Vec<u32>,
    pub(super) seg: Option<u32>,
    pub(super) im_patch: Option<u32>,
    pub(super) appended: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct License {
    pub(super) name: Option<String>,
    pub(super) file: Option<String>,
    pub(super) text: Option<String>,
}

/// Of a folder that `r1seg convert` wrote.
#[derive(Debug, Serialize)]
pub(super) struct Provenance {
    pub(super) r1seg_version: String,
    pub(super) sources: Vec<Source>,
    pub(super) lora_merged: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

#[derive(Debug, Serialize)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) text: String,
    pub(super) fix: Option<String>,
}

impl Findings {
    pub(super) fn of_model(
        path: &Path,
        source: &CheckpointSource,
        name: &ModelName,
        summary: &ModelSummary,
    ) -> Self {
        let family = summary.family;
        Self {
            schema_version: SCHEMA_VERSION,
            r1seg_version: env!("CARGO_PKG_VERSION"),
            model: Model {
                path: path.display().to_string(),
                id: name.id.clone(),
                revision: name.revision.clone(),
                model_type: summary.model_type.clone(),
                name: family.map(Family::name),
                supported: family.is_some(),
            },
            file: None,
            vision: summary.vision.as_ref().map(|v| Vision {
                image_size: v.image_size,
                patch_size: v.patch_size,
                grid: v.grid,
                hidden_size: v.hidden_size,
                mlp_dim: v.mlp_dim,
                num_layers: v.num_layers,
                num_heads: v.num_heads,
                visual_tokens: v.visual_tokens,
            }),
            language: summary.language.as_ref().map(|l| Language {
                family: Some(l.family.to_string()),
                hidden_size: Some(l.hidden_size as u64),
                intermediate_size: Some(l.intermediate_size as u64),
                num_layers: Some(l.num_layers as u64),
                num_heads: Some(l.num_heads as u64),
                num_key_value_heads: Some(l.num_key_value_heads as u64),
                vocab_size: Some(l.vocab_size as u64),
                max_positions: Some(l.max_positions as u64),
            }),
            weights: summary.weights.as_ref().map(weights),
            load: summary.load.as_ref().map(load),
            memory: summary
                .memory
                .iter()
                .map(|m| Memory {
                    device: m.device,
                    dtype: m.dtype,
                    bytes: m.bytes,
                    weights_bytes: m.weights,
                    pass_bytes: m.pass,
                })
                .collect(),
            run: None,
            tokenizer: summary.tokenizer.as_ref().map(|t| Tokenizer {
                kind: t.kind,
                vocab_size: t.vocab_size,
                bos: t.bos,
                eos: t.eos.clone(),
                seg: t.seg,
                im_patch: t.im_patch,
                appended: t.appended.clone(),
            }),
            license: summary.license.as_ref().map(|l| License {
                name: l.name.clone(),
                file: l.file.clone(),
                text: l.text.clone(),
            }),
            published_licenses: published_licenses(source, &name.id, summary.family),
            provenance: summary.manifest.as_ref().map(provenance),
            verified_by: match (source, &summary.manifest, &name.revision) {
                (CheckpointSource::Embedded(_), ..) => Some("program"),
                (_, Some(_), _) => Some("manifest"),
                (_, None, Some(_)) => Some("hub"),
                (_, None, None) => None,
            },
            files: summary
                .files
                .iter()
                .map(|f| File { name: f.name.clone(), bytes: f.bytes })
                .collect(),
            problem: summary.problem.as_ref().map(|e| Problem {
                code: e.code(),
                text: e.message(),
                fix: e.remedy().as_ref().map(hints::words),
            }),
            verdict: if summary.problem.is_none() { "usable" } else { "unusable" },
            research_use_only: true,
            has_windows: family.is_some_and(Family::has_classes),
            is_part: false,
        }
    }

    /// Of a file of weights, if it could be read.
    pub(super) fn of_file(
        path: &Path,
        file: Option<&WeightsFileSummary>,
        problem: &CliError,
    ) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let gguf = file.and_then(|file| file.gguf.as_ref());
        let mut findings = Self {
            schema_version: SCHEMA_VERSION,
            r1seg_version: env!("CARGO_PKG_VERSION"),
            model: Model {
                path: path.display().to_string(),
                id: name.clone().into_owned(),
                revision: None,
                model_type: file.and_then(|file| file.model_type).map(str::to_owned),
                name: file.and_then(|file| file.family).map(Family::name),
                supported: file.is_some_and(|file| file.family.is_some()),
            },
            file: file.map(|file| WeightsFile {
                format: file.format.name(),
                bytes: file.bytes,
                gguf_version: gguf.map(|gguf| gguf.version),
                architecture: gguf.and_then(|gguf| gguf.architecture.clone()),
            }),
            vision: None,
            language: gguf.map(|gguf| Language {
                family: gguf.architecture.clone(),
                hidden_size: gguf.hidden_size,
                intermediate_size: None,
                num_layers: gguf.num_layers,
                num_heads: None,
                num_key_value_heads: None,
                vocab_size: gguf.vocab_size,
                max_positions: gguf.max_positions,
            }),
            weights: file.map(|file| weights(&file.weights)),
            load: None,
            memory: Vec::new(),
            run: None,
            tokenizer: None,
            license: None,
            published_licenses: Vec::new(),
            provenance: None,
            verified_by: None,
            files: Vec::new(),
            problem: None,
            verdict: "unusable",
            research_use_only: true,
            has_windows: false,
            is_part: true,
        };
        findings.refuse(problem);
        findings
    }

    /// Says that it is unusable for a reason of the caller's.
    pub(super) fn refuse(&mut self, problem: &CliError) {
        self.problem = Some(Problem {
            code: problem.code,
            text: problem.what.clone(),
            fix: problem.fix.clone(),
        });
        (self.verdict, self.is_part) = ("unusable", true);
    }
}

fn weights(summary: &WeightsSummary) -> Weights {
    let dtype = |d: &DtypeSummary| Dtype {
        dtype: d.dtype.clone(),
        tensors: d.tensors,
        parameters: d.parameters,
        bytes: d.bytes,
    };
    Weights {
        tensors: summary.tensors,
        parameters: summary.parameters,
        bytes: summary.bytes,
        is_pickle: summary.is_pickle,
        dtypes: summary.dtypes.iter().map(dtype).collect(),
    }
}

fn load(report: &LoadReport) -> Load {
    Load {
        loaded: report.loaded,
        missing: report.missing.clone(),
        unexpected: report.unexpected.clone(),
        misshaped: report
            .misshaped
            .iter()
            .map(|(name, expected, found)| Misshaped {
                name: name.clone(),
                expected: expected.clone(),
                found: found.clone(),
            })
            .collect(),
        unused: report.unused.clone(),
    }
}

/// What the publishers say of the code and, where the repository of the weights is known, of these.
fn published_licenses(
    source: &CheckpointSource,
    id: &str,
    family: Option<Family>,
) -> Vec<LicenseRow> {
    let entry = family.map(Family::entry);
    let entry = entry.filter(|_| matches!(source, CheckpointSource::Folder(_)));
    let Some(entry) = entry else {
        return Vec::new();
    };
    let is_known = entry.repositories().any(|known| known == id);
    let concerns = |part: &str| !is_known || part == "code" || part == id;
    entry.licenses.iter().filter(|row| concerns(row.part)).map(LicenseRow::from).collect()
}

fn provenance(manifest: &Manifest) -> Provenance {
    Provenance {
        r1seg_version: manifest.r1seg_version.clone(),
        sources: manifest
            .sources
            .iter()
            .map(|s| Source { name: s.name.clone(), bytes: s.bytes, sha256: s.sha256.clone() })
            .collect(),
        lora_merged: manifest.lora.as_ref().map(|lora| lora.merged),
    }
}
