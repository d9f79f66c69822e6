//! The few things about web addresses that redirects and names of files need. The `url` crate would
//! bring tables of Unicode for host names, and takes user names, which are refused here.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// `scheme://host:port`.
pub(crate) fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find(['/', '?', '#']));
    end.and_then(|end| url.get(..start + end)).unwrap_or(url)
}

/// `host:port`, for messages.
pub(crate) fn host(url: &str) -> &str {
    let origin = origin(url);
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

/// The address that `location` means on the page `base`; `None` if it is none for the web.
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    let lower = location.get(..8).unwrap_or(location).to_ascii_lowercase();
    let joined = if lower.starts_with("http://") || lower.starts_with("https://") {
        let (scheme, rest) = location.split_once(':')?;
        format!("{}:{rest}", scheme.to_ascii_lowercase())
    } else if location.starts_with("//") {
        format!("{}:{location}", base.split_once(':')?.0)
    } else if location.starts_with('/') {
        format!("{}{location}", origin(base))
    } else if location.is_empty() || location.split(['/', '?']).next()?.contains(':') {
        // Another scheme.
        return None;
    } else {
        let page = base.split(['?', '#']).next().unwrap_or_default();
        let folder = page.get(..=page.rfind('/')?)?;
        if folder.len() <= origin(base).len() {
            return None;
        }
        format!("{folder}{location}")
    };
    // A user name before `@` can make one host look like another.
    let host = host(&joined);
    let is_plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'@');
    is_plain.then_some(joined)
}

/// Everything but letters, digits and `-._~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same without the `/` of a path.
const RESERVED_IN_PATHS: &AsciiSet = &RESERVED.remove(b'/');

/// One step of a path, whatever is in it.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A relative path, whose slashes stay.
pub(crate) fn path(text: &str) -> String {
    utf8_percent_encode(text, RESERVED_IN_PATHS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined_as_browsers_do() {
        let base = "https://hub.co:443/a/resolve/x?q=1";
        for (location, expected) in [
            ("https://cdn.co/f?sig=a%2Fb", Some("https://cdn.co/f?sig=a%2Fb")),
            ("HTTP://cdn.co/f", Some("http://cdn.co/f")),
            ("//cdn.co/f", Some("https://cdn.co/f")),
            ("/b/c#top", Some("https://hub.co:443/b/c")),
            ("y?z", Some("https://hub.co:443/a/resolve/y?z")),
            ("ftp://x/y", None),
            ("javascript:alert(1)", None),
            ("", None),
            ("https://hub.co@evil.co/", None),
            ("https:///x", None),
            ("http", Some("https://hub.co:443/a/resolve/http")),
        ] {
            assert_eq!(join(base, location).as_deref(), expected, "{location}");
        }
        assert_eq!(join("http://h", "x"), None);
    }

    #[test]
    fn origin_is_scheme_host_and_port() {
        for (url, expected) in [
            ("http://h:1/x", "http://h:1"),
            ("http://h", "http://h"),
            ("http://h?x", "http://h"),
            ("x", "x"),
        ] {
            assert_eq!(origin(url), expected);
        }
        assert_eq!(host("http://h:1/x"), "h:1");
    }

    #[test]
    fn names_are_escaped_for_addresses() {
        assert_eq!(path("a b/ä?#%.bin"), "a%20b/%C3%A4%3F%23%25.bin");
        assert_eq!(segment("refs/pr/1"), "refs%2Fpr%2F1");
    }
}
