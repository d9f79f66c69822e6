//! The weights' way through: one thread reads, this one converts and merges, one writes.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use r1seg_checkpoint::layout::WEIGHTS;
use r1seg_checkpoint::shown::first_names;
use r1seg_checkpoint::{FileRecord, NumberFormat};

use crate::dtype::{Tally, convert as convert_numbers, encode, to_f32};
use crate::llm::blocks;
use crate::lora::{Factors, Update};
use crate::pickle::sanitize;
use crate::plan::{Plan, Planned, Target, header};
use crate::stream::{Pool, QUEUE, Read, Sources, Write, chunk_bytes, read_all, write_all};
use crate::{ConvertOptions, Error, Progress};

/// The name of a shard, as transformers counts them.
pub(crate) fn shard_name(index: usize, count: usize) -> String {
    match count {
        1 => WEIGHTS.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    }
}

type Records = Vec<FileRecord>;

/// Moves the weights: one thread reads, this one converts, one writes.
pub(crate) fn run(
    plan: &Plan,
    sources: Sources,
    options: &ConvertOptions,
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<(Records, Records), Error> {
    let pool = Pool::default();
    std::thread::scope(|scope| {
        let (to_converter, from_reader) = sync_channel(QUEUE);
        let (to_writer, from_converter) = sync_channel(QUEUE);
        let pool = &pool;
        scope.spawn(move || {
            read_all(sources, plan.tensors(), pool, &to_converter);
        });
        let writer = scope.spawn(move || write_all(folder, &from_converter, pool));
        let mut converter = Converter {
            plan,
            check: options.check_tensors,
            input: from_reader,
            output: to_writer,
            pool,
            not_finite: Vec::new(),
        };
        let converted = converter.run(folder, progress);
        // Ends both threads, whatever they wait for.
        drop(converter);
        let written = match writer.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match converted {
            // The writer's own error says why its queue closed.
            Err(Stop::Writer) => Err(written.err().unwrap_or(Error::Cancelled)),
            Err(Stop::Error(error)) => Err(*error),
            Ok(read) => Ok((read, written?)),
        }
    })
}

enum Stop {
    /// The writer stopped listening.
    Writer,
    Error(Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

struct Converter<'a> {
    plan: &'a Plan,
    check: bool,
    input: Receiver<Read>,
    output: SyncSender<Write>,
    pool: &'a Pool,
    /// Tensors with NaN or infinities.
    not_finite: Vec<&'a str>,
}

impl<'a> Converter<'a> {
    fn run(
        &mut self,
        folder: &Path,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Records, Stop> {
        let plan = self.plan;
        let total = plan.tensors().filter_map(|t| t.from.entry.bytes()).sum();
        let mut done = 0;
        let mut updates = Updates::new(plan);
        let mut files = Vec::new();
        if let Some(file) = &plan.language_model {
            files.push((file.record.file.clone(), file.header.clone(), &file.tensors));
        }
        for (i, shard) in plan.shards.iter().enumerate() {
            let name = shard_name(i, plan.shards.len());
            let header = header(shard, &folder.join(&name))?;
            files.push((name, header, shard));
        }
        for (name, header, tensors) in files {
            self.send(Write::Shard { name, header })?;
            for planned in tensors {
                let factors = match &planned.update {
                    Some(update) => Some(updates.load(update)?),
                    None => None,
                };
                self.tensor(planned, factors.as_ref(), &mut |bytes| {
                    done += bytes;
                    let tensor = planned.from.entry.name.as_str();
                    progress(Progress { done, total, tensor })
                })?;
            }
        }
        match self.next()? {
            Read::Finished(records) if self.not_finite.is_empty() => {
                self.send(Write::Finish)?;
                Ok(records)
            }
            Read::Finished(_) => Err(Stop::from(Error::NotFinite {
                path: plan.folders.first().cloned().unwrap_or_default(),
                count: self.not_finite.len(),
                names: first_names(self.not_finite.iter().copied()),
            })),
            _ => Err(Stop::from(Error::Changed { path: PathBuf::new() })),
        }
    }

    fn next(&mut self) -> Result<Read, Stop> {
        match self.input.recv() {
            Ok(Read::Failed(error)) => Err(Stop::from(error)),
            Ok(message) => Ok(message),
            Err(_) => Err(Stop::from(Error::Changed { path: PathBuf::new() })),
        }
    }

    fn send(&mut self, message: Write) -> Result<(), Stop> {
        self.output.send(message).map_err(|_| Stop::Writer)
    }

    fn tensor(
        &mut self,
        planned: &'a Planned,
        factors: Option<&Factors>,
        advance: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let entry = &planned.from.entry;
        let chunk_bytes = chunk_bytes(planned);
        let mut left = entry.bytes().unwrap_or(0);
        let mut tally = Tally::default();
        let row_length = entry.shape.last().and_then(|n| usize::try_from(*n).ok()).unwrap_or(1);
        let mut first_row = 0;
        let mut means = (0 < planned.from.mean_rows).then(|| vec![0.0; row_length]);
        while left > 0 {
            let Read::Chunk(chunk) = self.next()? else {
                return Err(Stop::from(Error::Changed { path: PathBuf::new() }));
            };
            left = left.saturating_sub(chunk.len() as u64);
            let mut out = self.pool.take();
            let merge = |rows: &mut [f32]| {
                if let Some(factors) = factors {
                    factors.add_to(rows, first_row, row_length);
                }
            };
            tally = tally.add(match &planned.to {
                Target::Numbers(dtype) if factors.is_none() => {
                    convert_numbers(&chunk, entry.dtype, *dtype, &mut out)
                }
                Target::Numbers(dtype) => {
                    let mut rows = vec![0.0; chunk.len() / entry.dtype.size()];
                    to_f32(&chunk, entry.dtype, &mut rows);
                    merge(&mut rows);
                    encode(&rows, *dtype, &mut out)
                }
                Target::Gguf(target) => {
                    // A vector's rows are its numbers.
                    let width = if entry.shape.len() == 1 { 1 } else { row_length };
                    let rows = chunk.len() / entry.dtype.size() / width;
                    blocks::convert(&chunk, entry.dtype, target, rows, merge, &mut out)
                        .map_err(|source| self.failed(planned, &source))?
                }
            });
            first_row += chunk_bytes / entry.dtype.size() / row_length;
            if let Some(means) = &mut means {
                add_rows(&chunk, entry.dtype, means);
            }
            let read = chunk.len() as u64;
            self.pool.give(chunk);
            self.send(Write::Chunk(out))?;
            if tally.overflown > 0 {
                return Err(Stop::from(Error::Overflow {
                    path: self.plan.files.get(planned.from.file).cloned().unwrap_or_default(),
                    name: sanitize(&entry.name),
                    count: tally.overflown,
                    dtype: match &planned.to {
                        Target::Numbers(NumberFormat::F16) => "f16",
                        Target::Numbers(NumberFormat::Bf16) => "bf16",
                        Target::Numbers(_) => "f32",
                        Target::Gguf(target) => target.tensor.format.name(),
                    },
                }));
            }
            if advance(read).is_break() {
                return Err(Stop::from(Error::Cancelled));
            }
        }
        if let Some(means) = means {
            self.mean_rows(planned, means)?;
        }
        let is_quantized = match &planned.to {
            Target::Numbers(_) => false,
            Target::Gguf(target) => {
                self.send(Write::Chunk(vec![0; target.padding]))?;
                target.tensor.format.block_len() > 1
            }
        };
        if (self.check || is_quantized) && tally.not_finite > 0 {
            self.not_finite.push(&entry.name);
        }
        Ok(())
    }

    /// The rows behind those of a tensor whose sums these are.
    fn mean_rows(&mut self, planned: &Planned, mut sums: Vec<f64>) -> Result<(), Stop> {
        let rows = planned.from.entry.shape.first().copied().unwrap_or(1);
        #[expect(clippy::cast_precision_loss, reason = "far fewer rows than f64 can count")]
        sums.iter_mut().for_each(|sum| *sum /= rows as f64);
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32 at most")]
        let mean: Vec<f32> = sums.into_iter().map(|mean| mean as f32).collect();
        let count = usize::try_from(planned.from.mean_rows).unwrap_or(usize::MAX);
        let mut out = self.pool.take();
        match &planned.to {
            Target::Numbers(dtype) => {
                encode(&mean.repeat(count), *dtype, &mut out);
            }
            Target::Gguf(target) => {
                let bytes: Vec<u8> =
                    mean.repeat(count).into_iter().flat_map(f32::to_le_bytes).collect();
                blocks::convert(&bytes, NumberFormat::F32, target, count, |_| {}, &mut out)
                    .map_err(|source| self.failed(planned, &source))?;
            }
        }
        self.send(Write::Chunk(out))
    }

    fn failed(&self, planned: &Planned, source: &candle_core::Error) -> Stop {
        let source = match source {
            candle_core::Error::WithBacktrace { inner, .. } => inner.as_ref(),
            other => other,
        };
        Stop::from(Error::LanguageModel {
            path: self.plan.files.get(planned.from.file).cloned().unwrap_or_default(),
            what: format!("tensor `{}`: {source}", sanitize(&planned.from.entry.name)),
        })
    }
}

/// Adds whole rows to their sums.
fn add_rows(bytes: &[u8], dtype: NumberFormat, sums: &mut [f64]) {
    let mut rows = vec![0.0; bytes.len() / dtype.size()];
    to_f32(bytes, dtype, &mut rows);
    for row in rows.chunks_exact(sums.len().max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
}

/// The halves of LoRA updates, read where they lie.
struct Updates<'a> {
    plan: &'a Plan,
    /// By file, each opened once.
    sources: HashMap<usize, Sources>,
}

impl<'a> Updates<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { plan, sources: HashMap::new() }
    }

    fn load(&mut self, update: &Update) -> Result<Factors, Error> {
        let a = self.numbers(&update.a)?;
        let b = self.numbers(&update.b)?;
        let length = |axis: Option<&u64>| axis.and_then(|n| usize::try_from(*n).ok()).unwrap_or(1);
        #[expect(clippy::cast_possible_truncation, reason = "the scale is used in f32")]
        let scale = update.scale as f32;
        Ok(Factors {
            a,
            b,
            rank: length(update.a.entry.shape.first()),
            inputs: length(update.a.entry.shape.last()),
            scale,
            transposed: update.transposed,
        })
    }

    fn numbers(&mut self, stored: &crate::source::Stored) -> Result<Vec<f32>, Error> {
        let sources = match self.sources.entry(stored.file) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                let path = self.plan.files.get(stored.file).cloned().unwrap_or_default();
                free.insert(Sources::open(&[path])?)
            }
        };
        let mut alone = stored.clone();
        alone.file = 0;
        let bytes = sources.read_whole(&alone)?;
        let mut numbers = vec![0.0; bytes.len() / stored.entry.dtype.size()];
        to_f32(&bytes, stored.entry.dtype, &mut numbers);
        Ok(numbers)
    }
}
