//! Questions in sliding mode: each window answers, and the masks are blended.

use std::sync::OnceLock;
use std::time::Instant;

use r1seg_tokenizer::Prompt;
use r1seg_volume::sliding::Blend;
use r1seg_volume::{Padding, Region, crop};

use super::EncodedVolume;
use super::asking::{Asked, trace_mask};
use crate::model::seeded;
use crate::vision::View;
use crate::{Answer, AskOptions, Error, Event, FinishReason, RunContext, Timings, WindowAnswer};

/// A question's answers so far, in sliding mode.
struct Windowed {
    blend: Blend,
    answers: Vec<WindowAnswer>,
    found: bool,
    timings: Timings,
}

impl EncodedVolume {
    pub(super) fn ask_windows(
        &self,
        voxels: &[f32],
        padding: &Padding,
        windows: &[(Region, OnceLock<View>)],
        asked: &Asked<'_>,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<Answer>, Error> {
        let begun = || Windowed {
            blend: Blend::new(padding.shape),
            answers: Vec::with_capacity(windows.len()),
            found: false,
            timings: Timings { preprocess: self.preprocess, ..Timings::default() },
        };
        let mut all: Vec<Windowed> = asked.prompts.iter().map(|_| begun()).collect();
        let no_seg = self.model.config().no_seg_logit;
        for (index, (region, seen)) in windows.iter().enumerate() {
            run.check()?;
            run.emit(Event::Window { index, of: windows.len() });
            let view = match seen.get() {
                Some(view) => view,
                None => {
                    let voxels = crop(voxels, padding.shape, *region)?;
                    let view = self.model.see(voxels, &mut run.probe(None))?;
                    if let Some(first) = all.first_mut() {
                        first.timings.vit += view.vit;
                        first.timings.projector += view.projector;
                    }
                    seen.get_or_init(|| view)
                }
            };
            let sampling = seeded(&asked.options.sampling, index as u64);
            let options = AskOptions { sampling, ..asked.options.clone() };
            let of_window = Asked { options: &options, ..*asked };
            // Texts of windows are not reported: only all of them together are an answer.
            let mut unheard = RunContext::from(run.cancel_token());
            let all_said = self.say(view, &of_window, false, &mut unheard)?;
            view.prefixes.clear();
            for (windowed, said) in all.iter_mut().zip(all_said) {
                windowed.timings.prefill += said.prefix + said.generated.prefill;
                windowed.timings.decode += said.generated.decode;
                let start = Instant::now();
                match self.logits(view, &said, &mut run.probe(None))? {
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
                    text: said.text,
                    token_ids: said.generated.token_ids,
                    finish_reason: said.generated.finish_reason,
                    seg: said.seg,
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
        prompt: &Prompt,
        windowed: Windowed,
    ) -> Result<Answer, Error> {
        let Windowed { blend, answers, found, mut timings } = windowed;
        let no_seg = self.model.config().no_seg_logit;
        let start = Instant::now();
        // Where every window abstained there is nothing to average.
        let logits = padding.unpad(&blend.finish(no_seg))?;
        let shape = self.map.shape();
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

        let mut answer = Answer {
            text: String::new(),
            token_ids: Vec::new(),
            prompt_tokens: prompt.ids().len(),
            finish_reason: FinishReason::Stop,
            seg: Vec::new(),
            mask,
            boxes: Vec::new(),
            windows: answers,
            timings,
            trace,
        };
        let most_frequent = answer.distinct_answers().first().map(|(text, _)| text.to_string());
        if let Some(window) =
            answer.windows.iter().find(|w| Some(&w.text) == most_frequent.as_ref()).cloned()
        {
            answer.boxes = self.boxes_of_window(window.start).boxes_in(&window.text);
            answer.text = window.text;
            answer.token_ids = window.token_ids;
            answer.finish_reason = window.finish_reason;
            answer.seg = window.seg;
        }
        Ok(answer)
    }
}
