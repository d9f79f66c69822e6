//! The decoders of SAM-Med3D and NeuroSAM3D against recordings of the authors' code, with every kind of
//! prompt: also without a mask, and with the logits of an earlier pass alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use r1seg_mask_decoder::{
    AxisOrder, Bands, Hypernetworks, MaskDecoderConfig, MaskHead, MaskPromptConfig, PointLabel,
    PositionConfig, PromptConfig, Prompts, TransformerConfig, Upscale, UpscaleLayer, UpscaleNorm,
};
use r1seg_nn::Recording;

/// Of the largest number: the recordings are 5e-6 from an f64 run.
const TOLERANCE: f32 = 1e-4;

fn stage(channels: usize) -> Upscale {
    Upscale { layer: UpscaleLayer::Patches, channels, norm: UpscaleNorm::Channels, gelu: true }
}

fn sam_med3d() -> MaskDecoderConfig {
    MaskDecoderConfig {
        transformer: TransformerConfig {
            dim: 48,
            depth: 2,
            heads: 8,
            mlp_dim: 96,
            attention_downsample: 2,
            mlp_names: TransformerConfig::SAM_MLP,
        },
        image_size: [128; 3],
        grid: [8; 3],
        upscaling: vec![stage(12), Upscale { norm: UpscaleNorm::None, ..stage(6) }],
        mask_tokens: 4,
        hypernetworks: Hypernetworks::PerToken,
        iou_hidden: Some(64),
        text_similarity: false,
        position: PositionConfig {
            bands: Bands::SinCosSin,
            dense_axes: AxisOrder::Swapped,
            point_sizes: AxisOrder::Natural,
        },
        prompts: PromptConfig {
            text: false,
            points: 2,
            boxes: false,
            mask: Some(MaskPromptConfig::quarter("mask_downscaling")),
        },
    }
}

fn neurosam3d() -> MaskDecoderConfig {
    MaskDecoderConfig {
        upscaling: [12, 6, 6, 6].map(stage).to_vec(),
        prompts: PromptConfig {
            text: false,
            points: 4,
            boxes: true,
            mask: Some(MaskPromptConfig {
                key: "mask_downscaling",
                channels: vec![4, 8, 16],
                last_stride: 2,
            }),
        },
        ..sam_med3d()
    }
}

struct Case {
    head: MaskHead,
    expected: HashMap<String, Tensor>,
    points: Vec<([f32; 3], PointLabel)>,
    bounding_box: Option<[f32; 6]>,
}

impl Case {
    fn open(folder: &str, config: &MaskDecoderConfig) -> Result<Self> {
        let golden = data(folder).join("golden");
        let weights =
            candle_core::safetensors::load(data(folder).join("model.safetensors"), &Device::Cpu)?;
        let json = std::fs::read_to_string(golden.join("case.json"))?;
        let labels = numbers_after(&json, "\"point_labels\"", 3);
        let points = numbers_after(&json, "\"points\"", 9);
        let points = points.as_chunks::<3>().0.iter().zip(labels).map(|(at, label)| {
            (*at, if label == 1.0 { PointLabel::Positive } else { PointLabel::Negative })
        });
        let corners = numbers_after(&json, "\"box\": [", 6);
        Ok(Self {
            head: MaskHead::new(
                config,
                VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu).into(),
            )?,
            expected: candle_core::safetensors::load(
                golden.join("expected.safetensors"),
                &Device::Cpu,
            )?,
            points: points.collect(),
            bounding_box: corners.try_into().ok(),
        })
    }

    /// Runs a pass on the recorded image embeddings, and compares what was recorded of it.
    fn check(&self, stage: &str, prompts: &Prompts<'_>) -> Result<Tensor> {
        let image = &self.expected["image_embedding"];
        let image = image.flatten_from(1)?.t()?.contiguous()?.unsqueeze(0)?;
        let mut probe = Recording::default();
        let low_res = self.head.pass(&image, prompts, stage, &mut probe)?;
        let got: HashMap<_, _> = probe.tensors.into_iter().collect();
        let mut compared = 0;
        for (key, reference) in &self.expected {
            let Some(part) = key.strip_prefix(&format!("{stage}.")) else { continue };
            let got = match part {
                "logit_sample" if low_res.elem_count() == 128 * 128 * 128 => {
                    let index = self.expected["mask.logit_index"].to_dtype(DType::U32)?;
                    low_res.flatten_all()?.index_select(&index, 0)?
                }
                "logits_coarse" => every(&low_res.squeeze(0)?.squeeze(0)?, &[3, 8], [0, 1, 2])?,
                "low_res_logits_multimask_sample" | "logit_sample" => continue,
                _ => {
                    let got = &got[key.strip_suffix("_sample").unwrap_or(key)];
                    let got = if part == "sparse" { got.squeeze(0)? } else { got.clone() };
                    match part.ends_with("_sample") {
                        true if part.starts_with("dense") => every(&got, &[0, 2], [1, 2, 3])?,
                        true => every(&got, &[0, 2], [0, 1, 2])?,
                        false => got,
                    }
                }
            };
            assert_eq!(got.elem_count(), reference.elem_count(), "{key}");
            let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
            let (got, reference) = (flat(&got)?, flat(reference)?);
            let largest = reference.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!(got.iter().all(|x| x.is_finite()), "{key}");
            let gap = got.iter().zip(&reference).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(gap <= TOLERANCE * largest, "{key} deviates by {:e}", gap / largest);
            compared += 1;
        }
        assert!(2 <= compared, "{stage}: {compared} tensors were recorded");
        Ok(low_res)
    }
}

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(folder)
}

/// The numbers of a JSON array behind the last place of its name.
fn numbers_after(json: &str, name: &str, count: usize) -> Vec<f32> {
    let Some((_, rest)) = json.rsplit_once(name) else { return Vec::new() };
    let numbers = rest.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    numbers.take(count).filter_map(|number| number.parse().ok()).collect()
}

/// Every so many cells along three axes, from one on.
fn every(tensor: &Tensor, &[from, step]: &[usize; 2], axes: [usize; 3]) -> Result<Tensor> {
    let mut tensor = tensor.clone();
    for axis in axes {
        let index: Vec<u32> = (from as u32..tensor.dim(axis)? as u32).step_by(step).collect();
        tensor = tensor.contiguous()?.index_select(&Tensor::new(index, &Device::Cpu)?, axis)?;
    }
    Ok(tensor)
}

#[test]
fn sam_med3d_equals_its_authors_code_with_every_prompt() -> Result<()> {
    let case = Case::open("sam-med3d", &sam_med3d())?;
    let zeros = Tensor::zeros((1, 1, 32, 32, 32), DType::F32, &Device::Cpu)?;
    let (one, none) = (&case.points[..1], Prompts::default());
    case.check("one_click", &Prompts { points: one, mask: Some(&zeros), ..none })?;
    case.check("one_click_no_mask", &Prompts { points: one, ..none })?;
    case.check("points_at_once", &Prompts { points: &case.points, mask: Some(&zeros), ..none })?;
    let mut mask = zeros;
    for k in 0..3 {
        let prompts = Prompts { points: &case.points[..=k], mask: Some(&mask), ..none };
        mask = case.check(&format!("clicks.{k}"), &prompts)?;
    }
    case.check("mask_only", &Prompts { mask: Some(&mask), ..none })?;
    Ok(())
}

#[test]
fn neurosam3d_equals_its_authors_code_with_every_prompt() -> Result<()> {
    let case = Case::open("neurosam3d-hiera", &neurosam3d())?;
    let zeros = Tensor::zeros((1, 1, 128, 128, 128), DType::F32, &Device::Cpu)?;
    let (one, none) = (&case.points[..1], Prompts::default());
    let bounding_box = case.bounding_box;
    assert!(bounding_box.is_some());
    case.check("points_no_mask", &Prompts { points: one, ..none })?;
    case.check("box", &Prompts { bounding_box, mask: Some(&zeros), ..none })?;
    case.check("box_no_mask", &Prompts { bounding_box, ..none })?;
    case.check("box_points", &Prompts { points: one, bounding_box, mask: Some(&zeros), ..none })?;
    let mut mask = zeros;
    for k in 0..3 {
        let prompts = Prompts { points: &case.points[..=k], mask: Some(&mask), ..none };
        mask = case.check(&format!("points.{k}"), &prompts)?;
    }
    case.check("mask_only", &Prompts { mask: Some(&mask), ..none })?;
    Ok(())
}
