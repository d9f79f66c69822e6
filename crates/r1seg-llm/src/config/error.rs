//! What is wrong with a configuration.

use std::fmt::Display;

use thiserror::Error;

/// A field of a `config.json`, or an option of the sampler, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field that has no default is absent.
    #[error("config field `{field}` is missing: expected {expected}")]
    Missing {
        /// The field's name.
        field: String,
        /// What should be there.
        expected: String,
    },
    /// A field has the wrong type or is out of range.
    #[error("config field `{field}` is {value}: expected {expected}")]
    Invalid {
        /// The field's name, with a dot before a nested one.
        field: String,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: String,
    },
    /// A field asks for something that the decoder does not do.
    #[error("config field `{field}` is {value}: only {supported} is supported")]
    Unsupported {
        /// The field's name.
        field: String,
        /// What it asks for.
        value: String,
        /// What the decoder does.
        supported: String,
    },
}

/// Longest value that a message repeats.
const MAX_SHOWN: usize = 60;

fn shown(value: impl Display) -> String {
    let value = value.to_string();
    match value.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value,
    }
}

pub(crate) fn invalid(
    field: impl Into<String>,
    value: impl Display,
    expected: impl Into<String>,
) -> ConfigError {
    ConfigError::Invalid { field: field.into(), value: shown(value), expected: expected.into() }
}

pub(crate) fn unsupported(
    field: impl Into<String>,
    value: impl Display,
    supported: impl Into<String>,
) -> ConfigError {
    ConfigError::Unsupported {
        field: field.into(),
        value: shown(value),
        supported: supported.into(),
    }
}
