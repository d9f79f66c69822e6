//! The native module of the Python package `r1seg`, over `r1seg` and `r1seg-results`.
//!
//! | file | holds |
//! |---|---|
//! | `volume.rs` | a CT: read from a file, or taken from an array |
//! | `model.rs` | loading; encoding; embedding |
//! | `encoded.rs`, `asking.rs`, `prompts.rs` | prompts on an encoded volume, as Python gives them |
//! | `result.rs`, `answer.rs` | what they got: arrays, the report, files |
//! | `lists.rs` | ids and folders of many volumes |
//! | `arrays.rs` | between `[D, H, W]` and the axes of the caller's array |
//! | `running.rs` | computing without the interpreter's lock, until Ctrl-C |
//! | `error.rs`, `words.rs` | errors as exceptions, and remedies in Python's words |
//!
//! What knows nibabel, SimpleITK or numpy's own types is written in Python: `python/r1seg/_images.py`.
//! Points and boxes of Python are indices of the caller's array, those of its masks; here everything is
//! `[D, H, W]`.

mod answer;
mod arrays;
mod asking;
mod encoded;
mod error;
mod lists;
mod model;
mod prompts;
mod result;
mod running;
mod volume;
mod words;

use pyo3::prelude::*;

/// Every pass of a network makes and drops tensors of some 10 MB, which this allocator keeps; numpy and
/// Python keep their own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native part of the package `r1seg`.
#[pymodule]
mod _r1seg {
    #[pymodule_export]
    use crate::answer::{Answer, Box, Warning};
    #[pymodule_export]
    use crate::encoded::EncodedVolume;
    #[pymodule_export]
    use crate::lists::{folder_of, ids_of};
    #[pymodule_export]
    use crate::model::{Model, load, models};
    #[pymodule_export]
    use crate::result::{Result, join};
    #[pymodule_export]
    use crate::running::{CancelToken, Event, set_num_threads};
    #[pymodule_export]
    use crate::volume::Volume;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        module.add("_processors", processors)?;
        module.add("_tensor_threads", r1seg::tensor_threads())
    }
}
