//! The network in parts, and what a run asks of them.

use candle_core::{DType, Device, Tensor};
use r1seg_mask_decoder::{ObjectPoints, PointHead};
use r1seg_nn::{Probe, Weights};
use r1seg_segresnet::{Branches, ClassHead, Features, SegResNet};

use super::{AutomaticConfig, AutomaticModel};
use crate::{Error, LoadedModel, Stage};

/// One encoder with a decoder for each way to prompt, and the two heads.
#[derive(Debug)]
pub(crate) struct Parts {
    network: SegResNet,
    class_head: ClassHead,
    point_head: PointHead,
}

impl Parts {
    /// Takes every tensor from the root of a checkpoint.
    pub(super) fn new(config: &AutomaticConfig, weights: &Weights) -> candle_core::Result<Self> {
        let network = &config.network;
        let points = config.point_head();
        Ok(Self {
            network: SegResNet::new(network, weights.pp("image_encoder"))?,
            class_head: ClassHead::new(network, weights.pp("class_head"))?,
            point_head: PointHead::new(&points, weights.pp("point_head"))?,
        })
    }
}

impl AutomaticModel {
    /// The features of a window for one way to prompt, or for both.
    ///
    /// # Shapes
    /// - `values`: `D * H * W` of `size`, prepared    - returns: `[1, F, D, H, W]` each
    pub(super) fn features(
        &self,
        values: Vec<f32>,
        [d, h, w]: [usize; 3],
        branches: Branches,
        probe: &mut dyn Probe,
    ) -> Result<Features, Error> {
        let _span = tracing::info_span!("vit").entered();
        let LoadedModel { device, activation, finite, .. } = &self.inner.model;
        let window = Tensor::from_vec(values, (1, 1, d, h, w), &Device::Cpu)?;
        let window = window.to_device(device)?.to_dtype(*activation)?;
        let features = self.inner.parts.network.forward(&window, branches, probe)?;
        device.synchronize()?;
        for features in features.classes.iter().chain(&features.points) {
            finite.tensor(Stage::Encode, features)?;
        }
        Ok(features)
    }

    /// What classes are compared with, in f32 on the CPU.
    ///
    /// # Shapes
    /// - `features`: of the class branch    - returns: the same
    pub(super) fn class_features(
        &self,
        features: Tensor,
        probe: &mut dyn Probe,
    ) -> Result<Tensor, Error> {
        let _span = tracing::info_span!("mask").entered();
        let features = self.inner.parts.class_head.features(features, probe)?;
        let features = features.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        self.inner.model.finite.tensor(Stage::Mask, &features)?;
        Ok(features)
    }

    /// The embeddings of classes, in f32 on the CPU.
    ///
    /// # Shapes
    /// - returns: `[classes, F]`
    pub(super) fn class_embeddings(
        &self,
        ids: &[u16],
        probe: &mut dyn Probe,
    ) -> Result<Tensor, Error> {
        let ids: Vec<u32> = ids.iter().map(|id| u32::from(*id)).collect();
        let embeddings = self.inner.parts.class_head.embeddings(&ids, probe)?;
        Ok(embeddings.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
    }

    /// The logits of classes, on the CPU.
    ///
    /// # Shapes
    /// - `features`: `F * voxels`    - `embeddings`: `[classes, F]`    - returns: `classes * voxels`
    pub(super) fn class_logits(
        &self,
        features: &Tensor,
        embeddings: &Tensor,
    ) -> Result<Vec<f32>, Error> {
        let voxels = features.elem_count() / embeddings.dim(1)?.max(1);
        let features = features.reshape(((), voxels))?;
        let logits = self.inner.parts.class_head.score(&features, embeddings)?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        self.inner.model.finite.numbers(Stage::Mask, &logits)?;
        Ok(logits)
    }

    /// The logits of one object in a window.
    ///
    /// # Shapes
    /// - `features`: of the point branch, `[1, F, D, H, W]`    - returns: `D * H * W`
    pub(super) fn point_logits(
        &self,
        features: &Tensor,
        object: &ObjectPoints,
        probe: &mut dyn Probe,
    ) -> Result<Vec<f32>, Error> {
        let _span = tracing::info_span!("mask").entered();
        let (_, _, d, h, w) = features.dims5()?;
        let objects = std::slice::from_ref(object);
        let logits = self.inner.parts.point_head.forward(features, objects, [d, h, w], probe)?;
        self.inner.model.finite.tensor(Stage::Mask, &logits)?;
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?)
    }
}
