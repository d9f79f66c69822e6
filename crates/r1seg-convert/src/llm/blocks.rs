//! Numbers into ggml's blocks and back. candle computes them: it has ggml's search for the
//! scales of a block.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use r1seg_checkpoint::keys::llama_cpp::RowOrder;
use r1seg_checkpoint::{NumberFormat, count_not_finite};
use rayon::prelude::*;

use super::GgufTarget;
use crate::dtype::{Tally, encode, to_f32};

/// The largest number that is quantized: that of f16. Weights are below 100.
const LARGEST: f32 = 65_504.0;
/// Numbers per task: whole blocks of every type.
const GRAIN: usize = 64 * 1024;

/// Makes `out` what `chunk`, `rows` whole rows of a tensor, becomes in the file. `merge` changes the
/// numbers on their way.
///
/// NaN, infinities and numbers beyond [`LARGEST`] are counted, and what is around them is not
/// quantized: one would spoil its whole block.
pub(crate) fn convert(
    chunk: &[u8],
    dtype: NumberFormat,
    target: &GgufTarget,
    rows: usize,
    merge: impl FnOnce(&mut [f32]),
    out: &mut Vec<u8>,
) -> candle_core::Result<Tally> {
    let to = target.tensor.format;
    if target.blocks == Some(to) {
        out.clear();
        out.extend_from_slice(chunk);
        return Ok(Tally { not_finite: count_not_finite(chunk, to), overflown: 0 });
    }
    let mut numbers = match target.blocks {
        Some(from) => decode(chunk, from)?,
        None => {
            let mut numbers = vec![0.0; chunk.len() / dtype.size()];
            to_f32(chunk, dtype, &mut numbers);
            numbers
        }
    };
    merge(&mut numbers);
    let tally = encode_blocks(&numbers, to, out)?;
    reorder(out, target.order, rows);
    Ok(tally)
}

fn encode_blocks(
    numbers: &[f32],
    to: NumberFormat,
    out: &mut Vec<u8>,
) -> candle_core::Result<Tally> {
    if to.is_float() {
        return Ok(encode(numbers, to, out));
    }
    let length = |numbers: usize| {
        to.bytes(numbers as u64).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
    };
    out.resize(length(numbers.len()), 0);
    numbers
        .par_chunks(GRAIN)
        .zip(out.par_chunks_mut(length(GRAIN)))
        .map(|(numbers, out)| {
            let special = numbers.iter().map(|x| u64::from(!x.is_finite())).sum();
            if special > 0 {
                return Ok(Tally { not_finite: special, overflown: 0 });
            }
            // A block's scale is an f16, and candle flattens blocks whose squares overflow.
            let overflown = numbers.iter().map(|x| u64::from(x.abs() > LARGEST)).sum();
            if overflown > 0 {
                return Ok(Tally { not_finite: 0, overflown });
            }
            let tensor = Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)?;
            let blocks = QTensor::quantize(&tensor, candle_type(to)?)?;
            out.copy_from_slice(&blocks.data()?);
            Ok(Tally::default())
        })
        .try_reduce(Tally::default, |a, b| Ok(a.add(b)))
}

fn decode(bytes: &[u8], from: NumberFormat) -> candle_core::Result<Vec<f32>> {
    if from.is_float() {
        let mut numbers = vec![0.0; bytes.len() / from.size()];
        to_f32(bytes, from, &mut numbers);
        return Ok(numbers);
    }
    let [len, size] =
        [from.block_len(), from.block_bytes()].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut numbers = vec![0.0; bytes.len() / size * len];
    numbers.par_chunks_mut(GRAIN).zip(bytes.par_chunks(GRAIN / len * size)).try_for_each(
        |(numbers, bytes)| {
            let storage =
                QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, candle_type(from)?)?;
            let tensor = QTensor::new(storage, numbers.len())?.dequantize(&Device::Cpu)?;
            numbers.copy_from_slice(&tensor.to_vec1()?);
            candle_core::Result::Ok(())
        },
    )?;
    Ok(numbers)
}

/// Moves whole rows to where the file has them. `bytes` begins with a head.
fn reorder(bytes: &mut Vec<u8>, order: RowOrder, rows: usize) {
    if order == RowOrder::Same || rows == 0 || bytes.len() < rows {
        return;
    }
    let row_bytes = bytes.len() / rows;
    let mut moved = Vec::with_capacity(bytes.len());
    for stored in 0..rows as u64 {
        let published = usize::try_from(order.published_row(stored)).unwrap_or(usize::MAX);
        let row = bytes.chunks_exact(row_bytes).nth(published);
        moved.extend_from_slice(row.unwrap_or_default());
    }
    *bytes = moved;
}

fn candle_type(format: NumberFormat) -> candle_core::Result<GgmlDType> {
    Ok(match format {
        NumberFormat::Q4_0 => GgmlDType::Q4_0,
        NumberFormat::Q4_1 => GgmlDType::Q4_1,
        NumberFormat::Q5_0 => GgmlDType::Q5_0,
        NumberFormat::Q5_1 => GgmlDType::Q5_1,
        NumberFormat::Q8_0 => GgmlDType::Q8_0,
        NumberFormat::Q2K => GgmlDType::Q2K,
        NumberFormat::Q3K => GgmlDType::Q3K,
        NumberFormat::Q4K => GgmlDType::Q4K,
        NumberFormat::Q5K => GgmlDType::Q5K,
        NumberFormat::Q6K => GgmlDType::Q6K,
        other => candle_core::bail!("no kernel for {}", other.name()),
    })
}
