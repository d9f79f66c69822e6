//! From features to logits of classes. Keys: `class_embeddings`, `mlp.0`, `mlp.3`,
//! `image_post_mapping.N.layer.conv{1,2}.conv`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{Conv3d, Embedding, InstanceNorm3d, Linear, Probe, Weights, embedding, linear};

use crate::SegResNetConfig;
use crate::block::{NORM_EPS, neighbors};
use crate::encoder::show;

/// Of the leaky ReLUs between the convolutions.
const SLOPE: f32 = 0.01;

/// `lrelu(norm(conv2(lrelu(norm(conv1(f))))) + f)`, the norms without weights.
#[derive(Debug, Clone)]
struct Mapping {
    conv1: Conv3d,
    conv2: Conv3d,
    norm: InstanceNorm3d,
}

impl Mapping {
    fn new(channels: usize, weights: Weights) -> Result<Self> {
        let layer = weights.pp("layer");
        let conv = |name: &str| neighbors(channels, channels, layer.pp(name).pp("conv"));
        Ok(Self {
            conv1: conv("conv1")?,
            conv2: conv("conv2")?,
            norm: InstanceNorm3d::plain(NORM_EPS),
        })
    }

    /// # Shapes
    /// - `f`: `[B, F, D, H, W]`    - returns: the same
    fn forward(&self, f: &Tensor, probe: &dyn Probe) -> Result<Tensor> {
        let mut y = self.conv1.forward(f)?;
        probe.check_cancelled()?;
        y = self.conv2.forward_normalized(&y, &self.norm, SLOPE, None)?;
        probe.check_cancelled()?;
        self.norm.forward_add_leaky_relu(&y, f, SLOPE)
    }
}

/// From features of the class branch to logits of any classes.
///
/// A logit is the product of a voxel's mapped features with the embedding of a class, without a bias, so it
/// is linear in the features: where windows overlap with equal weights, their features can be averaged
/// instead of the logits of every class, and scored once. That takes `F` numbers for each voxel, however many
/// classes are asked for.
#[derive(Debug, Clone)]
pub struct ClassHead {
    table: Embedding,
    mlp: [Linear; 2],
    norm: InstanceNorm3d,
    mappings: [Mapping; 2],
    feature_size: usize,
}

impl ClassHead {
    /// Loads from `weights`, the prefix `class_head` of a checkpoint.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(config: &SegResNetConfig, weights: Weights) -> Result<Self> {
        config.validate().map_err(candle_core::Error::msg)?;
        let (f, mlp) = (config.feature_size, weights.pp("mlp"));
        let mappings = weights.pp("image_post_mapping");
        Ok(Self {
            table: embedding(config.n_classes, f, weights.pp("class_embeddings"))?,
            mlp: [linear(f, f, mlp.pp(0))?, linear(f, f, mlp.pp(3))?],
            norm: InstanceNorm3d::plain(NORM_EPS),
            mappings: [Mapping::new(f, mappings.pp(0))?, Mapping::new(f, mappings.pp(1))?],
            feature_size: f,
        })
    }

    /// The mapped features, which [`score`](Self::score) reads. Shows them to the probe as
    /// `class_head.features` (`[F, D, H, W]`).
    ///
    /// Takes the features, which are given back once they have been read, unless the caller keeps a copy.
    ///
    /// # Shapes
    /// - `features`: `[B, F, D, H, W]`, those of the class branch    - returns: the same
    ///
    /// # Errors
    /// When the channels differ from the weights', or `probe` ends the pass.
    pub fn features(&self, features: Tensor, probe: &mut dyn Probe) -> Result<Tensor> {
        let mut x = features;
        for mapping in &self.mappings {
            probe.check_cancelled()?;
            x = mapping.forward(&x, probe)?;
        }
        show(probe, "class_head.features", &x)?;
        Ok(x)
    }

    /// The embeddings of classes, which do not depend on an image. Shows them to the probe as
    /// `class_head.embeddings`.
    ///
    /// # Shapes
    /// - `classes`: `n` of them, each below the table's number of rows    - returns: `[n, F]`
    ///
    /// # Errors
    /// Without a class, or for one that the table has no row for.
    pub fn embeddings(&self, classes: &[u32], probe: &mut dyn Probe) -> Result<Tensor> {
        let (n, f) = (classes.len(), self.feature_size);
        if n == 0 {
            bail!("a class head needs a class")
        }
        let [first, second] = &self.mlp;
        let rows = first.forward(&self.table.forward(classes)?)?;
        // A norm over the numbers of a row is one over the voxels of a channel.
        let rows = self.norm.forward_gelu(&rows.reshape((1, n, 1, 1, f))?)?.reshape((n, f))?;
        let embeddings = second.forward(&rows)?;
        probe.record("class_head.embeddings", &embeddings)?;
        Ok(embeddings)
    }

    /// Logits of voxels.
    ///
    /// # Shapes
    /// - `features`: `[F, voxels]`, mapped ones or an average of them    - `embeddings`: `[n, F]`
    /// - returns: `[n, voxels]`, in the dtype of the features
    ///
    /// # Errors
    /// When the widths differ.
    pub fn score(&self, features: &Tensor, embeddings: &Tensor) -> Result<Tensor> {
        embeddings.to_dtype(features.dtype())?.matmul(features)
    }
}
