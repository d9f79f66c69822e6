//! Questions about a volume, several at once.

use std::time::{Duration, Instant};

use r1seg_llm::{Generated, Step};
use r1seg_nn::{FEW_ROWS, Probe};
use r1seg_tokenizer::Prompt;
use r1seg_volume::Mask;

use super::{EncodedVolume, Views};
use crate::boxes::BoxMapping;
use crate::model::seg_positions;
use crate::trace::pack_bits;
use crate::vision::View;
use crate::{Answer, AskOptions, Error, Event, Mode, RunContext, SegToken, Timings, Trace};

/// Questions that [`EncodedVolume::ask_many`] answers at once; more take turns. Their answers share
/// every read of the weights, and each has keys and values of its own (some 230 MB at full size).
pub const QUESTIONS_AT_ONCE: usize = FEW_ROWS;

/// Questions that are asked at once.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) prompts: &'a [Prompt],
    /// The index of the first of them, in events.
    pub(super) first: usize,
    pub(super) options: &'a AskOptions,
}

impl EncodedVolume {
    /// Asks a question.
    ///
    /// # Errors
    /// As [`EncodedVolume::ask_many_with`].
    pub fn ask(&self, question: &str) -> Result<Answer, Error> {
        self.ask_with(question, &AskOptions::default(), &mut RunContext::default())
    }

    /// Asks a question, with options; `run` stops it, and hears of its progress.
    ///
    /// # Errors
    /// As [`EncodedVolume::ask_many_with`].
    pub fn ask_with(
        &self,
        question: &str,
        options: &AskOptions,
        run: &mut RunContext<'_>,
    ) -> Result<Answer, Error> {
        let mut answers = self.ask_many_with(&[question], options, run)?;
        // One question has one answer.
        answers.pop().ok_or_else(|| candle_core::Error::msg("no answer to a question").into())
    }

    /// Asks several questions at once: their tokens share each read of the weights.
    ///
    /// # Errors
    /// As [`EncodedVolume::ask_many_with`].
    pub fn ask_many(&self, questions: &[&str], options: &AskOptions) -> Result<Vec<Answer>, Error> {
        self.ask_many_with(questions, options, &mut RunContext::default())
    }

    /// Asks several questions at once; `run` stops them, and hears of the progress of each by its index.
    ///
    /// The answers stand in the order of the questions, and each is what [`ask_with`](Self::ask_with)
    /// gives for its question with the same options, the same seed included: up to the order in which
    /// f32 numbers are summed, it does not depend on the other questions.
    ///
    /// Up to [`QUESTIONS_AT_ONCE`] are answered together: saying a token is bound by reading the
    /// weights, and their tokens share each read. Masks are decoded one after the other: one mask
    /// alone multiplies thousands of image rows with every weight, so that sharing the read would
    /// save nothing. In sliding mode each window is encoded once and read by all of them.
    ///
    /// # Timings
    /// The times of all answers add up to the time that was spent, but for what encoding took: that
    /// is repeated in every answer, or in sliding mode counted in the first answer only. A pass
    /// through the language model is divided among the answers in it by their rows; the image's own
    /// pass counts in the first.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an empty question, [`Error::PromptTooLong`], [`Error::Box`],
    /// [`Error::NoBoxTokens`] and [`Error::InvalidOption`], all before anything is computed;
    /// [`Error::Cancelled`]; or when the computation fails, for all questions.
    pub fn ask_many_with(
        &self,
        questions: &[&str],
        options: &AskOptions,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<Answer>, Error> {
        options
            .sampling
            .validate()
            .map_err(|e| Error::InvalidOption { what: "sampling", message: e.to_string() })?;
        if options.max_new_tokens == 0 {
            return Err(Error::InvalidOption {
                what: "max_new_tokens",
                message: "at least one token is needed".to_string(),
            });
        }
        let prompts = questions
            .iter()
            .map(|question| self.prompt(question, options))
            .collect::<Result<Vec<_>, _>>()?;
        let mut answers = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(QUESTIONS_AT_ONCE) {
            let asked = Asked { prompts, first: answers.len(), options };
            answers.extend(match &self.views {
                Views::Whole(view) => self.ask_whole(view, &asked, run)?,
                Views::Sliding { voxels, padding, windows } => {
                    self.ask_windows(voxels, padding, windows, &asked, run)?
                }
            });
        }
        Ok(answers)
    }

    fn prompt(&self, question: &str, options: &AskOptions) -> Result<Prompt, Error> {
        let Some(region) = options.region else {
            return self.model.prompt(question, options.separator);
        };
        if self.mode == Mode::Sliding {
            return Err(Error::InvalidOption {
                what: "box",
                message: "each window would need a box of its own; use mode resize".to_string(),
            });
        }
        self.geometry.check_region(region)?;
        let about = self.boxes_of_whole()?.text_of(region)?;
        self.model.prompt_about(question, &about, options.separator)
    }

    /// Boxes on the model's grid over all of the prepared grid.
    pub(super) fn boxes_of_whole(&self) -> Result<BoxMapping, Error> {
        let map = self.map.clone().fitted(self.model.input_shape())?;
        Ok(BoxMapping { map })
    }

    /// Boxes on the model's grid over a window, which begins at a cell of the prepared grid, or of the
    /// padding before it.
    pub(super) fn boxes_of_window(&self, start: [i64; 3]) -> BoxMapping {
        let grid = self.model.input_shape();
        BoxMapping { map: self.map.clone().windowed(start, grid) }
    }

    fn ask_whole(
        &self,
        view: &View,
        asked: &Asked<'_>,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<Answer>, Error> {
        let all_said = self.say(view, asked, self.trace.is_some(), run)?;
        let prompts = asked.prompts.iter().zip(all_said).enumerate();
        let answers = prompts.map(|(index, (prompt, said))| {
            run.check()?;
            if !said.seg.is_empty() {
                run.emit(Event::Mask { prompt: asked.first + index });
            }
            self.draw_whole(view, prompt, said, run)
        });
        answers.collect()
    }

    /// The mask of what was said about the whole volume.
    fn draw_whole(
        &self,
        view: &View,
        prompt: &Prompt,
        said: Said,
        run: &mut RunContext<'_>,
    ) -> Result<Answer, Error> {
        let mut trace = self.trace.clone();
        if let Some(trace) = &mut trace {
            self.trace_words(trace, prompt, &said.generated)?;
        }
        let start = Instant::now();
        let logits = self.logits(view, &said, &mut run.probe(trace.as_mut()))?;
        let mask_time = start.elapsed();
        let grid = self.model.input_shape();
        if let Some(trace) = &mut trace {
            trace_mask(trace, logits.as_deref(), self.model.config().no_seg_logit, grid)?;
        }
        let start = Instant::now();
        let mask = match &logits {
            Some(logits) => Some(self.mask(logits, grid)?),
            None => None,
        };
        let timings = Timings {
            preprocess: self.preprocess,
            vit: view.vit,
            projector: view.projector,
            prefill: said.prefix + said.generated.prefill,
            decode: said.generated.decode,
            mask: mask_time,
            postprocess: start.elapsed(),
        };
        Ok(Answer {
            boxes: self.boxes_of_whole()?.boxes_in(&said.text),
            text: said.text,
            token_ids: said.generated.token_ids,
            prompt_tokens: prompt.ids().len(),
            finish_reason: said.generated.finish_reason,
            seg: said.seg,
            mask,
            windows: Vec::new(),
            timings,
            trace,
        })
    }

    /// The words of several answers, told as they are said.
    pub(super) fn say(
        &self,
        view: &View,
        asked: &Asked<'_>,
        keep_logits: bool,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<Said>, Error> {
        let Asked { prompts, first, options } = *asked;
        let tokenizer = self.model.tokenizer();
        let mut streams: Vec<_> = prompts.iter().map(|_| tokenizer.stream_decoder()).collect();
        let mut failure = None;
        let cancel = run.cancel_token().clone();
        let mut on_token = |which: usize, step: Step<'_>| {
            let prompt = first + which;
            let mut tell = |text: Result<String, r1seg_tokenizer::Error>| match text {
                Ok(text) if !text.is_empty() => run.emit(Event::Text { prompt, text: &text }),
                Ok(_) => {}
                Err(e) => failure = Some(e),
            };
            let stream = &mut streams[which];
            tell(stream.push(step.id));
            let rest = step.finish_reason.map(|_| stream.clone().finish());
            if let Some(rest) = rest {
                tell(rest);
            }
            run.emit(Event::Token { prompt, index: step.index });
            if step.finish_reason.is_some() {
                run.emit(Event::TextDone { prompt });
            }
        };
        let all = self.model.answer(view, prompts, options, keep_logits, &cancel, &mut on_token)?;
        if let Some(e) = failure {
            return Err(e.into());
        }
        let words = all.into_iter().map(|(generated, prefix)| {
            let positions =
                seg_positions(&generated.token_ids, tokenizer.seg_token_id(), options.first_seg);
            let seg = positions
                .into_iter()
                .map(|position| SegToken { position, logprob: generated.logprobs[position] })
                .collect();
            Ok(Said { text: tokenizer.decode(&generated.token_ids)?, generated, seg, prefix })
        });
        words.collect()
    }

    pub(super) fn logits(
        &self,
        view: &View,
        said: &Said,
        probe: &mut dyn Probe,
    ) -> Result<Option<Vec<f32>>, Error> {
        if said.seg.is_empty() {
            return Ok(None);
        }
        let states = &said.generated.hidden_states;
        let hidden: Vec<_> = said.seg.iter().map(|seg| &states[seg.position]).collect();
        self.model.segment(view, &hidden, probe).map(Some)
    }

    pub(super) fn mask(&self, logits: &[f32], from: [usize; 3]) -> Result<Mask, Error> {
        let mask = self.map.mask_from_logits(logits, from)?;
        Ok(Mask::new(mask, self.geometry.clone())?)
    }

    fn trace_words(
        &self,
        trace: &mut Trace,
        prompt: &Prompt,
        generated: &Generated,
    ) -> Result<(), Error> {
        trace.insert_ids("input_ids", prompt.ids())?;
        trace.insert_ids("output_ids", &generated.token_ids)?;
        if let Some(hidden) = generated.hidden_states.first() {
            trace.record("llm.prefill_hidden_last", hidden)?;
        }
        if let Some(logits) = &generated.logits {
            trace.record("llm.prefill_logits_last", &logits.get(0)?)?;
            // Not through `record`, which would drop the axis of a one-token answer.
            trace.insert("llm.step_logits", logits.to_device(&candle_core::Device::Cpu)?);
        }
        Ok(())
    }
}

/// The words of an answer.
pub(super) struct Said {
    pub(super) text: String,
    pub(super) generated: Generated,
    pub(super) seg: Vec<SegToken>,
    /// Time to read the image, when this question was the first.
    pub(super) prefix: Duration,
}

/// `no_seg` stands everywhere when the answer had no `[SEG]`.
pub(super) fn trace_mask(
    trace: &mut Trace,
    logits: Option<&[f32]>,
    no_seg: f32,
    shape: [usize; 3],
) -> Result<(), Error> {
    trace.insert_bytes("mask.empty", vec![u8::from(logits.is_none())])?;
    let constant;
    let logits = match logits {
        Some(logits) => logits,
        None => {
            constant = vec![no_seg; shape.iter().product()];
            &constant
        }
    };
    trace.insert_bytes("mask.packed", pack_bits(logits.iter().map(|&v| v > 0.0)))?;
    let [d, h, w] = shape;
    let tensor = candle_core::Tensor::from_slice(logits, (d, h, w), &candle_core::Device::Cpu)?;
    trace.insert("mask.logits", tensor);
    Ok(())
}
