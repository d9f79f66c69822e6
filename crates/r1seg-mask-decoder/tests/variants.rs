//! Every decoder that a configuration can ask for, with random weights, against the same in f64.

mod reference;

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use r1seg_mask_decoder::{
    AxisOrder, Bands, Hypernetworks, MaskDecoderConfig, MaskHead, MaskPromptConfig, PointLabel,
    PositionConfig, PromptConfig, Prompts, TransformerConfig, Upscale, UpscaleLayer, UpscaleNorm,
};
use r1seg_nn::{NoProbe, Recording};

use reference::Reference;

fn patches(channels: usize, norm: UpscaleNorm) -> Upscale {
    Upscale { layer: UpscaleLayer::Patches, channels, norm, gelu: true }
}

/// SAM-Med3D: two point embeddings, masks of a quarter, norms over channels, three bands.
fn sam_med3d() -> MaskDecoderConfig {
    MaskDecoderConfig {
        transformer: TransformerConfig {
            dim: 12,
            depth: 2,
            heads: 3,
            mlp_dim: 20,
            attention_downsample: 2,
            mlp_names: TransformerConfig::SAM_MLP,
        },
        image_size: [16, 24, 16],
        grid: [2, 3, 2],
        upscaling: vec![patches(6, UpscaleNorm::Channels), patches(5, UpscaleNorm::None)],
        mask_tokens: 4,
        hypernetworks: Hypernetworks::PerToken,
        iou_hidden: Some(7),
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

/// NeuroSAM3D: four upscalings, boxes, and masks of the image's size.
fn neurosam3d() -> MaskDecoderConfig {
    let stage = |channels| patches(channels, UpscaleNorm::Channels);
    MaskDecoderConfig {
        image_size: [32, 16, 16],
        grid: [2, 1, 1],
        upscaling: vec![stage(6), stage(5), stage(4), stage(3)],
        prompts: PromptConfig {
            text: false,
            points: 4,
            boxes: true,
            mask: Some(MaskPromptConfig {
                key: "mask_downscaling",
                channels: vec![2, 4, 6],
                last_stride: 2,
            }),
        },
        ..sam_med3d()
    }
}

/// VISTA3D's point head: overlapping upscaling, norms over cells, one mask and no IoU.
fn vista3d() -> MaskDecoderConfig {
    MaskDecoderConfig {
        transformer: TransformerConfig {
            dim: 8,
            depth: 2,
            heads: 4,
            mlp_dim: 24,
            attention_downsample: 2,
            mlp_names: TransformerConfig::SAM_MLP,
        },
        image_size: [4, 6, 8],
        grid: [2, 3, 4],
        upscaling: vec![
            Upscale {
                layer: UpscaleLayer::Overlapping,
                channels: 8,
                norm: UpscaleNorm::Instance,
                gelu: true,
            },
            Upscale {
                layer: UpscaleLayer::Smoothing,
                channels: 8,
                norm: UpscaleNorm::None,
                gelu: false,
            },
        ],
        mask_tokens: 1,
        hypernetworks: Hypernetworks::Shared,
        iou_hidden: None,
        text_similarity: false,
        position: PositionConfig {
            bands: Bands::SinCos,
            dense_axes: AxisOrder::Natural,
            point_sizes: AxisOrder::Natural,
        },
        prompts: PromptConfig { text: true, points: 2, boxes: false, mask: None },
    }
}

fn segvol() -> MaskDecoderConfig {
    let prompts = PromptConfig::text_points_and_boxes();
    MaskDecoderConfig::segvol(32, [8, 48, 32], [2, 3, 2], prompts)
}

fn r1seg() -> MaskDecoderConfig {
    MaskDecoderConfig { prompts: PromptConfig::text_and_masks(), ..segvol() }
}

/// A head with random weights, and these in f64.
fn head(config: &MaskDecoderConfig) -> Result<(MaskHead, HashMap<String, Tensor>)> {
    let variables = VarMap::new();
    let build = || {
        let weights = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        MaskHead::new(config, weights.into())
    };
    // The first time it names its weights, which are zeros.
    build()?;
    let mut weights = HashMap::new();
    let named = variables.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    for (name, variable) in named {
        let centered = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
        let numbers = Tensor::randn(centered, 0.4f32, variable.dims(), &Device::Cpu)?;
        variable.set(&numbers)?;
        weights.insert(name, numbers.to_dtype(DType::F64)?);
    }
    Ok((build()?, weights))
}

fn random(dims: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., dims, &Device::Cpu)
}

/// Compares a pass with these prompts, and a second one that is prompted with its mask where that is
/// possible.
fn check(config: &MaskDecoderConfig, prompts: &Prompts<'_>) -> Result<()> {
    let (head, weights) = head(config)?;
    let reference = Reference { weights, config };
    let patches: usize = config.grid.iter().product();
    let image = random(&[1, patches, config.embed_dim()])?;
    let mut mask = None;
    for _ in 0..2 {
        let prompts = Prompts { mask: mask.as_ref().or(prompts.mask), ..*prompts };
        let prediction = head.predict(&image, &prompts)?;
        let [d, h, w] = config.low_res_size();
        assert_eq!(prediction.logits.dims(), [1, 1, d, h, w]);
        let (logits, iou) = reference.predict(&image, &prompts)?;
        assert_near(&prediction.logits, &logits)?;
        if config.iou_hidden.is_some() {
            assert_near(&head.predicted_iou(&prediction)?, &iou)?;
        } else {
            assert!(head.predicted_iou(&prediction).is_err());
        }
        if config.prompts.mask.is_none() {
            break;
        }
        mask = Some(prediction.logits);
    }
    Ok(())
}

fn assert_near(got: &Tensor, expected: &[f64]) -> Result<()> {
    let got = got.flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
    assert!(0.0 < largest, "a comparison with zeros");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let gap = (f64::from(*got) - expected).abs();
        assert!(gap < 1e-4 * largest, "number {i}: {got}, expected {expected}");
    }
    Ok(())
}

const POINTS: [([f32; 3], PointLabel); 3] = [
    ([1.0, 2.0, 3.0], PointLabel::Positive),
    ([3.5, 0.0, 1.25], PointLabel::Negative),
    ([0.0, 5.0, 7.0], PointLabel::Positive),
];

const BOX: [f32; 6] = [0.0, 1.0, 2.0, 3.0, 5.0, 6.5];

#[test]
fn segvol_with_text_points_and_a_box_equals_the_reference() -> Result<()> {
    let text = random(&[1, 32])?;
    let text = Some(&text);
    check(&segvol(), &Prompts { text, ..Prompts::default() })?;
    check(&segvol(), &Prompts { points: &POINTS, ..Prompts::default() })?;
    let bounding_box = Some(BOX);
    check(&segvol(), &Prompts { bounding_box, points: &POINTS, text, ..Prompts::default() })
}

#[test]
fn r1seg_with_text_and_its_own_mask_equals_the_reference() -> Result<()> {
    let text = random(&[1, 32])?;
    check(&r1seg(), &Prompts { text: Some(&text), ..Prompts::default() })
}

#[test]
fn sam_med3d_with_points_and_its_own_mask_equals_the_reference() -> Result<()> {
    check(&sam_med3d(), &Prompts { points: &POINTS, ..Prompts::default() })?;
    let mask = random(&[1, 1, 8, 12, 8])?;
    check(&sam_med3d(), &Prompts { mask: Some(&mask), ..Prompts::default() })
}

#[test]
fn neurosam3d_with_points_a_box_and_a_full_mask_equals_the_reference() -> Result<()> {
    let bounding_box = Some(BOX);
    check(&neurosam3d(), &Prompts { bounding_box, ..Prompts::default() })?;
    check(&neurosam3d(), &Prompts { bounding_box, points: &POINTS, ..Prompts::default() })
}

#[test]
fn vista3d_with_points_and_a_token_for_its_class_equals_the_reference() -> Result<()> {
    let class = random(&[1, 8])?;
    check(&vista3d(), &Prompts { points: &POINTS, text: Some(&class), ..Prompts::default() })
}

#[test]
fn any_order_of_stages_and_norms_equals_the_reference() -> Result<()> {
    let stage = |layer, norm, gelu| Upscale { layer, channels: 4, norm, gelu };
    let mixed = [
        vec![
            stage(UpscaleLayer::Patches, UpscaleNorm::Instance, true),
            stage(UpscaleLayer::Overlapping, UpscaleNorm::Channels, false),
            stage(UpscaleLayer::Smoothing, UpscaleNorm::Block, true),
        ],
        vec![
            stage(UpscaleLayer::Patches, UpscaleNorm::None, false),
            stage(UpscaleLayer::Patches, UpscaleNorm::Channels, false),
            stage(UpscaleLayer::Patches, UpscaleNorm::Block, true),
        ],
        vec![stage(UpscaleLayer::Patches, UpscaleNorm::None, false)],
    ];
    for upscaling in mixed {
        let prompts = PromptConfig { mask: None, ..sam_med3d().prompts };
        let config = MaskDecoderConfig { upscaling, prompts, ..sam_med3d() };
        check(&config, &Prompts { points: &POINTS, ..Prompts::default() })?;
    }
    Ok(())
}

#[test]
fn prompts_that_there_are_no_weights_for_are_refused_by_name() -> Result<()> {
    let text = random(&[1, 12])?;
    let (small, large) = (random(&[1, 1, 8, 12, 8])?, random(&[1, 1, 16, 24, 16])?);
    let image = random(&[1, 12, 12])?;
    let (head, _) = head(&sam_med3d())?;
    let refusal = |prompts: Prompts<'_>| {
        head.predict(&image, &prompts).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let none = Prompts::default();
    assert!(refusal(Prompts { text: Some(&text), ..none }).contains("text prompts"));
    assert!(refusal(Prompts { bounding_box: Some(BOX), ..none }).contains("boxes"));
    assert!(refusal(Prompts { mask: Some(&large), ..none }).contains("[8, 12, 8] cells"));
    assert_eq!(refusal(Prompts { mask: Some(&small), ..none }), "");
    Ok(())
}

#[test]
fn the_iou_is_predicted_only_for_those_who_listen() -> Result<()> {
    let image = random(&[1, 12, 12])?;
    let (head, weights) = head(&sam_med3d())?;
    let prompts = Prompts { points: &POINTS, ..Prompts::default() };
    let mut recording = Recording::default();
    let logits = head.refine(&image, &prompts, 1, &mut recording)?;
    let silent = head.refine(&image, &prompts, 1, &mut NoProbe)?;
    assert_eq!(logits.flatten_all()?.to_vec1::<f32>()?, silent.flatten_all()?.to_vec1::<f32>()?);
    let config = sam_med3d();
    let (_, iou) = Reference { weights, config: &config }.predict(&image, &prompts)?;
    let recorded = recording.tensors.iter().find(|(name, _)| name == "seg.iou_multimask");
    assert_near(&recorded.expect("a recorded IoU").1, &iou[1..])?;
    Ok(())
}
