//! What a loaded model remembers of its answers, from which it drafts those to come.

mod file;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use r1seg_llm::{FinishReason, Generated, SeenAnswers};
use r1seg_tokenizer::Prompt;

use crate::{AskOptions, CheckpointSource, Error, ModelName, R1SegModel, Sampling};

use file::AnswerFile;

/// Where a model remembers its answers. It guesses the next tokens of an answer from earlier ones, and checks
/// several of them in one pass, which changes how long an answer takes, but not a bit of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Drafts {
    /// While it is loaded, for all its handles: up to 256 answers of up to 32 tokens each.
    #[default]
    InMemory,
    /// Also in this folder, for other processes that load the same model. Only short answers with `[SEG]` go
    /// there, and only once the same one was given twice: until then the file has a number that no text can be
    /// made of. It has no question, no time and no order. What cannot be read or written is left alone.
    Kept(PathBuf),
    /// Nowhere: nothing is guessed.
    Off,
}

impl Drafts {
    /// Deletes what models have left in the folder of [`Drafts::Kept`], those of this name (`OWNER/NAME`, or the name
    /// of a folder) or all, and returns how many had left something. Models that are loaded go on with what they
    /// remember, and leave it there again.
    ///
    /// # Errors
    /// [`Error::ForgetAnswers`] when the folder cannot be read, or a file in it cannot be deleted. A folder that is
    /// absent has nothing.
    pub fn forget_kept(folder: &Path, model: Option<&str>) -> Result<usize, Error> {
        file::forget(folder, model)
    }
}

/// The answers of one loaded model.
#[derive(Debug)]
pub(crate) struct AnswerMemory {
    /// `None` where nothing is to be guessed.
    seen: Option<SeenAnswers>,
    file: Option<Mutex<AnswerFile>>,
    /// Once the file was read.
    read: OnceLock<()>,
}

impl AnswerMemory {
    pub(crate) fn new(drafts: &Drafts, name: &ModelName, source: &CheckpointSource) -> Self {
        let file = match drafts {
            Drafts::Kept(folder) => Some(AnswerFile::new(folder, name, source)),
            Drafts::InMemory | Drafts::Off => None,
        };
        let seen = (*drafts != Drafts::Off).then(SeenAnswers::default);
        Self { seen, file: file.map(Mutex::new), read: OnceLock::new() }
    }

    /// Those to guess from; `None` where nothing is to be guessed.
    fn seen(&self) -> Option<&SeenAnswers> {
        let seen = self.seen.as_ref()?;
        self.read.get_or_init(|| {
            if let Some(file) = &self.file {
                let file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.read().for_each(|(ids, times)| seen.remember(&ids, times));
            }
        });
        Some(seen)
    }
}

impl R1SegModel {
    /// Forgets the answers from which the next ones are guessed. A file of them ([`Drafts::Kept`]) stays, for models
    /// that are loaded after this.
    pub fn forget_answers(&self) {
        if let Some(seen) = self.inner.model.answers.seen() {
            seen.forget();
        }
    }

    /// From what the answer to a prompt is guessed.
    pub(crate) fn drafts(
        &self,
        prompt: &Prompt,
        options: &AskOptions,
    ) -> Option<r1seg_llm::Drafts> {
        if !(options.drafts && self.decoder().checks_drafts()) {
            return None;
        }
        let seen = self.inner.model.answers.seen()?.clone();
        Some(r1seg_llm::Drafts { seen, question: prompt.tail().to_vec() })
    }

    /// Adds an answer about a whole volume to the file, if there is one and it may stand there. Those of windows
    /// do not: many of one patient are the same.
    pub(crate) fn keep(&self, answer: &Generated, options: &AskOptions) {
        let Some(file) = self.inner.model.answers.file.as_ref() else { return };
        // Where nothing is guessed, nobody would read them.
        if !(options.drafts && self.decoder().checks_drafts()) {
            return;
        }
        let seg = self.tokenizer().seg_token_id();
        let is_own = options.forced_tokens.is_none() && options.sampling == Sampling::Greedy;
        let is_whole = answer.finish_reason == FinishReason::Stop;
        if is_own && is_whole && answer.token_ids.contains(&seg) {
            file.lock().unwrap_or_else(PoisonError::into_inner).add(&answer.token_ids);
        }
    }
}
