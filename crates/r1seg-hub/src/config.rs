use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Detail;
use crate::{Aliases, Error};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// A token file is one line; a larger one is something else.
const MAX_TOKEN_FILE: u64 = 16 << 10;

/// Where the cache and the hub are, and how to talk to it.
///
/// [`HubConfig::from_env`] reads everything from the variables that Python's `huggingface_hub`
/// reads; nothing else in this crate looks at the environment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubConfig {
    /// The folder of `models--OWNER--NAME` folders.
    pub cache: PathBuf,
    /// The hub or a mirror of it: `http[s]://HOST[:PORT][/PATH]`, without a slash at the end.
    pub endpoint: String,
    /// Sent to the endpoint, and to no other host.
    pub token: Option<Token>,
    /// Whether no connection may be opened at all.
    pub offline: bool,
    /// Whether snapshots link to blobs; otherwise they hold the files themselves.
    pub symlinks: bool,
    /// Whether `HTTPS_PROXY`, `ALL_PROXY`, `HTTP_PROXY` and `NO_PROXY` are obeyed.
    pub proxy_from_env: bool,
    /// PEM file of the authorities to trust instead of Mozilla's, for a network whose proxy signs
    /// its own certificates.
    pub certificates: Option<PathBuf>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Short names that are suggested for a repository that is not there.
    pub aliases: Aliases,
}

/// How long to wait before an attempt counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the headers of an answer, over all redirects.
    pub response: Duration,
    /// A body has stalled if fewer than 4 KiB come in this time.
    pub stall: Duration,
    /// The first wait before another attempt; it doubles from there.
    pub backoff: Duration,
    /// The longest wait between attempts, also if a server asks for more.
    pub longest_backoff: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(60),
        }
    }
}

/// A secret of the user, which never shows in messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token without surrounding white space; `None` if nothing is left, or if it could not
    /// stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic());
        (!text.is_empty() && is_plain).then(|| Self(text.to_owned()))
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl HubConfig {
    /// The public hub with a cache at `cache`: no token, no proxy, online.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            token: None,
            offline: false,
            symlinks: true,
            proxy_from_env: false,
            certificates: None,
            timeouts: Timeouts::default(),
            aliases: Aliases::default(),
        }
    }

    /// What the environment says, as Python's `huggingface_hub` understands it.
    ///
    /// # Errors
    /// `R-HUB-06` if neither a home folder nor a cache folder is named, `R-HUB-05`
    /// if `HF_ENDPOINT` is no web address.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// [`HubConfig::from_env`] with variables of the caller's choice.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE` | the cache |
    /// | `HF_HOME`, else `XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface` | holds `hub`, the cache, and `token` |
    /// | `HF_ENDPOINT` | a mirror |
    /// | `HF_TOKEN`, else `HUGGING_FACE_HUB_TOKEN`, else the file `HF_TOKEN_PATH` or `HF_HOME/token` | the token |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | do without the token file |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | `1`, `ON`, `YES`, `TRUE`: open no connection |
    /// | `HF_HUB_DISABLE_SYMLINKS` | snapshots hold files, not links |
    /// | `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` | authorities to trust |
    ///
    /// # Errors
    /// As [`HubConfig::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let is_true = |name: &str| text(name).is_some_and(|value| is_true(&value));
        let home = set("HOME").or_else(|| set("USERPROFILE")).map(PathBuf::from);
        let path = |name: &str| set(name).map(|value| in_home(value.into(), home.as_deref()));

        let hf_home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hf_home.as_ref()?.join("hub")))
            .ok_or(Error::from(Detail::NoHome))?;

        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = match token {
            Some(token) => Token::new(&token),
            None if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            None => path("HF_TOKEN_PATH")
                .or_else(|| Some(hf_home.as_ref()?.join("token")))
                .and_then(|file| token_in(&file)),
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        check_endpoint(&endpoint)?;
        Ok(Self {
            endpoint,
            token,
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            symlinks: !is_true("HF_HUB_DISABLE_SYMLINKS"),
            proxy_from_env: true,
            certificates: path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE")),
            ..Self::new(cache)
        })
    }
}

/// Python's reading of a switch.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|word| word.eq_ignore_ascii_case(value))
}

/// Puts the home folder in the place of a leading `~`.
fn in_home(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn token_in(file: &Path) -> Option<Token> {
    let bytes = r1seg_files::read(file, MAX_TOKEN_FILE).ok()?;
    Token::new(std::str::from_utf8(&bytes).ok()?)
}

/// Refuses what could not stand before `/api/models/..`.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), Error> {
    let broken = |reason| Err(Detail::Endpoint { reason }.into());
    let Some(rest) = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"))
    else {
        return broken("it does not begin with https:// or http://");
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return broken("it has no plain host name");
    }
    if host.contains('@') {
        return broken("it holds a user name; use HF_TOKEN");
    }
    if rest.contains(['?', '#']) {
        return broken("it has a query or fragment");
    }
    if cfg!(not(feature = "tls")) && endpoint.starts_with("https:") {
        return broken("this program was built without https (feature `tls`)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HubConfig, Error> {
        HubConfig::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    fn cache(variables: &[(&str, &str)]) -> PathBuf {
        let mirror = [("HF_ENDPOINT", "http://mirror")];
        read(&[variables, &mirror].concat()).unwrap().cache
    }

    #[test]
    fn cache_folder_follows_pythons_precedence() {
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "~/c"),
            ("XDG_CACHE_HOME", "/d"),
            ("HOME", "/u"),
        ];
        let expected = ["/a", "/b", "/u/c/hub", "/d/huggingface/hub"];
        for (skipped, expected) in expected.iter().enumerate() {
            assert_eq!(cache(&all[skipped..]), PathBuf::from(expected));
        }
        assert_eq!(cache(&all[4..]), PathBuf::from("/u/.cache/huggingface/hub"));
        let empty = [("HF_HUB_CACHE", ""), ("HF_HOME", "/x")];
        assert_eq!(cache(&empty), PathBuf::from("/x/hub"));
        assert_eq!(read(&[]).unwrap_err().code(), "R-HUB-06");
    }

    #[test]
    fn offline_has_two_names_and_four_values() {
        for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            for (value, expected) in [
                ("1", true),
                ("on", true),
                ("Yes", true),
                ("TRUE", true),
                ("0", false),
                ("", false),
            ] {
                let variables =
                    [(name, value), ("HF_HOME", "/x"), ("HF_ENDPOINT", "http://mirror")];
                assert_eq!(read(&variables).unwrap().offline, expected, "{name}={value}");
            }
        }
    }

    #[test]
    fn token_comes_from_the_variable_then_from_the_file_and_never_shows() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), " hf_file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let base = [("HF_HOME", home), ("HF_ENDPOINT", "http://mirror")];
        let of = |more: &[(&str, &str)]| read(&[&base, more].concat()).unwrap().token;
        assert_eq!(of(&[]), Token::new("hf_file"));
        assert_eq!(of(&[("HF_TOKEN", "hf_var\r\n")]), Token::new("hf_var"));
        assert_eq!(of(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(of(&[("HF_TOKEN_PATH", "/nonexistent")]), None);
        assert_eq!(Token::new("two words"), None);
        let config = read(&[&base[..], &[("HF_TOKEN", "hf_secret")]].concat()).unwrap();
        assert!(!format!("{config:?}").contains("hf_secret"));
    }

    #[test]
    fn endpoint_must_be_a_plain_web_address() {
        for good in ["http://127.0.0.1:8080", "http://host/api/huggingface/repo"] {
            assert!(check_endpoint(good).is_ok(), "{good}");
        }
        for bad in
            ["", "huggingface.co", "ftp://x", "http://", "http:///x", "http://u:p@h", "http://a b"]
        {
            assert_eq!(check_endpoint(bad).unwrap_err().code(), "R-HUB-05", "{bad}");
        }
        assert_eq!(check_endpoint("https://huggingface.co").is_ok(), cfg!(feature = "tls"));
        let config = read(&[("HF_HOME", "/x"), ("HF_ENDPOINT", "http://mirror/x//")]).unwrap();
        assert_eq!(config.endpoint, "http://mirror/x");
    }
}
