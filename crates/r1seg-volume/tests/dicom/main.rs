//! Reading DICOM series through the public interface. One module a concern: `series` holds which
//! files make a volume, `choice` which of several series is read, `geometry` how slices are placed, `pixels` how stored numbers are read,
//! `hostile` what must be refused and how, `dicom_rs` compares with a reader by others, `real` checks on real CT (see its first lines).
//! Tests are named for the rows of `docs/faults.md`, D1 to D14.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy.toml allows these in tests, but does not see that helpers are of tests"
)]

mod builder;
mod choice;
mod dicom_rs;
mod encoders;
mod geometry;
mod hostile;
mod pixels;
mod real;
mod series;
