//! `--organ`: names of organs, for which the model is asked in its own words.

use anyhow::Result;
use r1seg_results::{OrganName, UnknownOrgan};

use crate::codes::Code;
use crate::exit::CliError;

/// The terms of all that was given. `in_words` says how to ask for any other term.
pub(crate) fn organs(given: &[String], in_words: &str) -> Result<Vec<OrganName>> {
    let mut organs: Vec<OrganName> = Vec::with_capacity(given.len());
    for given in given {
        let organ = OrganName::find(given).map_err(|unknown| refused(&unknown, in_words))?;
        if let Some(first) = organs.iter().find(|known| known.term == organ.term) {
            return Err(CliError::usage(
                format!("--organ {} and --organ {given} are both the {}", first.given, organ.term),
                "ask for each organ once",
            ));
        }
        organs.push(organ);
    }
    Ok(organs)
}

fn refused(unknown: &UnknownOrgan, in_words: &str) -> anyhow::Error {
    let meant = unknown.suggestion().map(|meant| meant + " ").unwrap_or_default();
    CliError::new(Code::UnknownOrgan, format!("--organ {}: unknown organ", unknown.given))
        .fix(format!("{meant}Any term may be asked for with {in_words}"))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[&str]) -> Result<Vec<OrganName>> {
        organs(&given.iter().map(ToString::to_string).collect::<Vec<_>>(), "--text")
    }

    #[test]
    fn organs_keep_their_order_and_what_was_typed() {
        let found = read(&["Milz", "kidney_left"]).unwrap();
        let pairs: Vec<_> = found.iter().map(|o| (o.given.as_str(), o.term)).collect();
        assert_eq!(pairs, [("Milz", "spleen"), ("kidney_left", "left kidney")]);
    }

    #[test]
    fn an_organ_is_asked_for_once() {
        let error = read(&["liver", "Leber"]).unwrap_err();
        assert_eq!(error.to_string(), "--organ liver and --organ Leber are both the liver");
    }

    #[test]
    fn an_unknown_organ_is_answered_with_the_nearest() {
        let error = read(&["pancras"]).unwrap_err();
        let fix = error.downcast_ref::<CliError>().unwrap().fix.clone().unwrap();
        assert_eq!(fix, "did you mean pancreas? Any term may be asked for with --text");
    }
}
