//! The most likely token of each row of logits, or one that is given.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::cuda::CHOOSE;

use super::{Grid, Parameters, Pointer, device_of, launch, unfilled};

#[repr(C)]
struct Args<'a> {
    logits: Pointer<'a>,
    out: Pointer<'a>,
    vocabulary: i64,
    forced: [i64; MAX_ROWS],
}

// SAFETY: as `Choose` of choose.cu; `choose` checks the lengths.
unsafe impl Parameters for Args<'_> {}

/// Rows of one launch.
const MAX_ROWS: usize = 8;

/// Stands for a row without a distribution.
const NO_TOKEN: u32 = u32::MAX;

/// As [`greedy`](crate::greedy). The host waits once for up to eight rows.
///
/// # Shapes
/// - `logits`: `[rows, V]`, in f32    - `forced`: `rows` of them
pub(crate) fn choose(logits: &Tensor, forced: &[Option<u32>]) -> Result<Vec<Option<(u32, f32)>>> {
    let (rows, vocabulary) = logits.dims2()?;
    if logits.dtype() != DType::F32 || vocabulary == 0 {
        bail!("tokens are chosen by f32 logits, got {:?} {:?}", logits.dtype(), logits.dims())
    }
    let device = device_of(logits)?;
    let mut chosen = Vec::with_capacity(rows);
    for (i, some) in forced.chunks(MAX_ROWS).enumerate() {
        let part = logits.narrow(0, i * MAX_ROWS, some.len())?;
        let out = unfilled((some.len(), 2), DType::U32, &device)?;
        let mut given = [-1; MAX_ROWS];
        for (given, token) in given.iter_mut().zip(some) {
            *given = token.map_or(-1, i64::from);
        }
        let args = Args {
            logits: Pointer::of(&part)?,
            out: Pointer::of(&out)?,
            vocabulary: vocabulary as i64,
            forced: given,
        };
        launch(&device, (CHOOSE, "choose", DType::F32), Grid::new([some.len(), 1, 1], 1024), args)?;
        chosen.extend(out.to_vec2::<u32>()?.into_iter().map(|row| match row[..] {
            [token, bits] if token != NO_TOKEN => Some((token, f32::from_bits(bits))),
            _ => None,
        }));
    }
    Ok(chosen)
}
