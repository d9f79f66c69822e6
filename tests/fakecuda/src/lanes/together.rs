//! Shuffles, votes, reductions and matches.

use crate::exec::{Instr, NONE, Warp};

/// `more[0]`: 0 up, 1 down, 2 bfly, 3 idx; `target`: the predicate or `NONE`.
pub unsafe fn shuffle(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let (x, b, c) = (*w.at::<u32>(i.a), *w.at::<u32>(i.b), *w.at::<u32>(i.c));
        let mut out = [0u32; 32];
        let mut there = 0u32;
        for l in 0..32u32 {
            let (b, c) = (b[l as usize] & 31, c[l as usize]);
            let (clamp, segment) = (c & 31, c >> 8 & 31);
            let most = (l & segment) | (clamp & !segment);
            let least = l & segment;
            let (j, ok) = match i.more[0] {
                0 => (l.wrapping_sub(b), l as i32 - b as i32 >= most as i32),
                1 => (l + b, l + b <= most),
                2 => (l ^ b, l ^ b <= most),
                _ => (least | (b & !segment), (least | (b & !segment)) <= most),
            };
            let j = if ok { j } else { l };
            if ok && m >> j & 1 == 0 && m >> l & 1 != 0 && w.fault.is_none() {
                crate::log::warn(&format!(
                    "{}: lane {l} shuffles from lane {j}, which takes no part (PTX line {})",
                    w.kernel.name, i.line
                ));
            }
            out[l as usize] = x[j as usize];
            there |= u32::from(ok) << l;
        }
        w.put(i.d, &out, m);
        if i.target != NONE {
            let p = w.pred(i.target);
            *p = *p & !m | there & m;
        }
    }
}

/// `more[0]`: 0 all, 1 any, 2 uni, 3 ballot; `a` a predicate; `more[1]`: whether it is negated.
pub unsafe fn vote(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let mut x = *w.pred(i.a);
        if i.more[1] != 0 {
            x = !x;
        }
        x &= m;
        if i.more[0] == 3 {
            w.put(i.d, &[x; 32], m);
            return;
        }
        let yes = match i.more[0] {
            0 => x == m,
            1 => x != 0,
            _ => x == 0 || x == m,
        };
        let p = w.pred(i.d);
        *p = *p & !m | if yes { m } else { 0 };
    }
}

pub unsafe fn active_mask(w: &mut Warp, i: &Instr, m: u32) {
    unsafe { w.put(i.d, &[m; 32], m) }
}

/// `more[0]`: 0 add, 1 min, 2 max, 3 and, 4 or, 5 xor; `more[1]`: signed.
pub unsafe fn reduce(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let x = *w.at::<u32>(i.a);
        let values = (0..32).filter(|l| m >> l & 1 != 0).map(|l| x[l]);
        let signed = i.more[1] != 0;
        let all = values.reduce(|a, b| match (i.more[0], signed) {
            (0, _) => a.wrapping_add(b),
            (1, false) => a.min(b),
            (2, false) => a.max(b),
            (1, true) => (a as i32).min(b as i32) as u32,
            (2, true) => (a as i32).max(b as i32) as u32,
            (3, _) => a & b,
            (4, _) => a | b,
            _ => a ^ b,
        });
        w.put(i.d, &[all.unwrap_or_default(); 32], m);
    }
}

/// `more[0]`: 0 any, 1 all (with the predicate in `target`); `more[1]`: bits.
pub unsafe fn matching(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let get = |l: usize| {
            if i.more[1] == 64 { (*w.at::<u64>(i.a))[l] } else { u64::from((*w.at::<u32>(i.a))[l]) }
        };
        let mut out = [0u32; 32];
        for l in 0..32 {
            out[l] = (0..32).filter(|k| m >> k & 1 != 0 && get(*k) == get(l)).map(|k| 1 << k).sum();
        }
        if i.more[0] == 1 {
            let yes = (0..32).all(|l| m >> l & 1 == 0 || out[l] == m);
            out = [if yes { m } else { 0 }; 32];
            if i.target != NONE {
                let p = w.pred(i.target);
                *p = *p & !m | if yes { m } else { 0 };
            }
        }
        w.put(i.d, &out, m);
    }
}
