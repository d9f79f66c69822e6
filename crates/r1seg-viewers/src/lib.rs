//! Arrays as plug-ins of 3D Slicer and napari exchange them with the servers of VoxTell and
//! nnInteractive.
//!
//! | to | use |
//! |---|---|
//! | read or write an array in VoxTell's framing | [`vxa2`] |
//! | read or write an array in nnInteractive's framing | [`nnia`] |
//! | know what the numbers of an array are, by numpy's names | [`ElementType`] |
//!
//! Both framings say what an array is and hold its bytes in blosc2 chunks:
//!
//! ```text
//! VXA2  "VXA2" · u8 length, "<f4" · u8 axes, u64 sizes · u64 bytes · { u64 bytes, u64 length, chunk } to the end
//! NNIA  "NNIA" · u8 1 · u8 codec · u8 axes · u8 length, "float32" · i64 sizes · u32 chunks · { u64 bytes, u64 length, chunk }
//! ```
//!
//! Integers are little-endian and so are elements, which lie in C order. What is read here comes from
//! strangers: sizes are compared with the caller's limit before memory is reserved, memory is
//! reserved before it is filled, and no message repeats a byte of the input.
//!
//! # What is read of blosc2
//!
//! The extended header of format 5; chunks that are stored, all zero, all NaN, one element again and
//! again, or compressed by zstd, LZ4 (LZ4HC has the same format) or BloscLZ; blocks in any order, split
//! into streams or not; byte shuffle or no filter. That is all that python-blosc2 makes unless it is
//! asked for more. Written are zero chunks and blocks of zstd without a filter.
//!
//! # Deliberately absent
//!
//! Volumes, tensors, models and HTTP.

mod array;
mod blosc2;
mod chunks;
mod element;
mod error;
pub mod nnia;
pub mod vxa2;

pub use array::Array;
pub use element::ElementType;
pub use error::{ChunkFault, Error};
