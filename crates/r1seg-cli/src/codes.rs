//! Codes of errors that only the command line knows.

use r1seg::ErrorKind;

/// What went wrong, where no library says it. `docs/errors.md` lists these beside those of the
/// libraries, with the comments as their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// arguments that contradict each other, or one without a usable value
    Arguments,
    /// an unknown flag, a missing argument or a value that is not valid
    Refused,
    /// a fault of r1seg: it ended unexpectedly
    Panic,
    /// a fault of r1seg: an error without a code, or a result that cannot be encoded
    Internal,
    /// standard input or output failed
    Stream,
    /// a volume with warnings, refused as asked
    Strict,
    /// two masks to compare on different grids
    Grids,
    /// a label to compare that neither mask has
    NoLabel,
    /// names of labels that cannot be used
    Names,
    /// names of labels that cannot be read
    NamesUnreadable,
    /// two masks to compare without a voxel
    NothingToCompare,
    /// a ledger of recorded results that cannot be read or is not one
    Ledger,
    /// a recorded label map with another shape than its volume
    LedgerShape,
    /// a list of volumes that is not one, or a row of it
    List,
    /// a list of volumes that cannot be read
    ListUnreadable,
    /// two volumes of the same id
    SameId,
    /// a folder that another batch is writing to
    BatchRunning,
    /// a folder with the results of an earlier batch
    BatchExists,
    /// a results.jsonl that no batch wrote
    BatchResults,
    /// results of a batch that cannot be written
    BatchUnwritable,
    /// a volume during which the program ended twice
    Poisoned,
    /// a volume that took longer than it may
    ItemTimeout,
    /// a prompt of a kind that the model does not take
    BatchPrompt,
    /// a pattern that is invalid or finds no volume
    Pattern,
    /// no memory for what the program asked for
    Allocation,
    /// a thread could not be started in the middle of the work
    NoThread,
    /// a server that does not answer, or is not ready yet
    NotReady,
    /// no mask to write to standard output
    NoMask,
    /// a prompt that cannot be read
    PromptUnreadable,
    /// a prompt that is not text in UTF-8
    PromptNotText,
    /// a file of prompts without text
    PromptsEmpty,
    /// a prompt that is longer than any model reads
    PromptTooLong,
    /// an organ of unknown name
    UnknownOrgan,
    /// a folder that cannot be searched for volumes
    CandidatesUnreadable,
    /// a file of pairs of volumes and texts that cannot be read or is not one
    Pairs,
    /// threads that could not be started
    Threads,
    /// a mapped file of a model that became shorter or unreadable while it was used
    MappedFile,
}

impl Code {
    /// The code, such as `R-PRM-02`.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Arguments => "R-ARG-03",
            Self::Refused => "R-ARG-04",
            Self::List => "R-BAT-01",
            Self::ListUnreadable => "R-BAT-02",
            Self::SameId => "R-BAT-03",
            Self::BatchRunning => "R-BAT-04",
            Self::BatchExists => "R-BAT-05",
            Self::BatchResults => "R-BAT-06",
            Self::BatchUnwritable => "R-BAT-07",
            Self::Poisoned => "R-BAT-08",
            Self::ItemTimeout => "R-BAT-09",
            Self::BatchPrompt => "R-BAT-10",
            Self::Pattern => "R-BAT-11",
            Self::Grids => "R-CMP-01",
            Self::NoLabel => "R-CMP-02",
            Self::Names => "R-CMP-03",
            Self::NamesUnreadable => "R-CMP-04",
            Self::NothingToCompare => "R-CMP-05",
            Self::Panic => "R-BUG-01",
            Self::Internal => "R-BUG-02",
            Self::Stream => "R-IO-01",
            Self::MappedFile => "R-MDL-07",
            Self::Strict => "R-INS-01",
            Self::Ledger => "R-LED-01",
            Self::LedgerShape => "R-LED-02",
            Self::Allocation => "R-MEM-03",
            Self::NoThread => "R-MEM-04",
            Self::NoMask => "R-OUT-08",
            Self::PromptUnreadable => "R-PRM-02",
            Self::PromptNotText => "R-PRM-03",
            Self::PromptsEmpty => "R-PRM-04",
            Self::PromptTooLong => "R-PRM-06",
            Self::UnknownOrgan => "R-PRM-07",
            Self::CandidatesUnreadable => "R-RET-01",
            Self::Pairs => "R-RET-02",
            Self::NotReady => "R-SRV-25",
            Self::Threads => "R-THR-01",
        }
    }

    /// Who must act.
    pub(crate) const fn kind(self) -> ErrorKind {
        match self {
            Self::Arguments
            | Self::Refused
            | Self::PromptsEmpty
            | Self::UnknownOrgan
            | Self::NoLabel => ErrorKind::Usage,
            Self::Panic | Self::Internal | Self::Poisoned => ErrorKind::Internal,
            Self::Stream | Self::MappedFile | Self::BatchUnwritable => ErrorKind::Io,
            Self::BatchExists => ErrorKind::CannotCreate,
            Self::Strict
            | Self::Ledger
            | Self::LedgerShape
            | Self::NoMask
            | Self::PromptNotText
            | Self::PromptTooLong
            | Self::List
            | Self::SameId
            | Self::BatchResults
            | Self::BatchPrompt
            | Self::Grids
            | Self::Names
            | Self::NothingToCompare
            | Self::Pairs => ErrorKind::BadData,
            Self::PromptUnreadable
            | Self::CandidatesUnreadable
            | Self::ListUnreadable
            | Self::NamesUnreadable
            | Self::Pattern => ErrorKind::Missing,
            Self::Allocation
            | Self::NoThread
            | Self::Threads
            | Self::BatchRunning
            | Self::ItemTimeout => ErrorKind::Resources,
            Self::NotReady => ErrorKind::Network,
        }
    }
}
