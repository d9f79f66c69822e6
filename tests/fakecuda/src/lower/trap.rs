//! `printf`, `assert` and traps.

use crate::exec::{Instr, Warp};

pub(super) unsafe fn text(address: u64) -> String {
    if crate::mem::find(address).is_none() {
        return format!("{address:#x}");
    }
    unsafe { std::ffi::CStr::from_ptr(address as *const _) }.to_string_lossy().into_owned()
}

pub(super) unsafe fn argument(w: &Warp, lane: usize, at: u32) -> u64 {
    unsafe { (w.local.add(lane * w.local_stride + at as usize) as *const u64).read_unaligned() }
}

pub(super) unsafe fn assertion(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let lane = m.trailing_zeros() as usize;
        let what = text(argument(w, lane, i.more[0]));
        let file = text(argument(w, lane, i.more[1]));
        let line = argument(w, lane, i.more[2]) as u32;
        w.fault = Some((710, format!("lane {lane}: assertion failed: {what}, {file}:{line}")));
    }
}

pub(super) unsafe fn trapped(w: &mut Warp, i: &Instr, m: u32) {
    let lane = m.trailing_zeros();
    w.fault = Some((719, format!("lane {lane}: trap (PTX line {})", i.line)));
}

pub(super) unsafe fn print(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        for lane in (0..32).filter(|l| m >> l & 1 != 0) {
            let format = text(argument(w, lane, i.more[0]));
            let mut at = argument(w, lane, i.more[1]);
            let mut out = String::new();
            let mut chars = format.chars();
            while let Some(c) = chars.next() {
                if c != '%' {
                    out.push(c);
                    continue;
                }
                let (mut long, mut dot, mut digits) = (false, false, String::new());
                for c in chars.by_ref() {
                    match c {
                        'l' | 'z' => long = true,
                        '.' => dot = true,
                        '0'..='9' if dot => digits.push(c),
                        '0'..='9' | '-' | '+' | ' ' | '#' | 'h' => {}
                        '%' => {
                            out.push('%');
                            break;
                        }
                        _ => {
                            let wide = long || matches!(c, 'f' | 'g' | 'e' | 'p' | 's');
                            at = at.next_multiple_of(if wide { 8 } else { 4 });
                            let bits = if wide {
                                *(at as *const u64)
                            } else {
                                u64::from(*(at as *const u32))
                            };
                            at += if wide { 8 } else { 4 };
                            let places = digits.parse().unwrap_or(6);
                            out += &match c {
                                'f' => format!("{:.*}", places, f64::from_bits(bits)),
                                'g' => format!("{}", f64::from_bits(bits)),
                                'e' => format!("{:.*e}", places, f64::from_bits(bits)),
                                'd' | 'i' if long => format!("{}", bits as i64),
                                'd' | 'i' => format!("{}", bits as i32),
                                'x' | 'p' => format!("{bits:x}"),
                                's' => text(bits),
                                'c' => format!("{}", bits as u8 as char),
                                _ => format!("{bits}"),
                            };
                            break;
                        }
                    }
                }
            }
            print!("{out}");
        }
    }
}
