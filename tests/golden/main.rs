//! Every stage against what the authors' PyTorch code made of the same small checkpoints.
//!
//! `tests/data/README.md` says how the cases were recorded and what their tensors are.

mod case;
mod half_precision;
mod phantom;
mod r1seg;
mod sliding;
