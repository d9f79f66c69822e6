//! What a checkpoint on disk is: its files, their headers, and where each tensor lies.
//!
//! No numbers are computed here, and there are no tensors: whoever multiplies asks this crate for bytes.

pub mod gguf;
