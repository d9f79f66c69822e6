//! Where the weights of a model come from.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;

use crate::matrix::WeightMatrix;

/// The tensors of a checkpoint, by name.
///
/// Constructors of models ask for everything that they need and for nothing else, so that a source
/// knows from its requests what a checkpoint has to hold.
pub trait TensorSource: Send + Sync {
    /// A tensor of this shape, converted to `dtype`, on `device`.
    ///
    /// # Errors
    /// When it is missing, misshaped or unreadable; a source that reports all of these at once may
    /// return zeros instead.
    fn tensor(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor>;

    /// A tensor that is rearranged into a matrix: on a CPU in the dtype in which [`matrix`](Self::matrix)
    /// would leave it.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn factor(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(name, shape, dtype, device)
    }

    /// A matrix `[n, k]` that is only ever multiplied with or looked up in: on a CPU it may stay in
    /// the file, and it may stay quantized anywhere; `dtype` says what a GPU gets of any other.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn matrix(
        &self,
        name: &str,
        (n, k): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<WeightMatrix> {
        WeightMatrix::from_tensor(&self.tensor(name, &Shape::from((n, k)), dtype, device)?)
    }

    /// Matrices of one width, by name and number of rows, that a layer multiplies with as one whose
    /// rows follow one another. A source may give that one, so that a GPU never holds parts beside
    /// their whole.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn matrices(
        &self,
        parts: &[(String, usize)],
        k: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Vec<WeightMatrix>> {
        parts.iter().map(|(name, n)| self.matrix(name, (*n, k), dtype, device)).collect()
    }

    /// A matrix `[n, k]` that is only looked up in. It may stay in the file for a GPU too, which then
    /// gets the rows that are looked up.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn table(
        &self,
        name: &str,
        shape: (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<WeightMatrix> {
        self.matrix(name, shape, dtype, device)
    }

    /// Whether the checkpoint has a tensor of this name.
    fn contains(&self, name: &str) -> bool;

    /// Whether tensors hold the numbers of a checkpoint. A source that only notes what is asked for
    /// says no, and nothing is computed from its tensors while a model is built.
    fn has_numbers(&self) -> bool {
        true
    }
}

/// A tensor that is not used as the checkpoint stores it.
#[derive(Debug, Clone)]
pub struct Rearranged {
    /// The shape in the checkpoint.
    pub stored: Shape,
    /// The shape in which it is used.
    pub used: Shape,
}

impl Rearranged {
    /// From the shape in a checkpoint to that of its use.
    pub fn new(stored: impl Into<Shape>, used: impl Into<Shape>) -> Self {
        Self { stored: stored.into(), used: used.into() }
    }
}

/// A place in a checkpoint, from which a layer takes its weights.
#[derive(Clone)]
pub struct Weights {
    source: Arc<dyn TensorSource>,
    prefix: String,
    dtype: DType,
    device: Device,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weights({}, {:?})", self.prefix, self.dtype)
    }
}

impl Weights {
    /// The root of a checkpoint, whose tensors are used as `dtype` on `device`.
    pub fn new(source: Arc<dyn TensorSource>, dtype: DType, device: Device) -> Self {
        Self { source, prefix: String::new(), dtype, device }
    }

    /// The tensors below a name.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.path(name), ..self.clone() }
    }

    /// The full name of a tensor here.
    fn path(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// A tensor of this shape.
    ///
    /// # Errors
    /// As [`TensorSource::tensor`].
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        self.source.tensor(&self.path(name), &shape.into(), self.dtype, &self.device)
    }

    /// A tensor that is used in another form than it is stored in: a position table that is
    /// flattened, a table of relative positions that is looked up in, a kernel whose axes change
    /// places.
    ///
    /// Constructors rearrange through this method, because a source may have no numbers
    /// ([`TensorSource::has_numbers`]): `rearrange` does not run then.
    ///
    /// # Errors
    /// As [`TensorSource::tensor`], and when `rearrange` gives another shape than it should.
    pub fn get_as(
        &self,
        shapes: &Rearranged,
        name: &str,
        rearrange: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let tensor =
            self.source.tensor(&self.path(name), &shapes.stored, self.dtype, &self.device)?;
        self.rearranged(tensor, shapes, name, rearrange)
    }

    /// As [`get_as`](Self::get_as), of a tensor that becomes a matrix, such as the kernel of a
    /// convolution.
    ///
    /// # Errors
    /// As [`TensorSource::factor`], and when `rearrange` gives another shape than it should.
    pub fn factor_as(
        &self,
        shapes: &Rearranged,
        name: &str,
        rearrange: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let tensor =
            self.source.factor(&self.path(name), &shapes.stored, self.dtype, &self.device)?;
        self.rearranged(tensor, shapes, name, rearrange)
    }

    fn rearranged(
        &self,
        tensor: Tensor,
        shapes: &Rearranged,
        name: &str,
        rearrange: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if !self.source.has_numbers() {
            // As many axes as the constructor expects, and next to no memory.
            return Tensor::zeros(vec![1; shapes.used.rank()], tensor.dtype(), tensor.device());
        }
        let tensor = rearrange(tensor)?;
        if tensor.shape() != &shapes.used {
            bail!(
                "`{}` was rearranged to {:?}, expected {:?}",
                self.path(name),
                tensor.shape(),
                shapes.used
            )
        }
        Ok(tensor)
    }

    /// A matrix `[n, k]` that is multiplied with or looked up in.
    ///
    /// # Errors
    /// As [`TensorSource::matrix`].
    pub fn matrix(&self, shape: (usize, usize), name: &str) -> Result<WeightMatrix> {
        self.source.matrix(&self.path(name), shape, self.dtype, &self.device)
    }

    /// The matrices called `name` of several places, `[n_i, k]` with the `n_i` beside the places, of which a
    /// layer makes one whose rows follow one another: one matrix or several, in order.
    ///
    /// # Errors
    /// As [`TensorSource::matrices`].
    pub fn matrices(parts: &[(Self, usize)], k: usize, name: &str) -> Result<Vec<WeightMatrix>> {
        let Some((first, _)) = parts.first() else { return Ok(Vec::new()) };
        let alike = |(place, _): &(Self, usize)| {
            Arc::ptr_eq(&place.source, &first.source)
                && place.dtype == first.dtype
                && place.device.same_device(&first.device)
        };
        if !parts.iter().all(alike) {
            return parts.iter().map(|(place, n)| place.matrix((*n, k), name)).collect();
        }
        let named: Vec<_> = parts.iter().map(|(place, n)| (place.path(name), *n)).collect();
        first.source.matrices(&named, k, first.dtype, &first.device)
    }

    /// A matrix `[n, k]` that is only looked up in.
    ///
    /// # Errors
    /// As [`TensorSource::table`].
    pub fn table(&self, shape: (usize, usize), name: &str) -> Result<WeightMatrix> {
        self.source.table(&self.path(name), shape, self.dtype, &self.device)
    }

    /// Whether the checkpoint has this tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.source.contains(&self.path(name))
    }

    /// What tensors are converted to.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where tensors are put.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// Tensors in memory, such as those of a test.
impl TensorSource for VarBuilder<'static> {
    fn tensor(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        self.get(shape.clone(), name)?.to_dtype(dtype)?.to_device(device)
    }

    fn contains(&self, name: &str) -> bool {
        self.contains_tensor(name)
    }
}

impl From<VarBuilder<'static>> for Weights {
    fn from(builder: VarBuilder<'static>) -> Self {
        let (dtype, device) = (builder.dtype(), builder.device().clone());
        Self::new(Arc::new(builder), dtype, device)
    }
}

#[cfg(test)]
mod tests {
    use candle_nn::VarMap;

    use super::*;

    /// Notes nothing and has nothing.
    struct Empty;

    impl TensorSource for Empty {
        fn tensor(&self, _: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
            Tensor::zeros((), dtype, device)?.broadcast_as(shape)
        }

        fn contains(&self, _: &str) -> bool {
            true
        }

        fn has_numbers(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_tensor_is_rearranged_only_where_it_has_numbers() -> Result<()> {
        let shapes = Rearranged::new((1, 2, 2, 2, 6), (1, 8, 6));
        let flat = |t: Tensor| t.reshape((1, 8, 6));
        let weights: Weights =
            VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu).into();
        assert_eq!(weights.get_as(&shapes, "pos_embed", flat)?.dims(), [1, 8, 6]);
        assert_eq!(weights.factor_as(&shapes, "pos_embed", flat)?.dims(), [1, 8, 6]);
        let empty = Weights::new(Arc::new(Empty), DType::F32, Device::Cpu);
        let refuse = |_: Tensor| bail!("there are no numbers to rearrange");
        assert_eq!(empty.get_as(&shapes, "pos_embed", refuse)?.dims(), [1, 1, 1]);
        Ok(())
    }

    #[test]
    fn a_tensor_that_was_rearranged_to_another_shape_is_refused_by_name() {
        let weights: Weights =
            VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu).into();
        let shapes = Rearranged::new((4, 6), (24,));
        let error = weights.pp("blocks").get_as(&shapes, "rel_pos", |t| t.t());
        let message = error.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("`blocks.rel_pos`") && message.contains("[24]"), "{message}");
    }
}
