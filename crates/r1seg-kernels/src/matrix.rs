//! Interim.
#![allow(missing_docs)]
use crate::linear::PackedLinear;
use half::{bf16, f16};
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4K,
    Q6K,
}
impl WeightType {
    pub fn block_len(self) -> usize {
        match self {
            Self::Q8_0 => 32,
            Self::Q4K | Self::Q6K => 256,
            _ => 1,
        }
    }
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q6K => 210,
        }
    }
    pub fn row_bytes(self, k: usize) -> Option<usize> {
        k.is_multiple_of(self.block_len()).then(|| k / self.block_len() * self.block_bytes())
    }
}
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    bytes: &'a [u8],
    weight_type: WeightType,
    n: usize,
    k: usize,
}
impl<'a> Matrix<'a> {
    pub fn new(bytes: &'a [u8], weight_type: WeightType, n: usize, k: usize) -> Option<Self> {
        (weight_type.row_bytes(k)?.checked_mul(n)? == bytes.len()).then_some(Self {
            bytes,
            weight_type,
            n,
            k,
        })
    }
    pub fn n(&self) -> usize {
        self.n
    }
    pub fn k(&self) -> usize {
        self.k
    }
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }
    pub fn widen_rows(&self, first: usize, count: usize, out: &mut [f32]) {
        let rb = self.weight_type.row_bytes(self.k).unwrap_or(0);
        let b = &self.bytes[first * rb..(first + count) * rb];
        match self.weight_type {
            WeightType::F32 => {
                b.as_chunks::<4>().0.iter().zip(out).for_each(|(b, o)| *o = f32::from_le_bytes(*b))
            }
            WeightType::Bf16 => b
                .as_chunks::<2>()
                .0
                .iter()
                .zip(out)
                .for_each(|(b, o)| *o = bf16::from_le_bytes(*b).to_f32()),
            WeightType::F16 => b
                .as_chunks::<2>()
                .0
                .iter()
                .zip(out)
                .for_each(|(b, o)| *o = f16::from_le_bytes(*b).to_f32()),
            _ => unimplemented!(),
        }
    }
    pub fn forward_stacked(
        parts: &[Matrix<'_>],
        x: &[f32],
        m: usize,
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) {
        let total: usize = parts.iter().map(|p| p.n).sum();
        let mut at = 0;
        for p in parts {
            let mut w = vec![0f32; p.n * p.k];
            p.widen_rows(0, p.n, &mut w);
            let l = match p.weight_type {
                WeightType::Bf16 => PackedLinear::from_bf16(
                    &w.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>(),
                    p.n,
                    p.k,
                ),
                _ => PackedLinear::from_f32(&w, p.n, p.k),
            };
            let mut part = vec![0f32; m * p.n];
            l.forward(x, m, bias.map(|b| &b[at..at + p.n]), &mut part);
            for i in 0..m {
                y[i * total + at..i * total + at + p.n]
                    .copy_from_slice(&part[i * p.n..(i + 1) * p.n]);
            }
            at += p.n;
        }
    }
}
