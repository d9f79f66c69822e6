//! Modifiers that are understood.

use crate::ptx::type_bits;

/// Modifiers that are dealt with, or that change nothing here. Others must not pass in silence.
pub(super) fn known(root: &str, modifier: &str) -> bool {
    let typed = type_bits(modifier).is_some();
    let memory = [
        "global",
        "shared",
        "shared::cta",
        "local",
        "param",
        "param::entry",
        "param::func",
        "const",
        "nc",
        "volatile",
        "weak",
        "relaxed",
        "acquire",
        "release",
        "acq_rel",
        "gpu",
        "cta",
        "sys",
        "v2",
        "v4",
        "ca",
        "cg",
        "cs",
        "lu",
        "cv",
        "wb",
        "wt",
        "noftz",
    ];
    let cached = modifier.starts_with("L1::") || modifier.starts_with("L2::");
    match root {
        "ld" | "ldu" | "st" => typed || cached || memory.contains(&modifier),
        "atom" | "red" => {
            let operations = ["add", "min", "max", "and", "or", "xor", "exch", "inc", "dec", "cas"];
            typed
                || cached
                || operations.contains(&modifier)
                || memory.contains(&modifier) && !modifier.starts_with('v')
        }
        "cvt" => {
            let modes = ["rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi"];
            let others = ["ftz", "sat", "satfinite", "e4m3x2"];
            typed || modes.contains(&modifier) || others.contains(&modifier)
        }
        "add" | "sub" | "addc" | "subc" | "mul" | "mad" | "madc" | "fma" | "div" | "rem"
        | "abs" | "neg" | "min" | "max" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2"
        | "ex2" | "tanh" | "bfind" | "copysign" | "sad" => {
            let others = [
                "rn", "rz", "rm", "rp", "ftz", "sat", "NaN", "approx", "full", "lo", "hi", "wide",
                "relu", "cc", "shiftamt",
            ];
            typed || others.contains(&modifier)
        }
        _ => true,
    }
}
