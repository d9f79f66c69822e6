use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::Detail;
use crate::model_id::is_commit;
use crate::{Digest, Error};

/// More files than any model has.
const MAX_FILES: usize = 100_000;
const MAX_NAME: usize = 1024;
const MAX_NAME_PART: usize = 200;

/// A file as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    pub(crate) name: String,
    pub(crate) size: Option<u64>,
    pub(crate) digest: Option<Digest>,
}

/// The files of a model at one commit, which never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<RemoteFile>,
    /// The files that downloads have asked for.
    pub(crate) wanted: BTreeSet<String>,
}

/// What `/api/models/ID/revision/REV?blobs=true` answers; the rest of it is of no use here.
/// The record in the cache has the same form.
#[derive(Serialize, Deserialize)]
struct ModelInfo {
    sha: String,
    siblings: Vec<Sibling>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    wanted: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, rename = "blobId")]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Serialize, Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    #[serde(default)]
    size: Option<u64>,
}

impl Listing {
    /// Reads the hub's answer, which is a stranger's text.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Error> {
        let info: ModelInfo = serde_json::from_slice(json).map_err(|_| {
            Error::from(Detail::BadReply { reason: "it is not the JSON of a model's files" })
        })?;
        let commit = info.sha.to_ascii_lowercase();
        if !is_commit(&commit) {
            return Err(Detail::BadReply { reason: "its commit is not 40 hex digits" }.into());
        }
        if info.siblings.len() > MAX_FILES {
            return Err(Detail::BadReply { reason: "it lists more than 100000 files" }.into());
        }
        let mut files = BTreeMap::new();
        for (index, sibling) in info.siblings.into_iter().enumerate() {
            if !is_safe_name(&sibling.rfilename) {
                return Err(Detail::HostileName { index }.into());
            }
            let file = sibling.into_file()?;
            if files.insert(file.name.clone(), file).is_some() {
                return Err(Detail::BadReply { reason: "it lists a file twice" }.into());
            }
        }
        let wanted = info.wanted.into_iter().filter(|name| files.contains_key(name)).collect();
        Ok(Self { commit, files: files.into_values().collect(), wanted })
    }

    /// The record for the cache.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let sibling = |file: &RemoteFile| {
            let text = file.digest.as_ref().map(Digest::to_string);
            let (blob_id, lfs) = match file.digest {
                Some(Digest::Sha256(_)) => {
                    (None, text.map(|sha256| Lfs { sha256, size: file.size }))
                }
                _ => (text, None),
            };
            Sibling { rfilename: file.name.clone(), size: file.size, blob_id, lfs }
        };
        serde_json::to_vec_pretty(&ModelInfo {
            sha: self.commit.clone(),
            siblings: self.files.iter().map(sibling).collect(),
            wanted: self.wanted.clone(),
        })
    }

    pub(crate) fn file(&self, name: &str) -> Option<&RemoteFile> {
        let index = self.files.binary_search_by(|file| file.name.as_str().cmp(name)).ok()?;
        self.files.get(index)
    }
}

impl Sibling {
    fn into_file(self) -> Result<RemoteFile, Error> {
        let broken = Error::from(Detail::BadReply { reason: "a hash in it is not hex digits" });
        // In large file storage `blobId` is the hash of a pointer to the file.
        let (text, size) = match self.lfs {
            Some(lfs) => {
                let hex = lfs.sha256.strip_prefix("sha256:").unwrap_or(&lfs.sha256);
                (Some(hex.to_owned()), lfs.size.or(self.size))
            }
            None => (self.blob_id, self.size),
        };
        let digest = match text {
            None => None,
            Some(text) => Some(Digest::parse(&text).ok_or(broken)?),
        };
        Ok(RemoteFile { name: self.rfilename, size, digest })
    }
}

/// Whether a name from the hub stays inside its folder, on every system.
pub(crate) fn is_safe_name(name: &str) -> bool {
    let is_safe_part = |part: &str| {
        !part.is_empty()
            && part.len() <= MAX_NAME_PART
            && part != "."
            && part != ".."
            // Windows drops these, so that `.. ` is `..` there.
            && !part.ends_with(['.', ' '])
    };
    name.len() <= MAX_NAME
        // A colon names a drive or a hidden stream on Windows.
        && !name.contains(['\\', ':'])
        && !name.chars().any(char::is_control)
        && name.split('/').all(is_safe_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn hostile_names_are_refused() {
        for name in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            "C:\\x",
            "C:x",
            "a\\..\\x",
            "a\0b",
            "a\nb",
            "x:stream",
            ".. /x",
            "\u{1b}[31m",
            &"x/".repeat(600),
            &"y".repeat(300),
        ] {
            assert!(!is_safe_name(name), "{name:?}");
            let sibling = serde_json::json!({ "rfilename": name });
            let json = serde_json::json!({ "sha": COMMIT, "siblings": [sibling] }).to_string();
            let error = Listing::from_json(json.as_bytes()).unwrap_err();
            assert!(
                error.code() == "R-HUB-24" && error.message().ends_with("(number 0)"),
                "{name:?}"
            );
        }
        for name in ["config.json", ".gitattributes", "a/b/c d.bin", "..x", "ä.txt"] {
            assert!(is_safe_name(name), "{name:?}");
        }
    }

    #[test]
    fn large_files_have_sha256_and_small_ones_a_git_hash() {
        let (sha, git) = ("ab".repeat(32), "cd".repeat(20));
        let json = format!(
            r#"{{"sha":"{COMMIT}","private":false,"siblings":[
            {{"rfilename":"w","size":9,"blobId":"{git}","lfs":{{"sha256":"{sha}","size":9,"pointerSize":1}}}},
            {{"rfilename":"c","size":3,"blobId":"{git}"}},
            {{"rfilename":"o","lfs":{{"oid":"sha256:{sha}"}}}},
            {{"rfilename":"bare"}}]}}"#
        );
        let listing = Listing::from_json(json.as_bytes()).unwrap();
        let of = |name| listing.file(name).unwrap().clone();
        assert_eq!((of("w").size, of("w").digest), (Some(9), Digest::parse(&sha)));
        assert_eq!((of("c").size, of("c").digest), (Some(3), Digest::parse(&git)));
        assert_eq!((of("o").size, of("o").digest), (None, Digest::parse(&sha)));
        assert_eq!((of("bare").size, of("bare").digest), (None, None));
        assert_eq!(listing.file("x"), None);
        let mut listing = listing;
        listing.wanted.insert("w".to_owned());
        assert_eq!(Listing::from_json(&listing.to_json().unwrap()).unwrap(), listing);
    }

    #[test]
    fn answers_that_are_no_listing_are_refused() {
        let twice =
            format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"a"}},{{"rfilename":"a"}}]}}"#);
        let hash =
            format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"a","blobId":"../x"}}]}}"#);
        for json in [
            "",
            "<!doctype html>",
            "[]",
            "{}",
            r#"{"sha":"main","siblings":[]}"#,
            r#"{"sha":"../../../../../../../../../../../../../x","siblings":[]}"#,
            &twice,
            &hash,
        ] {
            assert_eq!(
                Listing::from_json(json.as_bytes()).unwrap_err().code(),
                "R-HUB-23",
                "{json}"
            );
        }
    }
}
