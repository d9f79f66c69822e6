//! What the publisher of a checkpoint allows.

use crate::CheckpointSource;

/// The longest text that is kept.
const MAX_TEXT: usize = 64 << 10;
/// Names of license texts.
const FILES: [&str; 6] =
    ["LICENSE", "LICENSE.txt", "LICENSE.md", "license", "license.txt", "license.md"];
/// Names of model cards.
const CARDS: [&str; 2] = ["README.md", "readme.md"];

/// The license of a checkpoint, where its folder says one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct License {
    /// As the front matter of the model card names it, such as `apache-2.0`.
    pub name: Option<String>,
    /// The file that holds its text.
    pub file: Option<String>,
    /// The text, at most 64 KiB of it.
    pub text: Option<String>,
}

impl License {
    /// The embedded model is part of this project and under its license.
    pub(super) fn of_the_demo() -> Self {
        Self { name: Some("apache-2.0".to_owned()), ..Self::default() }
    }

    pub(super) fn find(source: &CheckpointSource) -> Option<Self> {
        let text = |name: &str| -> Option<String> {
            // A file that cannot be read grants nothing.
            let bytes = source.read(name).ok().flatten()?;
            let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let name = CARDS.iter().find_map(|card| of_card(&text(card)?));
        let found = FILES.iter().find_map(|name| Some(((*name).to_owned(), text(name)?)));
        let (file, text) = found.unzip();
        (name.is_some() || file.is_some()).then_some(Self { name, file, text })
    }
}

/// The field `license` of the YAML between the first two lines of dashes.
fn of_card(card: &str) -> Option<String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    lines.next().filter(|line| line.trim_end() == "---")?;
    lines
        .take_while(|line| line.trim_end() != "---")
        .find_map(|line| line.strip_prefix("license:"))
        .map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_card_names_its_license_in_its_front_matter_only() {
        for (card, name) in [
            ("---\nlicense: apache-2.0\ntags: [ct]\n---\n# Model", Some("apache-2.0")),
            ("---\r\ntags:\r\n- ct\r\nlicense: 'mit'\r\n---\r\n", Some("mit")),
            ("---\ntags: [ct]\n---\nlicense: mit\n", None),
            ("# Model\nlicense: mit\n", None),
            ("---\nlicense:\n---\n", None),
            ("", None),
        ] {
            assert_eq!(of_card(card).as_deref(), name, "{card:?}");
        }
    }
}
