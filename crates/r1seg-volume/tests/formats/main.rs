//! Reading and writing volumes through the public interface. One module a concern:
//! `nifti`, `pairs`, `frames`, `npy`, `npz` and `nrrd` hold what must be read and how, `overrides`
//! what the caller may say beyond the file, `hostile` and `faults` what must be refused and how,
//! `orientation` what a model sees of a body in any orientation, `round_trip` and `segmentation` what
//! a written mask must repeat, `world` where it lies, `real` checks on real CT (see its first lines).

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "clippy.toml allows these in tests, but does not see that helpers are of tests"
)]

mod builder;
mod faults;
mod frames;
mod hostile;
mod nifti;
mod npy;
mod npz;
mod nrrd;
mod orientation;
mod overrides;
mod pairs;
mod real;
mod round_trip;
mod segmentation;
mod world;
