//! Why a pickle was refused.

use serde::{Deserialize, Serialize};

/// Why a file of `torch.save` was refused. It crosses the border between two processes as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum PickleError {
    #[error("the pickle ends early, at byte {at}")]
    Truncated { at: usize },
    #[error("byte {at} of the pickle is the opcode {opcode}, which weights do not need")]
    Opcode { at: usize, opcode: String },
    #[error("the pickle asks for `{name}`, which is not among the names that weights need")]
    Global { name: String },
    #[error("the pickle is malformed at byte {at}: {what}")]
    Malformed { at: usize, what: String },
    #[error("the pickle has more than {limit} {what}")]
    Limit { what: String, limit: u64 },
    #[error("tensor `{name}` {what}")]
    Tensor { name: String, what: String },
    #[error("{what}")]
    Container { what: String },
    #[error("the file cannot be read: {what}")]
    Io { what: String },
}
