//! A volume that a model with a language model has encoded, and questions about it, several at once.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use r1seg_llm::{Generated, Step};
use r1seg_nn::{FEW_ROWS, Probe};
use r1seg_tokenizer::Prompt as PromptIds;
use r1seg_volume::sliding::windows;
use r1seg_volume::{Mask, Padding, Region};

use super::{Answering, Progress, SLIDING_OVERLAP, Setup};
use crate::boxes::BoxMapping;
use crate::handle::Encodes;
use crate::model::seg_positions;
use crate::preprocess::Preparation;
use crate::trace::pack_bits;
use crate::vision::ImageFeatures;
use crate::{
    AskOptions, DraftCounts, EncodeOptions, Error, Event, InferenceMode, ModelConfig, Outcome,
    Prompt, PromptKind, R1SegModel, RunContext, SegToken, SliceFeatures, Timings, Trace,
};

/// Questions that [`EncodedVolume::ask_many`](crate::EncodedVolume::ask_many) answers at once; more take
/// turns. Their answers share every read of the weights, and each has keys and values of its own (some
/// 230 MB at full size).
pub const QUESTIONS_AT_ONCE: usize = FEW_ROWS;

/// A volume for questions.
#[derive(Debug)]
pub(crate) struct LanguageVolume {
    pub(super) model: R1SegModel,
    pub(super) setup: Setup,
    images: Images,
    /// Stages of the vision transformer, when they were asked for.
    pub(super) trace: Option<Trace>,
}

/// What the language model reads.
#[derive(Debug)]
enum Images {
    Whole(Box<ImageFeatures>),
    Sliding(Box<Windows>),
}

/// A volume in windows, each encoded when it is first asked about.
#[derive(Debug)]
pub(super) struct Windows {
    /// The prepared volume, zero-padded to at least one window.
    pub(super) voxels: Vec<f32>,
    pub(super) padding: Padding,
    pub(super) windows: Vec<(Region, OnceLock<ImageFeatures>)>,
}

/// Questions that are asked at once.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) prompts: &'a [PromptIds],
    /// The index of the first of them, in events.
    pub(super) first: usize,
    pub(super) options: &'a AskOptions,
}

impl Encodes for ModelConfig {
    type Volume = LanguageVolume;

    fn encode(
        model: R1SegModel,
        (mut setup, prepared): (Setup, Preparation),
        _options: &EncodeOptions,
        run: &mut RunContext<'_>,
    ) -> Result<LanguageVolume, Error> {
        let start = Instant::now();
        let (grid, mut trace) = (setup.grid, setup.trace());
        let images = if setup.mode == InferenceMode::Sliding {
            let padding = Padding::to_at_least(prepared.shape(), grid);
            let windows = windows(padding.shape, grid, SLIDING_OVERLAP)?;
            let voxels = prepared.padded(&padding)?;
            let windows = windows.into_iter().map(|w| (w, OnceLock::new())).collect();
            setup.preprocess += start.elapsed();
            Images::Sliding(Box::new(Windows { voxels, padding, windows }))
        } else {
            let voxels = prepared.resize(grid)?;
            setup.preprocess += start.elapsed();
            let (slices, mut probe) = (prepared.slices.as_ref(), run.probe(trace.as_mut()));
            Images::Whole(Box::new(model.encode_image(voxels, slices, &mut probe)?))
        };
        Ok(LanguageVolume { model, setup, images, trace })
    }
}

impl Answering for LanguageVolume {
    fn setup(&self) -> &Setup {
        &self.setup
    }

    fn answers_questions(&self) -> bool {
        true
    }

    fn slice_features(&self) -> Option<&SliceFeatures> {
        match &self.images {
            Images::Whole(image) => image.slice_features.as_ref(),
            Images::Sliding(_) => None,
        }
    }

    fn segment_from(
        &self,
        _prompt: &Prompt,
        _from: Option<&Progress>,
        _run: &mut RunContext<'_>,
    ) -> Result<(Outcome, Option<Progress>), Error> {
        let name = self.setup.family.name();
        Err(match self.model.draws_masks() {
            true => Error::Prompt {
                message: format!("{name} segments what a question asks for"),
                fix: "ask a question, such as `Can you segment the liver in this image?`",
            },
            false => Error::Prompt {
                message: format!("{name} answers in words, and draws no masks"),
                fix: "ask a question, or segment with R1Seg-3D or VISTA3D",
            },
        })
    }

    fn ask_many(
        &self,
        questions: &[Prompt],
        options: &AskOptions,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<Outcome>, Error> {
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
        let mut outcomes = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(QUESTIONS_AT_ONCE) {
            let asked = Asked { prompts, first: outcomes.len(), options };
            for index in 0..prompts.len() {
                run.emit(Event::Prompt { prompt: asked.first + index });
            }
            outcomes.extend(match &self.images {
                Images::Whole(image) => self.ask_whole(image, &asked, run)?,
                Images::Sliding(windows) => self.ask_windows(windows, &asked, run)?,
            });
        }
        Ok(outcomes)
    }
}

impl LanguageVolume {
    /// The token ids of a question.
    fn prompt(&self, prompt: &Prompt, options: &AskOptions) -> Result<PromptIds, Error> {
        let clicks = !prompt.points.is_empty() || prompt.center.is_some() || prompt.points_at_once;
        if clicks || prompt.mask.is_some() {
            return Err(Error::Prompt {
                message: format!(
                    "{} reads questions and boxes, and neither points nor masks",
                    self.setup.family.name()
                ),
                fix: "ask about a box, or use SegVol",
            });
        }
        let question = prompt.text.as_deref().unwrap_or_default();
        if prompt.region.is_some() && !self.model.capabilities().takes(PromptKind::Box) {
            return Err(Error::Prompt {
                message: format!("{} was not trained with boxes", self.setup.family.name()),
                fix: "ask about the whole volume, or use M3D-LaMed",
            });
        }
        let Some(region) = prompt.region else {
            return self.model.prompt(question, options.separator);
        };
        if self.setup.mode == InferenceMode::Sliding {
            return Err(Error::InvalidOption {
                what: "box",
                message: "each window would need a box of its own; use mode resize".to_string(),
            });
        }
        self.setup.geometry.check_region(region)?;
        let about = self.boxes_of_whole()?.text_of(region)?;
        self.model.prompt_about(question, &about, options.separator)
    }

    /// Boxes on the model's grid over all of the prepared grid.
    fn boxes_of_whole(&self) -> Result<BoxMapping, Error> {
        let map = self.setup.map.clone().fitted(self.setup.grid)?;
        Ok(BoxMapping { map })
    }

    /// Boxes on the model's grid over a window, which begins at a cell of the prepared grid, or of the
    /// padding before it.
    pub(super) fn boxes_of_window(&self, start: [i64; 3]) -> BoxMapping {
        BoxMapping { map: self.setup.map.clone().windowed(start, self.setup.grid) }
    }

    fn ask_whole(
        &self,
        image: &ImageFeatures,
        asked: &Asked<'_>,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<Outcome>, Error> {
        let texts = self.generate(image, asked, self.trace.is_some(), run)?;
        let prompts = asked.prompts.iter().zip(texts).enumerate();
        let answers = prompts.map(|(index, (prompt, text))| {
            run.check()?;
            self.model.keep(&text.generated, asked.options);
            if !text.seg.is_empty() {
                run.emit(Event::Mask { prompt: asked.first + index });
            }
            self.decode_whole(image, prompt, text, run)
        });
        answers.collect()
    }

    /// The mask of a text about the whole volume.
    fn decode_whole(
        &self,
        image: &ImageFeatures,
        prompt: &PromptIds,
        text: GeneratedText,
        run: &mut RunContext<'_>,
    ) -> Result<Outcome, Error> {
        let mut trace = self.trace.clone();
        if let Some(trace) = &mut trace {
            self.trace_text(trace, prompt, &text.generated)?;
        }
        let start = Instant::now();
        let logits = self.logits(image, &text, &mut run.probe(trace.as_mut()))?;
        let mask_time = start.elapsed();
        let grid = self.setup.grid;
        if let Some(trace) = trace.as_mut().filter(|_| self.model.draws_masks()) {
            trace_mask(trace, logits.as_deref(), self.model.no_seg_logit(), grid)?;
        }
        let start = Instant::now();
        let mask = match &logits {
            Some(logits) => Some(self.mask(logits, grid)?),
            None => None,
        };
        let timings = Timings {
            preprocess: self.setup.preprocess,
            vit: image.vit,
            text: Duration::ZERO,
            projector: image.projector,
            prefill: text.prefix + text.generated.prefill,
            decode: text.generated.decode,
            mask: mask_time,
            postprocess: start.elapsed(),
        };
        let drafts = text.drafts();
        Ok(Outcome {
            label: None,
            boxes: self.boxes_of_whole()?.boxes_in(&text.text),
            text: text.text,
            token_ids: text.generated.token_ids,
            prompt_tokens: prompt.ids().len(),
            finish_reason: Some(text.generated.finish_reason),
            seg: text.seg,
            mask,
            windows: 1,
            window_answers: Vec::new(),
            warnings: Vec::new(),
            zoomed: None,
            drafts,
            timings,
            trace,
        })
    }

    /// The texts of several answers, reported as they are generated.
    pub(super) fn generate(
        &self,
        image: &ImageFeatures,
        asked: &Asked<'_>,
        keep_logits: bool,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<GeneratedText>, Error> {
        let Asked { prompts, first, options } = *asked;
        let tokenizer = self.model.tokenizer();
        let mut streams: Vec<_> = prompts.iter().map(|_| tokenizer.stream_decoder()).collect();
        // Where answers begin with white space, it is left out.
        let mut is_trimmed = vec![self.model.config().is_plain_text; prompts.len()];
        let mut failure = None;
        let cancel = run.cancel_token().clone();
        let mut on_token = |which: usize, step: Step<'_>| {
            let prompt = first + which;
            let is_first = &mut is_trimmed[which];
            let mut emit = |text: Result<String, r1seg_tokenizer::Error>| match text {
                Ok(text) => {
                    let text = if *is_first { text.trim_start() } else { &text };
                    if !text.is_empty() {
                        *is_first = false;
                        run.emit(Event::Text { prompt, text });
                    }
                }
                Err(e) => failure = Some(e),
            };
            let stream = &mut streams[which];
            emit(stream.push(step.id));
            let rest = step.finish_reason.map(|_| stream.clone().finish());
            if let Some(rest) = rest {
                emit(rest);
            }
            run.emit(Event::Token { prompt, index: step.index });
            if step.finish_reason.is_some() {
                run.emit(Event::TextDone { prompt });
            }
        };
        let all =
            self.model.generate(image, prompts, options, keep_logits, &cancel, &mut on_token)?;
        if let Some(e) = failure {
            return Err(e.into());
        }
        let texts = all.into_iter().map(|(generated, prefix)| {
            let positions = match self.model.draws_masks() {
                true => {
                    seg_positions(&generated.token_ids, tokenizer.seg_token_id(), options.first_seg)
                }
                false => Vec::new(),
            };
            let seg = positions
                .into_iter()
                .map(|position| SegToken { position, logprob: generated.logprobs[position] })
                .collect();
            let text = tokenizer.decode(&generated.token_ids)?;
            let text = match self.model.config().is_plain_text {
                true => text.trim().to_string(),
                false => text,
            };
            Ok(GeneratedText { text, generated, seg, prefix })
        });
        texts.collect()
    }

    pub(super) fn logits(
        &self,
        image: &ImageFeatures,
        text: &GeneratedText,
        probe: &mut dyn Probe,
    ) -> Result<Option<Vec<f32>>, Error> {
        if text.seg.is_empty() {
            return Ok(None);
        }
        let states = &text.generated.hidden_states;
        let hidden: Vec<_> = text.seg.iter().map(|seg| &states[seg.position]).collect();
        self.model.decode_mask(image, &hidden, probe).map(Some)
    }

    pub(super) fn mask(&self, logits: &[f32], from: [usize; 3]) -> Result<Mask, Error> {
        let mask = self.setup.map.mask_from_logits(logits, from)?;
        Ok(Mask::new(mask, self.setup.geometry.clone())?)
    }

    fn trace_text(
        &self,
        trace: &mut Trace,
        prompt: &PromptIds,
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

/// The text of an answer.
pub(super) struct GeneratedText {
    pub(super) text: String,
    pub(super) generated: Generated,
    pub(super) seg: Vec<SegToken>,
    /// Time to read the image, when this question was the first.
    pub(super) prefix: Duration,
}

impl GeneratedText {
    pub(super) fn drafts(&self) -> DraftCounts {
        DraftCounts { drafted: self.generated.drafted, accepted: self.generated.accepted }
    }
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
