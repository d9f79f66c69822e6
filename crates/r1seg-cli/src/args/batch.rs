//! What `batch` takes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use r1seg::InferenceMode;
use r1seg_results::ids;
use r1seg_results::preview::Window;

use super::infer::AnswerArgs;
use super::segment::mode;
use super::volume::bytes;
use super::{ModelArgs, PrepareArgs, RefineArgs, VolumeArgs};

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct BatchArgs {
    /// Volumes, folders of them, or patterns such as 'scans/*/ct.nii.gz': a folder stands for all volumes
    /// and DICOM studies in it and in its folders. Each is asked for what the options below say.
    #[arg(
        value_name = "FILE|FOLDER|PATTERN",
        required_unless_present = "manifest",
        conflicts_with = "manifest"
    )]
    pub(crate) inputs: Vec<PathBuf>,
    /// A list of volumes, each with its own prompts: JSON lines or CSV with the fields id, image, prompt
    /// or prompts, text or texts, organ or organs, points, box, label and others; `-` reads it from
    /// standard input. Paths are relative to the folder of the list.
    #[arg(long, value_name = "FILE.jsonl|FILE.csv|-")]
    pub(crate) manifest: Option<PathBuf>,
    /// Folder of all results: results.jsonl, summary.csv, and a folder for each volume.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) asked: BatchAskedArgs,
    #[command(flatten)]
    pub(crate) order: OrderArgs,
    #[command(flatten)]
    pub(crate) files: BatchFilesArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) refine: RefineArgs,
    #[command(flatten)]
    pub(crate) prepare: PrepareArgs,
    #[command(flatten)]
    pub(crate) answers: AnswerArgs,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
}

const EXAMPLES: &str = "\
Examples:
  r1seg batch -m R1Seg-3D-Phi-3-4B scans/ -o results \\
    -p \"Can you segment the liver in this image?\"
  r1seg batch -m ./SegVol 'scans/*/ct.nii.gz' -o results --organ liver,spleen
  r1seg batch -m ./SegVol --manifest list.csv -o results --resume
  r1seg batch -m ./SegVol --manifest list.jsonl -o results \\
    --resume --shard 3/8 --json
  find scans -name '*.nii' | jq -cR '{image: .}' | \\
    r1seg batch -m ./SegVol --manifest - -o results -t liver

A row of a list: {\"id\": \"p1\", \"image\": \"p1/ct.nii.gz\", \"organs\": [\"liver\", \"spleen\"]}

A volume that fails is reported in results.jsonl and stops nothing; the exit code is then 4. \
`--resume` goes on after anything, a power cut included. docs/batch.md describes lists, results and clusters. \
For research use only: not a medical device.";

/// What a volume is asked for that a list does not say it of.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Prompts of volumes that have none in the list")]
pub(crate) struct BatchAskedArgs {
    /// A question, for models that answer. May be given several times. `@FILE` takes every line of a text
    /// file that is not blank.
    #[arg(short, long, value_name = "TEXT|@FILE")]
    pub(crate) prompt: Vec<OsString>,
    /// What to segment, in words, for models that are prompted with a text. May be given several times.
    #[arg(short, long, value_name = "TEXT|@FILE")]
    pub(crate) text: Vec<OsString>,
    /// Segment this organ: the model is asked in the words that it was trained with. May be given several
    /// times, or with commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) organ: Vec<String>,
    /// How the model looks at each volume, as for `infer` and `segment` [default: as there].
    #[arg(long, value_name = "resize|sliding|zoom|crop|grow", value_parser = mode)]
    pub(crate) mode: Option<InferenceMode>,
}

/// Which volumes are run, in which order and with what else at the same time.
#[derive(Debug, Args)]
#[command(next_help_heading = "Running")]
pub(crate) struct OrderArgs {
    /// Go on where an earlier run of the same folder ended, however it ended. Done is what has results of
    /// the same model, input, prompts and options; all else is run, failed volumes again.
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,
    /// Run every volume, and replace earlier results in the folder.
    #[arg(long)]
    pub(crate) force: bool,
    /// With --resume, hash every input again, instead of only those whose size or time of change is
    /// another one.
    #[arg(long, requires = "resume")]
    pub(crate) rehash: bool,
    /// With --resume, run volumes again that failed twice or during which the program ended twice.
    #[arg(long, requires = "resume")]
    pub(crate) retry_poisoned: bool,
    /// Run only part K of N of the volumes, K from 0. Which part a volume is in follows from its id alone,
    /// and all parts may write to one folder at the same time.
    #[arg(long, value_name = "K/N")]
    pub(crate) shard: Option<Shard>,
    /// Stop once more than N volumes have failed.
    #[arg(long, value_name = "N")]
    pub(crate) max_errors: Option<u64>,
    /// Stop at the first volume that fails.
    #[arg(long, conflicts_with = "max_errors")]
    pub(crate) fail_fast: bool,
    /// Longest time for a volume in the model, in seconds; one that takes longer fails.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) item_timeout: Option<Duration>,
    /// Threads that read and inflate volumes, and as many that write results, while the model works.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub(crate) jobs_io: u16,
    /// Volumes in memory at a time, in bytes of their voxels: reading ahead waits when there are more. One
    /// volume is read however large it is [default: 2GiB, or a quarter of the free memory].
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_in_flight: Option<u64>,
    /// Print what would be run, and what is done already, and load no model.
    #[arg(long)]
    pub(crate) list: bool,
    /// Print the line of results.jsonl for each volume as it is finished.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but errors on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What is written for each volume.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct BatchFilesArgs {
    /// Draw no preview.png.
    #[arg(long)]
    pub(crate) no_preview: bool,
    /// Write a mask of zeros for a prompt that got no mask, since its answer has no [SEG].
    #[arg(long)]
    pub(crate) empty_mask: bool,
    /// Intensities that are black and white in the pictures, as for `infer`.
    #[arg(
        long,
        value_name = "NAME|L,W",
        allow_hyphen_values = true,
        conflicts_with = "no_preview"
    )]
    pub(crate) window: Option<NamedWindow>,
}

/// A window, and what it was called.
#[derive(Debug, Clone)]
pub(crate) struct NamedWindow {
    pub(crate) name: String,
    pub(crate) window: Window,
}

impl FromStr for NamedWindow {
    type Err = <Window as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { name: text.trim().to_ascii_lowercase(), window: text.parse()? })
    }
}

/// One of several parts of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    pub(crate) index: u64,
    pub(crate) of: u64,
}

impl Shard {
    /// Whether a volume of this id is in it.
    pub(crate) fn has(self, id: &str) -> bool {
        ids::number(id) % self.of == self.index
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').map(|(k, n)| (k.trim().parse(), n.trim().parse()));
        match numbers {
            Some((Ok(index), Ok(of))) if index < of => Ok(Self { index, of }),
            Some((Ok(_), Ok(0))) => Err("there is no part of 0 parts".to_owned()),
            Some((Ok(k), Ok(n))) => Err(format!(
                "parts are counted from 0, so that the last of {n} is {}, not {k}",
                n - 1
            )),
            _ => Err("K/N is needed, K from 0: 0/4 is the first of four parts".to_owned()),
        }
    }
}

/// A time that is neither nothing nor endless.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|s: f64| Duration::try_from_secs_f64(s).ok());
    seconds
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a number of seconds above 0 is needed, such as 600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_0() {
        assert_eq!("0/1".parse(), Ok(Shard { index: 0, of: 1 }));
        assert_eq!(" 3 / 8".parse(), Ok(Shard { index: 3, of: 8 }));
        for (text, says) in [
            ("8/8", "the last of 8 is 7, not 8"),
            ("0/0", "no part of 0 parts"),
            ("1", "K/N is needed"),
            ("-1/4", "K/N is needed"),
            ("a/b", "K/N is needed"),
            ("", "K/N is needed"),
        ] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_time_is_a_number_of_seconds_above_0() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "", "10s", "1e30"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
