//! Prompts run on an encoded volume, by a model of any family, and all that they got.

use r1seg::registry::Family;
use r1seg::volume::{Geometry, Region, Warning};
use r1seg::{
    AskOptions, CancelToken, CheckpointSource, EncodedVolume, Event, Model, Outcome, Prompt,
    PromptPoint, QUESTIONS_AT_ONCE, Remedy, RunContext,
};

use crate::doubts::doubts;
use crate::report::{Questions, Report, Run};
use crate::{Asked, Error, Findings, Given, Input, Layout, Refined, Results};

/// What the prompts about one volume got, with all masks in one label map.
#[derive(Debug, Clone)]
pub struct Obtained {
    pub(crate) findings: Findings,
    given: Vec<Given>,
    pub(crate) refined: Vec<Refined>,
}

/// Runs prompts on an encoded volume, and joins what they got. Masks are joined as they come, so that few
/// are in memory.
///
/// `on_event` hears of progress, with the index of the prompt among all of them.
///
/// # Errors
/// As [`run_prompts`].
pub fn obtain(
    encoded: &EncodedVolume,
    asked: Vec<Asked>,
    options: &AskOptions,
    cancel: &CancelToken,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Obtained, Error> {
    let mut obtained = Obtained::new(encoded.geometry());
    let prompts: Vec<Prompt> = asked.iter().map(|of| of.prompt.clone()).collect();
    let mut asked = asked.into_iter();
    let mut on_outcome = |_: usize, outcome: Outcome| {
        asked.next().map_or(Ok(()), |asked| obtained.push(asked, outcome))
    };
    run_prompts(encoded, &prompts, options, cancel, on_event, &mut on_outcome)?;
    Ok(obtained)
}

/// Runs prompts on an encoded volume, whoever they are from: questions as many at once as share each
/// reading of the weights, other prompts as [`EncodedVolume::segment_each`] does.
///
/// `on_event` hears of progress, and `on_outcome` gets each outcome as soon as it is there, in the order of
/// the prompts; both with the index of the prompt among all of them.
///
/// # Errors
/// As [`EncodedVolume::ask_many_with`] and [`EncodedVolume::segment_with`], and those of `on_outcome`.
pub fn run_prompts(
    encoded: &EncodedVolume,
    prompts: &[Prompt],
    options: &AskOptions,
    cancel: &CancelToken,
    on_event: &mut dyn FnMut(Event<'_>),
    on_outcome: &mut dyn FnMut(usize, Outcome) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut first = 0;
    if !encoded.answers_questions() {
        let mut run = RunContext::from(cancel).with_events(on_event);
        return encoded.segment_each(prompts, &mut run, on_outcome);
    }
    for chunk in prompts.chunks(QUESTIONS_AT_ONCE) {
        let mut shifted = |event: Event<'_>| on_event(event.with_prompts_from(first));
        let mut run = RunContext::from(cancel).with_events(&mut shifted);
        let outcomes = encoded.ask_many_with(chunk, options, &mut run)?;
        for (index, outcome) in (first..).zip(outcomes) {
            on_outcome(index, outcome)?;
        }
        first += chunk.len();
    }
    Ok(())
}

impl Obtained {
    /// Of no prompt yet, on the grid of the volume.
    pub fn new(geometry: &Geometry) -> Self {
        Self { findings: Findings::new(geometry), given: Vec::new(), refined: Vec::new() }
    }

    /// Adds what the next prompt got: under the label by which the model knows it, or under the next one.
    /// Where nothing was refined, prompt K of a model without classes, counted from 1, becomes label K.
    ///
    /// # Errors
    /// As [`Findings::push`].
    pub fn push(&mut self, asked: Asked, outcome: Outcome) -> Result<(), Error> {
        let (given, mask) = Given::new(asked, outcome);
        let boxes = given.outcome.boxes.iter().filter_map(|found| found.region).collect();
        let own = given.outcome.label;
        self.findings.push(&given.asked.name, mask.as_ref(), boxes, own)?;
        self.given.push(given);
        Ok(())
    }

    /// All masks, with their names.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Each prompt with what it got, in their order.
    pub fn given(&self) -> &[Given] {
        &self.given
    }

    /// What a person should know about the volume, how it was prepared, and what was found.
    pub fn warnings(
        &self,
        source: &CheckpointSource,
        family: Family,
        input: &Input,
        encoded: &EncodedVolume,
    ) -> Vec<Warning> {
        let mut warnings = input.warnings.clone();
        if matches!(source, CheckpointSource::Embedded(_)) {
            let text = "the demo model knows only synthetic phantoms: what it says about this \
                        volume means nothing";
            warnings.push(Warning::new("W-DEMO", text).with_remedy(Remedy::UseTrainedModel));
        }
        warnings.extend(encoded.warnings().iter().cloned());
        warnings.extend(doubts(family, &self.given));
        warnings.extend(self.refining_warnings());
        warnings
    }

    /// The text of `answer.txt`. Where a sentence was written for an organ, it stands before its answer.
    pub fn answer_text(&self) -> String {
        let numbered = self.given.len() > 1;
        let text = |(index, Given { asked, outcome, .. }): (usize, &Given)| {
            let which = if numbered { format!("[{}] ", index + 1) } else { String::new() };
            match asked.organ {
                Some(_) => format!("{which}Q: {}\n{which}A: {}\n", asked.text(), outcome.text),
                None => format!("{which}{}\n", outcome.text),
            }
        };
        self.given.iter().enumerate().map(text).collect()
    }

    /// The report: everything but masks, warnings, and the times of saving and in total.
    pub fn report(&self, run: Run<'_>, model: &Model, options: &AskOptions) -> Report {
        let mut report = self.report_of_prompts(run, model, options);
        report.set_refined(&self.refined);
        report
    }

    fn report_of_prompts(&self, run: Run<'_>, model: &Model, options: &AskOptions) -> Report {
        let Model::Language(language) = model else { return Report::of_prompts(run, &self.given) };
        // In a conversation questions may be about boxes of their own, which are then with their answers.
        let mut regions = self.given.iter().map(|given| given.asked.prompt.region);
        let first = regions.next().flatten();
        let region = first.filter(|first| regions.all(|other| other == Some(*first)));
        let questions = Questions {
            options,
            region,
            separator: language.separator(options, region),
            grid: model.input_shape(),
            answers: &self.given,
        };
        Report::of_answers(run, &questions)
    }

    /// All that is to be measured and written. `words` says what to do about a warning in the terms of
    /// the program.
    pub fn into_results<'a>(
        mut self,
        layout: Layout,
        input: &'a Input,
        words: fn(&Remedy) -> String,
    ) -> Results<'a> {
        let (answer, points, boxes) = (self.answer_text(), self.points(), self.boxes());
        let trace = self.given.first_mut().and_then(|given| given.outcome.trace.take());
        Results {
            layout,
            input,
            findings: self.findings,
            asked_boxes: boxes,
            asked_points: points,
            answer,
            trace,
            words,
        }
    }

    fn points(&self) -> Vec<PromptPoint> {
        self.given.iter().flat_map(|of| of.asked.prompt.points.iter().copied()).collect()
    }

    /// Each box once, in which all questions of a run may be.
    fn boxes(&self) -> Vec<Region> {
        let mut boxes = Vec::new();
        for region in self.given.iter().filter_map(|of| of.asked.prompt.region) {
            if !boxes.contains(&region) {
                boxes.push(region);
            }
        }
        boxes
    }
}
