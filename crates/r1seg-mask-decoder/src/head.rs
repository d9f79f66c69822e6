//! The prompt encoder and the mask decoder, and the refinement loop around them.

use std::sync::OnceLock;

use candle_core::{Result, Tensor};
use r1seg_nn::{Probe, Weights};

use crate::{MaskDecoder, MaskDecoderConfig, PromptEncoder, Prompts};

/// Output of one pass of the mask decoder.
#[derive(Debug, Clone)]
pub struct MaskPrediction {
    /// Low-resolution logits of the single-mask output, `[B, 1, d, h, w]`.
    pub logits: Tensor,
    /// The token from which the IoU is predicted, `[B, E]`.
    pub(crate) first_token: Tensor,
}

/// A promptable mask decoder.
#[derive(Debug, Clone)]
pub struct MaskHead {
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
    /// `[1, N, E]`, f32, computed by the first pass: while a model is built its numbers may not be
    /// there.
    image_pe: OnceLock<Tensor>,
    grid: [usize; 3],
}

impl MaskHead {
    /// Loads from `weights`, the prefix that holds `prompt_encoder` and `mask_decoder`
    /// (`model.vision_module` in R1Seg-3D).
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &MaskDecoderConfig, weights: Weights) -> Result<Self> {
        cfg.validate().map_err(candle_core::Error::msg)?;
        let prompt_encoder = PromptEncoder::new(cfg, weights.pp("prompt_encoder"))?;
        Ok(Self {
            image_pe: OnceLock::new(),
            mask_decoder: MaskDecoder::new(cfg, weights.pp("mask_decoder"))?,
            prompt_encoder,
            grid: cfg.grid,
        })
    }

    /// One pass.
    ///
    /// # Shapes
    /// - `image_embeddings`: `[B, N, E]`, patches depth-major
    ///
    /// # Errors
    /// When a prompt is of a kind that the checkpoint has no weights for.
    pub fn predict(
        &self,
        image_embeddings: &Tensor,
        prompts: &Prompts<'_>,
    ) -> Result<MaskPrediction> {
        let embeddings = self.prompt_encoder.forward(prompts)?;
        self.mask_decoder.forward(image_embeddings, self.image_pe()?, &embeddings, prompts.text)
    }

    /// The predicted IoU of all mask outputs, of which a pass itself has no need.
    ///
    /// # Shapes
    /// - returns: `[B, masks]`: the single mask, then those for ambiguous prompts
    ///
    /// # Errors
    /// When the model predicts none.
    pub fn predicted_iou(&self, prediction: &MaskPrediction) -> Result<Tensor> {
        self.mask_decoder.predicted_iou(prediction)
    }

    /// A first pass, then `num_clicks` more, each prompted with the raw logits of the one before.
    ///
    /// Shows to the probe: `seg.dense_pe_sample` (`[E, ..]`, every second cell of the position
    /// encoding per axis), `seg.low_res_logits_K` (`[d, h, w]`), and where the model predicts it
    /// `seg.iou_multimask` (`[3]`, of the masks for ambiguous prompts).
    ///
    /// # Shapes
    /// - `image_embeddings`: `[1, N, E]`    - returns: `[1, 1, d, h, w]`
    ///
    /// # Errors
    /// When a prompt is of a kind that the checkpoint has no weights for, or `probe` ends it between two
    /// passes.
    pub fn refine(
        &self,
        image_embeddings: &Tensor,
        prompts: &Prompts<'_>,
        num_clicks: usize,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        if probe.is_listening() {
            probe.record("seg.dense_pe_sample", &self.dense_pe_sample()?)?;
        }
        probe.check_cancelled()?;
        let first = self.predict(image_embeddings, prompts)?;
        if probe.is_listening() && self.mask_decoder.predicts_iou() {
            let iou = self.predicted_iou(&first)?.squeeze(0)?;
            probe.record("seg.iou_multimask", &iou.narrow(0, 1, iou.dim(0)? - 1)?)?;
        }
        let mut logits = first.logits;
        probe.record("seg.low_res_logits_0", &logits.squeeze(0)?.squeeze(0)?)?;
        for pass in 1..=num_clicks {
            probe.check_cancelled()?;
            let prompts = Prompts { mask: Some(&logits), ..*prompts };
            logits = self.predict(image_embeddings, &prompts)?.logits;
            probe.record(&format!("seg.low_res_logits_{pass}"), &logits.squeeze(0)?.squeeze(0)?)?;
        }
        Ok(logits)
    }

    /// One pass, whose tensors are shown to the probe as those of `stage`: `STAGE.sparse` (`[T, E]`),
    /// `STAGE.dense` (`[E, gd, gh, gw]`), `STAGE.low_res_logits` (`[d, h, w]`), and where the model
    /// predicts it `STAGE.iou` (`[1]`) and `STAGE.iou_multimask` (`[3]`, of the masks for ambiguous
    /// prompts); also `prompt.dense_pe_sample`.
    ///
    /// # Shapes
    /// - `image_embeddings`: `[1, N, E]`    - returns: `[1, 1, d, h, w]`
    ///
    /// # Errors
    /// When a prompt is of a kind that the checkpoint has no weights for, or `probe` ends the pass.
    pub fn pass(
        &self,
        image_embeddings: &Tensor,
        prompts: &Prompts<'_>,
        stage: &str,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        probe.check_cancelled()?;
        let embeddings = self.prompt_encoder.forward(prompts)?;
        let (pe, text) = (self.image_pe()?, prompts.text);
        let prediction = self.mask_decoder.forward(image_embeddings, pe, &embeddings, text)?;
        if !probe.is_listening() {
            return Ok(prediction.logits);
        }
        probe.record("prompt.dense_pe_sample", &self.dense_pe_sample()?)?;
        if let Some(sparse) = &embeddings.sparse {
            probe.record(&format!("{stage}.sparse"), sparse)?;
        }
        let ([d, h, w], (_, _, e)) = (self.grid, embeddings.dense.dims3()?);
        let dense = embeddings.dense.broadcast_as((1, d * h * w, e))?.squeeze(0)?.t()?;
        probe.record(&format!("{stage}.dense"), &dense.reshape((e, d, h, w))?)?;
        let logits = prediction.logits.squeeze(0)?.squeeze(0)?;
        probe.record(&format!("{stage}.low_res_logits"), &logits)?;
        if self.mask_decoder.predicts_iou() {
            let iou = self.predicted_iou(&prediction)?.squeeze(0)?;
            probe.record(&format!("{stage}.iou"), &iou.narrow(0, 0, 1)?)?;
            let others = iou.narrow(0, 1, iou.dim(0)? - 1)?;
            probe.record(&format!("{stage}.iou_multimask"), &others)?;
        }
        Ok(prediction.logits)
    }

    fn image_pe(&self) -> Result<&Tensor> {
        if let Some(known) = self.image_pe.get() {
            return Ok(known);
        }
        let computed = self.prompt_encoder.dense_position_encoding(self.grid)?;
        Ok(self.image_pe.get_or_init(|| computed))
    }

    fn dense_pe_sample(&self) -> Result<Tensor> {
        let image_pe = self.image_pe()?;
        let (_, _, e) = image_pe.dims3()?;
        let [d, h, w] = self.grid;
        let mut pe = image_pe.squeeze(0)?.t()?.reshape((e, d, h, w))?;
        for (axis, n) in [(1, d), (2, h), (3, w)] {
            let even: Vec<u32> = (0..n as u32).step_by(2).collect();
            pe = pe.contiguous()?.index_select(&Tensor::new(even, pe.device())?, axis)?;
        }
        Ok(pe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PointLabel, PromptConfig};
    use candle_core::{DType, Device};
    use candle_nn::{VarBuilder, VarMap};
    use r1seg_nn::Recording;

    fn head(prompts: PromptConfig) -> Result<MaskHead> {
        let cfg = MaskDecoderConfig::segvol(16, [8, 32, 32], [2, 2, 2], prompts);
        MaskHead::new(
            &cfg,
            VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu).into(),
        )
    }

    #[test]
    fn refinement_runs_one_pass_more_than_clicks() -> Result<()> {
        let head = head(PromptConfig::text_and_masks())?;
        let image = Tensor::randn(0f32, 1., (1, 8, 16), &Device::Cpu)?;
        let text = Tensor::randn(0f32, 1., (1, 16), &Device::Cpu)?;
        let prompts = Prompts { text: Some(&text), ..Prompts::default() };
        let mut probe = Recording::default();
        let logits = head.refine(&image, &prompts, 2, &mut probe)?;
        assert_eq!(logits.dims(), [1, 1, 8, 8, 8]);
        assert!(
            probe.tensors.iter().any(|(name, t)| name == "seg.iou_multimask" && t.dims() == [3])
        );
        let passes = probe.tensors.iter().filter(|(name, _)| name.contains("low_res")).count();
        assert_eq!(passes, 3);
        Ok(())
    }

    #[test]
    fn a_batch_row_equals_a_single_run() -> Result<()> {
        let head = head(PromptConfig::text_and_masks())?;
        let image = Tensor::randn(0f32, 1., (2, 8, 16), &Device::Cpu)?;
        let text = Tensor::randn(0f32, 1., (2, 16), &Device::Cpu)?;
        let both = head.predict(&image, &Prompts { text: Some(&text), ..Prompts::default() })?;
        let (image, text) = (image.narrow(0, 1, 1)?, text.narrow(0, 1, 1)?);
        let one = head.predict(&image, &Prompts { text: Some(&text), ..Prompts::default() })?;
        let gap = (both.logits.narrow(0, 1, 1)? - one.logits)?.abs()?.max_all()?;
        assert!(gap.to_scalar::<f32>()? < 1e-5);
        Ok(())
    }

    #[test]
    fn points_and_boxes_need_weights_of_their_own() -> Result<()> {
        let image = Tensor::randn(0f32, 1., (1, 8, 16), &Device::Cpu)?;
        let points = [([1.0, 2.0, 3.0], PointLabel::Positive)];
        let prompts = Prompts { points: &points, ..Prompts::default() };
        let refused = head(PromptConfig::text_and_masks())?.predict(&image, &prompts);
        assert!(refused.is_err_and(|e| e.to_string().contains("points")));
        let segvol = head(PromptConfig::text_points_and_boxes())?;
        assert_eq!(segvol.predict(&image, &prompts)?.logits.dims(), [1, 1, 8, 8, 8]);
        let bounding_box = Some([0., 0., 0., 4., 9., 9.]);
        let prompts = Prompts { bounding_box, ..prompts };
        assert_eq!(segvol.predict(&image, &prompts)?.logits.dims(), [1, 1, 8, 8, 8]);
        Ok(())
    }
}
