//! The command line as typed.

mod batch;
mod boxes;
mod chat;
mod checkpoint;
mod classes;
mod compare;
mod drafts;
mod eval;
mod image;
mod infer;
mod inspect;
mod mcp;
mod places;
mod points;
mod reproduce;
mod retrieval;
mod running;
mod segment;
mod serve;
mod tools;
mod viewers;
mod volume;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use r1seg::{DeviceChoice, DtypeChoice};

pub(crate) use batch::{BatchArgs, OrderArgs, Shard};
pub(crate) use chat::{ChatArgs, TypedPlace};
#[cfg(feature = "hub")]
pub(crate) use checkpoint::{CacheAction, CacheArgs, DownloadArgs};
pub(crate) use checkpoint::{ConvertArgs, VerifyArgs};
pub(crate) use classes::ClassArgs;
pub(crate) use compare::{By, CompareArgs};
pub(crate) use drafts::{DraftArgs, Remembering};
pub(crate) use eval::{EvalArgs, Layout};
pub(crate) use image::ImageArg;
pub(crate) use infer::{InferArgs, OutputArgs};
pub(crate) use inspect::InspectArgs;
pub(crate) use mcp::McpArgs;
pub(crate) use places::{PlaceTexts, Places};
pub(crate) use reproduce::ReproduceArgs;
pub(crate) use retrieval::{EmbedArgs, PrepareArgs, RetrieveArgs};
pub(crate) use running::{RunningArgs, threads};
pub(crate) use segment::{ClickArgs, SegmentArgs};
pub(crate) use serve::ServeArgs;
pub(crate) use tools::{CompletionsArgs, DoctorArgs, ManArgs};
pub(crate) use volume::VolumeArgs;

/// Ask a 3D CT a question in plain words; get an answer and a mask that lies exactly on the CT.
///
/// For research use only: not a medical device.
#[derive(Debug, Parser)]
#[command(name = "r1seg", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) running: RunningArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer a question about a volume, and segment what it asks for.
    Infer(Box<InferArgs>),
    /// Segment what a text, points, a box or an earlier mask say, with SegVol, R1Seg-3D-SAM, SAM-Med3D
    /// or NeuroSAM3D.
    Segment(Box<SegmentArgs>),
    /// Ask or segment many volumes with a model that is loaded once, and go on after whatever stops it.
    Batch(Box<BatchArgs>),
    /// Talk about one volume, line by line: ask, click, correct, and save.
    Chat(Box<ChatArgs>),
    /// Look at a volume: geometry, intensities, what the model will see of it, and whether anything
    /// must be fixed first. Or at a model, without its weights: what it is and what it needs.
    Inspect(Box<InspectArgs>),
    /// Measure two masks or label maps against each other: Dice, surface distances, volumes, label by label.
    Compare(Box<CompareArgs>),
    /// Measure a model on volumes whose truth is known: lists of your own, and published benchmarks.
    Eval(Box<EvalArgs>),
    /// Turn volumes and texts into vectors that can be compared, with M3D-CLIP.
    Embed(Box<EmbedArgs>),
    /// Find the volumes that fit a text best, or the texts that fit a volume, with M3D-CLIP.
    Retrieve(Box<RetrieveArgs>),
    /// Serve models over HTTP: an API, OpenAI's chat form, and a page to drop a CT on.
    Serve(Box<ServeArgs>),
    /// Draw a synthetic phantom, ask the embedded model about it, and compare with the truth.
    Demo(DemoArgs),
    /// List the models that r1seg runs: their tasks, prompts, published names and licenses.
    Models(ModelsArgs),
    /// List questions that each model was trained with, to ask in its own words.
    Prompts(PromptsArgs),
    /// Download a published model, checked by its hashes, into the cache that Python shares.
    #[cfg(feature = "hub")]
    Download(DownloadArgs),
    /// Turn any published checkpoint into a folder that r1seg loads: pickles without running them,
    /// LoRA merged, in another number format.
    Convert(Box<ConvertArgs>),
    /// Hash a downloaded or converted model again.
    Verify(VerifyArgs),
    /// List or remove downloaded models.
    #[cfg(feature = "hub")]
    Cache(CacheArgs),
    /// Says why it is not there.
    #[cfg(not(feature = "hub"))]
    #[command(hide = true)]
    Download(WithoutHub),
    /// Says why it is not there.
    #[cfg(not(feature = "hub"))]
    #[command(hide = true)]
    Cache(WithoutHub),
    /// Serve models to an agent over the Model Context Protocol, on standard input and output.
    Mcp(Box<McpArgs>),
    /// Time every stage of a model.
    Bench(BenchArgs),
    /// Measure again what others recorded with published weights, and compare.
    Reproduce(Box<ReproduceArgs>),
    /// Show what this machine and this build offer to r1seg, to paste into a bug report.
    Doctor(DoctorArgs),
    /// Print the completions of a shell.
    Completions(CompletionsArgs),
    /// Write the manual pages, one for each command.
    Man(ManArgs),
    /// Describes a pickle on standard input, in a process with limits.
    #[command(hide = true)]
    ReadPickle,
}

/// Arguments of a command that this build lacks.
#[cfg(not(feature = "hub"))]
#[derive(Debug, Args)]
pub(crate) struct WithoutHub {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<OsString>,
}

/// Which model, and how it is loaded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A checkpoint folder, a model that `r1seg download` brought, or `demo` for the embedded model
    /// that knows only phantoms.
    #[arg(short, long, env = "R1SEG_MODEL", value_name = "DIR|MODEL|demo")]
    pub(crate) model: Option<OsString>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Which models, and how they are loaded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct SeveralModelsArgs {
    /// A checkpoint folder, a model that `r1seg download` brought, or `demo` for the embedded model
    /// that knows only phantoms; once for each model.
    #[arg(short, long = "model", env = "R1SEG_MODEL", value_name = "DIR|MODEL|demo")]
    models: Vec<OsString>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// How a model is loaded, and where it computes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct LoadArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(
        long,
        default_value = "auto",
        env = "R1SEG_DEVICE",
        value_name = "DEVICE",
        value_parser = running::device
    )]
    pub(crate) device: DeviceChoice,
    /// How weights are kept: auto, f32, bf16 or f16. `auto` is bf16 on CUDA and the checkpoint's
    /// own dtype on a CPU. On a CPU sums are f32 always; f32 is exact and takes twice the memory.
    #[arg(
        long,
        default_value = "auto",
        env = "R1SEG_DTYPE",
        value_name = "DTYPE",
        value_parser = running::dtype
    )]
    pub(crate) dtype: DtypeChoice,
    /// Read weight files into memory instead of using them where they lie. Without it this is done
    /// on network drives alone.
    #[arg(long)]
    pub(crate) no_mmap: bool,
    /// Hash the files of the checkpoint before they are used, as `r1seg verify` does. Without this,
    /// of a converted folder the lengths are compared, and the hashes of all but the weights.
    #[arg(long)]
    pub(crate) verify: bool,
}

impl SeveralModelsArgs {
    /// Each of them as if it were the only one. One that is not named, where none is.
    pub(crate) fn each(&self) -> Vec<ModelArgs> {
        let one = |model| ModelArgs { model, load: self.load.clone() };
        match self.models.as_slice() {
            [] => vec![one(None)],
            models => models.iter().cloned().map(Some).map(one).collect(),
        }
    }
}

/// How often a mask is refined.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct RefineArgs {
    /// Refinement passes of the mask decoder [default: as config.json says].
    #[arg(long, value_name = "N")]
    pub(crate) num_clicks: Option<usize>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    answered, with or without a mask; or inspected, or compared
  2    the arguments cannot be used, or no model was named
  3    --require-mask, and a prompt got no mask; or --mask -, and none did
  4    batch, embed, retrieve: finished, but some of the volumes failed
  5    reproduce: a result is outside of its band
  65   the volume or the question cannot be used; with `inspect --strict`, also
       a volume with warnings
  66   the volume or the model folder is missing
  69   the device is not there, or not one for this build
  70   a fault of r1seg, or a result that is NaN or infinite
  73   the output exists already or cannot be created
  74   reading or writing failed
  75   not enough memory, or the hub does not answer
  78   the model, its configuration or its tokenizer cannot be used
  130  stopped by Ctrl-C; nothing is left half-written
  143  stopped by SIGTERM, 129 by SIGHUP; nothing is left half-written

With --json, an error is also one JSON object on standard output:
{\"error\": {\"code\", \"message\", \"path\", \"fix\", \"exit_code\"}}.";

impl Cli {
    /// The same with every argument in one place only.
    pub(crate) fn settled(mut self) -> Self {
        match &mut self.command {
            Command::Embed(args) => args.image.append(&mut args.images),
            Command::Reproduce(args) if args.positional.is_some() => {
                args.model.model = args.positional.take();
            }
            _ => {}
        }
        self
    }
}

impl Command {
    /// Whether a model or a reader of volumes runs, or it is to be said how one would.
    pub(crate) fn computes(&self) -> bool {
        !matches!(
            self,
            Self::Models(_)
                | Self::Prompts(_)
                | Self::Download(_)
                | Self::Cache(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::ReadPickle
        )
    }

    /// Whether nothing but errors is to be said on stderr.
    pub(crate) fn quiet(&self) -> bool {
        match self {
            Self::Infer(args) => args.output.quiet,
            Self::Segment(args) => args.output.quiet,
            Self::Batch(args) => args.order.quiet,
            Self::Embed(args) => args.quiet,
            Self::Retrieve(args) => args.quiet,
            Self::Convert(args) => args.quiet,
            Self::Verify(args) => args.quiet,
            Self::Reproduce(args) => args.quiet,
            Self::Serve(args) => args.quiet,
            Self::Mcp(args) => args.quiet,
            _ => false,
        }
    }

    /// Whether standard output is to carry one JSON object, also when the command fails.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Infer(args) => args.output.json,
            Self::Segment(args) => args.output.json,
            Self::Batch(args) => args.order.json,
            Self::Inspect(args) => args.json,
            Self::Compare(args) => args.json,
            Self::Eval(args) => args.order.json,
            Self::Embed(args) => args.json,
            Self::Retrieve(args) => args.json,
            Self::Demo(args) => args.json,
            Self::Models(args) => args.json,
            Self::Prompts(args) => args.json,
            #[cfg(feature = "hub")]
            Self::Download(args) => args.json,
            Self::Convert(args) => args.json,
            #[cfg(feature = "hub")]
            Self::Cache(args) => matches!(args.action, CacheAction::List { json: true }),
            #[cfg(not(feature = "hub"))]
            Self::Download(_) | Self::Cache(_) => false,
            Self::Bench(args) => matches!(args.output, BenchFormat::Json),
            Self::Doctor(args) => args.json,
            Self::Reproduce(args) => args.json,
            Self::Chat(_)
            | Self::Verify(_)
            | Self::Serve(_)
            | Self::Mcp(_)
            | Self::ReadPickle
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Which phantom to draw.
    #[arg(long, default_value_t = 7, value_name = "N")]
    pub(crate) seed: u64,
    /// Folder for phantom, mask, report and picture.
    #[arg(short, long, default_value = "r1seg-demo", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Replace files of anything but an earlier demo, too.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the report as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(
        long,
        default_value = "auto",
        env = "R1SEG_DEVICE",
        value_name = "DEVICE",
        value_parser = running::device
    )]
    pub(crate) device: DeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    /// Print them as a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  r1seg prompts
  r1seg prompts M3D-LaMed
  r1seg prompts ./my-r1seg --json

`{organ}`, `{description}` and `{box}` stand for words of your own; `infer` fills in `{box}` by itself.")]
pub(crate) struct PromptsArgs {
    /// A name of `r1seg models`, a published name, a checkpoint folder, or `demo` [default: every model].
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<OsString>,
    /// Print them as a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BenchFormat {
    /// A table in Markdown.
    Md,
    /// One JSON object.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) refine: RefineArgs,
    /// Tokens of the answer, which are forced, as random weights never say [SEG]; language models only
    /// [default: 8].
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<usize>,
    /// The step at which [SEG] is said, from 1 [default: the last but one].
    #[arg(long, value_name = "K")]
    pub(crate) seg_step: Option<usize>,
    /// The question; for a model without a language model, the text that it segments or embeds.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// Tokens of the prompt in all, the image's included; the question is cut or repeated to fit.
    #[arg(long, value_name = "N")]
    pub(crate) prompt_tokens: Option<usize>,
    /// A volume in 0..1 to read at every run, in place of noise of the model's size.
    #[arg(long, value_name = "FILE")]
    pub(crate) volume: Option<PathBuf>,
    /// Volumes to run; medians are shown.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) runs: usize,
    /// Also asks the question so many times one after the other, and then at once.
    #[arg(long, value_name = "N")]
    pub(crate) questions: Option<usize>,
    #[command(flatten)]
    pub(crate) drafts: DraftArgs,
    /// Form of the result.
    // Its name before other commands had folders and files under it.
    #[arg(long = "format", short_alias = 'o', alias = "output", default_value = "md", value_enum)]
    pub(crate) output: BenchFormat,
}
