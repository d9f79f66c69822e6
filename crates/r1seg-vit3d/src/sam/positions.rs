//! What relative positions add to scores. Keys: `rel_pos_d`, `rel_pos_h`, `rel_pos_w`.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use r1seg_nn::{AttentionBias, Linear, Rearranged, Weights};
use rayon::prelude::*;

/// The tables of a block, one per axis, as [`super`] reads them.
#[derive(Debug, Clone)]
pub(super) struct RelativePositions {
    /// To the rows of the three tables, the distances of each backwards, so that the cells of a key
    /// ascend: `[3 (2 n - 1), head_dim]`.
    tables: Linear,
    /// Cells of a window along an axis, `n`.
    window: usize,
}

impl RelativePositions {
    /// Loads from `weights`, the prefix `blocks.N.attn` of a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub(super) fn new(window: usize, head_dim: usize, weights: &Weights) -> Result<Self> {
        let shape = (2 * window - 1, head_dim);
        let backwards = |name: &str| {
            weights.get_as(&Rearranged::new(shape, shape), name, |t| t.flip(&[0])?.contiguous())
        };
        let tables = [backwards("rel_pos_d")?, backwards("rel_pos_h")?, backwards("rel_pos_w")?];
        let tables = Tensor::cat(&tables, 0)?.to_dtype(DType::F32)?;
        Ok(Self { tables: Linear::new(&tables, None)?, window })
    }

    /// For the queries of a window's cells, over the keys of its cells and one key that stands for the
    /// filling.
    ///
    /// # Shapes
    /// - `q`: `[B, heads, d * h * w, head_dim]`, `size` being `[d, h, w]`
    /// - `filling`: `[heads, head_dim]`, the query of cells that the grid does not cover; `None` where
    ///   it covers the window
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub(super) fn bias(
        &self,
        q: &Tensor,
        filling: Option<&Tensor>,
        size: [usize; 3],
    ) -> Result<AttentionBias> {
        let (b, heads, cells, head_dim) = q.dims4()?;
        let products = self.tables.forward(&q.to_dtype(DType::F32)?)?;
        let filling = match filling {
            Some(filling) => filling.to_dtype(DType::F32)?,
            // No cell reads it.
            None => Tensor::zeros((heads, head_dim), DType::F32, q.device())?,
        };
        let filling = self.tables.forward(&filling)?;
        let window = Window { n: self.window, size };
        if !q.device().is_cpu() {
            return window.composed(&products, &filling);
        }
        let all = products.apply_op2_no_bwd(&filling, &window)?;
        let [_, h, w] = size;
        let [first, second, rest] = window.lengths(b * heads * cells);
        Ok(AttentionBias::Grid {
            first: all.narrow(0, 0, first)?.reshape((b, heads, cells, size[0], w))?,
            second: all.narrow(0, first, second)?.reshape((b, heads, cells, h, w))?,
            rest: match rest {
                0 => None,
                _ => Some(all.narrow(0, first + second, rest)?.reshape((b, heads, cells, 1))?),
            },
        })
    }
}

/// A window of `n` cells along an axis, of which the grid covers the first.
struct Window {
    n: usize,
    size: [usize; 3],
}

impl Window {
    /// Length of a row of products with a table: a distance each.
    fn distances(&self) -> usize {
        2 * self.n - 1
    }

    /// Elements of the three parts of a bias.
    fn lengths(&self, queries: usize) -> [usize; 3] {
        let [d, h, w] = self.size;
        let rest = usize::from(self.size != [self.n; 3]);
        [queries * d * w, queries * h * w, queries * rest]
    }

    /// # Shapes
    /// - `products`: `[B, heads, cells, 3 (2 n - 1)]`    - `filling`: `[heads, 3 (2 n - 1)]`
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    fn composed(&self, products: &Tensor, filling: &Tensor) -> Result<AttentionBias> {
        let (b, heads, cells, width) = products.dims4()?;
        let ([d, h, w], n, distances) = (self.size, self.n, self.distances());
        let products = products.reshape(vec![b, heads, d, h, w, width])?;
        let line = match n - w {
            // CUDA allocates no empty tensor.
            0 => products.clone(),
            missing => {
                let filling = filling.reshape(vec![1, heads, 1, 1, 1, width])?;
                let filling = filling.broadcast_as(vec![b, heads, d, h, missing, width])?;
                Tensor::cat(&[&products, &filling.contiguous()?], 4)?
            }
        };
        let table = |x: &Tensor, index: usize, axis: usize| {
            self.near(&x.narrow(5, index * distances, distances)?, axis)
        };
        // `[B, heads, d, h, w, n]`, then `[B, heads, d, h, n, n]`
        let (planes, rows, columns) =
            (table(&products, 0, 2)?, table(&line, 1, 3)?, table(&line, 2, 4)?);
        let covered = |x: &Tensor, axis: usize, len: usize| x.narrow(axis, 0, len)?.narrow(5, 0, w);
        let first = covered(&planes, 4, w)?
            .unsqueeze(5)?
            .broadcast_add(&covered(&rows, 4, d)?.unsqueeze(4)?)?;
        let second = covered(&columns, 4, h)?.unsqueeze(4)?;
        let second = second.broadcast_as(vec![b, heads, d, h, w, h, w])?;
        // What the cells of the filling weigh, by the stretches of the key's axes.
        let mut weights = Vec::new();
        for (i, j, l) in self.filled() {
            let of = |x: &Tensor, range: &Range<usize>| {
                let x = x.narrow(4, range.start, range.len())?;
                log_sum_exp(&x.narrow(5, l.start, l.len())?, 4)
            };
            let sum = (of(&rows, &i)? + of(&columns, &j)?)?;
            weights.push(planes.narrow(5, l.start, l.len())?.broadcast_add(&sum)?);
        }
        let rest = match weights.as_slice() {
            [] => None,
            _ => {
                let rest = log_sum_exp(&Tensor::cat(&weights, 5)?, 5)?;
                Some(rest.reshape((b, heads, cells, 1))?)
            }
        };
        Ok(AttentionBias::Grid {
            first: first.reshape((b, heads, cells, d, w))?,
            second: second.reshape((b, heads, cells, h, w))?,
            rest,
        })
    }

    /// The distances from each cell along `axis` to the `n` cells of a key.
    ///
    /// # Shapes
    /// - `x`: `[.., 2 n - 1]`, of six axes    - returns: `[.., n]`
    fn near(&self, x: &Tensor, axis: usize) -> Result<Tensor> {
        let cells: Vec<_> = (0..x.dim(axis)?)
            .map(|cell| x.narrow(axis, cell, 1)?.narrow(5, self.n - 1 - cell, self.n))
            .collect::<Result<_>>()?;
        Tensor::cat(&cells, axis)
    }

    /// The keys of the filling, as stretches along the three axes.
    fn filled(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>, Range<usize>)> {
        let stretches = self.size.map(|covered| [0..covered, covered..self.n]);
        (1..8usize)
            .map(move |i| {
                let [d, h, w] = &stretches;
                (d[i >> 2].clone(), h[i >> 1 & 1].clone(), w[i & 1].clone())
            })
            .filter(|(i, j, l)| !(i.is_empty() || j.is_empty() || l.is_empty()))
    }

    /// The queries of a line of cells along the last axis.
    ///
    /// # Shapes
    /// - `products`: `[w, 3 (2 n - 1)]`    - `filling`: `[3 (2 n - 1)]`
    /// - `first`: `[w, d, w]`    - `second`: `[w, h, w]`    - `rest`: `[w]`, or empty
    fn line(&self, [a, b]: [usize; 2], operands: Line<'_>, [first, second, rest]: [&mut [f32]; 3]) {
        let ([d, h, w], n) = (self.size, self.n);
        let planes = |cell: usize| &operands.row(cell, 0)[n - 1 - a..][..n];
        let rows = |cell: usize| &operands.row(cell, 1)[n - 1 - b..][..n];
        let columns = |cell: usize| &operands.row(cell, 2)[n - 1 - cell..][..n];
        for (query, first) in first.chunks_exact_mut(d * w).enumerate() {
            for (i, first) in first.chunks_exact_mut(w).enumerate() {
                for ((first, plane), row) in first.iter_mut().zip(planes(query)).zip(rows(i)) {
                    *first = plane + row;
                }
            }
        }
        for second in second.chunks_exact_mut(h * w) {
            for (j, second) in second.chunks_exact_mut(w).enumerate() {
                second.copy_from_slice(&columns(j)[..w]);
            }
        }
        if rest.is_empty() {
            return;
        }
        let filling: Vec<f32> = (0..n)
            .map(|l| {
                let weigh = |table: &dyn Fn(usize) -> f32, covered: usize| {
                    [log_sum((0..covered).map(table)), log_sum((covered..n).map(table))]
                };
                let [real_i, filled_i] = weigh(&|i| rows(i)[l], d);
                let [real_j, filled_j] = weigh(&|j| columns(j)[l], h);
                let real = if l < w { f32::NEG_INFINITY } else { real_i + real_j };
                let filled = [real_i + filled_j, filled_i + real_j, filled_i + filled_j];
                log_sum(filled.into_iter().chain([real]))
            })
            .collect();
        for (query, rest) in rest.iter_mut().enumerate() {
            let weights = planes(query).iter().zip(&filling);
            *rest = log_sum(weights.map(|(plane, filling)| plane + filling));
        }
    }
}

impl CustomOp2 for Window {
    fn name(&self) -> &'static str {
        "relative-positions"
    }

    /// The three parts of the bias, one behind the other.
    fn cpu_fwd(
        &self,
        products: &CpuStorage,
        layout: &Layout,
        filling: &CpuStorage,
        filling_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, heads, cells, width) = layout.shape().dims4()?;
        let products = contiguous(products, layout, self.name())?;
        let filling = contiguous(filling, filling_layout, self.name())?;
        let [d, h, w] = self.size;
        let lengths = self.lengths(batch * heads * cells);
        let mut all = vec![0f32; lengths.iter().sum()];
        let (first, others) = all.split_at_mut(lengths[0]);
        let (second, rest) = others.split_at_mut(lengths[1]);
        let rest_width = if rest.is_empty() { 0 } else { w };
        let mut rests = rest.chunks_mut(w.max(1));
        let lines: Vec<_> = first
            .chunks_exact_mut(w * d * w)
            .zip(second.chunks_exact_mut(w * h * w))
            .map(|(first, second)| {
                let rest = if rest_width == 0 { None } else { rests.next() };
                [first, second, rest.unwrap_or_default()]
            })
            .collect();
        lines.into_par_iter().enumerate().for_each(|(line, out)| {
            let head = line / (d * h) % heads;
            let operands = Line {
                products: &products[line * w * width..][..w * width],
                filling: &filling[head * width..][..width],
                distances: self.distances(),
            };
            self.line([line / h % d, line % h], operands, out);
        });
        let length = all.len();
        Ok((CpuStorage::F32(all), Shape::from(length)))
    }
}

/// Products of the queries of a line with the tables.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// `[w, 3 distances]`
    products: &'a [f32],
    /// `[3 distances]`
    filling: &'a [f32],
    distances: usize,
}

impl<'a> Line<'a> {
    /// Of a cell of the window with a table: those behind the grid are alike.
    fn row(self, cell: usize, table: usize) -> &'a [f32] {
        let width = 3 * self.distances;
        let row = self.products.get(cell * width..(cell + 1) * width).unwrap_or(self.filling);
        &row[table * self.distances..][..self.distances]
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout, op: &str) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("{op} needs a contiguous input"),
    }
}

/// The logarithm of a sum of exponentials; minus infinity for none.
fn log_sum(logs: impl Iterator<Item = f32> + Clone) -> f32 {
    let largest = logs.clone().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        return largest;
    }
    largest + logs.map(|log| (log - largest).exp()).sum::<f32>().ln()
}

/// As [`log_sum`], over an axis that is not empty and has one element then.
fn log_sum_exp(x: &Tensor, axis: usize) -> Result<Tensor> {
    let largest = x.max_keepdim(axis)?;
    let sum = x.broadcast_sub(&largest)?.exp()?.sum_keepdim(axis)?;
    sum.log()? + largest
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn flat(x: &Tensor) -> Result<Vec<f32>> {
        x.flatten_all()?.to_vec1()
    }

    #[test]
    fn tensor_operations_give_what_the_cpu_gives() -> Result<()> {
        let (b, heads) = (2, 3);
        for (n, [d, h, w]) in [
            (3, [3, 3, 3]),
            (5, [3, 3, 3]),
            (4, [4, 1, 4]),
            (4, [4, 4, 3]),
            (4, [1, 4, 4]),
            (4, [2, 4, 1]),
            (1, [1, 1, 1]),
        ] {
            let random = |dims: &[usize]| Tensor::randn(0f32, 3., dims, &Device::Cpu);
            let table = random(&[3 * (2 * n - 1), 8])?;
            let tables = Linear::new(&table, None)?;
            let positions = RelativePositions { tables, window: n };
            let size = [d, h, w];
            let q = random(&[b, heads, d * h * w, 8])?;
            let filling = random(&[heads, 8])?;
            let query = (size != [n; 3]).then_some(&filling);
            let products = |q: &Tensor| q.broadcast_matmul(&table.t()?);
            let composed = Window { n, size }.composed(&products(&q)?, &products(&filling)?)?;
            let AttentionBias::Grid { first, second, rest } = composed else { bail!("no grid") };
            let on_cpu = positions.bias(&q, query, size)?;
            let AttentionBias::Grid { first: f, second: s, rest: r } = on_cpu else {
                bail!("no grid")
            };
            assert_eq!((first.dims(), second.dims()), (f.dims(), s.dims()));
            assert_eq!(rest.as_ref().map(Tensor::dims), r.as_ref().map(Tensor::dims));
            assert_eq!(rest.is_some(), size != [n; 3], "{n} {size:?}");
            let parts = [(&first, &f), (&second, &s)].into_iter().chain(rest.iter().zip(&r));
            for (one, other) in parts {
                for (one, other) in flat(one)?.iter().zip(flat(other)?) {
                    // Sums of eight products and of exponentials, in f32.
                    assert!((one - other).abs() < 1e-4, "{n} {size:?}: {one} and {other}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn weights_beyond_the_range_of_exponentials_keep_their_logarithm() {
        assert_eq!(log_sum([].into_iter()), f32::NEG_INFINITY);
        assert!((log_sum([500.0, 500.0].into_iter()) - 500.693_15).abs() < 1e-3);
        assert!((log_sum([-500.0, f32::NEG_INFINITY].into_iter()) + 500.0).abs() < 1e-3);
    }
}
