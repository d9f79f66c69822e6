//! Memory, atomics, and what the lanes of a warp do together.

use crate::exec::{ALL, Exec, Instr, NONE, Warp};

mod atomic;
mod copies;
mod matrix;
mod together;

pub use atomic::{Atomic, atomic_name, atomic_op};
pub use copies::{Copies, commit_copies, copy_async, wait_for_copies};
pub use matrix::{load_matrix, mma};
pub use together::{active_mask, matching, reduce, shuffle, vote};

pub const GENERIC: u8 = 0;
pub const SHARED: u8 = 1;
pub const LOCAL: u8 = 2;

/// The lanes' addresses on the host, checked; false where one is bad.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn addresses<A: Copy + Into<u64>, const SPACE: u8>(
    w: &mut Warp,
    offset: u32,
    displacement: i64,
    m: u32,
    size: usize,
    align: usize,
    line: u32,
    what: &str,
) -> Option<[u64; 32]> {
    unsafe {
        let raw = *w.at::<A>(offset);
        let mut out = [0u64; 32];
        let (mut low, mut high, mut bits) = (u64::MAX, 0u64, 0u64);
        for l in 0..32 {
            let address = raw[l].into().wrapping_add(displacement as u64);
            out[l] = address;
            if m >> l & 1 != 0 {
                low = low.min(address);
                high = high.max(address);
                bits |= address;
            }
        }
        if bits & (align as u64 - 1) != 0 {
            w.misaligned(what, bits, size, line);
            return None;
        }
        let end = high.wrapping_add(size as u64);
        match SPACE {
            SHARED => {
                if end > w.shared_bytes as u64 {
                    let lane = (0..32).find(|l| m >> l & 1 != 0 && out[*l] == high).unwrap_or(0);
                    w.fault = Some((
                        700,
                        format!(
                            "{what} of {size} bytes at {high} of the {} bytes of shared memory \
                             (PTX line {line}, lane {lane})",
                            w.shared_bytes
                        ),
                    ));
                    return None;
                }
                for a in &mut out {
                    *a = a.wrapping_add(w.shared as u64);
                }
            }
            LOCAL => {
                if end > w.local_stride as u64 {
                    w.fault = Some((700, format!("{what} past local memory (PTX line {line})")));
                    return None;
                }
                for (l, a) in out.iter_mut().enumerate() {
                    *a = a.wrapping_add(w.local as u64 + (l * w.local_stride) as u64);
                }
            }
            _ => {
                if !w.inside(low, end) {
                    // Perhaps in more than one place.
                    for l in 0..32 {
                        if m >> l & 1 != 0 && !w.inside(out[l], out[l].wrapping_add(size as u64)) {
                            w.bad_access(what, out[l], size, l, line);
                            return None;
                        }
                    }
                }
            }
        }
        Some(out)
    }
}

/// `SPACE`, address type, memory type, register type; `more` names the registers of a vector.
unsafe fn load<const SPACE: u8, A: Copy + Into<u64>, T, R>(w: &mut Warp, i: &Instr, m: u32)
where
    T: Copy + To<R>,
    R: Copy + Default,
{
    unsafe {
        let size = size_of::<T>();
        let Some(at) = addresses::<A, SPACE>(w, i.a, i.imm, m, size, size, i.line, "a read") else {
            return;
        };
        if SPACE == GENERIC {
            w.loaded += u64::from(m.count_ones()) * size as u64;
        }
        let mut out = [R::default(); 32];
        if m == ALL {
            for l in 0..32 {
                out[l] = (*(at[l] as *const T)).to();
            }
        } else {
            for l in 0..32 {
                if m >> l & 1 != 0 {
                    out[l] = (*(at[l] as *const T)).to();
                }
            }
        }
        w.put(i.d, &out, m);
    }
}

unsafe fn load_vector<const SPACE: u8, A: Copy + Into<u64>, T, R>(w: &mut Warp, i: &Instr, m: u32)
where
    T: Copy + To<R>,
    R: Copy + Default,
{
    unsafe {
        let size = size_of::<T>() * i.more.len();
        let Some(at) = addresses::<A, SPACE>(w, i.a, i.imm, m, size, size, i.line, "a read") else {
            return;
        };
        if SPACE == GENERIC {
            w.loaded += u64::from(m.count_ones()) * size as u64;
        }
        for (n, d) in i.more.iter().enumerate() {
            let mut out = [R::default(); 32];
            for l in 0..32 {
                if m >> l & 1 != 0 {
                    out[l] = (*(at[l] as *const T).add(n)).to();
                }
            }
            if *d != NONE {
                w.put(*d, &out, m);
            }
        }
    }
}

unsafe fn store<const SPACE: u8, A: Copy + Into<u64>, T, R>(w: &mut Warp, i: &Instr, m: u32)
where
    T: Copy,
    R: Copy + To<T>,
{
    unsafe {
        let size = size_of::<T>() * i.more.len();
        let Some(at) = addresses::<A, SPACE>(w, i.a, i.imm, m, size, size, i.line, "a write")
        else {
            return;
        };
        if SPACE == GENERIC {
            w.stored += u64::from(m.count_ones()) * size as u64;
            w.writes(at[m.trailing_zeros() as usize & 31]);
            w.writes(at[(31 - m.leading_zeros() as usize) & 31]);
        }
        for (n, source) in i.more.iter().enumerate() {
            let values = *w.at::<R>(*source);
            for l in 0..32 {
                if m >> l & 1 != 0 {
                    *(at[l] as *mut T).add(n) = values[l].to();
                }
            }
        }
    }
}

/// `as`, between the memory's type and the register's.
pub trait To<R> {
    fn to(self) -> R;
}
macro_rules! casts {
    ($($a:ty => $($b:ty),+;)+) => {
        $($(impl To<$b> for $a {
            #[inline(always)]
            fn to(self) -> $b { self as $b }
        })+)+
    };
}
casts! {
    u8 => u8, u16, u32, u64;
    i8 => u16, u32, u64;
    u16 => u8, u16, u32, u64;
    i16 => u16, u32, u64;
    u32 => u8, u16, u32, u64;
    i32 => u32, u64;
    u64 => u8, u16, u32, u64;
}

/// Memory type, register bits, address bits, space.
pub fn load_op(ty: &str, reg: u32, address: u32, space: u8, vector: bool) -> Option<Exec> {
    macro_rules! pick {
        ($t:ty, $r:ty) => {
            match (space, address, vector) {
                (GENERIC, 64, false) => load::<GENERIC, u64, $t, $r> as Exec,
                (SHARED, 64, false) => load::<SHARED, u64, $t, $r>,
                (SHARED, 32, false) => load::<SHARED, u32, $t, $r>,
                (LOCAL, 64, false) => load::<LOCAL, u64, $t, $r>,
                (LOCAL, 32, false) => load::<LOCAL, u32, $t, $r>,
                (GENERIC, 64, true) => load_vector::<GENERIC, u64, $t, $r> as Exec,
                (SHARED, 64, true) => load_vector::<SHARED, u64, $t, $r>,
                (SHARED, 32, true) => load_vector::<SHARED, u32, $t, $r>,
                (LOCAL, 64, true) => load_vector::<LOCAL, u64, $t, $r>,
                (LOCAL, 32, true) => load_vector::<LOCAL, u32, $t, $r>,
                _ => return None,
            }
        };
    }
    Some(match (ty, reg) {
        ("u8" | "b8", 16) => pick!(u8, u16),
        ("u8" | "b8", 32) => pick!(u8, u32),
        ("u8" | "b8", 64) => pick!(u8, u64),
        ("s8", 16) => pick!(i8, u16),
        ("s8", 32) => pick!(i8, u32),
        ("s8", 64) => pick!(i8, u64),
        ("u16" | "b16" | "f16" | "bf16" | "s16", 16) => pick!(u16, u16),
        ("u16" | "b16", 32) => pick!(u16, u32),
        ("u16" | "b16", 64) => pick!(u16, u64),
        ("s16", 32) => pick!(i16, u32),
        ("s16", 64) => pick!(i16, u64),
        ("u32" | "b32" | "f32" | "s32", 32) => pick!(u32, u32),
        ("u32" | "b32", 64) => pick!(u32, u64),
        ("s32", 64) => pick!(i32, u64),
        ("u64" | "b64" | "f64" | "s64", 64) => pick!(u64, u64),
        _ => return None,
    })
}

pub fn store_op(bits: u32, reg: u32, address: u32, space: u8) -> Option<Exec> {
    macro_rules! pick {
        ($t:ty, $r:ty) => {
            match (space, address) {
                (GENERIC, 64) => store::<GENERIC, u64, $t, $r> as Exec,
                (SHARED, 64) => store::<SHARED, u64, $t, $r>,
                (SHARED, 32) => store::<SHARED, u32, $t, $r>,
                (LOCAL, 64) => store::<LOCAL, u64, $t, $r>,
                (LOCAL, 32) => store::<LOCAL, u32, $t, $r>,
                _ => return None,
            }
        };
    }
    Some(match (bits, reg) {
        (8, 16) => pick!(u8, u16),
        (8, 32) => pick!(u8, u32),
        (8, 64) => pick!(u8, u64),
        (16, 16) => pick!(u16, u16),
        (16, 32) => pick!(u16, u32),
        (16, 64) => pick!(u16, u64),
        (32, 32) => pick!(u32, u32),
        (32, 64) => pick!(u32, u64),
        (64, 64) => pick!(u64, u64),
        _ => return None,
    })
}

/// Parameters of the kernel: the same for every lane.
pub fn parameter_op(ty: &str, reg: u32) -> Option<Exec> {
    macro_rules! pick {
        ($t:ty, $r:ty) => {{
            unsafe fn f(w: &mut Warp, i: &Instr, m: u32) {
                unsafe {
                    let at = w.params.add(i.imm as usize) as *const $t;
                    let value: $r = at.read_unaligned().to();
                    w.put(i.d, &[value; 32], m);
                }
            }
            f as Exec
        }};
    }
    Some(match (ty, reg) {
        ("u8" | "b8", 16) => pick!(u8, u16),
        ("u8" | "b8", 32) => pick!(u8, u32),
        ("u8" | "b8", 64) => pick!(u8, u64),
        ("s8", 16) => pick!(i8, u16),
        ("s8", 32) => pick!(i8, u32),
        ("s8", 64) => pick!(i8, u64),
        ("u16" | "b16" | "f16" | "bf16" | "s16", 16) => pick!(u16, u16),
        ("u16" | "b16", 32) => pick!(u16, u32),
        ("u16" | "b16", 64) => pick!(u16, u64),
        ("s16", 32) => pick!(i16, u32),
        ("s16", 64) => pick!(i16, u64),
        ("u32" | "b32" | "f32" | "s32", 32) => pick!(u32, u32),
        ("u32" | "b32", 64) => pick!(u32, u64),
        ("s32", 64) => pick!(i32, u64),
        ("u64" | "b64" | "f64" | "s64", 64) => pick!(u64, u64),
        _ => return None,
    })
}

/// Between generic addresses and those of a space: `imm` 1 or -1 times the space's start.
pub fn convert_address(space: u8) -> Exec {
    unsafe fn same(w: &mut Warp, i: &Instr, m: u32) {
        unsafe {
            let x = *w.at::<u64>(i.a);
            w.put(i.d, &x, m);
        }
    }
    unsafe fn shared(w: &mut Warp, i: &Instr, m: u32) {
        unsafe {
            let mut x = *w.at::<u64>(i.a);
            for a in &mut x {
                *a = a.wrapping_add((w.shared as i64).wrapping_mul(i.imm) as u64);
            }
            w.put(i.d, &x, m);
        }
    }
    unsafe fn local(w: &mut Warp, i: &Instr, m: u32) {
        unsafe {
            let mut x = *w.at::<u64>(i.a);
            for (l, a) in x.iter_mut().enumerate() {
                let start = w.local as i64 + (l * w.local_stride) as i64;
                *a = a.wrapping_add(start.wrapping_mul(i.imm) as u64);
            }
            w.put(i.d, &x, m);
        }
    }
    match space {
        SHARED => shared,
        LOCAL => local,
        _ => same,
    }
}

/// The address of a parameter of the kernel.
pub unsafe fn parameter_address(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let address = w.params as u64 + i.imm as u64;
        w.put(i.d, &[address; 32], m);
    }
}
