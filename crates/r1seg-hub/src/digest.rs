use std::fmt;
use std::io::Read;
use std::path::Path;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::{Cancel, Error, error};

const BUFFER: usize = 1 << 20;

/// What a file must hash to. Its text is the name of the file's blob in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256 of the bytes: files in large file storage, which all weights are.
    Sha256([u8; 32]),
    /// git's SHA-1 of `blob LENGTH\0` and the bytes: all other files.
    Git([u8; 20]),
}

impl Digest {
    /// Reads 64 or 40 hex digits; anything else is no digest.
    pub fn parse(text: &str) -> Option<Self> {
        match text.len() {
            64 => Some(Self::Sha256(bytes(text)?)),
            40 => Some(Self::Git(bytes(text)?)),
            _ => None,
        }
    }

    /// Reads an entity tag as the hub sends it: `"..."`, `W/"..."` or bare.
    pub(crate) fn from_etag(tag: &str) -> Option<Self> {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        Self::parse(tag.trim_matches('"'))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha256(bytes) => bytes,
            Self::Git(bytes) => bytes,
        };
        f.write_str(&r1seg_files::hex(bytes))
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let [high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

/// Computes the digest that `expected` is of the kind of.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    /// `length` is that of the whole file, which git hashes first.
    pub(crate) fn new(expected: &Digest, length: u64) -> Self {
        match expected {
            Digest::Sha256(_) => Self::Sha256(Sha256::new()),
            Digest::Git(_) => Self::Git(Sha1::new_with_prefix(format!("blob {length}\0"))),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Git(hasher) => Digest::Git(hasher.finalize().into()),
        }
    }

    /// Reads all of `source`; returns the number of bytes.
    pub(crate) fn read(
        &mut self,
        source: &mut impl Read,
        path: &Path,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, Error> {
        let mut buffer = vec![0; BUFFER];
        let mut total = 0_u64;
        loop {
            cancel.check()?;
            let read = match source.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(error::reading(path, source)),
            };
            self.update(buffer.get(..read).unwrap_or_default());
            total = total.saturating_add(read as u64);
            progress(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, text: &[u8]) -> String {
        let mut hasher = Hasher::new(&Digest::parse(kind).unwrap(), text.len() as u64);
        hasher.update(text);
        hasher.finish().to_string()
    }

    #[test]
    fn digests_equal_git_and_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin`, `printf 'hello\n' | sha256sum`.
        assert_eq!(of(&"0".repeat(40), b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(
            of(&"0".repeat(64), b"hello\n"),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        );
        assert_eq!(of(&"0".repeat(40), b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    }

    #[test]
    fn etag_variants_name_the_same_digest() {
        let hex = "ce013625030ba8dba906f756967f9e9ca394464a";
        for tag in [
            hex.to_owned(),
            format!("\"{hex}\""),
            format!("W/\"{hex}\""),
            format!(" \"{}\" ", hex.to_uppercase()),
        ] {
            assert_eq!(Digest::from_etag(&tag).unwrap().to_string(), hex, "{tag}");
        }
        // An object store's own tag, a compressed variant, a wrong digit.
        for tag in ["\"d41d8cd98f00b204e9800998ecf8427e-2\"", &format!("{hex}-gzip"), ""] {
            assert_eq!(Digest::from_etag(tag), None, "{tag}");
        }
        assert_eq!(Digest::parse(&"g".repeat(40)), None);
        assert_eq!(Digest::parse(&"é".repeat(20)), None);
    }
}
