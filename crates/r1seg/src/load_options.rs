//! How a model is loaded.

use crate::{CancelToken, DeviceChoice, Drafts, DtypeChoice};

/// How a model of any family is loaded.
///
/// ```no_run
/// use r1seg::{DeviceChoice, DtypeChoice, LoadOptions, R1SegModel};
///
/// let options =
///     LoadOptions::default().with_device(DeviceChoice::Cpu).with_dtype(DtypeChoice::BF16);
/// let model = R1SegModel::load_with("./my-r1seg", &options)?;
/// # Ok::<(), r1seg::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Where to compute.
    pub device: DeviceChoice,
    /// In which dtype the weights are kept.
    pub dtype: DtypeChoice,
    /// The dtype of activations; `Auto` is f32 on a CPU, and the weights' dtype on CUDA. Half
    /// precision on a CPU is slow: it shows there what CUDA would compute.
    pub compute: DtypeChoice,
    /// Whether weight files are mapped into memory and used where they lie, or read. `None` maps
    /// them unless they lie on a network drive: a mapped file that another machine cuts short ends
    /// the process.
    pub mmap: Option<bool>,
    /// Whether every file is hashed, and all weights are read for NaN and infinity, before the model
    /// is used. Otherwise only the sizes of the files of a converted folder are compared, and the
    /// hashes of its small files.
    pub verify: bool,
    /// Bytes of main memory that the model may take. On a CPU it is estimated before any weight is
    /// read: the weights, the keys and values of the image and of short
    /// [questions](Self::questions), and the largest activations.
    pub memory_limit: Option<u64>,
    /// Passes of the mask decoder after the first; `None` leaves them to `config.json`.
    pub num_clicks: Option<usize>,
    /// How many questions will be asked [at once](crate::EncodedVolume::ask_many). The
    /// [memory limit](Self::memory_limit) counts them, up to
    /// [`QUESTIONS_AT_ONCE`](crate::QUESTIONS_AT_ONCE).
    pub questions: usize,
    /// Where the model remembers its answers, to guess the next tokens of those to come.
    pub drafts: Drafts,
    /// Stops loading between two tensors.
    pub cancel: CancelToken,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: DeviceChoice::default(),
            dtype: DtypeChoice::default(),
            compute: DtypeChoice::default(),
            mmap: None,
            verify: false,
            memory_limit: None,
            num_clicks: None,
            questions: 1,
            drafts: Drafts::default(),
            cancel: CancelToken::default(),
        }
    }
}

impl LoadOptions {
    /// Sets where to compute.
    #[must_use]
    pub fn with_device(mut self, device: DeviceChoice) -> Self {
        self.device = device;
        self
    }

    /// Sets the dtype of the weights.
    #[must_use]
    pub fn with_dtype(mut self, dtype: DtypeChoice) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets the dtype of the activations.
    #[must_use]
    pub fn with_compute(mut self, compute: DtypeChoice) -> Self {
        self.compute = compute;
        self
    }

    /// Sets whether weight files are mapped into memory, or read.
    #[must_use]
    pub fn with_mmap(mut self, mmap: bool) -> Self {
        self.mmap = Some(mmap);
        self
    }

    /// Hashes every file before the model is used.
    #[must_use]
    pub fn with_verify(mut self) -> Self {
        self.verify = true;
        self
    }

    /// Sets how many bytes of main memory the model may take.
    #[must_use]
    pub fn with_memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Sets the passes of the mask decoder after the first.
    #[must_use]
    pub fn with_num_clicks(mut self, num_clicks: usize) -> Self {
        self.num_clicks = Some(num_clicks);
        self
    }

    /// Sets where the model remembers its answers.
    #[must_use]
    pub fn with_drafts(mut self, drafts: Drafts) -> Self {
        self.drafts = drafts;
        self
    }

    /// Lets `cancel` stop loading.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets how many questions will be asked at once.
    #[must_use]
    pub fn with_questions(mut self, questions: usize) -> Self {
        self.questions = questions;
        self
    }
}
