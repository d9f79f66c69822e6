//! Numbers into ggml's blocks and back. candle computes them: what multiplies with a block and what
//! makes it must agree to the bit.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use r1seg_checkpoint::gguf::GgmlType;
use r1seg_checkpoint::gguf::names::RowOrder;
use rayon::prelude::*;

use super::GgufTarget;
use crate::Dtype;
use crate::dtype::{Tally, count_not_finite, encode, to_f32};

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
    dtype: Dtype,
    target: &GgufTarget,
    rows: usize,
    merge: impl FnOnce(&mut [f32]),
    out: &mut Vec<u8>,
) -> candle_core::Result<Tally> {
    let to = target.tensor.ggml_type;
    if target.blocks == Some(to) {
        out.clear();
        out.extend_from_slice(chunk);
        return Ok(not_finite(chunk, to));
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

fn encode_blocks(numbers: &[f32], to: GgmlType, out: &mut Vec<u8>) -> candle_core::Result<Tally> {
    if let Some(dtype) = plain(to) {
        return Ok(encode(numbers, dtype, out));
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

fn decode(bytes: &[u8], from: GgmlType) -> candle_core::Result<Vec<f32>> {
    if let Some(dtype) = plain(from) {
        let mut numbers = vec![0.0; bytes.len() / dtype.size()];
        to_f32(bytes, dtype, &mut numbers);
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

/// How many numbers of plain types, or scales of blocks, are NaN or infinite. `bytes` are whole
/// blocks.
pub fn count_not_finite_in_blocks(bytes: &[u8], ggml_type: GgmlType) -> u64 {
    not_finite(bytes, ggml_type).not_finite
}

/// NaN and infinities: numbers of plain types, and of blocks the scales. Whole numbers times finite
/// scales are finite.
pub(crate) fn not_finite(bytes: &[u8], ggml_type: GgmlType) -> Tally {
    if let Some(dtype) = plain(ggml_type) {
        return count_not_finite(bytes, dtype);
    }
    // Where a block has its halves (ggml-common.h).
    let halves: &[usize] = match ggml_type {
        GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => &[0],
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K => &[0, 2],
        GgmlType::Q2K => &[80, 82],
        GgmlType::Q3K => &[108],
        GgmlType::Q6K => &[208],
        _ => &[],
    };
    let size = usize::try_from(ggml_type.block_bytes()).unwrap_or(usize::MAX);
    let half = |block: &[u8], at: usize| {
        block.get(at..at + 2).map_or(0, |half| count_not_finite(half, Dtype::F16).not_finite)
    };
    let not_finite = bytes
        .par_chunks(size)
        .with_min_len(1024)
        .map(|block| halves.iter().map(|at| half(block, *at)).sum::<u64>())
        .sum();
    Tally { not_finite, overflown: 0 }
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

/// The types without blocks.
fn plain(ggml_type: GgmlType) -> Option<Dtype> {
    match ggml_type {
        GgmlType::F32 => Some(Dtype::F32),
        GgmlType::F16 => Some(Dtype::F16),
        GgmlType::Bf16 => Some(Dtype::Bf16),
        _ => None,
    }
}

fn candle_type(ggml_type: GgmlType) -> candle_core::Result<GgmlDType> {
    Ok(match ggml_type {
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q2K => GgmlDType::Q2K,
        GgmlType::Q3K => GgmlDType::Q3K,
        GgmlType::Q4K => GgmlDType::Q4K,
        GgmlType::Q5K => GgmlDType::Q5K,
        GgmlType::Q6K => GgmlDType::Q6K,
        other => candle_core::bail!("no kernel for {}", other.name()),
    })
}
