use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::error::Detail;

/// The published models that have a short name: (alias, repository).
pub const ALIASES: &[(&str, &str)] = &[
    ("R1Seg-3D-Phi-3-4B", "lihao0011/R1Seg-3D-Phi-3-4B"),
    ("R1Seg-3D-llama-3-8B", "lihao0011/R1Seg-3D-llama-3-8B"),
    ("R1Seg-3D-SAM", "lihao0011/R1Seg-3D-SAM"),
    ("M3D-LaMed-Phi-3-4B", "GoodBaiBai88/M3D-LaMed-Phi-3-4B"),
    ("M3D-LaMed-Llama-2-7B", "GoodBaiBai88/M3D-LaMed-Llama-2-7B"),
    ("M3D-CLIP", "GoodBaiBai88/M3D-CLIP"),
    ("SegVol", "BAAI/SegVol"),
];

/// What the hub calls the newest state of a repository.
pub(crate) const DEFAULT_REVISION: &str = "main";
/// The hub's own limit for a repository's name.
const MAX_NAME: usize = 96;
const MAX_REVISION: usize = 255;

/// A model on the hub, at a revision: `owner/name[@REV]` or `ALIAS[@REV]`.
///
/// Aliases and the names behind them ignore case. `REV` is a branch, a tag or a commit of 40 hex
/// digits, which pins the model for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId {
    owner: String,
    name: String,
    revision: String,
}

impl ModelId {
    /// Reads `owner/name[@REV]` or `ALIAS[@REV]`.
    ///
    /// # Errors
    /// `R-HUB-04`, with the aliases that look alike.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let broken =
            |reason| Error::from(Detail::ModelId { reason, similar_names: suggestions(text) });
        let (id, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let known = ALIASES.iter().find(|(alias, repository)| {
            alias.eq_ignore_ascii_case(id) || repository.eq_ignore_ascii_case(id)
        });
        let id = known.map_or(id, |(_, repository)| repository);
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
    /// `R-HUB-04` if `revision` is no branch, tag or commit.
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

    /// The short name, where this model has one.
    pub fn alias(&self) -> Option<&'static str> {
        let repository = self.repository();
        ALIASES.iter().find(|(_, known)| *known == repository).map(|(alias, _)| *alias)
    }

    /// Aliases and repositories that differ from this one by a slip of the finger.
    pub(crate) fn similar_names(&self) -> Vec<&'static str> {
        if self.alias().is_some() { Vec::new() } else { suggestions(&self.repository()) }
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

/// The aliases that are at most a third away from `text`, best first.
fn suggestions(text: &str) -> Vec<&'static str> {
    let typed = text.split('@').next().unwrap_or_default();
    // Distances cost the product of the lengths.
    if typed.len() > 2 * MAX_NAME {
        return Vec::new();
    }
    let mut near: Vec<(usize, &'static str)> = ALIASES
        .iter()
        .map(|(alias, repository)| {
            let known = if typed.contains('/') { repository } else { alias };
            (distance(&plain(typed), &plain(known)), *alias)
        })
        .filter(|(distance, alias)| distance * 3 <= plain(alias).len())
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(3).map(|(_, alias)| alias).collect()
}

fn plain(text: &str) -> Vec<char> {
    text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect()
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            let replaced = diagonal + usize::from(x != y);
            left = replaced.min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn every_alias_is_found_in_any_case() {
        for (alias, repository) in ALIASES {
            for text in [alias.to_lowercase(), alias.to_uppercase(), repository.to_lowercase()] {
                let id = ModelId::parse(&text).unwrap();
                assert_eq!(id.repository(), *repository);
                assert_eq!((id.revision(), id.commit()), ("main", None));
                assert_eq!(id.alias(), Some(*alias));
            }
        }
    }

    #[test]
    fn revision_after_the_at_sign_is_kept() {
        let id = ModelId::parse("segvol@refs/pr/1").unwrap();
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

    #[test]
    fn typing_error_gets_a_suggestion() {
        let suggested = |text: &str| ModelId::parse(text).unwrap_err().similar_names().to_vec();
        assert_eq!(suggested("R1Seg-3D-Phi3-4b-"), ["R1Seg-3D-Phi-3-4B"]);
        assert_eq!(suggested("seg-vo"), ["SegVol"]);
        assert_eq!(suggested("m3d_klip"), ["M3D-CLIP"]);
        assert!(suggested("gpt2").is_empty());
        assert!(suggested(&"x".repeat(1 << 20)).is_empty());
        let typo = ModelId::parse("lihao011/R1Seg-3D-SAM").unwrap();
        assert_eq!(typo.similar_names(), ["R1Seg-3D-SAM"]);
    }

    #[test]
    fn distance_counts_single_edits() {
        let of = |a: &str, b: &str| distance(&plain(a), &plain(b));
        assert_eq!((of("", "abc"), of("abc", ""), of("abc", "abc")), (3, 3, 0));
        assert_eq!((of("kitten", "sitting"), of("flaw", "lawn")), (3, 2));
    }
}
