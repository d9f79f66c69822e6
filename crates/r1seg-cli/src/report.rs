//! `report.json`: what was asked, what was found, and how.

use std::path::Path;

use anyhow::Result;
use r1seg::volume::{Geometry, Mask, Volume, Warning, mask_stats};
use r1seg::{Answer, EncodedVolume, FinishReason, R1SegModel, SegToken, Timings};
use serde::Serialize;

/// Raised when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema_version: u32,
    pub(crate) r1seg_version: &'static str,
    pub(crate) model: Model,
    pub(crate) device: String,
    pub(crate) input: Input,
    pub(crate) prompt: String,
    pub(crate) answer: String,
    pub(crate) finish_reason: &'static str,
    pub(crate) tokens: Tokens,
    pub(crate) status: &'static str,
    pub(crate) seg_token: Seg,
    pub(crate) masks: Vec<MaskReport>,
    pub(crate) boxes: Vec<BoxReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) windows: Vec<WindowReport>,
    pub(crate) timings_ms: TimingsMs,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_rss_mb: Option<f64>,
    pub(crate) warnings: Vec<WarningReport>,
    pub(crate) research_use_only: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Model {
    pub(crate) id: String,
    pub(crate) model_type: String,
    pub(crate) dtype: &'static str,
    pub(crate) num_clicks: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Input {
    pub(crate) path: String,
    pub(crate) kind: String,
    /// `[D, H, W]`
    pub(crate) shape: [usize; 3],
    /// mm along D, H, W
    pub(crate) spacing_mm: Option<[f64; 3]>,
    pub(crate) orientation: Option<String>,
    pub(crate) affine: Option<[[f64; 4]; 4]>,
    pub(crate) affine_source: &'static str,
    pub(crate) preprocess: String,
    pub(crate) mode: String,
    /// First voxel and one past the last, `[D, H, W]`
    pub(crate) crop: [[usize; 3]; 2],
    pub(crate) effective_resolution_mm: Option<[f64; 3]>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Tokens {
    pub(crate) prompt: usize,
    pub(crate) generated: usize,
    pub(crate) ids: Vec<u32>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Seg {
    pub(crate) present: bool,
    pub(crate) count: usize,
    pub(crate) positions: Vec<usize>,
    pub(crate) logprobs: Vec<f32>,
}

#[derive(Debug, Serialize)]
pub(crate) struct MaskReport {
    pub(crate) label: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) path: String,
    pub(crate) voxels: usize,
    pub(crate) volume_ml: Option<f64>,
    /// Smallest and largest voxel index `(i, j, k)`, inclusive
    pub(crate) bbox_vox: Option<[[usize; 3]; 2]>,
    pub(crate) centroid_mm: Option<[f64; 3]>,
    pub(crate) mean_intensity: Option<f64>,
    pub(crate) touches_border: bool,
    pub(crate) components: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dice: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct BoxReport {
    /// `[d0, h0, w0, d1, h1, w1]` as fractions of the model's grid, as the model wrote them
    pub(crate) text: [f64; 6],
    /// The same in voxels of the model's grid, largest index inclusive
    pub(crate) model_voxels: [[usize; 3]; 2],
}

#[derive(Debug, Serialize)]
pub(crate) struct WindowReport {
    pub(crate) start: [i64; 3],
    pub(crate) answer: String,
    pub(crate) finish_reason: &'static str,
    pub(crate) seg_token: Seg,
}

#[derive(Debug, Serialize)]
pub(crate) struct TimingsMs {
    pub(crate) load: f64,
    pub(crate) io: f64,
    pub(crate) preprocess: f64,
    pub(crate) vit: f64,
    pub(crate) projector: f64,
    pub(crate) prefill: f64,
    pub(crate) decode: f64,
    pub(crate) mask: f64,
    pub(crate) postprocess: f64,
    pub(crate) total: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct WarningReport {
    pub(crate) code: String,
    pub(crate) text: String,
}

impl From<&Warning> for WarningReport {
    fn from(warning: &Warning) -> Self {
        Self { code: warning.code.to_string(), text: warning.text.clone() }
    }
}

/// The file that a report is about, where it came from one.
pub(crate) struct Origin<'a> {
    pub(crate) path: &'a Path,
    pub(crate) kind: &'a str,
    pub(crate) io: std::time::Duration,
}

/// Everything but masks, which the caller adds once they are written.
pub(crate) fn new(
    model: &R1SegModel,
    model_id: &str,
    origin: &Origin<'_>,
    study: &EncodedVolume<'_>,
    geometry: &Geometry,
    prompt: &str,
    answer: &Answer,
) -> Report {
    let crop = study.crop();
    let grid = model.config().vit.image_size;
    Report {
        schema_version: SCHEMA_VERSION,
        r1seg_version: env!("CARGO_PKG_VERSION"),
        model: Model {
            id: model_id.to_string(),
            model_type: model.config().model_type.clone(),
            dtype: model.dtype_name(),
            num_clicks: model.config().num_clicks,
        },
        device: model.device_name(),
        input: Input {
            path: origin.path.display().to_string(),
            kind: origin.kind.to_string(),
            shape: geometry.shape(),
            spacing_mm: geometry.spacing_mm(),
            orientation: geometry.orientation(),
            affine: geometry.affine().copied(),
            affine_source: geometry.affine_source().as_str(),
            preprocess: study.recipe().to_string(),
            mode: study.mode().to_string(),
            crop: [crop.start, crop.end],
            effective_resolution_mm: study.effective_resolution_mm(),
        },
        prompt: prompt.to_string(),
        answer: answer.text.clone(),
        finish_reason: finish(answer.finish_reason),
        tokens: Tokens {
            prompt: answer.prompt_tokens,
            generated: answer.token_ids.len(),
            ids: answer.token_ids.clone(),
        },
        status: answer.status().as_str(),
        seg_token: seg(&answer.seg),
        masks: Vec::new(),
        boxes: answer
            .boxes
            .iter()
            .map(|b| {
                let voxels = b.to_voxels(grid);
                BoxReport {
                    text: [b.d0, b.h0, b.w0, b.d1, b.h1, b.w1].map(f64::from),
                    model_voxels: [voxels.min, voxels.max]
                        .map(|corner| corner.map(|v| usize::try_from(v).unwrap_or(0))),
                }
            })
            .collect(),
        windows: answer
            .windows
            .iter()
            .map(|w| WindowReport {
                start: w.start,
                answer: w.text.clone(),
                finish_reason: finish(w.finish_reason),
                seg_token: seg(&w.seg),
            })
            .collect(),
        timings_ms: timings(model, origin, &answer.timings),
        peak_rss_mb: crate::commands::bench::peak_rss_bytes().map(|b| b as f64 / 1e6),
        warnings: Vec::new(),
        research_use_only: true,
    }
}

fn timings(model: &R1SegModel, origin: &Origin<'_>, t: &Timings) -> TimingsMs {
    let ms = |d: std::time::Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
    TimingsMs {
        load: ms(model.load_time()),
        io: ms(origin.io),
        preprocess: ms(t.preprocess),
        vit: ms(t.vit),
        projector: ms(t.projector),
        prefill: ms(t.prefill),
        decode: ms(t.decode),
        mask: ms(t.mask),
        postprocess: ms(t.postprocess),
        total: ms(model.load_time() + origin.io + t.total()),
    }
}

fn finish(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
    }
}

fn seg(tokens: &[SegToken]) -> Seg {
    Seg {
        present: !tokens.is_empty(),
        count: tokens.len(),
        positions: tokens.iter().map(|t| t.position).collect(),
        logprobs: tokens.iter().map(|t| t.logprob).collect(),
    }
}

/// Measures a mask for the report.
pub(crate) fn mask(mask: &Mask, volume: &Volume, path: &str) -> Result<MaskReport> {
    let stats = mask_stats(mask, 1, volume)?;
    Ok(MaskReport {
        label: 1,
        name: None,
        path: path.to_string(),
        voxels: stats.voxels,
        volume_ml: stats.volume_ml,
        bbox_vox: stats.bbox_vox,
        centroid_mm: stats.centroid_mm,
        mean_intensity: stats.mean_intensity,
        touches_border: stats.touches_border,
        components: stats.components,
        dice: None,
    })
}

impl Report {
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
