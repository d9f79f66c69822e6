//! `--organ`: names of organs, for which the model is asked in its own words.

use anyhow::Result;
use r1seg::terms;
use r1seg_results::OrganName;

use crate::codes::Code;
use crate::exit::CliError;

/// The terms of all that was given. `in_words` says how to ask for any other term.
pub(crate) fn organs(given: &[String], in_words: &str) -> Result<Vec<OrganName>> {
    let mut organs: Vec<OrganName> = Vec::with_capacity(given.len());
    for given in given {
        let term = terms::lookup(given).ok_or_else(|| unknown(given, in_words))?.english;
        if let Some(first) = organs.iter().find(|organ| organ.term == term) {
            return Err(CliError::usage(
                format!("--organ {} and --organ {given} are both the {term}", first.given),
                "ask for each organ once",
            ));
        }
        organs.push(OrganName { given: given.clone(), term });
    }
    Ok(organs)
}

fn unknown(given: &str, in_words: &str) -> anyhow::Error {
    let near = terms::nearest(given);
    let meant = match near.is_empty() {
        true => String::new(),
        false => format!("did you mean {}? ", near.join(" or ")),
    };
    CliError::new(Code::UnknownOrgan, format!("--organ {given}: unknown organ"))
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
