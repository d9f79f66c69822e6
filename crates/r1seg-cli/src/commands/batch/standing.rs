//! What is known of a volume before it is run: whether it is done, and by which hashes.

use super::basis::Options;
use super::hashes::InputFiles;
use super::items::Item;
use super::ledger::Lines;
use super::line::{Line, Status};
use crate::args::BatchArgs;

/// What an earlier run left of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Results of the same model, input, prompts and options are in their places.
    Done,
    /// It failed in a way that will not be tried again.
    Poisoned,
    /// It failed, and is to be run again.
    Failed,
    /// There are no results, or others.
    New,
}

/// What results must be of to be taken as they are.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) args: &'a BatchArgs,
    pub(super) model_sha256: String,
    /// Everything but the prompts that results depend on.
    pub(super) options: Options,
    /// Of earlier runs; empty where they do not count.
    pub(super) known: Lines,
}

impl Wanted<'_> {
    /// The hash of all that is asked of a volume.
    pub(super) fn prompt_sha256(&self, item: &Item) -> String {
        let read = item.which.apply(self.args.volume.read_options());
        self.options.prompt_sha256(&item.asks, &read)
    }

    /// Looks at what an earlier run left. An input that is gone cannot have changed.
    pub(super) fn standing(&self, item: &Item) -> Standing {
        let Some(line) = self.known.get(&item.id) else { return Standing::New };
        let is_of_this = line.model_sha256 == self.model_sha256
            && line.prompt_sha256 == self.prompt_sha256(item)
            && line.image == item.image.display().to_string();
        let is_poisoned = line.poisoned && !self.args.order.retry_poisoned;
        match line.status {
            Status::Failed if is_poisoned && is_of_this && self.has_same_input(item, line) => {
                Standing::Poisoned
            }
            Status::Failed => Standing::Failed,
            Status::Ok if is_of_this && self.is_there(item) && self.has_same_input(item, line) => {
                Standing::Done
            }
            Status::Ok => Standing::New,
        }
    }

    fn is_there(&self, item: &Item) -> bool {
        self.args.out.join(&item.folder).join("report.json").is_file()
    }

    fn has_same_input(&self, item: &Item, line: &Line) -> bool {
        let Ok(files) = InputFiles::of(&item.image) else { return true };
        let Some(known) = &line.input else { return false };
        let finished_ns = line.finished_unix_ms.saturating_mul(1_000_000);
        if !self.args.order.rehash && files.look_like(known, finished_ns) {
            return true;
        }
        files.fingerprint(None).is_ok_and(|now| now.sha256 == known.sha256)
    }
}
