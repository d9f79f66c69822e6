//! Who may use the server.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::Error;

/// More than anybody's list of keys.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Shorter ones can be guessed.
const SHORTEST: usize = 16;

/// The keys that requests must name one of. None at all lets everybody in, which only a server that
/// listens on its own machine may do.
///
/// Only their SHA-256 is kept, and nothing prints it.
#[derive(Clone, Default)]
pub struct Keys {
    hashes: Vec<[u8; 32]>,
}

/// Whose volumes and results these are: the hash of a key, or nobody's in particular.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Owner([u8; 32]);

impl Keys {
    /// Reads keys from a file, one per line; blank lines and those that begin with `#` are ignored.
    ///
    /// # Errors
    /// [`Error::Keys`] for a file that cannot be read, that holds no key, or a key that is too short or
    /// has characters that no header can carry.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let unusable = |what: String| Error::Keys { path: path.to_path_buf(), what };
        let bytes = r1seg::files::read(path, MAX_FILE_BYTES);
        let bytes = bytes.map_err(|e| unusable(format!("it cannot be read: {e}")))?;
        let text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8".to_string()))?;
        Self::of_lines(&text).map_err(|e| match e {
            Error::Keys { what, .. } => unusable(what),
            other => other,
        })
    }

    /// As [`from_file`](Self::from_file), of the text of such a file.
    ///
    /// # Errors
    /// [`Error::Keys`].
    pub fn of_lines(text: &str) -> Result<Self, Error> {
        let unusable = |what: String| Error::Keys { path: Default::default(), what };
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let mut hashes = Vec::new();
        for (number, key) in (1..).zip(lines) {
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if !key.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(unusable(format!("line {number} has blanks or other odd characters")));
            }
            if key.len() < SHORTEST {
                return Err(unusable(format!(
                    "the key of line {number} is shorter than {SHORTEST} characters"
                )));
            }
            hashes.push(Sha256::digest(key).into());
        }
        if hashes.is_empty() {
            return Err(unusable("there is no key in it".to_string()));
        }
        Ok(Self { hashes })
    }

    /// Whether requests must name a key.
    pub fn are_required(&self) -> bool {
        !self.hashes.is_empty()
    }

    /// Whose request this is, by its `Authorization` header. Takes as long for a wrong key as for a
    /// right one.
    pub(crate) fn owner(&self, authorization: Option<&[u8]>) -> Option<Owner> {
        if !self.are_required() {
            return Some(Owner::default());
        }
        let (scheme, key) = authorization?.split_at_checked("Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let given: [u8; 32] = Sha256::digest(key.trim_ascii()).into();
        let mut is_known = Choice::from(0);
        let mut owner = [0_u8; 32];
        for hash in &self.hashes {
            let is_this = hash.ct_eq(&given);
            is_known |= is_this;
            for (byte, of_this) in owner.iter_mut().zip(hash) {
                byte.conditional_assign(of_this, is_this);
            }
        }
        bool::from(is_known).then_some(Owner(owner))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.hashes.len())
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\u{feff}# the ward\nfirst-key-of-the-ward\n\n  second-key-of-the-ward \r\n";

    #[test]
    fn s5_a_key_is_known_by_itself_and_nothing_else() {
        let keys = Keys::of_lines(FILE).unwrap();
        let owner = |header: &str| keys.owner(Some(header.as_bytes()));
        let first = owner("Bearer first-key-of-the-ward").unwrap();
        assert_eq!(owner("bearer first-key-of-the-ward"), Some(first));
        assert_ne!(owner("Bearer second-key-of-the-ward"), Some(first));
        for wrong in [
            "Bearer first-key-of-the-war",
            "Bearer first-key-of-the-ward2",
            "Bearer # the ward",
            "Bearer ",
            "Bearer",
            "Basic first-key-of-the-ward",
            "",
        ] {
            assert_eq!(owner(wrong), None, "{wrong}");
        }
        assert_eq!(keys.owner(None), None);
        assert_eq!(Keys::default().owner(None), Some(Owner::default()));
    }

    #[test]
    fn s5_nothing_prints_a_key_or_its_hash() {
        let keys = Keys::of_lines(FILE).unwrap();
        let owner = keys.owner(Some(b"Bearer first-key-of-the-ward"));
        assert_eq!(format!("{keys:?} {owner:?}"), "Keys(2) Some(Owner)");
    }

    #[test]
    fn a_file_without_a_usable_key_is_refused_with_its_line() {
        for (text, what) in [
            ("", "there is no key in it"),
            ("# only this\n", "there is no key in it"),
            ("0123456789abcdef\nshort", "the key of line 2 is shorter than 16 characters"),
            ("0123456789 abcdef0", "line 1 has blanks"),
            ("schl\u{fc}ssel-0123456789", "line 1 has blanks"),
        ] {
            let error = Keys::of_lines(text).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert_eq!(error.code(), "R-SRV-19");
        }
    }
}
