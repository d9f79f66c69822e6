//! `r1seg retrieve`: what fits best.

use std::io::Write;

use anyhow::Result;
use r1seg::CancelToken;
use r1seg_results::report::WarningReport;
use serde::Serialize;

use super::batch::{Batch, Failed, Several};
use super::check_series;
use super::encoder::{Embedded, Encoder};
use super::pairs::{self, Pairs};
use super::ranking::{Recall, rank, recall};
use crate::args::RetrieveArgs;
use crate::candidates::{self, Candidates};
use crate::exit::{CliError, Exit, one_line};
use crate::hints;
use crate::input::is_stdin;
use crate::prompts;

#[derive(Debug, Serialize)]
struct Found<'a> {
    model: &'a str,
    #[serde(flatten)]
    result: Outcome<'a>,
    /// Volumes that are in no result.
    failed: &'a [Failed],
    warnings: Vec<WarningReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome<'a> {
    Queries(Vec<Query<'a>>),
    Recall(Vec<Recall>),
}

#[derive(Debug, Serialize)]
struct Query<'a> {
    /// The text or the volume that was given.
    query: &'a str,
    results: Vec<Ranked<'a>>,
}

#[derive(Debug, Serialize)]
struct Ranked<'a> {
    rank: usize,
    name: &'a str,
    similarity: f32,
}

pub(crate) fn run(args: &RetrieveArgs, cancel: CancelToken) -> Result<Exit> {
    if args.top == Some(0) {
        return Err(CliError::usage("--top is 0", "ask for at least one"));
    }
    let open = |cancel| Encoder::open(&args.model, &args.volume, &args.prepare, args.quiet, cancel);
    if let Some(path) = &args.pairs {
        let pairs = pairs::read(path)?;
        return measure(args, &pairs, open(cancel)?);
    }
    let by_text = !args.text.is_empty();
    let (texts, volumes) = match &args.texts {
        Some(path) => (prompts::lines(path)?, candidates::expand(&args.image)),
        None if by_text => {
            (prompts::texts(&args.text, "--text")?, candidates::expand(&args.volumes))
        }
        None if !args.image.is_empty() => return alike(args, open(cancel)?),
        None => {
            return Err(CliError::usage(
                "nothing is asked for",
                "--text TEXT FOLDER ranks volumes, as --image VOLUME FOLDER does, --image VOLUME \
                 --texts FILE ranks texts, and --pairs FILE.csv measures both",
            ));
        }
    };
    check_series(args.volume.series.as_deref(), &volumes)?;
    let stdins = volumes.paths.iter().filter(|path| is_stdin(path)).count()
        + usize::from(args.text.iter().any(|text| text == "-"));
    if stdins > 1 {
        return Err(CliError::usage(
            "standard input can be read once only",
            "use - for one volume or one text",
        ));
    }
    let mut encoder = open(cancel)?;
    // Texts first: one that cannot be read costs nothing then.
    let texts = encoder.texts(&texts)?;
    let mut batch = Batch::of(&mut encoder, volumes, Several::Each)?;
    let volumes = std::mem::take(&mut batch.embedded);
    let exit = batch.exit(!volumes.is_empty());
    let (queries, items) = if by_text { (texts, volumes) } else { (volumes, texts) };
    // A text that nothing is ranked for has no answer.
    let queries = if items.is_empty() { &[] } else { &queries[..] };
    let result = Outcome::Queries(queries.iter().map(|q| answer(q, &items, args.top)).collect());
    print(args, encoder, result, &batch.failed)?;
    Ok(exit)
}

fn answer<'a>(query: &'a Embedded, items: &'a [Embedded], top: Option<usize>) -> Query<'a> {
    let hits = rank(&query.vector, items).into_iter().take(top.unwrap_or(items.len()));
    let ranked = hits.enumerate().filter_map(|(place, hit)| {
        let item = items.get(hit.index)?;
        Some(Ranked { rank: place + 1, name: &item.name, similarity: hit.score })
    });
    Query { query: &query.name, results: ranked.collect() }
}

/// Ranks volumes for volumes. One that is among those that are searched is found first.
fn alike(args: &RetrieveArgs, mut encoder: Encoder) -> Result<Exit> {
    let (queries, searched) = (candidates::expand(&args.image), candidates::expand(&args.volumes));
    check_series(args.volume.series.as_deref(), &queries)?;
    let all = queries.paths.iter().chain(&searched.paths);
    if all.filter(|path| is_stdin(path)).count() > 1 {
        return Err(CliError::usage(
            "standard input can be read once only",
            "use - for one volume",
        ));
    }
    let mut asked = Batch::of(&mut encoder, queries, Several::Each)?;
    let mut found = Batch::of(&mut encoder, searched, Several::Each)?;
    let (queries, items) =
        (std::mem::take(&mut asked.embedded), std::mem::take(&mut found.embedded));
    found.failed.splice(0..0, asked.failed);
    let exit = found.exit(!queries.is_empty() && !items.is_empty());
    let queries = if items.is_empty() { &[] } else { &queries[..] };
    let result = Outcome::Queries(queries.iter().map(|q| answer(q, &items, args.top)).collect());
    print(args, encoder, result, &found.failed)?;
    Ok(exit)
}

/// Recall in both directions, of the volumes that can be read.
fn measure(args: &RetrieveArgs, pairs: &Pairs, mut encoder: Encoder) -> Result<Exit> {
    let texts = encoder.texts(&pairs.texts)?;
    let given = Candidates { paths: pairs.images.clone(), ..Candidates::default() };
    check_series(args.volume.series.as_deref(), &given)?;
    let batch = Batch::of(&mut encoder, given, Several::Refused)?;
    let row = |image: usize| batch.origin.iter().position(|origin| *origin == image);
    let by_volume: Vec<(usize, usize)> =
        pairs.pairs.iter().filter_map(|(v, t)| Some((row(*v)?, *t))).collect();
    let by_text: Vec<(usize, usize)> = by_volume.iter().map(|(v, t)| (*t, *v)).collect();
    let volumes = &batch.embedded;
    let result = Outcome::Recall(match volumes.is_empty() {
        true => Vec::new(),
        false => vec![
            recall("volume -> text", volumes, &texts, &by_volume),
            recall("text -> volume", &texts, volumes, &by_text),
        ],
    });
    print(args, encoder, result, &batch.failed)?;
    Ok(batch.exit(!volumes.is_empty()))
}

fn print(
    args: &RetrieveArgs,
    mut encoder: Encoder,
    result: Outcome<'_>,
    failed: &[Failed],
) -> Result<()> {
    let warnings = encoder.take_warnings();
    let mut out = std::io::stdout().lock();
    if args.json {
        let warnings = warnings.iter().map(|w| WarningReport::new(w, hints::words)).collect();
        let found = Found { model: &encoder.model, result, failed, warnings };
        writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
        return Ok(());
    }
    match &result {
        Outcome::Queries(queries) => {
            for (index, query) in queries.iter().enumerate() {
                if queries.len() > 1 {
                    let gap = if index > 0 { "\n" } else { "" };
                    writeln!(out, "{gap}{}", one_line(query.query))?;
                }
                for hit in &query.results {
                    writeln!(out, "{:7.4}  {}", hit.similarity, one_line(hit.name))?;
                }
            }
        }
        Outcome::Recall(recalls) => {
            for recall in recalls {
                write!(out, "{} ({} of {}):", recall.direction, recall.queries, recall.candidates)?;
                for at in &recall.at {
                    write!(out, "  recall@{} {:.1} %", at.k, 100.0 * at.recall)?;
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}
