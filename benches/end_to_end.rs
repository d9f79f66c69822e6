//! A volume and a question to an answer and a mask, through the facade, in answers.
//!
//! `demo` is the embedded model on a phantom. `full` is the checkpoint folder that
//! `R1SEG_BENCH_MODEL` names, say one of `write_checkpoint`: eight tokens are forced, for random
//! weights say no `[SEG]`. `first` is everything from the voxels on; `second` is another question
//! about the volume, which the language model has read already.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

mod common;

use std::path::PathBuf;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use r1seg::phantom::{Organ, Phantom};
use r1seg::volume::{Geometry, Volume};
use r1seg::{AskOptions, CheckpointSource, R1SegModel, RunContext};

/// The model's name, itself, and how it is asked.
fn cases() -> impl Iterator<Item = (&'static str, R1SegModel, AskOptions)> {
    let demo = || ("demo", common::model(CheckpointSource::demo()), AskOptions::default());
    let full = || {
        let folder = PathBuf::from(std::env::var_os("R1SEG_BENCH_MODEL")?);
        let model = common::model(CheckpointSource::Folder(folder));
        let mut forced = vec![0; 8];
        forced[6] = model.tokenizer().seg_token_id();
        let options = AskOptions::default().with_max_new_tokens(8).with_forced_tokens(forced);
        Some(("full", model, options))
    };
    // One model lives at a time.
    std::iter::once_with(demo).chain(std::iter::once_with(full).flatten())
}

fn end_to_end(c: &mut Criterion) {
    let phantom = Phantom::draw(7);
    let geometry = Geometry::without_affine(phantom.shape);
    let volume = Volume::new(phantom.volume, geometry).unwrap();
    let question = &Organ::Liver.questions()[0];
    let mut group = common::group(c, "end_to_end");
    group.throughput(Throughput::Elements(1));
    for (name, model, options) in cases() {
        group.bench_function(BenchmarkId::new("first", name), |b| {
            b.iter(|| {
                let encoded = model.encode(&volume).unwrap();
                encoded.ask_with(question, &options, &mut RunContext::default()).unwrap()
            });
        });
        let encoded = model.encode(&volume).unwrap();
        encoded.ask_with(question, &options, &mut RunContext::default()).unwrap();
        group.bench_function(BenchmarkId::new("second", name), |b| {
            b.iter(|| encoded.ask_with(question, &options, &mut RunContext::default()).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
