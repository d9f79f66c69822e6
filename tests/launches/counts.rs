//! The emulator's log of calls, counted.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// What a device was given to do, and how often the host waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Kernels and products of matrices.
    pub(crate) launches: usize,
    /// Copies from the host, to it and on the device, and memory that is filled.
    pub(crate) copies: usize,
    /// Copies to the host, unless they go to pinned memory, and synchronizations that had something
    /// to wait for.
    pub(crate) waits: usize,
    /// Bytes from the host, and to it.
    pub(crate) bytes_up: usize,
    pub(crate) bytes_down: usize,
}

impl Counts {
    const NONE: Self = Self { launches: 0, copies: 0, waits: 0, bytes_up: 0, bytes_down: 0 };

    fn with(self, other: Self, f: impl Fn(usize, usize) -> usize) -> Self {
        Self {
            launches: f(self.launches, other.launches),
            copies: f(self.copies, other.copies),
            waits: f(self.waits, other.waits),
            bytes_up: f(self.bytes_up, other.bytes_up),
            bytes_down: f(self.bytes_down, other.bytes_down),
        }
    }

    pub(crate) fn less(self, other: Self) -> Self {
        self.with(other, |a, b| a.checked_sub(b).unwrap_or_else(|| panic!("{self:?} {other:?}")))
    }

    /// Rounded up.
    pub(crate) fn divided(self, by: usize) -> Self {
        self.with(self, |a, _| a.div_ceil(by))
    }

    pub(crate) fn times(self, n: usize) -> Self {
        self.with(self, |a, _| a * n)
    }

    pub(crate) fn most(self, other: Self) -> Self {
        self.with(other, usize::max)
    }
}

/// The file that `FAKECUDA_LOG` names, to which the emulator adds a line for each call.
pub(crate) struct Log {
    path: String,
    file: Option<BufReader<File>>,
    /// Whether anything was given to the device since the host last waited.
    busy: bool,
}

impl Log {
    /// `None` where the variable is not set.
    pub(crate) fn open() -> Option<Self> {
        let path = std::env::var("FAKECUDA_LOG").ok()?;
        let path = path.replace("%p", &std::process::id().to_string());
        Some(Self { path, file: None, busy: false })
    }

    /// What was called since this was asked last.
    pub(crate) fn since(&mut self) -> Counts {
        // The first call creates it.
        let file = self.file.get_or_insert_with(|| {
            let file = File::open(&self.path);
            BufReader::new(file.unwrap_or_else(|e| panic!("{}: {e}", self.path)))
        });
        let mut counts = Counts::NONE;
        let mut line = String::new();
        while file.read_line(&mut line).unwrap() > 0 {
            // Microseconds, the host's thread, the function, details.
            let mut fields = line.trim_end().split('\t').skip(2);
            let name = fields.next().unwrap();
            let bytes = || line.split('\t').nth(3).and_then(|n| n.trim_end().parse().ok());
            match name {
                "cuLaunchKernel" | "cublasGemm" => {
                    counts.launches += 1;
                    self.busy = true;
                }
                _ if name.starts_with("cuMemcpyDtoH") => {
                    counts.copies += 1;
                    counts.bytes_down += bytes().unwrap_or(0);
                    self.busy = fields.any(|field| field == "pinned");
                    counts.waits += usize::from(!self.busy);
                }
                _ if name.starts_with("cuMemcpy") || name.starts_with("cuMemset") => {
                    counts.copies += 1;
                    if name.starts_with("cuMemcpyHtoD") {
                        counts.bytes_up += bytes().unwrap_or(0);
                    }
                    self.busy = true;
                }
                _ if name.ends_with("Synchronize") => {
                    counts.waits += usize::from(self.busy);
                    self.busy = false;
                }
                _ => {}
            }
            line.clear();
        }
        counts
    }
}
