//! GGUF, the container of quantized language models: what lies where in a file, and how one is
//! written. No numbers are read here, and none are computed.
//!
//! - [`Gguf`] reads a header of version 2 or 3 and believes nothing in it: every count and length is
//!   checked against what is left of the file before anything is allocated.
//! - [`Layout`] lays a new file out: its header, and the padding between tensors that are written one
//!   after another.
//!
//! The names of tensors are llama.cpp's; [`keys::llama_cpp`](crate::keys::llama_cpp) translates them.
//!
//! ```
//! use r1seg_checkpoint::NumberFormat;
//! use r1seg_checkpoint::gguf::{Gguf, Layout, NewTensor, Value};
//!
//! # fn main() -> Result<(), r1seg_checkpoint::gguf::Error> {
//! let tensor = NewTensor::new("output.weight", NumberFormat::Q8_0, vec![2, 32]);
//! let architecture = ("general.architecture".to_owned(), Value::String("llama".to_owned()));
//! let layout = Layout::new(&[architecture], &[tensor])?;
//! let mut file = layout.header().to_vec();
//! file.extend([0; 2 * 34]); // two rows of one block each
//! file.resize(file.len() + layout.padding(0), 0);
//!
//! let gguf = Gguf::parse(&file)?;
//! assert_eq!(gguf.text("general.architecture"), Some("llama"));
//! let stored = &gguf.tensors["output.weight"];
//! assert_eq!((stored.format, stored.row_bytes()), (NumberFormat::Q8_0, 34));
//! assert_eq!((stored.range.start % 64, stored.range.end - stored.range.start), (0, 68));
//! # Ok(())
//! # }
//! ```

mod cursor;
mod error;
mod layout;
mod number;
mod read;
mod value;

pub use error::Error;
pub use layout::{ALIGNMENT, Layout, NewTensor};
pub use read::{Gguf, MAX_HEADER_BYTES, TensorInfo};
pub use value::{Value, ValueType};
