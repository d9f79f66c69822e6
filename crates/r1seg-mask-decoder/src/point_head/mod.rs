//! From features and clicks to masks, as VISTA3D does it.
//! Keys: `feat_downsample.{0,3}`, `pe_layer`, `point_embeddings.{0,1}`, `not_a_point_embed`,
//! `special_class_embed`, `mask_tokens`, `supported_embed`, `zeroshot_embed`, `transformer`,
//! `output_upscaling.{0,3}`, `output_hypernetworks_mlps`.

mod config;
mod smoothing;

use candle_core::{DType, Result, Tensor, bail};
use r1seg_nn::{
    Conv3d, Conv3dConfig, ConvTranspose3d, InstanceNorm3d, Probe, Weights, conv_transpose3d, conv3d,
};

pub use config::PointHeadConfig;

use crate::mask_decoder::Mlp;
use crate::{AxisOrder, Bands, PositionConfig, PositionEncoding, TwoWayTransformer};
use smoothing::Smoothing;

/// torch.nn.InstanceNorm3d's default.
const NORM_EPS: f64 = 1e-5;

/// How a point relates to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointTag {
    /// Not a point: a placeholder, which the network sees nevertheless.
    None,
    /// It lies outside.
    Negative,
    /// It lies inside.
    Positive,
    /// As [`Negative`](Self::Negative), of a class that is easily taken for another one.
    NegativeSpecial,
    /// As [`Positive`](Self::Positive), of such a class.
    PositiveSpecial,
}

impl PointTag {
    /// Whether it lies inside the object.
    pub fn is_positive(self) -> bool {
        matches!(self, Self::Positive | Self::PositiveSpecial)
    }

    /// Whether it lies outside of the object.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::Negative | Self::NegativeSpecial)
    }

    /// The same of a class that is easily taken for another one.
    #[must_use]
    pub fn special(self) -> Self {
        match self {
            Self::Negative => Self::NegativeSpecial,
            Self::Positive => Self::PositiveSpecial,
            other => other,
        }
    }
}

/// The clicks on an object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectPoints {
    /// `(d, h, w)` in voxels of the window, and how the point relates to the object.
    pub points: Vec<([f32; 3], PointTag)>,
    /// Whether the object is of no class that the network was trained with.
    pub zero_shot: bool,
}

impl ObjectPoints {
    /// Whether any of the points is one.
    pub fn has_points(&self) -> bool {
        self.points.iter().any(|(_, tag)| *tag != PointTag::None)
    }
}

/// The head of VISTA3D that clicks prompt.
#[derive(Debug, Clone)]
pub struct PointHead {
    downsample: [Conv3d; 2],
    norm: InstanceNorm3d,
    positions: PositionEncoding,
    /// `[1, F]` each, as all embeddings below: of negative points and of positive ones.
    kinds: [Tensor; 2],
    not_a_point: Tensor,
    special: Tensor,
    mask_token: Tensor,
    supported: Tensor,
    zero_shot: Tensor,
    transformer: TwoWayTransformer,
    doubling: ConvTranspose3d,
    smoothing: Smoothing,
    hypernetwork: Mlp,
}

impl PointHead {
    /// Loads from `weights`, the prefix `point_head` of a checkpoint.
    ///
    /// # Errors
    /// When the width does not fit, or a tensor is missing or misshaped.
    pub fn new(config: &PointHeadConfig, weights: Weights) -> Result<Self> {
        config.validate().map_err(candle_core::Error::msg)?;
        let f = config.feature_size;
        let neighbors = Conv3dConfig::new(f, f, [3; 3]).with_padding([1; 3]);
        let (downsample, upscaling) =
            (weights.pp("feat_downsample"), weights.pp("output_upscaling"));
        let positions = PositionConfig {
            bands: Bands::SinCos,
            dense_axes: AxisOrder::Natural,
            point_sizes: AxisOrder::Natural,
        };
        let embedding = |place: Weights| place.get((1, f), "weight");
        let kinds = weights.pp("point_embeddings");
        Ok(Self {
            downsample: [
                conv3d(neighbors.with_stride([2; 3]), downsample.pp(0))?,
                conv3d(neighbors, downsample.pp(3))?,
            ],
            norm: InstanceNorm3d::plain(NORM_EPS),
            positions: PositionEncoding::new(positions, f, weights.pp("pe_layer"))?,
            kinds: [embedding(kinds.pp(0))?, embedding(kinds.pp(1))?],
            not_a_point: embedding(weights.pp("not_a_point_embed"))?,
            special: embedding(weights.pp("special_class_embed"))?,
            mask_token: embedding(weights.pp("mask_tokens"))?,
            supported: embedding(weights.pp("supported_embed"))?,
            zero_shot: embedding(weights.pp("zeroshot_embed"))?,
            transformer: TwoWayTransformer::new(&config.transformer(), weights.pp("transformer"))?,
            doubling: conv_transpose3d(f, f, upscaling.pp(0))?,
            smoothing: Smoothing::new(neighbors, &upscaling.pp(3))?,
            hypernetwork: Mlp::new(f, f, f, weights.pp("output_hypernetworks_mlps"))?,
        })
    }

    /// Mask logits of objects. Objects with fewer points than another one are filled up with placeholders,
    /// as in training; those without any have to stay out.
    ///
    /// Shows to the probe, of the window: `point_head.low` and `point_head.pe` (`[F, D / 2, H / 2, W / 2]`);
    /// of object `B`: `point_head.tokens.B` and `point_head.tokens_out.B` (`[1, T, F]`),
    /// `point_head.image_tokens_out.B` (`[1, N, F]`), `point_head.hyper.B` (`[1, 1, F]`) and
    /// `point_head.upscaled.B` (`[F, D, H, W]`).
    ///
    /// # Shapes
    /// - `features`: `[1, F, D, H, W]`, those of the point branch    - `window`: `[D, H, W]` in voxels
    /// - returns: `[objects, 1, D, H, W]`
    ///
    /// # Errors
    /// When the features are not those of the window, its sides are odd, there is no object or one without
    /// points, or `probe` ends the pass.
    pub fn forward(
        &self,
        features: &Tensor,
        objects: &[ObjectPoints],
        window: [usize; 3],
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let (b, _, d, h, w) = features.dims5()?;
        if b != 1 || [d, h, w] != window || window.iter().any(|side| side % 2 == 1) {
            bail!("features of shape {:?} for a window of {window:?} voxels", features.dims())
        }
        if objects.is_empty() || !objects.iter().all(ObjectPoints::has_points) {
            bail!("the point head needs a point of every object")
        }
        let length = objects.iter().map(|object| object.points.len()).max().unwrap_or(0);
        let low = self.low(features, probe)?;
        probe.record("point_head.low", &low.squeeze(0)?)?;
        let (_, f, d, h, w) = low.dims5()?;
        let low = low.reshape((1, f, d * h * w))?.transpose(1, 2)?.contiguous()?;
        let pe = self.positions.dense([d, h, w])?;
        if probe.is_listening() {
            probe.record("point_head.pe", &pe.squeeze(0)?.t()?.reshape((f, d, h, w))?)?;
        }
        let image = Image { low, pe: pe.to_dtype(features.dtype())?, grid: [d, h, w] };
        let mut masks = Vec::with_capacity(objects.len());
        for (number, object) in objects.iter().enumerate() {
            probe.check_cancelled()?;
            let tokens = self.tokens(object, length, window)?.to_dtype(features.dtype())?;
            masks.push(self.mask(&image, &tokens, number, probe)?);
        }
        Tensor::cat(&masks, 0)
    }

    /// # Shapes
    /// - `features`: `[1, F, D, H, W]`    - returns: `[1, F, D / 2, H / 2, W / 2]`
    fn low(&self, features: &Tensor, probe: &dyn Probe) -> Result<Tensor> {
        let [halving, smoothing] = &self.downsample;
        let mut x = halving.forward(features)?;
        probe.check_cancelled()?;
        x = self.norm.forward_gelu(&x)?;
        x = smoothing.forward(&x)?;
        probe.check_cancelled()?;
        self.norm.forward(&x)
    }

    /// The token of the mask, those of the points, filled up to `length`, and that of the class.
    ///
    /// # Shapes
    /// - returns: `[1, 1 + length + 1, F]`, in f32
    fn tokens(&self, object: &ObjectPoints, length: usize, window: [usize; 3]) -> Result<Tensor> {
        let wide = |embedding: &Tensor| embedding.to_dtype(DType::F32);
        let [negative, positive] = &self.kinds;
        let coords: Vec<_> = object.points.iter().map(|(at, _)| *at).collect();
        let positions = self.positions.points(&coords, window)?.squeeze(0)?;
        let mut rows = vec![wide(&self.mask_token)?];
        for (i, (_, tag)) in object.points.iter().enumerate() {
            let (kind, is_special) = match tag {
                PointTag::None => {
                    rows.push(wide(&self.not_a_point)?);
                    continue;
                }
                PointTag::Negative => (negative, false),
                PointTag::Positive => (positive, false),
                PointTag::NegativeSpecial => (negative, true),
                PointTag::PositiveSpecial => (positive, true),
            };
            let token = (positions.narrow(0, i, 1)? + wide(kind)?)?;
            rows.push(if is_special { (token + wide(&self.special)?)? } else { token });
        }
        for _ in object.points.len()..length {
            rows.push(wide(&self.not_a_point)?);
        }
        rows.push(wide(if object.zero_shot { &self.zero_shot } else { &self.supported })?);
        Tensor::cat(&rows, 0)?.unsqueeze(0)
    }

    /// # Shapes
    /// - `tokens`: `[1, T, F]`    - returns: `[1, 1, D, H, W]`
    fn mask(
        &self,
        image: &Image,
        tokens: &Tensor,
        number: usize,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let name = |part: &str| format!("point_head.{part}.{number}");
        let (queries, cells) = self.transformer.forward(&image.low, &image.pe, tokens)?;
        probe.check_cancelled()?;
        let kernel = self.hypernetwork.forward(&queries.narrow(1, 0, 1)?)?;
        if probe.is_listening() {
            probe.record(&name("tokens"), tokens)?;
            probe.record(&name("tokens_out"), &queries)?;
            probe.record(&name("image_tokens_out"), &cells)?;
            probe.record(&name("hyper"), &kernel)?;
        }
        let (_, _, f) = cells.dims3()?;
        let [d, h, w] = image.grid;
        let mut map = cells.transpose(1, 2)?.contiguous()?.reshape((1, f, d, h, w))?;
        drop(cells);
        map = self.doubling.forward(&map)?;
        probe.check_cancelled()?;
        map = self.norm.forward_gelu(&map)?;
        if probe.is_listening() {
            probe.record(&name("upscaled"), &self.smoothing.forward(&map)?.squeeze(0)?)?;
        }
        self.smoothing.mask(&map, &kernel)
    }
}

/// What all objects of a window share.
struct Image {
    /// `[1, N, F]`
    low: Tensor,
    /// `[1, N, F]`
    pe: Tensor,
    grid: [usize; 3],
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_nn::{VarBuilder, VarMap};
    use r1seg_nn::{NoProbe, Recording};

    use super::*;

    /// With random weights.
    fn head() -> Result<PointHead> {
        let variables = VarMap::new();
        let build = || {
            let weights = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
            let config = PointHeadConfig { feature_size: 8, last_supported: 132 };
            PointHead::new(&config, weights.into())
        };
        // The first time it names its weights, which are zeros.
        build()?;
        for variable in variables.all_vars() {
            variable.set(&Tensor::randn(0f32, 0.4, variable.dims(), &Device::Cpu)?)?;
        }
        build()
    }

    fn object(tags: &[PointTag]) -> ObjectPoints {
        let points = tags.iter().enumerate().map(|(i, tag)| ([i as f32, 2.0, 3.0], *tag));
        ObjectPoints { points: points.collect(), zero_shot: false }
    }

    #[test]
    fn what_the_point_head_cannot_segment_is_refused() -> Result<()> {
        let (head, probe) = (head()?, &mut NoProbe);
        let features = Tensor::zeros((1, 8, 4, 6, 8), DType::F32, &Device::Cpu)?;
        let click = object(&[PointTag::Positive]);
        let both = [click.clone(), object(&[PointTag::Negative, PointTag::PositiveSpecial])];
        let masks = head.forward(&features, &both, [4, 6, 8], probe)?;
        assert_eq!(masks.dims(), [2, 1, 4, 6, 8]);
        let none = object(&[PointTag::None]);
        for objects in [&[][..], &[click.clone(), none], &[object(&[])]] {
            let refused = head.forward(&features, objects, [4, 6, 8], probe);
            assert!(refused.is_err_and(|e| e.to_string().contains("point of every object")));
        }
        let click = &[click];
        assert!(head.forward(&features, click, [6, 4, 8], probe).is_err());
        let odd = Tensor::zeros((1, 8, 5, 6, 8), DType::F32, &Device::Cpu)?;
        assert!(head.forward(&odd, click, [5, 6, 8], probe).is_err());
        Ok(())
    }

    #[test]
    fn placeholders_behind_the_points_are_those_of_a_longer_object() -> Result<()> {
        let (head, probe) = (head()?, &mut NoProbe);
        let features = Tensor::randn(0f32, 1., (1, 8, 4, 6, 8), &Device::Cpu)?;
        let long = object(&[PointTag::Positive, PointTag::Negative]);
        let padded = object(&[PointTag::Positive, PointTag::None]);
        let both = [object(&[PointTag::Positive]), long];
        let first = head.forward(&features, &both, [4, 6, 8], probe)?.get(0)?;
        let alone = head.forward(&features, &[padded], [4, 6, 8], probe)?.get(0)?;
        let gap = (first - &alone)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-6, "{gap}");
        let bare = object(&[PointTag::Positive]);
        let bare = head.forward(&features, &[bare], [4, 6, 8], probe)?.get(0)?;
        let gap = (alone - bare)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap > 1e-3, "a placeholder that changes nothing: {gap}");
        Ok(())
    }

    #[test]
    fn a_mask_is_the_product_of_its_weights_with_the_smoothed_map() -> Result<()> {
        let (head, probe) = (head()?, &mut Recording::default());
        let features = Tensor::randn(0f32, 1., (1, 8, 4, 6, 8), &Device::Cpu)?;
        let mask = head.forward(&features, &[object(&[PointTag::Negative])], [4, 6, 8], probe)?;
        let named = |name: &str| {
            let found = probe.tensors.iter().find(|(known, _)| known == name);
            found.map(|(_, tensor)| tensor.clone()).ok_or(candle_core::Error::msg("no record"))
        };
        let map = named("point_head.upscaled.0")?.reshape((8, 4 * 6 * 8))?;
        let product = named("point_head.hyper.0")?.squeeze(0)?.matmul(&map)?;
        let largest = product.abs()?.max_all()?.to_scalar::<f32>()?;
        let gap = (mask.reshape((1, 4 * 6 * 8))? - product)?.abs()?.max_all()?;
        let gap = gap.to_scalar::<f32>()?;
        assert!(0.0 < largest && gap < 1e-5 * largest, "{gap} of {largest}");
        Ok(())
    }
}
