//! The embedded model on a phantom of 32x256x256 voxels, through the facade.
//!
//! `encode` is everything before a question, in voxels; `question/first` reads the image with the
//! language model, answers and segments; `question/second` finds the image already read. Both are
//! in answers.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

mod common;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use r1seg::phantom::{Organ, Phantom};
use r1seg::volume::{Geometry, Volume};

fn phantom() -> Volume {
    let phantom = Phantom::draw(7);
    Volume::new(phantom.volume, Geometry::without_affine(phantom.shape)).unwrap()
}

fn encode(c: &mut Criterion) {
    let (model, volume) = (common::demo(), phantom());
    let mut group = common::group(c, "encode");
    group.throughput(Throughput::Elements(volume.voxels().len() as u64));
    group.bench_function("demo", |b| b.iter(|| model.encode(&volume).unwrap()));
    group.finish();
}

fn question(c: &mut Criterion) {
    let (model, volume) = (common::demo(), phantom());
    let question = &Organ::Liver.questions()[0];
    let mut group = common::group(c, "question");
    group.throughput(Throughput::Elements(1));
    group.bench_function("first", |b| {
        b.iter_batched_ref(
            || model.encode(&volume).unwrap(),
            |study| study.ask(question).unwrap(),
            BatchSize::PerIteration,
        );
    });
    let study = model.encode(&volume).unwrap();
    study.ask(question).unwrap();
    group.bench_function("second", |b| b.iter(|| study.ask(question).unwrap()));
    group.finish();
}

criterion_group!(benches, encode, question);
criterion_main!(benches);
