//! What results depend on, beside the model and the volume: `--resume` takes results of the same only.
//!
//! Limits are not in it, such as the largest volume that is read: results do not depend on them.

use std::io;

use clap::ValueEnum;
use r1seg::files::sha256_of;
use r1seg::volume::ReadOptions;
use r1seg::{
    AskOptions, DtypeChoice, EncodeOptions, InferenceMode, Preprocess, Sampling, Separator,
};
use serde::Serialize;

use super::hashes::InputFiles;
use super::row::Asks;
use crate::args::BatchArgs;

/// Raised when the same text means something else, so that earlier results are not taken.
const VERSION: u32 = 1;

/// The options for all volumes that results depend on. Names and order of the fields are part of every hash:
/// another one has every volume of every earlier batch run again.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Options {
    version: u32,
    preprocess: String,
    orient: Option<String>,
    mode: Option<&'static str>,
    separator: Option<&'static str>,
    max_new_tokens: usize,
    /// `None` for the most likely tokens.
    draws: Option<Draws>,
    first_seg: bool,
    abstain: bool,
    axes: Option<String>,
    spacing_mm: Option<[f64; 3]>,
    /// Of the file that the geometry is taken from, wherever it is.
    affine_sha256: Option<String>,
    allow_gaps: bool,
    allow_modality: bool,
    dtype: &'static str,
    num_clicks: Option<usize>,
    preview: bool,
    window: Option<String>,
    empty_mask: bool,
}

/// How tokens are drawn at random.
#[derive(Debug, Clone, Serialize)]
struct Draws {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    seed: u64,
}

/// The prompts for one volume.
#[derive(Serialize)]
struct Basis<'a> {
    questions: &'a [String],
    texts: &'a [String],
    organs: &'a [String],
    classes: &'a [String],
    labels: &'a [String],
    points: Vec<String>,
    points_mm: Vec<String>,
    voxels: Option<String>,
    box_mm: Option<String>,
    center: Option<String>,
    series: Option<&'a str>,
    frame: Option<usize>,
    key: Option<&'a str>,
    options: &'a Options,
}

impl Options {
    /// Those of a run.
    ///
    /// # Errors
    /// The error of the operating system for the file of `--affine-from`, which is hashed.
    pub(super) fn new(
        args: &BatchArgs,
        encode: &EncodeOptions,
        ask: &AskOptions,
    ) -> io::Result<Self> {
        let (volume, files) = (&args.volume, &args.files);
        let affine = volume.affine_from.as_deref();
        let affine = affine.map(|path| InputFiles::of(path)?.fingerprint(None)).transpose()?;
        let axes = volume.axes.and_then(|axes| axes.to_possible_value());
        Ok(Self {
            version: VERSION,
            preprocess: match encode.preprocess {
                Preprocess::Auto => "auto".to_owned(),
                Preprocess::Recipe(recipe) => recipe.to_string(),
            },
            orient: encode.orient.map(|orient| orient.to_string()),
            mode: encode.mode.map(InferenceMode::as_str),
            separator: ask.separator.map(Separator::as_str),
            max_new_tokens: ask.max_new_tokens,
            draws: draws(&ask.sampling),
            first_seg: ask.first_seg,
            abstain: ask.abstain,
            axes: axes.map(|axes| axes.get_name().to_owned()),
            spacing_mm: volume.spacing,
            affine_sha256: affine.map(|affine| affine.sha256),
            allow_gaps: volume.allow_gaps,
            allow_modality: volume.allow_modality,
            dtype: match args.model.load.dtype {
                DtypeChoice::Auto => "auto",
                DtypeChoice::F32 => "f32",
                DtypeChoice::BF16 => "bf16",
                DtypeChoice::F16 => "f16",
            },
            num_clicks: args.refine.num_clicks,
            preview: !files.no_preview,
            window: files.window.as_ref().map(|window| window.name.clone()),
            empty_mask: files.empty_mask,
        })
    }

    /// The hash of these options and of all prompts for a volume. `read` selects the volume of a file.
    pub(super) fn prompt_sha256(&self, asks: &Asks, read: &ReadOptions) -> String {
        let places = &asks.typed_places;
        let basis = Basis {
            questions: &asks.questions,
            texts: &asks.texts,
            organs: &asks.organs,
            classes: &asks.classes,
            labels: &asks.labels,
            points: places.points.iter().map(|text| dense(text)).collect(),
            points_mm: places.points_mm.iter().map(|text| dense(text)).collect(),
            voxels: places.voxels.as_deref().map(dense),
            box_mm: places.box_mm.as_deref().map(dense),
            center: places.center.as_deref().map(dense),
            series: read.series.as_deref(),
            frame: read.frame,
            key: read.key.as_deref(),
            options: self,
        };
        // Texts and numbers alone, which can always be encoded.
        sha256_of(&serde_json::to_vec(&basis).unwrap_or_default())
    }
}

fn draws(sampling: &Sampling) -> Option<Draws> {
    match *sampling {
        Sampling::Greedy => None,
        Sampling::Random { temperature, top_k, top_p, seed } => {
            Some(Draws { temperature, top_k, top_p, seed })
        }
    }
}

/// Numbers without the spaces between them, which mean nothing.
fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::args::PlaceTexts;

    #[derive(Debug, Parser)]
    struct Given {
        #[command(flatten)]
        args: BatchArgs,
    }

    fn options(line: &str) -> Options {
        let words = ["batch", "in", "--out", "out"];
        let args = Given::parse_from(words.into_iter().chain(line.split_whitespace())).args;
        let encode = EncodeOptions::default().with_preprocess(args.prepare.preprocess);
        let encode = args.volume.with_orient(encode);
        Options::new(&args, &encode, &args.answers.options().unwrap()).unwrap()
    }

    fn text(line: &str) -> String {
        serde_json::to_string(&options(line)).unwrap()
    }

    #[test]
    fn the_text_that_is_hashed_is_the_same_in_every_version_of_the_program() {
        let expected = "{\"version\":1,\"preprocess\":\"auto\",\"orient\":null,\"mode\":null,\
            \"separator\":null,\"max_new_tokens\":256,\"draws\":null,\"first_seg\":false,\
            \"abstain\":false,\"axes\":null,\"spacing_mm\":null,\"affine_sha256\":null,\
            \"allow_gaps\":false,\"allow_modality\":false,\"dtype\":\"auto\",\"num_clicks\":null,\
            \"preview\":true,\"window\":null,\"empty_mask\":false}";
        assert_eq!(text(""), expected);
    }

    #[test]
    fn limits_and_the_order_of_the_work_change_nothing() {
        for line in [
            "--max-voxels 5",
            "--max-input-bytes 1GiB",
            "--max-in-flight 1GiB --jobs-io 9",
            "--item-timeout 5 --max-errors 3",
            "--shard 0/2 --no-mmap --device cpu --quiet",
        ] {
            assert_eq!(text(line), text(""), "{line}");
        }
    }

    #[test]
    fn every_option_that_results_depend_on_makes_another_text() {
        let lines = [
            "",
            "--preprocess m3d-seg",
            "--preprocess window:40,400",
            "--orient RAS",
            "--separator none",
            "--separator space",
            "--max-new-tokens 9",
            "--temperature 1",
            "--temperature 1 --seed 2",
            "--temperature 1 --top-k 2",
            "--temperature 1 --top-p 0.5",
            "--first-seg",
            "--abstain",
            "--axes xyz",
            "--spacing 5,1,1",
            "--allow-gaps",
            "--allow-modality",
            "--dtype f32",
            "--num-clicks 2",
            "--no-preview",
            "--window lung",
            "--empty-mask",
        ];
        let texts: Vec<String> = lines.iter().map(|line| text(&format!("{line} -q"))).collect();
        for n in 1..texts.len() {
            assert!(!texts[..n].contains(&texts[n]), "{}", lines[n]);
        }
    }

    #[test]
    fn the_file_of_the_geometry_counts_by_its_contents_and_not_by_its_path() {
        let desk = tempfile::tempdir().unwrap();
        let given = |name: &str, bytes: &str| {
            let path = desk.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            text(&format!("--affine-from {}", path.display()))
        };
        let first = given("a.nii", "abc");
        assert!(first.contains(&sha256_of(b"abc")), "{first}");
        assert_eq!(given("b.nii", "abc"), first);
        assert_ne!(given("a.nii", "xyz"), first);
    }

    #[test]
    fn a_file_of_the_geometry_that_is_not_there_is_an_error() {
        let desk = tempfile::tempdir().unwrap();
        let path = desk.path().join("none.nii");
        let words = ["batch", "in", "--out", "out", "--affine-from"].map(Path::new);
        let args = Given::parse_from(words.into_iter().chain([path.as_path()])).args;
        let error = Options::new(&args, &EncodeOptions::default(), &AskOptions::default());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    fn hash(options: &Options, change: impl FnOnce(&mut Asks), read: ReadOptions) -> String {
        let mut asks = Asks::default();
        change(&mut asks);
        options.prompt_sha256(&asks, &read)
    }

    #[test]
    fn prompts_and_the_volume_of_a_file_count_and_spaces_between_numbers_do_not() {
        let options = options("");
        let words = |text: &str| vec![text.to_owned()];
        let points = |text: &str| PlaceTexts { points: words(text), ..PlaceTexts::default() };
        let plain = ReadOptions::default;
        let all = [
            hash(&options, |_| {}, plain()),
            hash(&options, |asks| asks.questions = words("x"), plain()),
            hash(&options, |asks| asks.texts = words("x"), plain()),
            hash(&options, |asks| asks.organs = words("x"), plain()),
            hash(&options, |asks| asks.labels = words("x"), plain()),
            hash(&options, |asks| asks.typed_places = points("1,2,3"), plain()),
            hash(&options, |asks| asks.typed_places = points("1,2,3:neg"), plain()),
            hash(&options, |_| {}, plain().with_frame(1)),
            hash(&options, |_| {}, plain().with_series("1")),
            hash(&options, |_| {}, plain().with_key("1")),
        ];
        assert!((1..all.len()).all(|n| !all[..n].contains(&all[n])), "{all:?}");
        assert_eq!(hash(&options, |asks| asks.typed_places = points("1, 2, 3"), plain()), all[5]);
        assert_eq!(hash(&options, |_| {}, plain().with_max_voxels(9).with_max_bytes(9)), all[0]);
    }
}
