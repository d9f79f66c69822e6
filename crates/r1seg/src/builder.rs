//! How a model is loaded.

use crate::{CancelToken, CheckpointSource, DeviceChoice, DtypeChoice, Error, R1SegModel};

/// Loads an [`R1SegModel`] with chosen device and dtype.
///
/// ```no_run
/// use r1seg::{CheckpointSource, DeviceChoice, DtypeChoice, R1SegModel};
///
/// let source = CheckpointSource::Folder("./my-r1seg".into());
/// let model = R1SegModel::builder(source)
///     .device(DeviceChoice::Cpu)
///     .dtype(DtypeChoice::BF16)
///     .build()?;
/// # Ok::<(), r1seg::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct R1SegModelBuilder {
    pub(crate) source: CheckpointSource,
    device: DeviceChoice,
    pub(crate) dtype: DtypeChoice,
    pub(crate) compute: DtypeChoice,
    pub(crate) num_clicks: Option<usize>,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) questions: usize,
    pub(crate) mmap: Option<bool>,
    pub(crate) cancel: CancelToken,
}

impl R1SegModelBuilder {
    pub(crate) fn new(source: CheckpointSource) -> Self {
        Self {
            source,
            device: DeviceChoice::default(),
            dtype: DtypeChoice::default(),
            compute: DtypeChoice::default(),
            num_clicks: None,
            memory_limit: None,
            questions: 1,
            mmap: None,
            cancel: CancelToken::default(),
        }
    }

    /// Sets where to compute.
    #[must_use]
    pub fn device(mut self, device: DeviceChoice) -> Self {
        self.device = device;
        self
    }

    /// Sets the dtype of the weights.
    #[must_use]
    pub fn dtype(mut self, dtype: DtypeChoice) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets the dtype of the activations; without it f32 on a CPU, and the weights' dtype on CUDA:
    /// [`dtype`](Self::dtype) alone chooses both there.
    /// Half precision on a CPU is slow: it shows there what CUDA would compute.
    #[must_use]
    pub fn compute(mut self, compute: DtypeChoice) -> Self {
        self.compute = compute;
        self
    }

    /// Sets the refinement passes of the mask decoder; without it `config.json` decides.
    #[must_use]
    pub fn num_clicks(mut self, num_clicks: usize) -> Self {
        self.num_clicks = Some(num_clicks);
        self
    }

    /// Sets how many bytes of main memory the model may take. On a CPU it is estimated before any
    /// weight is read: the weights, the keys and values of the image and of
    /// [short questions](Self::questions), and the largest activations.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Sets how many questions will be asked [at once](crate::EncodedVolume::ask_many); without it one.
    /// The [memory limit](Self::memory_limit) reckons with them, up to
    /// [`QUESTIONS_AT_ONCE`](crate::QUESTIONS_AT_ONCE).
    #[must_use]
    pub fn questions(mut self, questions: usize) -> Self {
        self.questions = questions;
        self
    }

    /// Sets whether weight files are mapped into memory and used where they lie, or read. Without
    /// it they are mapped, unless they lie on a network drive: a mapped file that another machine
    /// cuts short ends the process without a word.
    #[must_use]
    pub fn mmap(mut self, mmap: bool) -> Self {
        self.mmap = Some(mmap);
        self
    }

    /// Lets `cancel` stop loading between two tensors.
    #[must_use]
    pub fn cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Loads the checkpoint.
    ///
    /// # Errors
    /// Of kind [`Model`](crate::ErrorKind::Model) when a file is broken, unknown or does not fit
    /// another ([`Error::Weights`] names every tensor at fault), of kind
    /// [`Device`](crate::ErrorKind::Device) when the device is not there or cannot run this build, and
    /// [`Error::NotEnoughMemory`] beyond the limit that was set; [`Error::Cancelled`].
    pub fn build(self) -> Result<R1SegModel, Error> {
        R1SegModel::open(&self, self.device.open()?)
    }
}
