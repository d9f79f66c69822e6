//! Names that nobody can guess.

use std::fmt;

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Volume,
    Result,
    Request,
    Chat,
    Session,
    /// What a viewer asked for.
    Job,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Volume => "vol_",
            Self::Result => "res_",
            Self::Request => "req_",
            Self::Chat => "chatcmpl-",
            Self::Session => "ses_",
            // Servers that it stands in for have nothing before the digits.
            Self::Job => "",
        }
    }

    /// The id of this kind with these digits.
    pub(crate) fn with(self, digits: &str) -> String {
        format!("{}{digits}", self.prefix())
    }

    /// The digits of an id of this kind.
    pub(crate) fn without(self, id: &str) -> &str {
        id.strip_prefix(self.prefix()).unwrap_or(id)
    }

    /// A new id: 128 bits that are drawn from the system's randomness.
    pub(crate) fn draw(self) -> Id {
        Id(format!("{}{:032x}", self.prefix(), rand::random::<u128>()))
    }
}

/// A name that was drawn here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Id(String);

impl Id {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_128_bits_and_differ() {
        let (one, other) = (Kind::Volume.draw(), Kind::Volume.draw());
        assert_eq!(one.as_str().len(), "vol_".len() + 32);
        assert_ne!(one, other);
        let digits = Kind::Volume.without(one.as_str());
        assert_eq!(Kind::Volume.with(digits), one.as_str());
        assert_eq!(Kind::Job.draw().as_str().len(), 32);
    }
}
