//! Tensor cores, and how their operands come into registers.

use super::{SHARED, addresses};
use crate::exec::{ALL, Instr, Warp};
use half::{bf16, f16};

/// `mma.sync.aligned.m16n8k*.row.col`: `more` = d, a, b, c registers; `e` is taken, so the shape
/// and types are in `imm`: k, then 0 f16, 1 bf16, 2 tf32 of the factors, then 1 where d is f16.
pub unsafe fn mma(w: &mut Warp, i: &Instr, _: u32) {
    unsafe {
        let (k, kind, small) = ((i.imm & 255) as usize, i.imm >> 8 & 3, i.imm >> 10 & 1 != 0);
        let per = if kind == 2 { 1 } else { 2 };
        let (count_d, count_a, count_b) =
            (if small { 2 } else { 4 }, k * 16 / 32 / per, k * 8 / 32 / per);
        let (rd, rest) = i.more.split_at(count_d);
        let (ra, rest) = rest.split_at(count_a);
        let (rb, rc) = rest.split_at(count_b);
        let value = |bits: u32, half: usize| -> f32 {
            let h = (bits >> (16 * half)) as u16;
            match kind {
                0 => f16::from_bits(h).to_f32(),
                1 => bf16::from_bits(h).to_f32(),
                // The low 13 bits do not count.
                _ => f32::from_bits(bits & 0xFFFF_E000),
            }
        };
        let mut a = vec![0f32; 16 * k];
        let mut b = vec![0f32; k * 8];
        let mut c = [0f32; 16 * 8];
        for l in 0..32 {
            let (group, in_group) = (l >> 2, l & 3);
            for (r, reg) in ra.iter().enumerate() {
                let bits = (*w.at::<u32>(*reg))[l];
                for h in 0..per {
                    let row = group + 8 * (r & 1);
                    let column = in_group * per + h + 4 * per * (r >> 1);
                    a[row * k + column] = value(bits, h);
                }
            }
            for (r, reg) in rb.iter().enumerate() {
                let bits = (*w.at::<u32>(*reg))[l];
                for h in 0..per {
                    b[(in_group * per + h + 4 * per * r) * 8 + group] = value(bits, h);
                }
            }
            for n in 0..4 {
                let (row, column) = (group + 8 * (n >> 1), in_group * 2 + (n & 1));
                c[row * 8 + column] = if small {
                    let bits = (*w.at::<u32>(rc[n / 2]))[l];
                    f16::from_bits((bits >> (16 * (n & 1))) as u16).to_f32()
                } else {
                    f32::from_bits((*w.at::<u32>(rc[n]))[l])
                };
            }
        }
        for row in 0..16 {
            for column in 0..8 {
                let mut sum = f64::from(c[row * 8 + column]);
                for x in 0..k {
                    sum += f64::from(a[row * k + x]) * f64::from(b[x * 8 + column]);
                }
                c[row * 8 + column] = sum as f32;
            }
        }
        for l in 0..32 {
            let (group, in_group) = (l >> 2, l & 3);
            let at = |n: usize| c[(group + 8 * (n >> 1)) * 8 + in_group * 2 + (n & 1)];
            if small {
                for (n, reg) in rd.iter().enumerate() {
                    let one = |x: f32| u32::from(f16::from_f32(x).to_bits());
                    (*w.at::<u32>(*reg))[l] = one(at(2 * n)) | one(at(2 * n + 1)) << 16;
                }
            } else {
                for (n, reg) in rd.iter().enumerate() {
                    (*w.at::<u32>(*reg))[l] = at(n).to_bits();
                }
            }
        }
    }
}

/// `ldmatrix.sync.aligned.m8n8.x{1,2,4}{.trans}.shared.b16`: `more` the registers, `imm` the
/// displacement times two plus 1 for `.trans`, `target` the address's bits.
pub unsafe fn load_matrix(w: &mut Warp, i: &Instr, _: u32) {
    unsafe {
        let count = i.more.len();
        let rows = if count == 4 { ALL } else { (1u32 << (8 * count)) - 1 };
        let move_by = i.imm >> 1;
        let found = if i.target == 64 {
            addresses::<u64, SHARED>(w, i.a, move_by, rows, 16, 16, i.line, "a matrix read")
        } else {
            addresses::<u32, SHARED>(w, i.a, move_by, rows, 16, 16, i.line, "a matrix read")
        };
        let Some(at) = found else { return };
        for (n, reg) in i.more.iter().enumerate() {
            for l in 0..32 {
                let one = |row: usize, column: usize| {
                    u32::from(*(at[n * 8 + row] as *const u16).add(column))
                };
                let (p, q) = (l >> 2, (l & 3) * 2);
                (*w.at::<u32>(*reg))[l] = if i.imm & 1 == 0 {
                    one(p, q) | one(p, q + 1) << 16
                } else {
                    one(q, p) | one(q + 1, p) << 16
                };
            }
        }
    }
}
