//! Every stage against what the authors' PyTorch code made of the same small checkpoints.
//!
//! `tests/data/README.md` says how the cases were recorded and what their tensors are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

mod automatic;
mod cancelled;
mod case;
mod checkpoint;
mod clicks;
mod families;
mod grow;
mod half_precision;
mod hiera;
mod hsenet;
mod hsenet_parts;
mod loading;
mod m3d;
mod m3d_clip;
mod many;
mod not_finite;
mod orientation;
mod owned;
mod phantom;
mod preprocess;
mod promptable;
mod quantized;
mod r1seg;
mod sam_vit;
mod simulated_clicks;
mod sliding;

/// Otherwise a misspelled `R1SEG_ISA` would test the fastest kernels again.
#[test]
fn kernels_are_those_that_were_asked_for() {
    assert_eq!(::r1seg::check_cpu_kernels(), Ok(()));
}
