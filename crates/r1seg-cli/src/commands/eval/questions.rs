//! The questions of published tasks: facts of the registry, or a file of templates.

use std::collections::BTreeMap;

use r1seg::phrasing::{self, Aim};
use r1seg::registry::Family;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// Templates, and a sequence of draws.
#[derive(Debug)]
pub(super) struct Questions {
    templates: BTreeMap<&'static str, Vec<String>>,
    /// Of terms, for tasks that describe what they are about.
    descriptions: BTreeMap<String, Vec<String>>,
    draws: ChaCha8Rng,
    family: Family,
}

/// The aims that tasks have.
const AIMS: [Aim; 5] = [Aim::Segment, Aim::Reason, Aim::Locate, Aim::Region, Aim::Describe];

impl Questions {
    /// Those that a family was evaluated with.
    pub(super) fn of(family: Family, draw: u64) -> Self {
        let mut templates: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for phrasing in phrasing::of(family) {
            templates.entry(phrasing.aim.as_str()).or_default().push(phrasing.template.to_owned());
        }
        // By default every case is asked the same question.
        templates.values_mut().for_each(|of_aim| of_aim.truncate(1));
        let draws = ChaCha8Rng::seed_from_u64(draw);
        Self { templates, descriptions: BTreeMap::new(), draws, family }
    }

    /// The same with those of a file.
    pub(super) fn with_file(mut self, file: &Value) -> Result<Self, String> {
        let fields = file.as_object().ok_or("it is not a JSON object")?;
        for (name, value) in fields {
            if name == "descriptions" {
                self.descriptions = serde_json::from_value(value.clone())
                    .map_err(|e| format!("`descriptions` is not an object of lists: {e}"))?;
                continue;
            }
            let aim = AIMS.iter().find(|aim| aim.as_str() == name).ok_or_else(|| {
                let known: Vec<&str> = AIMS.iter().map(|aim| aim.as_str()).collect();
                format!("unknown task `{name}`; expected {} or descriptions", known.join(", "))
            })?;
            let list: Vec<String> = serde_json::from_value(value.clone())
                .map_err(|_| format!("`{name}` is not a list of questions"))?;
            if list.is_empty() {
                return Err(format!("`{name}` has no question"));
            }
            self.templates.insert(aim.as_str(), list);
        }
        Ok(self)
    }

    /// A question about an organ.
    pub(super) fn about(&mut self, aim: Aim, organ: &str) -> Result<String, String> {
        let none =
            || format!("no question of {} is known for `{}`", self.family.name(), aim.as_str());
        let list =
            self.templates.get(aim.as_str()).filter(|list| !list.is_empty()).ok_or_else(none)?;
        // The box is written by whoever asks.
        let drawn = self.draws.random_range(0..list.len());
        Ok(list[drawn].replace("{organ}", organ))
    }

    /// A question that describes an organ without its name.
    pub(super) fn described(&mut self, organ: &str) -> Result<String, String> {
        let list = self.descriptions.get(organ).filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| {
            format!("`{organ}` has no description: give --templates with `descriptions`")
        })?;
        let drawn = self.draws.random_range(0..list.len());
        let description = list[drawn].clone();
        Ok(self.about(Aim::Reason, organ)?.replace("{description}", &description))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_case_is_asked_alike_unless_templates_are_given() {
        let mut own = Questions::of(Family::R1Seg3d, 7);
        let asked: Vec<String> =
            (0..5).map(|_| own.about(Aim::Segment, "liver").unwrap()).collect();
        assert!(asked.iter().all(|question| *question == asked[0] && question.contains("liver")));
        let file = json!({"segment": ["{organ}!", "{organ}?"], "descriptions": {"liver": ["It makes bile."]}});
        let draw = |seed| -> Vec<String> {
            let mut given = Questions::of(Family::R1Seg3d, seed).with_file(&file).unwrap();
            (0..8).map(|_| given.about(Aim::Segment, "liver").unwrap()).collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).contains(&"liver!".to_owned()) && draw(1).contains(&"liver?".to_owned()));
        let mut given = Questions::of(Family::R1Seg3d, 1).with_file(&file).unwrap();
        let described = given.described("liver").unwrap();
        assert!(
            described.starts_with("It makes bile.") && !described.contains("liver"),
            "{described}"
        );
        assert!(given.described("spleen").unwrap_err().contains("no description"));
    }

    #[test]
    fn a_file_of_templates_is_checked() {
        for (file, why) in [
            (json!([]), "not a JSON object"),
            (json!({"segmnt": ["x"]}), "unknown task"),
            (json!({"segment": []}), "no question"),
            (json!({"segment": "x"}), "not a list"),
        ] {
            let error = Questions::of(Family::R1Seg3d, 1).with_file(&file).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
