//! What a volume is asked for, in the terms of the model.

use r1seg::registry::Family;
use r1seg::volume::Geometry;
use r1seg::{AskOptions, BOX_PLACEHOLDER, Diagnostic, InferenceMode, Model, Prompt, PromptKind};
use r1seg_results::Asked;

use super::row::Asks;
use crate::codes::Code;
use crate::exit::CliError;
use crate::{organs, prompts};

/// How to ask for an organ that has no name in the table.
const IN_WORDS: &str = "a `prompt` or a `text`";

/// Whether the model takes prompts of these kinds at all, which is known before anything is read.
pub(super) fn check_kinds(
    asks: &Asks,
    family: Family,
    mode: InferenceMode,
) -> Result<(), CliError> {
    let name = family.name();
    let refuse = |what: &str, fix: &str| {
        Err(CliError::new(Code::BatchPrompt, format!("{name} takes no {what}")).fix(fix))
    };
    let answers = family.capabilities().takes(PromptKind::Question);
    if !asks.classes.is_empty() && !family.has_classes() {
        return refuse("classes", "name what to segment with `organs`");
    }
    if answers && !asks.texts.is_empty() {
        return refuse("texts", "ask a question with `prompt`, or name an organ with `organ`");
    }
    if !answers && !asks.questions.is_empty() {
        return refuse(
            "questions",
            "name what to segment with `text` or `organ`, or where with `points`",
        );
    }
    let mut outline = asks.places.outlines().pop().unwrap_or_default();
    if answers {
        return match outline.points.is_empty() {
            true => Ok(()),
            false => refuse("points", "ask in words"),
        };
    }
    let has_words = [&asks.texts, &asks.organs, &asks.classes].iter().any(|of| !of.is_empty());
    outline.text = has_words.then(|| "text".to_owned());
    outline.check(family, mode).map_err(|e| {
        let error = CliError::from(&e as &dyn Diagnostic);
        CliError { code: Code::BatchPrompt.code(), kind: Code::BatchPrompt.kind(), ..error }
    })
}

/// How many prompts there are, each of which may have a mask.
pub(super) fn count(asks: &Asks) -> usize {
    let words = [&asks.questions, &asks.texts, &asks.organs, &asks.classes];
    words.iter().map(|of| of.len()).sum::<usize>().max(asks.places.len())
}

/// All prompts about a volume of this grid, checked as far as that is possible before it is encoded.
pub(super) fn asked(
    asks: &Asks,
    model: &Model,
    (options, mode): (&AskOptions, InferenceMode),
    geometry: &Geometry,
) -> Result<Vec<Asked>, CliError> {
    let mut all = worded(asks, model.family())?;
    let places =
        asks.places.prompts(geometry).map_err(|e| CliError::from(&e as &dyn Diagnostic))?;
    let place = places.into_iter().next().map(|(_, prompt)| prompt);
    match place {
        Some(place) if all.is_empty() => all.push(Asked::of_places(place)),
        Some(place) => put_at(&mut all, &place, model)?,
        None => {}
    }
    label(&mut all, &asks.labels)?;
    let count = all.len();
    for (index, asked) in all.iter().enumerate() {
        check_box(&asked.prompt, mode)?;
        asked.check(model, options, Some(mode)).map_err(|e| numbered(&e, index, count))?;
    }
    Ok(all)
}

/// Questions or texts, and then organs.
fn worded(asks: &Asks, family: Family) -> Result<Vec<Asked>, CliError> {
    let texts = asks.questions.iter().chain(&asks.texts).chain(&asks.classes);
    let organs = organs::organs(&asks.organs, IN_WORDS).map_err(|error| {
        let error = in_cli(error);
        // Which may stand in a row as well.
        CliError { what: error.what.replace("--organ ", ""), ..error }
    })?;
    let organs = organs.into_iter().map(|organ| Asked::of_organ(organ, family));
    let all: Vec<Asked> = texts.map(Asked::of_text).chain(organs).collect();
    prompts::check_number(all.len()).map_err(in_cli)?;
    Ok(all)
}

/// Of a question the part that it is about; of a text where it is, which can be said of one only.
fn put_at(all: &mut [Asked], place: &Prompt, model: &Model) -> Result<(), CliError> {
    if !matches!(model, Model::Language(_)) && all.len() > 1 {
        let what = format!("{} texts, and points or a box that can belong to one only", all.len());
        return Err(CliError::new(Code::BatchPrompt, what).fix("give each a row of its own"));
    }
    for asked in all {
        let text = asked.prompt.text.take();
        asked.prompt = place.clone();
        asked.prompt.text = text;
    }
    Ok(())
}

fn label(all: &mut [Asked], labels: &[String]) -> Result<(), CliError> {
    if !labels.is_empty() && labels.len() != all.len() {
        let what = format!("{} labels, and the number of prompts is {}", labels.len(), all.len());
        let fix = "name the label of every prompt, in their order, or of none";
        return Err(CliError::new(Code::BatchPrompt, what).fix(fix));
    }
    for (asked, label) in all.iter_mut().zip(labels) {
        asked.name.clone_from(label);
    }
    Ok(())
}

/// A prompt with a place for a box has one, and windows have none.
fn check_box(prompt: &Prompt, mode: InferenceMode) -> Result<(), CliError> {
    let is_placed = prompt.text.as_ref().is_some_and(|text| text.contains(BOX_PLACEHOLDER));
    let (what, fix) = match (is_placed, prompt.region, mode) {
        (true, None, _) => {
            (format!("a prompt has {BOX_PLACEHOLDER}, and there is no `box`"), "give one")
        }
        (_, Some(_), InferenceMode::Sliding) => (
            "windows are shown one after the other, and a box is for the whole volume".to_owned(),
            "use --mode resize",
        ),
        _ => return Ok(()),
    };
    Err(CliError::new(Code::BatchPrompt, what).fix(fix))
}

fn numbered(error: &r1seg::Error, index: usize, count: usize) -> CliError {
    let error = CliError::from(error as &dyn Diagnostic);
    match count {
        1 => error,
        _ => CliError { what: format!("prompt {} of {count}: {}", index + 1, error.what), ..error },
    }
}

/// An error that this command line made.
fn in_cli(error: anyhow::Error) -> CliError {
    match error.downcast::<CliError>() {
        Ok(error) => error,
        Err(error) => CliError::new(Code::Internal, format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use r1seg::{CheckpointSource, LoadOptions};

    use super::*;
    use crate::args::PlaceTexts;

    fn asks(change: impl FnOnce(&mut Asks)) -> Asks {
        let mut asks = Asks::default();
        change(&mut asks);
        asks
    }

    fn words(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    fn at(point: &str) -> crate::args::Places {
        PlaceTexts { points: words(point), ..PlaceTexts::default() }.places().unwrap()
    }

    #[test]
    fn kinds_that_a_model_does_not_take_are_refused_before_anything_is_read() {
        let (language, segvol, clicks) = (Family::R1Seg3d, Family::SegVol, Family::SamMed3d);
        let (resize, crop) = (InferenceMode::Resize, InferenceMode::Crop);
        for (family, mode, asks, says) in [
            (language, resize, asks(|a| a.texts = words("x")), "takes no texts"),
            (language, resize, asks(|a| a.classes = words("x")), "takes no classes"),
            (language, resize, asks(|a| a.places = at("1,2,3")), "takes no points"),
            (segvol, resize, asks(|a| a.questions = words("x")), "takes no questions"),
            (segvol, resize, asks(|a| a.classes = words("x")), "takes no classes"),
            (clicks, crop, asks(|a| a.organs = words("liver")), ""),
        ] {
            let error = check_kinds(&asks, family, mode).unwrap_err();
            assert_eq!(error.code, "R-BAT-10");
            assert!(error.what.contains(says), "{}", error.what);
        }
        let fine = asks(|a| (a.texts, a.places) = (words("liver"), at("1,2,3")));
        check_kinds(&fine, segvol, resize).unwrap();
    }

    #[test]
    fn labels_and_organs_name_what_is_asked() {
        let model = r1seg::load(CheckpointSource::demo(), &LoadOptions::default()).unwrap();
        let (options, grid) = (AskOptions::default(), Geometry::without_affine([9; 3]));
        let ask = |asks: &Asks| asked(asks, &model, (&options, InferenceMode::Resize), &grid);
        let both = asks(|a| (a.questions, a.organs) = (words("Where is it?"), words("Milz")));
        let names = |all: Vec<Asked>| all.into_iter().map(|asked| asked.name).collect::<Vec<_>>();
        assert_eq!(names(ask(&both).unwrap()), ["Where is it?", "spleen"]);
        let named = Asks { labels: vec!["a".into(), "b".into()], ..both.clone() };
        assert_eq!(names(ask(&named).unwrap()), ["a", "b"]);
        for (asks, says) in [
            (Asks { labels: words("a"), ..both }, "1 labels, and the number of prompts is 2"),
            (asks(|a| a.questions = words("What is in {box}?")), "there is no `box`"),
            (asks(|a| a.organs = words("livver")), "unknown organ"),
            (asks(|a| a.questions = words(" ")), ""),
        ] {
            let error = ask(&asks).unwrap_err();
            assert!(error.what.contains(says), "{}", error.what);
        }
    }
}
