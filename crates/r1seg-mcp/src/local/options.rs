//! What a local desk serves, and how.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use r1seg::volume::ReadOptions;
use r1seg::{FoundModel, LoadOptions, Remedy};

/// How a model is loaded beside so many bytes that the work needs.
type Load = Arc<dyn Fn(u64) -> LoadOptions + Send + Sync>;

/// What a [`LocalDesk`](crate::LocalDesk) serves, and how.
#[derive(Clone)]
pub struct LocalOptions {
    pub(super) models: Vec<FoundModel>,
    pub(super) roots: Vec<PathBuf>,
    pub(super) out: PathBuf,
    pub(super) read: ReadOptions,
    pub(super) load: Load,
    pub(super) words: fn(&Remedy) -> String,
    pub(super) while_writing: fn() -> Box<dyn Any>,
    pub(super) git: Option<&'static str>,
    pub(super) kept_volumes: usize,
}

impl LocalOptions {
    /// Serves these models, and writes results below a folder, which is made when there are some. No
    /// volume can be named before a [root](Self::with_root) is given.
    pub fn new(models: Vec<FoundModel>, out: impl Into<PathBuf>) -> Self {
        /// An encoded volume of a full-size model takes some 100 MB.
        const KEPT_VOLUMES: usize = 4;
        Self {
            models,
            roots: Vec::new(),
            out: out.into(),
            read: ReadOptions::default(),
            load: Arc::new(|_| LoadOptions::default()),
            words: |remedy| format!("{remedy:?}"),
            while_writing: || Box::new(()),
            git: None,
            kept_volumes: KEPT_VOLUMES,
        }
    }

    /// Serves the volumes within a folder, too.
    #[must_use]
    pub fn with_root(mut self, root: impl AsRef<Path>) -> Self {
        self.roots.push(root.as_ref().to_path_buf());
        self
    }

    /// Sets the limits within which volumes are read.
    #[must_use]
    pub fn with_read(mut self, read: ReadOptions) -> Self {
        self.read = read;
        self
    }

    /// Sets how models are loaded, given the bytes that the work with them needs beside them.
    #[must_use]
    pub fn with_load(mut self, load: impl Fn(u64) -> LoadOptions + Send + Sync + 'static) -> Self {
        self.load = Arc::new(load);
        self
    }

    /// Sets the words for what only whoever started the server can do.
    #[must_use]
    pub fn with_words(mut self, words: fn(&Remedy) -> String) -> Self {
        self.words = words;
        self
    }

    /// Sets what is held while results are moved to their places, which the program should not
    /// interrupt.
    #[must_use]
    pub fn with_writing(mut self, while_writing: fn() -> Box<dyn Any>) -> Self {
        self.while_writing = while_writing;
        self
    }

    /// Sets the commit that the program was built from, for reports.
    #[must_use]
    pub fn with_git(mut self, git: Option<&'static str>) -> Self {
        self.git = git;
        self
    }

    /// Sets how many encoded volumes are kept.
    #[must_use]
    pub fn with_kept_volumes(mut self, volumes: usize) -> Self {
        self.kept_volumes = volumes;
        self
    }
}

impl fmt::Debug for LocalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalOptions")
            .field("models", &self.models)
            .field("roots", &self.roots)
            .field("out", &self.out)
            .finish_non_exhaustive()
    }
}
