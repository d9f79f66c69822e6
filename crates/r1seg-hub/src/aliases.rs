use crate::model_id::MAX_NAME;
use crate::{Error, ModelId};

/// The short names of published models, which a caller brings along: (alias, `OWNER/NAME`).
///
/// Aliases and the names behind them ignore case.
#[derive(Debug, Clone, Copy, Default)]
pub struct Aliases(pub &'static [(&'static str, &'static str)]);

impl Aliases {
    /// Reads `owner/name[@REV]` or `ALIAS[@REV]`.
    ///
    /// # Errors
    /// `R-HUB-04`, with the aliases that look alike.
    pub fn parse(self, text: &str) -> Result<ModelId, Error> {
        ModelId::with_aliases(text, self)
    }

    /// The repository of an alias, or a known one as its owner spells it.
    pub(crate) fn repository(self, id: &str) -> Option<&'static str> {
        let is_named = |(alias, repository): &&(&str, &str)| {
            alias.eq_ignore_ascii_case(id) || repository.eq_ignore_ascii_case(id)
        };
        self.0.iter().find(is_named).map(|(_, repository)| *repository)
    }

    /// The aliases that are at most a third away from an unknown name, best first.
    pub(crate) fn similar(self, text: &str) -> Vec<&'static str> {
        let typed = text.split('@').next().unwrap_or_default();
        // Distances cost the product of the lengths.
        if typed.len() > 2 * MAX_NAME || self.repository(typed).is_some() {
            return Vec::new();
        }
        let mut near: Vec<(usize, &'static str)> = self
            .0
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

    const KNOWN: &[(&str, &str)] = &[
        ("R1Seg-3D-Phi-3-4B", "lihao0011/R1Seg-3D-Phi-3-4B"),
        ("R1Seg-3D-SAM", "lihao0011/R1Seg-3D-SAM"),
        ("M3D-CLIP", "GoodBaiBai88/M3D-CLIP"),
        ("SegVol", "BAAI/SegVol"),
    ];
    const ALIASES: Aliases = Aliases(KNOWN);

    #[test]
    fn every_alias_is_found_in_any_case() {
        for (alias, repository) in KNOWN {
            for text in [alias.to_lowercase(), alias.to_uppercase(), repository.to_lowercase()] {
                let id = ALIASES.parse(&text).unwrap();
                assert_eq!(id.repository(), *repository);
                assert_eq!((id.revision(), id.commit()), ("main", None));
            }
        }
    }

    #[test]
    fn typing_error_gets_a_suggestion() {
        let suggested = |text: &str| ALIASES.parse(text).unwrap_err().similar_names().to_vec();
        assert_eq!(suggested("R1Seg-3D-Phi3-4b-"), ["R1Seg-3D-Phi-3-4B"]);
        assert_eq!(suggested("seg-vo"), ["SegVol"]);
        assert_eq!(suggested("m3d_klip"), ["M3D-CLIP"]);
        assert!(suggested("gpt2").is_empty());
        assert!(suggested(&"x".repeat(1 << 20)).is_empty());
        assert_eq!(ALIASES.similar("lihao011/R1Seg-3D-SAM"), ["R1Seg-3D-SAM"]);
        assert!(ALIASES.similar("lihao0011/r1seg-3d-sam").is_empty(), "it is known");
    }

    #[test]
    fn distance_counts_single_edits() {
        let of = |a: &str, b: &str| distance(&plain(a), &plain(b));
        assert_eq!((of("", "abc"), of("abc", ""), of("abc", "abc")), (3, 3, 0));
        assert_eq!((of("kitten", "sitting"), of("flaw", "lawn")), (3, 2));
    }
}
