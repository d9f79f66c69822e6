//! A volume that a model has encoded, and the prompts that are run on it.

mod language;
mod windows;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use r1seg_volume::{Geometry, GridMap, Mask, Orientation, Region, Volume, Warning};

use crate::preprocess::{Preparation, prepare};
use crate::registry::Family;
use crate::simulate::RandomState;
use crate::slices;
use crate::{
    AskOptions, EncodeOptions, Error, InferenceMode, LoadedModel, Outcome, Preprocess, Prompt,
    Recipe, RunContext, Simulated, SliceFeatures, Timings, Trace,
};

pub use language::QUESTIONS_AT_ONCE;

/// What a prompt has come to so far, for a model that takes points one after the other.
pub(crate) use crate::promptable::Clicked as Progress;

/// Overlap of the authors' sliding-window evaluation.
pub const SLIDING_OVERLAP: f64 = 0.5;

/// A volume that a model has encoded, for any number of prompts.
///
/// The vision transformer runs once over the whole volume, and a language model reads the image once:
/// further prompts cost only what is their own. Of windows, a language model's image embeddings are kept
/// (about 10 MB each at full size), but not their keys and values; a promptable model encodes them for
/// each prompt, and the crop around a target once.
///
/// It is a handle whose clones share everything. It keeps its model alive, and borrows nothing: it can be
/// held by a server, a task or another thread.
#[derive(Debug, Clone)]
pub struct EncodedVolume {
    encoded: Arc<dyn Answering>,
}

/// A volume that a model has encoded, as its kind of network does it: what it does with prompts. It refuses
/// what it does not implement.
pub(crate) trait Answering: Debug + Send + Sync {
    fn setup(&self) -> &Setup;

    /// Whether it answers questions in words.
    fn answers_questions(&self) -> bool {
        false
    }

    /// As [`EncodedVolume::slice_features`].
    fn slice_features(&self) -> Option<&SliceFeatures> {
        None
    }

    /// As [`EncodedVolume::encode_ahead`].
    fn encode_ahead(&self, _run: &mut RunContext<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// As [`EncodedVolume::ask_many_with`].
    fn ask_many(
        &self,
        _questions: &[Prompt],
        _options: &AskOptions,
        _run: &mut RunContext<'_>,
    ) -> Result<Vec<Outcome>, Error> {
        Err(Error::Prompt {
            message: format!("{} answers no questions", self.setup().family.name()),
            fix: "name what to segment, such as `liver`",
        })
    }

    /// As [`EncodedVolume::segment_with`]; `from` is what earlier points of the same target came to, and
    /// what all of them came to is returned as well, where points are taken one after the other.
    fn segment_from(
        &self,
        prompt: &Prompt,
        from: Option<&Progress>,
        run: &mut RunContext<'_>,
    ) -> Result<(Outcome, Option<Progress>), Error>;

    /// As [`EncodedVolume::segment_each`].
    fn segment_each(
        &self,
        prompts: &[Prompt],
        run: &mut RunContext<'_>,
        on_outcome: OnOutcome<'_>,
    ) -> Result<(), Error> {
        for (index, prompt) in prompts.iter().enumerate() {
            let before = run.count_prompts_from(index);
            let found = self.segment_from(prompt, None, run);
            run.count_prompts_from(before);
            on_outcome(index, found?.0)?;
        }
        Ok(())
    }

    /// As [`EncodedVolume::simulate_clicks`].
    fn simulate_clicks(
        &self,
        _truth: &Mask,
        _clicks: usize,
        _random: &mut RandomState,
        _run: &mut RunContext<'_>,
    ) -> Result<Simulated, Error> {
        Err(not_clicked_in_crops(self.setup().family))
    }
}

/// Takes the outcome of the prompt with this index.
pub(crate) type OnOutcome<'a> = &'a mut dyn FnMut(usize, Outcome) -> Result<(), Error>;

/// That simulated clicks were asked of a model that does not look at crops.
pub(crate) fn not_clicked_in_crops(family: Family) -> Error {
    Error::Prompt {
        message: format!("{} is not clicked in crops", family.name()),
        fix: "simulate clicks with SAM-Med3D or NeuroSAM3D",
    }
}

/// How a volume was prepared, whichever model encodes it.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) family: Family,
    pub(crate) geometry: Geometry,
    pub(crate) recipe: Recipe,
    pub(crate) orientation: Option<Orientation>,
    pub(crate) mode: InferenceMode,
    /// The model's own, `[D, H, W]`.
    pub(crate) grid: [usize; 3],
    /// From the input to the prepared grid.
    pub(crate) map: GridMap,
    pub(crate) crop: Region,
    pub(crate) warnings: Vec<Warning>,
    /// The time that it took.
    pub(crate) preprocess: Duration,
    /// Whether the stages of each prompt are recorded.
    pub(crate) is_traced: bool,
}

impl Setup {
    /// Prepares a volume for a model, as `options` say or as the model wants it.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a mode or a recipe of other models, or when the volume cannot be
    /// prepared.
    pub(crate) fn prepare(
        model: &LoadedModel,
        volume: &Volume,
        options: &EncodeOptions,
    ) -> Result<(Self, Preparation), Error> {
        let start = Instant::now();
        let (family, grid) = (model.family(), model.input_shape());
        let mode = family.mode(options.mode)?;
        let preprocess = match (options.preprocess, model.recipe) {
            (Preprocess::Auto, Some(own)) => Preprocess::Recipe(own),
            (chosen, _) => family.preprocess(chosen)?,
        };
        let mut prepared = prepare(volume, preprocess, options.orient, model.trained_on)?;
        prepared.slices = slices::material(model.slices(), volume, prepared.recipe, options)?;
        let setup = Self {
            family,
            geometry: volume.geometry().clone(),
            recipe: prepared.recipe,
            orientation: prepared.orientation,
            mode,
            grid,
            map: prepared.map().clone(),
            crop: prepared.crop(),
            warnings: prepared.warnings((mode == InferenceMode::Resize).then_some(grid)),
            preprocess: start.elapsed(),
            is_traced: options.trace,
        };
        Ok((setup, prepared))
    }

    /// The times of a prompt that begins, which preparing the volume is one of.
    pub(crate) fn timings(&self) -> Timings {
        Timings { preprocess: self.preprocess, ..Timings::default() }
    }

    /// Where the stages of a prompt that begins are recorded, if they are.
    pub(crate) fn trace(&self) -> Option<Trace> {
        self.is_traced.then(Trace::default)
    }
}

impl EncodedVolume {
    pub(crate) fn new(encoded: impl Answering + 'static) -> Self {
        Self { encoded: Arc::new(encoded) }
    }

    fn setup(&self) -> &Setup {
        self.encoded.setup()
    }

    /// The grid of the volume.
    pub fn geometry(&self) -> &Geometry {
        &self.setup().geometry
    }

    /// Whether the model answers questions in words; others segment what a prompt says.
    pub fn answers_questions(&self) -> bool {
        self.encoded.answers_questions()
    }

    /// What the model's encoder has made of slices of the volume, for a model that reads them. Given with
    /// [`EncodeOptions::slice_features`], they need not be computed again.
    pub fn slice_features(&self) -> Option<&SliceFeatures> {
        self.encoded.slice_features()
    }

    /// The recipe that prepared the intensities.
    pub fn recipe(&self) -> Recipe {
        self.setup().recipe
    }

    /// The orientation in which the model sees the volume; absent where it is not known.
    pub fn orientation(&self) -> Option<Orientation> {
        self.setup().orientation
    }

    /// How the volume meets the model's grid.
    pub fn mode(&self) -> InferenceMode {
        self.setup().mode
    }

    /// What a person should know about how the volume was prepared.
    pub fn warnings(&self) -> &[Warning] {
        &self.setup().warnings
    }

    /// The crop that the model sees, in voxels of the input.
    pub fn crop(&self) -> Region {
        self.setup().crop
    }

    /// Millimeters of the body behind one voxel of the model, along D, H and W of the input: nothing
    /// smaller is seen; in mode zoom, nothing smaller of what the first pass found. Absent without a
    /// known spacing.
    pub fn effective_resolution_mm(&self) -> Option<[f64; 3]> {
        let Setup { geometry, mode, grid, map, .. } = self.setup();
        let grid = match mode {
            InferenceMode::Resize => *grid,
            _ => map.shape(),
        };
        map.clone().fitted(grid).ok()?.resolution_mm(geometry)
    }

    /// Runs the encoder over all that no prompt decides, so that the first prompt does not wait for it: over
    /// the whole volume, in modes that begin with it. Crops and windows are chosen by prompts.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or when the computation fails.
    pub fn encode_ahead(&self, run: &mut RunContext<'_>) -> Result<(), Error> {
        self.encoded.encode_ahead(run)
    }

    /// Runs a prompt as the model's family does: as a question, or as what to segment. `options` are
    /// those of a question.
    ///
    /// # Errors
    /// As [`ask_many_with`](Self::ask_many_with), or as [`segment_with`](Self::segment_with).
    pub fn run(
        &self,
        prompt: impl Into<Prompt>,
        options: &AskOptions,
        run: &mut RunContext<'_>,
    ) -> Result<Outcome, Error> {
        match self.answers_questions() {
            true => self.ask_with(prompt, options, run),
            false => self.segment_with(prompt, run),
        }
    }

    /// Asks a question.
    ///
    /// # Errors
    /// As [`ask_many_with`](Self::ask_many_with).
    pub fn ask(&self, question: impl Into<Prompt>) -> Result<Outcome, Error> {
        self.ask_with(question, &AskOptions::default(), &mut RunContext::default())
    }

    /// Asks a question, with options; `run` stops it, and hears of its progress.
    ///
    /// # Errors
    /// As [`ask_many_with`](Self::ask_many_with).
    pub fn ask_with(
        &self,
        question: impl Into<Prompt>,
        options: &AskOptions,
        run: &mut RunContext<'_>,
    ) -> Result<Outcome, Error> {
        let mut outcomes = self.encoded.ask_many(&[question.into()], options, run)?;
        // One question has one outcome.
        outcomes.pop().ok_or_else(|| candle_core::Error::msg("no answer to a question").into())
    }

    /// Asks several questions at once: their tokens share each read of the weights.
    ///
    /// # Errors
    /// As [`ask_many_with`](Self::ask_many_with).
    pub fn ask_many<P: Clone + Into<Prompt>>(
        &self,
        questions: &[P],
        options: &AskOptions,
    ) -> Result<Vec<Outcome>, Error> {
        self.ask_many_with(questions, options, &mut RunContext::default())
    }

    /// Asks several questions at once; `run` stops them, and hears of the progress of each by its index.
    ///
    /// The outcomes stand in the order of the questions, and each is what [`ask_with`](Self::ask_with)
    /// gives for its question with the same options, the same seed included: up to the order in which
    /// f32 numbers are summed, it does not depend on the other questions.
    ///
    /// Up to [`QUESTIONS_AT_ONCE`] are answered together: generating a token is bound by reading the
    /// weights, and their tokens share each read. Masks are decoded one after the other: one mask
    /// alone multiplies thousands of image rows with every weight, so that sharing the read would
    /// save nothing. In sliding mode each window is encoded once and read by all of them.
    ///
    /// # Timings
    /// The times of all outcomes add up to the time that was spent, but for what encoding took: that
    /// is repeated in every outcome, or in sliding mode counted in the first one only. A pass
    /// through the language model is divided among the answers in it by their rows; the image's own
    /// pass counts in the first.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an empty question, [`Error::PromptTooLong`], `R-BOX-01`,
    /// [`Error::NoBoxTokens`], [`Error::InvalidOption`], and [`Error::Prompt`] for points or a model that
    /// generates no text, all before anything is computed; [`Error::Cancelled`]; or when the computation
    /// fails, for all questions.
    pub fn ask_many_with<P: Clone + Into<Prompt>>(
        &self,
        questions: &[P],
        options: &AskOptions,
        run: &mut RunContext<'_>,
    ) -> Result<Vec<Outcome>, Error> {
        let prompts: Vec<Prompt> = questions.iter().cloned().map(Into::into).collect();
        self.encoded.ask_many(&prompts, options, run)
    }

    /// Segments what a prompt says.
    ///
    /// # Errors
    /// As [`segment_with`](Self::segment_with).
    pub fn segment(&self, prompt: impl Into<Prompt>) -> Result<Outcome, Error> {
        self.segment_with(prompt, &mut RunContext::default())
    }

    /// Segments what a prompt says; `run` stops it, and hears of its progress.
    ///
    /// # Errors
    /// [`Error::Prompt`], `R-PNT-01`, `R-BOX-01` and [`Error::Tokenizer`] for a prompt that the model
    /// cannot use; [`Error::Cancelled`]; or when the computation fails.
    pub fn segment_with(
        &self,
        prompt: impl Into<Prompt>,
        run: &mut RunContext<'_>,
    ) -> Result<Outcome, Error> {
        Ok(self.segment_from(&prompt.into(), None, run)?.0)
    }

    /// Segments what each of several prompts says, and gives out each outcome as soon as it is there, in
    /// the order of the prompts and with their index. A model with classes scores all of them in one pass
    /// over the volume, in which a voxel belongs to the class with the highest logit
    /// ([`EncodeOptions::overlaps`](crate::EncodeOptions)); others run one prompt after the other.
    ///
    /// # Errors
    /// As [`segment_with`](Self::segment_with), and those of `on_outcome`.
    pub fn segment_each<E: From<Error>>(
        &self,
        prompts: &[Prompt],
        run: &mut RunContext<'_>,
        on_outcome: &mut dyn FnMut(usize, Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut failure = None;
        let done = self.encoded.segment_each(prompts, run, &mut |index, outcome| {
            on_outcome(index, outcome).map_err(|error| {
                failure = Some(error);
                // What ends the run; the caller gets its own error.
                Error::Cancelled
            })
        });
        failure.map_or(done.map_err(E::from), Err)
    }

    /// Simulates the clicks of SAM-Med3D's evaluation, each drawn by `random` from where the mask so far
    /// and `truth`, a mask on the grid of the volume, differ. The crop lies around the truth.
    ///
    /// # Errors
    /// `R-GEO-02` or `R-GEO-15` for a truth on another grid; [`Error::Prompt`] for a model that is not
    /// clicked in crops; [`Error::Cancelled`]; or when the computation fails.
    pub fn simulate_clicks(
        &self,
        truth: &Mask,
        clicks: usize,
        random: &mut RandomState,
        run: &mut RunContext<'_>,
    ) -> Result<Simulated, Error> {
        self.encoded.simulate_clicks(truth, clicks, random, run)
    }

    /// The same for a prompt that goes on where another one has come to.
    pub(crate) fn segment_from(
        &self,
        prompt: &Prompt,
        from: Option<&Progress>,
        run: &mut RunContext<'_>,
    ) -> Result<(Outcome, Option<Progress>), Error> {
        self.encoded.segment_from(prompt, from, run)
    }
}
