//! Questions in sliding mode: each window answers, and the masks are blended.

use std::time::Instant;

use r1seg_tokenizer::Prompt as PromptIds;
use r1seg_volume::sliding::Blend;
use r1seg_volume::{Padding, crop};

use super::language::{Asked, LanguageVolume, Windows, trace_mask};
use crate::model::seeded;
use crate::{AskOptions, DraftCounts, Error, Event, Outcome, RunContext, Timings, WindowAnswer};

/// A question's answers so far, in sliding mode.
struct Windowed {
    blend: Blend,
    answers: Vec<WindowAnswer>,
    found: bool,
    drafts: DraftCounts,
    timings: Timings,
}

impl LanguageVolume {
    pub(super) fn ask_windows(
        &self,
        of_volume: &Windows,
        asked: &Asked<'_>,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<Outcome>, Error> {
        let Windows { voxels, padding, windows } = of_volume;
        let begun = || Windowed {
            blend: Blend::new(padding.shape),
            answers: Vec::with_capacity(windows.len()),
            found: false,
            drafts: DraftCounts::default(),
            timings: self.setup.timings(),
        };
        let mut all: Vec<Windowed> = asked.prompts.iter().map(|_| begun()).collect();
        let no_seg = self.model.no_seg_logit();
        for (index, (region, encoded)) in windows.iter().enumerate() {
            run.check()?;
            run.emit(Event::Window { index, of: windows.len() });
            let image = match encoded.get() {
                Some(image) => image,
                None => {
                    let voxels = crop(voxels, padding.shape, *region)?;
                    let image = self.model.encode_image(voxels, None, &mut run.probe(None))?;
                    if let Some(first) = all.first_mut() {
                        first.timings.vit += image.vit;
                        first.timings.projector += image.projector;
                    }
                    encoded.get_or_init(|| image)
                }
            };
            let sampling = seeded(&asked.options.sampling, index as u64);
            let options = AskOptions { sampling, ..asked.options.clone() };
            let of_window = Asked { options: &options, ..*asked };
            // Texts of windows are not reported: only all of them together are an answer.
            let mut unheard = RunContext::from(run.cancel_token());
            let texts = self.generate(image, &of_window, false, &mut unheard)?;
            image.cache.clear();
            for (windowed, text) in all.iter_mut().zip(texts) {
                windowed.timings.prefill += text.prefix + text.generated.prefill;
                windowed.timings.decode += text.generated.decode;
                windowed.drafts.drafted += text.generated.drafted;
                windowed.drafts.accepted += text.generated.accepted;
                let start = Instant::now();
                match self.logits(image, &text, &mut run.probe(None))? {
                    Some(logits) => {
                        windowed.found = true;
                        windowed.blend.add(*region, &logits)?;
                    }
                    None if asked.options.abstain => {}
                    None => {
                        let veto = vec![no_seg; region.shape().iter().product()];
                        windowed.blend.add(*region, &veto)?;
                    }
                }
                windowed.timings.mask += start.elapsed();
                windowed.answers.push(WindowAnswer {
                    start: std::array::from_fn(|axis| {
                        region.start[axis] as i64 - padding.inner.start[axis] as i64
                    }),
                    text: text.text,
                    token_ids: text.generated.token_ids,
                    finish_reason: text.generated.finish_reason,
                    seg: text.seg,
                });
            }
        }
        let answers = asked.prompts.iter().zip(all);
        answers.map(|(prompt, windowed)| self.join(padding, prompt, windowed)).collect()
    }

    /// The answer that those of all windows make.
    fn join(
        &self,
        padding: &Padding,
        prompt: &PromptIds,
        windowed: Windowed,
    ) -> Result<Outcome, Error> {
        let Windowed { blend, answers, found, drafts, mut timings } = windowed;
        let no_seg = self.model.no_seg_logit();
        let start = Instant::now();
        // Where every window abstained there is nothing to average.
        let logits = padding.unpad(&blend.finish(no_seg))?;
        let shape = self.setup.map.shape();
        let mut trace = self.trace.clone();
        if let Some(trace) = &mut trace {
            trace.insert_ids("input_ids", prompt.ids())?;
            for (k, answer) in answers.iter().enumerate() {
                trace.insert_ids(format!("window.{k}.output_ids"), &answer.token_ids)?;
            }
            trace_mask(trace, found.then_some(&logits), no_seg, shape)?;
        }
        let mask = if found { Some(self.mask(&logits, shape)?) } else { None };
        timings.postprocess = start.elapsed();

        let mut outcome = Outcome {
            text: String::new(),
            token_ids: Vec::new(),
            prompt_tokens: prompt.ids().len(),
            finish_reason: None,
            seg: Vec::new(),
            mask,
            label: None,
            boxes: Vec::new(),
            windows: answers.len(),
            window_answers: answers,
            warnings: Vec::new(),
            zoomed: None,
            drafts,
            timings,
            trace,
        };
        let most_frequent = outcome.distinct_answers().first().map(|(text, _)| text.to_string());
        if let Some(window) =
            outcome.window_answers.iter().find(|w| Some(&w.text) == most_frequent.as_ref()).cloned()
        {
            outcome.boxes = self.boxes_of_window(window.start).boxes_in(&window.text);
            outcome.text = window.text;
            outcome.token_ids = window.token_ids;
            outcome.finish_reason = Some(window.finish_reason);
            outcome.seg = window.seg;
        }
        Ok(outcome)
    }
}
