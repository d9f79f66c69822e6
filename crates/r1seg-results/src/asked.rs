//! What is asked of a volume, and what became of it.

use r1seg::registry::Family;
use r1seg::volume::Mask;
use r1seg::{
    AskOptions, BOX_PLACEHOLDER, BoxText, InferenceMode, MaskStatus, Model, Outcome, OutputKind,
    Prompt, PromptKind, phrasing, terms,
};
use serde::Serialize;

/// What is asked of a volume, whichever family the model is of.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What labels and reports call it.
    pub name: String,
    /// The prompt itself.
    pub prompt: Prompt,
    /// The organ that the prompt was written for, where one was asked for by its name.
    pub organ: Option<OrganName>,
}

/// An organ that was asked for by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrganName {
    /// As typed.
    pub given: String,
    /// As the models call it.
    pub term: &'static str,
}

/// That no organ of a name is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownOrgan {
    /// As typed.
    pub given: String,
    /// The names that are spelled most like it.
    pub near: Vec<&'static str>,
}

impl OrganName {
    /// The organ of a name in any language, or of TotalSegmentator.
    ///
    /// # Errors
    /// [`UnknownOrgan`].
    pub fn find(given: impl Into<String>) -> Result<Self, UnknownOrgan> {
        let given = given.into();
        match terms::lookup(&given) {
            Some(term) => Ok(Self { given, term: term.english }),
            None => Err(UnknownOrgan { near: terms::nearest(&given), given }),
        }
    }
}

impl UnknownOrgan {
    /// What may have been meant, such as `did you mean liver or spleen?`, if any name is like it.
    pub fn suggestion(&self) -> Option<String> {
        (!self.near.is_empty()).then(|| format!("did you mean {}?", self.near.join(" or ")))
    }
}

/// What a prompt got.
#[derive(Debug, Clone)]
pub struct Given {
    /// The prompt.
    pub asked: Asked,
    /// What the model gave. The mask is with the other ones, in [`Findings`](crate::Findings).
    pub outcome: Outcome,
    /// What became of the mask.
    pub status: MaskStatus,
}

impl Asked {
    /// A prompt under a name.
    pub fn new(name: impl Into<String>, prompt: Prompt) -> Self {
        Self { name: name.into(), prompt, organ: None }
    }

    /// A question or a text, under its own words.
    pub fn of_text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::new(text.clone(), Prompt::of_text(text))
    }

    /// An organ, asked for with the sentence that models of a family were trained with.
    pub fn of_organ(organ: OrganName, family: Family) -> Self {
        let prompt = Prompt::of_text(phrasing::sentence(family, organ.term));
        Self { name: organ.term.to_string(), prompt, organ: Some(organ) }
    }

    /// Points, a box or a mask without words, called by what they are.
    pub fn of_places(prompt: Prompt) -> Self {
        Self::new(Self::kinds(&prompt), prompt)
    }

    /// What a prompt without words is called.
    pub fn kinds(prompt: &Prompt) -> &'static str {
        match (prompt.points.len(), prompt.region) {
            (0, None) => "mask",
            (0, Some(_)) => "box",
            (1, None) => "point",
            (_, None) => "points",
            (_, Some(_)) => "points and box",
        }
    }

    /// Gives it another name.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The words of the prompt.
    pub fn text(&self) -> &str {
        self.prompt.text.as_deref().unwrap_or_default()
    }

    /// Whether a model can take it, which is known before a volume is encoded. Without a mode, that is
    /// the model's own.
    ///
    /// # Errors
    /// Those of [`R1SegModel::prompt`](r1seg::R1SegModel::prompt) and of
    /// [`Prompt::check`](r1seg::Prompt::check); [`r1seg::Error::OtherFamily`] for a model that takes no
    /// prompts.
    pub fn check(
        &self,
        model: &Model,
        options: &AskOptions,
        mode: Option<InferenceMode>,
    ) -> Result<(), r1seg::Error> {
        match model {
            Model::Language(language) => {
                let name = model.family().name();
                let gives_masks = model.capabilities().gives(OutputKind::Mask);
                if self.organ.is_some() && !gives_masks {
                    let message = format!("{name} draws no masks, and so none of an organ");
                    let fix = "ask in words, or use a model that segments";
                    return Err(r1seg::Error::Prompt { message, fix });
                }
                let given = [
                    (PromptKind::Points, !self.prompt.points.is_empty(), "points"),
                    (PromptKind::Mask, self.prompt.mask.is_some(), "masks to correct"),
                    (PromptKind::Box, self.prompt.region.is_some() && !gives_masks, "boxes"),
                ];
                if let Some((_, _, what)) = given.iter().find(|(_, is_given, _)| *is_given) {
                    let message = format!("{name} takes no {what}");
                    let fix = "ask in words, or use a model that takes them";
                    return Err(r1seg::Error::Prompt { message, fix });
                }
                let region = self.prompt.region;
                if region.is_none() && self.text().contains(BOX_PLACEHOLDER) {
                    let message =
                        format!("the question has {BOX_PLACEHOLDER}, and no box was given");
                    return Err(r1seg::Error::Prompt { message, fix: "give a box" });
                }
                if region.is_some() && mode == Some(InferenceMode::Sliding) {
                    let message = "each window would need a box of its own; use mode resize";
                    let message = message.to_string();
                    return Err(r1seg::Error::InvalidOption { what: "box", message });
                }
                // Any box has as many tokens as another, give or take a digit.
                match self.prompt.region {
                    None => language.prompt(self.text(), options.separator),
                    Some(_) => language.prompt_about(self.text(), &ANY_BOX, options.separator),
                }
                .map(drop)
            }
            Model::Promptable(promptable) => {
                let mode = promptable.config().family.mode(mode)?;
                self.prompt.check(model.family(), mode)?;
                self.prompt.text.as_ref().map_or(Ok(()), |text| promptable.check_text(text))
            }
            Model::Automatic(automatic) => {
                model.family().mode(mode)?;
                automatic.check(&self.prompt)
            }
            Model::Retrieval(_) => Err(model.takes_no_prompts()),
        }
    }
}

/// For questions whose box is not known yet.
const ANY_BOX: BoxText =
    BoxText { d0: 0.125, h0: 0.125, w0: 0.125, d1: 0.875, h1: 0.875, w1: 0.875 };

impl Given {
    /// What a prompt got, and its mask, of which reports need nothing more.
    pub fn new(asked: Asked, mut outcome: Outcome) -> (Self, Option<Mask>) {
        let status = outcome.status();
        let mask = outcome.mask.take();
        (Self { asked, outcome, status }, mask)
    }
}
