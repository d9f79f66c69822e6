//! A volume that the model has seen, and the questions about it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use r1seg_llm::Generated;
use r1seg_nn::{NoProbe, Probe};
use r1seg_tokenizer::Prompt;
use r1seg_volume::sliding::{Blend, windows};
use r1seg_volume::{Geometry, Mask, Padding, Placement, Recipe, Region, Volume, Warning, crop};

use crate::boxes::{Sight, check_box};
use crate::model::{seeded, seg_positions};
use crate::prepare::prepare;
use crate::trace::pack_bits;
use crate::vision::View;
use crate::{
    Answer, AskOptions, EncodeOptions, Error, FinishReason, Mode, R1SegModel, SegToken, Timings,
    Trace, WindowAnswer,
};

/// Overlap of the authors' sliding-window evaluation.
pub const SLIDING_OVERLAP: f64 = 0.5;

/// Progress of a question.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// More of the answer's text.
    Text(&'a str),
    /// Another token was said.
    Token {
        /// Its index in the answer.
        index: usize,
    },
    /// A window is about to be read, in sliding mode.
    Window {
        /// Its index.
        index: usize,
        /// Number of windows.
        of: usize,
    },
    /// The mask is being decoded.
    Mask,
}

/// A volume that the model has seen.
///
/// The vision transformer ran once, and the language model reads the image once: further
/// questions cost only their own tokens. In sliding mode the windows' image embeddings are kept
/// (about 10 MB each at full size), but not their keys and values.
#[derive(Debug)]
pub struct EncodedVolume<'m> {
    model: &'m R1SegModel,
    geometry: Geometry,
    recipe: Recipe,
    mode: Mode,
    placement: Placement,
    warnings: Vec<Warning>,
    views: Views,
    preprocess: Duration,
    /// Stages of the vision transformer, when they were asked for.
    trace: Option<Trace>,
}

#[derive(Debug)]
enum Views {
    Whole(Box<View>),
    Sliding {
        /// The prepared volume, zero-padded to at least one window.
        voxels: Vec<f32>,
        padding: Padding,
        windows: Vec<(Region, OnceLock<View>)>,
    },
}

impl<'m> EncodedVolume<'m> {
    pub(crate) fn new(
        model: &'m R1SegModel,
        volume: &Volume,
        options: &EncodeOptions,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let prepared = prepare(volume, options.preprocess)?;
        let (recipe, placement) = (prepared.recipe, prepared.placement());
        let grid = model.config().vit.image_size;
        let mut trace = options.trace.then(Trace::default);
        let (views, preprocess) = match options.mode {
            Mode::Resize => {
                let voxels = prepared.resize(grid)?;
                let preprocess = start.elapsed();
                let view = match &mut trace {
                    Some(trace) => model.see(voxels, trace)?,
                    None => model.see(voxels, &mut NoProbe)?,
                };
                (Views::Whole(Box::new(view)), preprocess)
            }
            Mode::Sliding => {
                let padding = Padding::to_at_least(prepared.shape(), grid);
                let windows = windows(padding.shape, grid, SLIDING_OVERLAP)?;
                let voxels = prepared.padded(&padding)?;
                let windows = windows.into_iter().map(|w| (w, OnceLock::new())).collect();
                (Views::Sliding { voxels, padding, windows }, start.elapsed())
            }
        };
        Ok(Self {
            model,
            geometry: volume.geometry().clone(),
            recipe,
            mode: options.mode,
            placement,
            warnings: match options.mode {
                Mode::Resize => prepared.warnings(Some(grid)),
                Mode::Sliding => prepared.warnings(None),
            },
            views,
            preprocess,
            trace,
        })
    }

    /// The recipe that prepared the intensities.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// How the volume met the model's grid.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What a person should know about how the volume was prepared.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The crop that the model saw, in voxels of the input.
    pub fn crop(&self) -> Region {
        self.placement.region()
    }

    /// Millimetres of the body behind one voxel of the model, along D, H and W of the input:
    /// nothing smaller is seen. Absent without a known spacing.
    pub fn effective_resolution_mm(&self) -> Option<[f64; 3]> {
        let grid = match self.mode {
            Mode::Resize => self.model.config().vit.image_size,
            Mode::Sliding => self.placement.shape(),
        };
        self.placement.effective_resolution_mm(&self.geometry, grid)
    }

    /// Number of windows: one in resize mode.
    pub fn num_windows(&self) -> usize {
        match &self.views {
            Views::Whole(_) => 1,
            Views::Sliding { windows, .. } => windows.len(),
        }
    }

    /// Asks a question.
    ///
    /// # Errors
    /// As [`EncodedVolume::ask_with`].
    pub fn ask(&self, question: &str) -> Result<Answer, Error> {
        self.ask_with(question, &AskOptions::default(), &mut |_| {})
    }

    /// Asks a question, with options, and tells about the progress.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an empty question, [`Error::PromptTooLong`], [`Error::Box`],
    /// [`Error::NoBoxTokens`], [`Error::InvalidOption`], [`Error::Cancelled`], or when the computation fails.
    pub fn ask_with(
        &self,
        question: &str,
        options: &AskOptions,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Answer, Error> {
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
        let prompt = match options.region {
            None => self.model.prompt(question, options.separator)?,
            Some(region) => {
                if self.mode == Mode::Sliding {
                    return Err(Error::InvalidOption {
                        what: "box",
                        message: "each window would need a box of its own; use mode resize"
                            .to_string(),
                    });
                }
                check_box(&self.geometry, region)?;
                let about = self.sight(None).text_of(region)?;
                self.model.prompt_about(question, &about, options.separator)?
            }
        };
        match &self.views {
            Views::Whole(view) => self.ask_whole(view, &prompt, options, on_event),
            Views::Sliding { voxels, padding, windows } => {
                self.ask_windows(voxels, padding, windows, &prompt, options, on_event)
            }
        }
    }

    /// What the model sees: all of the crop, or a window that begins at a cell of it.
    fn sight(&self, window: Option<[i64; 3]>) -> Sight<'_> {
        Sight { placement: &self.placement, grid: self.model.config().vit.image_size, window }
    }

    fn ask_whole(
        &self,
        view: &View,
        prompt: &Prompt,
        options: &AskOptions,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Answer, Error> {
        let mut trace = self.trace.clone();
        let said = self.say(view, prompt, options, trace.is_some(), Some(on_event))?;
        if let Some(trace) = &mut trace {
            self.trace_words(trace, prompt, &said.generated)?;
        }
        if !said.seg.is_empty() {
            on_event(Event::Mask);
        }
        let start = Instant::now();
        let logits = match &mut trace {
            Some(trace) => self.logits(view, &said, trace)?,
            None => self.logits(view, &said, &mut NoProbe)?,
        };
        let mask_time = start.elapsed();
        let grid = self.model.config().vit.image_size;
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
            boxes: self.sight(None).boxes_in(&said.text),
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

    fn ask_windows(
        &self,
        voxels: &[f32],
        padding: &Padding,
        windows: &[(Region, OnceLock<View>)],
        prompt: &Prompt,
        options: &AskOptions,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Answer, Error> {
        let mut timings = Timings { preprocess: self.preprocess, ..Timings::default() };
        let mut blend = Blend::new(padding.shape);
        let mut answers = Vec::with_capacity(windows.len());
        let mut found = false;
        let no_seg = self.model.config().no_seg_logit;
        for (index, (region, seen)) in windows.iter().enumerate() {
            on_event(Event::Window { index, of: windows.len() });
            let view = match seen.get() {
                Some(view) => view,
                None => {
                    let voxels = crop(voxels, padding.shape, *region)?;
                    let view = self.model.see(voxels, &mut NoProbe)?;
                    timings.vit += view.vit;
                    timings.projector += view.projector;
                    seen.get_or_init(|| view)
                }
            };
            let options =
                AskOptions { sampling: seeded(&options.sampling, index as u64), ..options.clone() };
            let said = self.say(view, prompt, &options, false, None)?;
            view.drop_prefix();
            timings.prefill += said.prefix + said.generated.prefill;
            timings.decode += said.generated.decode;
            let start = Instant::now();
            match self.logits(view, &said, &mut NoProbe)? {
                Some(logits) => {
                    found = true;
                    blend.add(*region, &logits)?;
                }
                None if options.abstain => {}
                None => {
                    let veto = vec![no_seg; region.shape().iter().product()];
                    blend.add(*region, &veto)?;
                }
            }
            timings.mask += start.elapsed();
            answers.push(WindowAnswer {
                start: std::array::from_fn(|axis| {
                    region.start[axis] as i64 - padding.inner.start[axis] as i64
                }),
                text: said.text,
                token_ids: said.generated.token_ids,
                finish_reason: said.generated.finish_reason,
                seg: said.seg,
            });
        }
        let start = Instant::now();
        let mut logits = padding.unpad(&blend.finish())?;
        // Where every window abstained there is nothing to average.
        logits.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = no_seg);
        let shape = self.placement.shape();
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
            answer.boxes = self.sight(Some(window.start)).boxes_in(&window.text);
            answer.text = window.text;
            answer.token_ids = window.token_ids;
            answer.finish_reason = window.finish_reason;
            answer.seg = window.seg;
        }
        Ok(answer)
    }

    /// The words of an answer, streamed where someone listens.
    fn say(
        &self,
        view: &View,
        prompt: &Prompt,
        options: &AskOptions,
        keep_logits: bool,
        on_event: Option<&mut dyn FnMut(Event<'_>)>,
    ) -> Result<Said, Error> {
        let tokenizer = self.model.tokenizer();
        let mut stream = tokenizer.stream_decoder();
        let mut index = 0;
        let mut failure = None;
        let mut silent = |_: Event<'_>| {};
        let on_event = on_event.unwrap_or(&mut silent);
        let (generated, prefix) =
            self.model.answer(view, prompt, options, keep_logits, &mut |id| {
                match stream.push(id) {
                    Ok(text) if !text.is_empty() => on_event(Event::Text(&text)),
                    Ok(_) => {}
                    Err(e) => failure = Some(e),
                }
                on_event(Event::Token { index });
                index += 1;
            })?;
        if let Some(e) = failure {
            return Err(e.into());
        }
        if generated.finish_reason == FinishReason::Cancelled {
            return Err(Error::Cancelled);
        }
        let rest = stream.finish()?;
        if !rest.is_empty() {
            on_event(Event::Text(&rest));
        }
        let positions =
            seg_positions(&generated.token_ids, tokenizer.seg_token_id(), options.first_seg);
        let seg = positions
            .into_iter()
            .map(|position| SegToken { position, logprob: generated.logprobs[position] })
            .collect();
        Ok(Said { text: tokenizer.decode(&generated.token_ids)?, generated, seg, prefix })
    }

    fn logits(
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

    fn mask(&self, logits: &[f32], from: [usize; 3]) -> Result<Mask, Error> {
        let mask = self.placement.mask_from_logits(logits, from)?;
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
struct Said {
    text: String,
    generated: Generated,
    seg: Vec<SegToken>,
    /// Time to read the image, when this question was the first.
    prefix: Duration,
}

/// `no_seg` stands everywhere when the answer had no `[SEG]`.
fn trace_mask(
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
