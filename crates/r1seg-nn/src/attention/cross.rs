//! One head in which tokens look at others. Keys: `Wq`, `Wk`, `Wv`, `output_linear`, `norm`.

use candle_core::{Result, Tensor, bail};

use super::{AttentionMask, attention, softmax};
use crate::linear::{Linear, linear};
use crate::norm::{LayerNorm, layer_norm};
use crate::weights::Weights;

/// torch.nn.LayerNorm's default.
const NORM_EPS: f64 = 1e-5;

/// `norm(q + output_linear(softmax(q kᵀ / sqrt(E)) v))` of the projected queries `q`, as HSENet's attention
/// over slices and its visual packer have it.
#[derive(Debug, Clone)]
pub struct CrossAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: LayerNorm,
    scale: f64,
}

impl CrossAttention {
    /// Loads layers of `width` from `weights`, the prefix of the attention.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(width: usize, weights: &Weights) -> Result<Self> {
        let layer = |key: &str| linear(width, width, weights.pp(key));
        Ok(Self {
            query: layer("Wq")?,
            key: layer("Wk")?,
            value: layer("Wv")?,
            output: layer("output_linear")?,
            norm: layer_norm(width, NORM_EPS, weights.pp("norm"))?,
            scale: 1.0 / (width as f64).sqrt(),
        })
    }

    /// Each query looks at all tokens of its row of the batch.
    ///
    /// # Shapes
    /// - `queries`: `[B, N, E]`    - `tokens`: `[B, L, E]`    - returns: `[B, N, E]`
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, queries: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        let head = |x: Tensor| x.unsqueeze(1);
        let q = self.query.forward(queries)?;
        let (k, v) = (head(self.key.forward(tokens)?)?, head(self.value.forward(tokens)?)?);
        let attended = attention(&head(q.clone())?, &k, &v, self.scale, AttentionMask::None)?;
        // On a GPU the heads stand behind the queries.
        let attended = attended.squeeze(1)?.contiguous()?;
        self.norm.forward(&self.output.forward_add(&attended, &q)?)
    }

    /// The queries look at the tokens of a group each, which the batch holds one after the other.
    ///
    /// # Shapes
    /// - `queries`: `[B, N, E]`    - `groups`: `[B, N, L, E]`    - returns: `[B, N, E]`
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward_grouped(&self, queries: &Tensor, groups: &Tensor) -> Result<Tensor> {
        let (b, n, l, e) = groups.dims4()?;
        if queries.dims() != [b, n, e] {
            bail!("{:?} queries for groups of {:?}", queries.shape(), groups.shape())
        }
        let tokens = groups.reshape((b * n, l, e))?;
        self.forward(&queries.reshape((b * n, 1, e))?, &tokens)?.reshape((b, n, e))
    }

    /// How much each query looks at each token, for a record.
    ///
    /// # Shapes
    /// - `queries`: `[B, N, E]`    - `tokens`: `[B, L, E]`    - returns: `[B, N, L]`
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn weights(&self, queries: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        let (q, k) = (self.query.forward(queries)?, self.key.forward(tokens)?);
        let scores = q.matmul(&k.transpose(1, 2)?.contiguous()?)?.unsqueeze(1)?;
        softmax(scores, self.scale, AttentionMask::None)?.squeeze(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use candle_core::{DType, Device, Shape};

    use super::*;
    use crate::TensorSource;
    use crate::testing::{device, gap, random};

    /// Random numbers, which are remembered.
    #[derive(Default)]
    struct Drawn(Mutex<HashMap<String, Tensor>>);

    impl TensorSource for Drawn {
        fn tensor(
            &self,
            name: &str,
            shape: &Shape,
            dtype: DType,
            device: &Device,
        ) -> Result<Tensor> {
            let tensor = random(0.0, 0.5, shape)?.to_dtype(dtype)?.to_device(device)?;
            let mut all = self.0.lock().map_err(|e| candle_core::Error::msg(e.to_string()))?;
            all.insert(name.to_string(), tensor.clone());
            Ok(tensor)
        }

        fn contains(&self, _name: &str) -> bool {
            true
        }
    }

    fn layers(e: usize) -> Result<(HashMap<String, Tensor>, CrossAttention)> {
        let drawn = Arc::new(Drawn::default());
        let weights = Weights::new(drawn.clone(), DType::F32, device()?);
        let made = CrossAttention::new(e, &weights)?;
        let drawn = drawn.0.lock().map_err(|e| candle_core::Error::msg(e.to_string()))?;
        Ok((drawn.clone(), made))
    }

    #[test]
    fn queries_attend_as_the_definition_says() -> Result<()> {
        let (data, attention) = layers(12)?;
        let (queries, tokens) = (random(0.0, 2.0, (2, 5, 12))?, random(0.0, 2.0, (2, 7, 12))?);
        let get = |name: &str| data[name].to_dtype(DType::F64);
        let project = |x: &Tensor, name: &str| {
            let weight = get(&format!("{name}.weight"))?.t()?;
            x.broadcast_matmul(&weight)?.broadcast_add(&get(&format!("{name}.bias"))?)
        };
        let (q, t) = (queries.to_dtype(DType::F64)?, tokens.to_dtype(DType::F64)?);
        let (q, k, v) = (project(&q, "Wq")?, project(&t, "Wk")?, project(&t, "Wv")?);
        let exp = (q.matmul(&k.transpose(1, 2)?)? / 12f64.sqrt())?.exp()?;
        let weights = exp.broadcast_div(&exp.sum_keepdim(2)?)?;
        assert!(gap(&attention.weights(&queries, &tokens)?, &weights)? < 1e-6);
        let y = (&q + project(&weights.matmul(&v)?, "output_linear")?)?;
        let y = y.broadcast_sub(&y.mean_keepdim(2)?)?;
        let y = y.broadcast_div(&(y.sqr()?.mean_keepdim(2)? + NORM_EPS)?.sqrt()?)?;
        let y = y.broadcast_mul(&get("norm.weight")?)?.broadcast_add(&get("norm.bias")?)?;
        assert!(gap(&attention.forward(&queries, &tokens)?, &y)? < 5e-6);
        Ok(())
    }

    #[test]
    fn a_group_is_all_that_its_query_looks_at() -> Result<()> {
        let (_, attention) = layers(8)?;
        let (queries, groups) = (random(0.0, 1.0, (2, 3, 8))?, random(0.0, 1.0, (2, 3, 4, 8))?);
        let all = attention.forward_grouped(&queries, &groups)?;
        for (b, n) in [(0, 0), (1, 2)] {
            let one = attention.forward(
                &queries.narrow(0, b, 1)?.narrow(1, n, 1)?,
                &groups.get(b)?.get(n)?.unsqueeze(0)?,
            )?;
            assert!(gap(&one, &all.narrow(0, b, 1)?.narrow(1, n, 1)?)? < 1e-6);
        }
        assert!(attention.forward_grouped(&queries.narrow(1, 0, 2)?, &groups).is_err());
        Ok(())
    }
}
