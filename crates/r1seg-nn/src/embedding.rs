//! Rows of a table by their numbers.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::matrix::{StoredMatrix, WeightMatrix};
use crate::weights::Weights;

/// Rows of a table by their numbers, such as the embeddings of tokens.
#[derive(Debug, Clone)]
pub struct Embedding {
    table: WeightMatrix,
    /// What rows are used as, and where.
    dtype: DType,
    device: Device,
}

/// An [`Embedding`] of `rows` rows from the key `weight`. A GPU leaves a quantized table in its file.
///
/// # Errors
/// When the tensor is missing or misshaped.
pub fn embedding(rows: usize, width: usize, weights: Weights) -> Result<Embedding> {
    Ok(Embedding::new(weights.table((rows, width), "weight")?, &weights))
}

impl Embedding {
    /// A table that is used where `weights` are.
    ///
    /// # Shapes
    /// - `table`: `[V, width]`
    pub fn new(table: WeightMatrix, weights: &Weights) -> Self {
        let device = weights.device().clone();
        let dtype = if device.is_cpu() { DType::F32 } else { weights.dtype() };
        Self { table, dtype, device }
    }

    /// The rows of `ids`: on a CPU widened exactly to f32, on a GPU in the dtype of the weights.
    ///
    /// # Shapes
    /// - `ids`: `L` of them, each below `V`    - returns: `[L, width]`
    ///
    /// # Errors
    /// When an id is out of range.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        let (rows, _) = self.table.shape()?;
        let outside = |id: &&u32| usize::try_from(**id).map_or(true, |id| rows <= id);
        if let Some(id) = ids.iter().find(outside) {
            bail!("row {id} of a table of {rows} rows")
        }
        match &self.table {
            WeightMatrix::Stored(stored) => {
                widened(stored, ids)?.to_dtype(self.dtype)?.to_device(&self.device)
            }
            WeightMatrix::Quantized(table) => table.select(ids)?.to_tensor(self.dtype),
            WeightMatrix::Tensor(table) => {
                let ids = Tensor::new(ids, table.device())?;
                #[cfg(feature = "cuda")]
                if crate::cuda::takes(table) {
                    return crate::cuda::gather(table, &ids);
                }
                table.index_select(&ids, 0)
            }
        }
    }
}

/// Exactly these rows.
fn widened(table: &StoredMatrix, ids: &[u32]) -> Result<Tensor> {
    let view = table.view()?;
    let mut rows = vec![0f32; ids.len() * view.k()];
    for (id, row) in ids.iter().zip(rows.chunks_exact_mut(view.k().max(1))) {
        view.widen_rows(usize::try_from(*id).map_err(candle_core::Error::wrap)?, 1, row);
    }
    Tensor::from_vec(rows, (ids.len(), view.k()), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use candle_nn::{VarBuilder, VarMap};

    use super::*;
    use crate::testing::{device, random};

    #[test]
    fn an_embedding_is_a_row_of_its_table() -> Result<()> {
        let table = random(0.0, 1.0, (10, 6))?.to_dtype(DType::BF16)?;
        let empty = VarBuilder::from_varmap(&VarMap::new(), DType::BF16, &device()?);
        let embedding = Embedding::new(WeightMatrix::from_tensor(&table)?, &empty.into());
        let rows = embedding.forward(&[7, 0, 7])?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let table = table.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        assert_eq!(rows, [&table[7][..], &table[0], &table[7]]);
        assert!(embedding.forward(&[10]).is_err_and(|e| e.to_string().contains("10 rows")));
        Ok(())
    }
}
