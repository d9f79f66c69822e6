use std::fmt;
use std::str::FromStr;

use crate::error::Detail;
use crate::{Aliases, Error};

/// What the hub calls the newest state of a repository.
pub(crate) const DEFAULT_REVISION: &str = "main";
/// The hub's own limit for a repository's name.
pub(crate) const MAX_NAME: usize = 96;
const MAX_REVISION: usize = 255;

/// A model on the hub, at a revision: `owner/name[@REV]`; [`Aliases`](crate::Aliases) know short
/// names, too.
///
/// `REV` is a branch, a tag or a commit of 40 hex digits, which pins the model for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId {
    owner: String,
    name: String,
    revision: String,
}

impl ModelId {
    /// Reads `owner/name[@REV]`.
    ///
    /// # Errors
    /// `R-HUB-04`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::with_aliases(text, Aliases::default())
    }

    pub(crate) fn with_aliases(text: &str, aliases: Aliases) -> Result<Self, Error> {
        let broken =
            |reason| Error::from(Detail::ModelId { reason, similar_names: aliases.similar(text) });
        let (id, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let id = aliases.repository(id).unwrap_or(id);
        let Some((owner, name)) = id.split_once('/') else {
            return Err(broken("it is neither an alias nor OWNER/NAME"));
        };
        if !is_repository_name(owner) || !is_repository_name(name) {
            return Err(broken("OWNER/NAME has letters, digits, `-`, `_` and `.` only"));
        }
        if !is_revision(revision) {
            return Err(broken("the revision after `@` is not a branch, tag or commit"));
        }
        let revision = if is_commit(&revision.to_ascii_lowercase()) {
            revision.to_ascii_lowercase()
        } else {
            revision.to_owned()
        };
        Ok(Self { owner: owner.to_owned(), name: name.to_owned(), revision })
    }

    /// The same model at another revision.
    ///
    /// # Errors
    /// `R-HUB-04` if `revision` is not a branch, tag or commit.
    pub fn at(&self, revision: &str) -> Result<Self, Error> {
        Self::parse(&format!("{}@{revision}", self.repository()))
    }

    /// `owner/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The owner, such as `BAAI`.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name without its owner.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The branch, tag or commit; `main` where none was named.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The commit, where the revision is one.
    pub fn commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(&*self.revision)
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if self.revision == DEFAULT_REVISION { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

fn is_repository_name(name: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=MAX_NAME).contains(&name.len())
        && name.chars().all(letters)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
        // The cache joins owner and name with `--`.
        && !name.contains("--")
        && !name.contains("..")
}

/// Whether `text` can be a branch, tag or commit, and the path of a file below `refs/`.
fn is_revision(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    text.len() <= MAX_REVISION
        && text.chars().all(letters)
        && text.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-']))
        && !text.contains("..")
}

/// Whether `text` is a full git commit in lower case.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn revision_after_the_at_sign_is_kept() {
        let id = ModelId::parse("BAAI/SegVol@refs/pr/1").unwrap();
        assert_eq!(id.to_string(), "BAAI/SegVol@refs/pr/1");
        let pinned = ModelId::parse(&format!("Some.One/a_b-c@{}", COMMIT.to_uppercase())).unwrap();
        assert_eq!(pinned.commit(), Some(COMMIT));
        assert_eq!((pinned.owner(), pinned.name()), ("Some.One", "a_b-c"));
        assert_eq!(id.at("v1.0").unwrap().revision(), "v1.0");
    }

    #[test]
    fn ids_that_could_leave_the_cache_are_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a/b@x//y",
            "a/b@.lock",
            "a/b c",
            "a\\b/c",
            "a/b@x\\y",
            "a--b/c",
            "a/b\0",
            "./model",
            "-a/b",
            "a/b@-x",
            "C:/x",
            "ä/b",
            "a/b?c",
            "a/b@x%2e",
        ] {
            let error = ModelId::parse(text).unwrap_err();
            assert_eq!(error.code(), "R-HUB-04", "{text:?}");
        }
    }
}
