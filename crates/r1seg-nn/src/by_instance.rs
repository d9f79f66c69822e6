//! Instance norm as an operator of a CPU.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape};
use r1seg_kernels::{AfterNorm, InstanceNorm, RowNorm};

use crate::cpu::f32_slice;

/// The norm of each channel over its voxels, and what follows it.
pub(crate) struct ByInstance {
    /// `[C]` each
    pub(crate) factors: Option<(Vec<f32>, Vec<f32>)>,
    pub(crate) eps: f64,
    /// Of a channel.
    pub(crate) voxels: usize,
    pub(crate) after: AfterNorm,
}

impl ByInstance {
    const NAME: &str = "instance-norm";

    fn norm(&self) -> InstanceNorm<'_> {
        let factors = self.factors.as_ref().map(|(weight, bias)| (&weight[..], &bias[..]));
        InstanceNorm { factors, eps: self.eps }
    }

    /// What the norm does to each channel of each volume.
    ///
    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: `[B, C]`
    pub(crate) fn measure(&self, x: &[f32]) -> Vec<RowNorm> {
        self.norm().measure(x, self.voxels)
    }

    fn run(&self, x: &[f32], plus: Option<&[f32]>) -> CpuStorage {
        CpuStorage::F32(self.norm().forward_then(x, self.voxels, plus, self.after))
    }
}

impl CustomOp1 for ByInstance {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, layout, Self::NAME)?;
        Ok((self.run(x, None), layout.shape().clone()))
    }
}

impl CustomOp2 for ByInstance {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        plus: &CpuStorage,
        plus_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, layout, Self::NAME)?;
        let plus = f32_slice(plus, plus_layout, Self::NAME)?;
        Ok((self.run(x, Some(plus)), layout.shape().clone()))
    }
}
