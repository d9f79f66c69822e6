//! One product: checked as cuBLAS checks it, computed in f32.

use super::{FAILED, Handle, INVALID, OK, Status};
use crate::log::{self, event};
use crate::{driver, mem};
use half::{bf16, f16};
use std::ffi::{c_int, c_uint};
use std::time::Instant;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    F32,
    F64,
    F16,
    Bf16,
}

pub(super) fn kind(code: c_uint) -> Option<Type> {
    Some(match code {
        0 => Type::F32,
        1 => Type::F64,
        2 => Type::F16,
        14 => Type::Bf16,
        _ => return None,
    })
}

impl Type {
    pub(super) fn size(self) -> usize {
        match self {
            Type::F32 => 4,
            Type::F64 => 8,
            Type::F16 | Type::Bf16 => 2,
        }
    }
}

pub(super) struct Product {
    pub(super) transposed: [c_uint; 2],
    pub(super) m: c_int,
    pub(super) n: c_int,
    pub(super) k: c_int,
    /// A, B, C: address, type, leading dimension, stride.
    pub(super) sides: [(u64, Type, c_int, i64); 3],
    pub(super) alpha: f64,
    pub(super) beta: f64,
    pub(super) batch: c_int,
    pub(super) compute: c_uint,
}

/// As floats of 32 bits, column by column without gaps.
pub(super) unsafe fn gather(
    at: u64,
    ty: Type,
    rows: usize,
    columns: usize,
    lead: usize,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * columns);
    for c in 0..columns {
        unsafe {
            match ty {
                Type::F16 => {
                    let p = (at as *const f16).add(c * lead);
                    out.extend((0..rows).map(|r| (*p.add(r)).to_f32()));
                }
                Type::Bf16 => {
                    let p = (at as *const bf16).add(c * lead);
                    out.extend((0..rows).map(|r| (*p.add(r)).to_f32()));
                }
                Type::F32 => {
                    let p = (at as *const f32).add(c * lead);
                    out.extend((0..rows).map(|r| *p.add(r)));
                }
                Type::F64 => {
                    let p = (at as *const f64).add(c * lead);
                    out.extend((0..rows).map(|r| *p.add(r) as f32));
                }
            }
        }
    }
    out
}

pub(super) fn run(handle: *mut Handle, p: Product) -> Status {
    let Product { m, n, k, batch, .. } = p;
    if handle.is_null() {
        return 1;
    }
    let name = "cublasGemm";
    let [ta, tb] = p.transposed;
    let types: Vec<_> = p.sides.iter().map(|s| format!("{:?}", s.1)).collect();
    let shape = format!(
        "{}\t{}{}\tm{m} n{n} k{k} batch{batch}\tcompute{}",
        types.join(","),
        if ta == 0 { 'N' } else { 'T' },
        if tb == 0 { 'N' } else { 'T' },
        p.compute
    );
    event(name, || shape.clone());
    let extents =
        [if ta == 0 { (m, k) } else { (k, m) }, if tb == 0 { (k, n) } else { (n, k) }, (m, n)];
    if m < 0 || n < 0 || k < 0 || batch < 0 {
        log::fault(&format!("{name} {shape}: a negative size"));
        return INVALID;
    }
    for ((rows, _), side) in extents.iter().zip(&p.sides) {
        if side.2 < (*rows).max(1) {
            log::fault(&format!("{name} {shape}: leading dimension {} of {rows} rows", side.2));
            return INVALID;
        }
    }
    if m == 0 || n == 0 || batch == 0 {
        return OK;
    }
    // SAFETY: handles come from `cublasCreate`.
    let stream = unsafe { (*handle).stream };
    for (i, ((rows, columns), (at, ty, lead, stride))) in extents.iter().zip(p.sides).enumerate() {
        let one = (*columns as i64 - 1) * i64::from(lead) + i64::from(*rows);
        let elements = stride * (i64::from(batch) - 1) + one;
        if *columns == 0 || *rows == 0 {
            continue;
        }
        if stride < 0 || !mem::covers(at, elements as usize * ty.size()) {
            log::fault(&format!(
                "{name} {shape}: operand {} needs {elements} elements at {at:#x}: {}",
                ["A", "B", "C"][i],
                mem::describe(at)
            ));
            return FAILED;
        }
        if at % ty.size() as u64 != 0 {
            return FAILED;
        }
        driver::touch(at, stream, name, i == 2);
    }
    let began = Instant::now();
    let (m, n, k) = (m as usize, n as usize, k as usize);
    let double = p.sides[0].1 == Type::F64;
    for b in 0..batch as i64 {
        let at = |i: usize| {
            let (at, ty, _, stride) = p.sides[i];
            at.wrapping_add((stride * b) as u64 * ty.size() as u64)
        };
        let (lda, ldb, ldc) = (p.sides[0].2 as isize, p.sides[1].2 as isize, p.sides[2].2 as isize);
        if double {
            let (acs, ars) = if ta == 0 { (lda, 1) } else { (1, lda) };
            let (bcs, brs) = if tb == 0 { (ldb, 1) } else { (1, ldb) };
            // SAFETY: checked to lie in allocations.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    at(2) as *mut f64,
                    ldc,
                    1,
                    p.beta != 0.0,
                    at(0) as *const f64,
                    acs,
                    ars,
                    at(1) as *const f64,
                    bcs,
                    brs,
                    p.beta,
                    p.alpha,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
            continue;
        }
        let side = |i: usize| {
            let (rows, columns) = (extents[i].0 as usize, extents[i].1 as usize);
            // SAFETY: checked to lie in an allocation.
            let mut x =
                unsafe { gather(at(i), p.sides[i].1, rows, columns, p.sides[i].2 as usize) };
            match p.compute {
                // What the tensor cores keep of an f32.
                77 => {
                    x.iter_mut().for_each(|v| *v = f32::from_bits((v.to_bits() + 0x1000) & !0x1FFF))
                }
                75 => x.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()),
                74 => x.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32()),
                _ => {}
            }
            (x, rows as isize)
        };
        let ((a, ra), (b, rb)) = (side(0), side(1));
        let mut c = if p.beta != 0.0 { side(2).0 } else { vec![0f32; m * n] };
        let (acs, ars) = if ta == 0 { (ra, 1) } else { (1, ra) };
        let (bcs, brs) = if tb == 0 { (rb, 1) } else { (1, rb) };
        // SAFETY: the vectors hold these extents.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                m as isize,
                1,
                p.beta != 0.0,
                a.as_ptr(),
                acs,
                ars,
                b.as_ptr(),
                bcs,
                brs,
                p.beta as f32,
                p.alpha as f32,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
        for column in 0..n {
            for row in 0..m {
                let v = c[column * m + row];
                let to = column * ldc as usize + row;
                // SAFETY: checked above.
                unsafe {
                    match p.sides[2].1 {
                        Type::F16 => *(at(2) as *mut f16).add(to) = f16::from_f32(v),
                        Type::Bf16 => *(at(2) as *mut bf16).add(to) = bf16::from_f32(v),
                        Type::F32 => *(at(2) as *mut f32).add(to) = v,
                        Type::F64 => *(at(2) as *mut f64).add(to) = v.into(),
                    }
                }
            }
        }
    }
    let flops = 2.0 * m as f64 * n as f64 * k as f64 * f64::from(batch);
    log::product(shape, flops, began.elapsed());
    OK
}
