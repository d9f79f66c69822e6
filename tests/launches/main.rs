//! How often each stage launches a kernel, copies and waits, at most.
//!
//! On a GPU a launch costs the host some microseconds and a wait stops it until the device is done,
//! which is what decoding a token is bound by. Nothing of that shows in numbers, so it is counted, by
//! the emulator in `tests/fakecuda`: `scripts/check-fakecuda` runs this test, and without the emulator
//! it is skipped.
//!
//! Two checkpoints are asked the same: a recorded one of two layers and two blocks, and that one with
//! two more of each, which add nothing to the numbers. The difference is what one of them costs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

use r1seg::volume::{ReadOptions, read};
use r1seg::{
    AskOptions, DeviceChoice, EncodeOptions, Event, LoadOptions, Preprocess, R1SegModel, Recipe,
    RunContext, Separator,
};

mod checkpoint;
mod counts;

use counts::{Counts, Log};

/// What a stage may cost, at most.
struct Bound {
    stage: &'static str,
    launches: usize,
    copies: usize,
    waits: usize,
}

const fn bound(stage: &'static str, launches: usize, copies: usize, waits: usize) -> Bound {
    Bound { stage, launches, copies, waits }
}

/// The stages, in the order of [`stages`]: launches of kernels and of products, copies in any direction,
/// waits. Copies of a layer make room in the cache; the mask decoder's pass is 80 of the mask's launches,
/// the rest checks for broken numbers, projects [SEG] and resamples.
const BOUNDS: [Bound; 8] = [
    bound("vision transformer: a block", 10, 0, 0),
    bound("vision transformer and projector: the rest", 16, 10, 4),
    bound("first token: a layer", 11, 2, 0),
    bound("first token: the rest", 5, 4, 1),
    bound("next token: a layer", 7, 0, 0),
    bound("next token: the rest", 4, 3, 1),
    bound("after the last token", 0, 0, 0),
    bound("mask", 86, 9, 4),
];

const QUESTION: &str = "Can you segment the liver in this image?";

/// What one run cost, by its parts.
struct Run {
    encode: Counts,
    first_token: Counts,
    next_token: Counts,
    after_tokens: Counts,
    mask: Counts,
    token_ids: Vec<u32>,
}

fn run(folder: &std::path::Path, log: &mut Log) -> Run {
    let options = LoadOptions::default().with_device(DeviceChoice::Cuda(0));
    let model = R1SegModel::load_with(folder, &options).unwrap();
    let volume = read(checkpoint::recorded().join("golden/volume.npy"), &ReadOptions::default());
    let volume = volume.unwrap().volume;
    let encode = || {
        let options = EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
        model.encode_with(&volume, &options, &mut RunContext::default()).unwrap()
    };
    let options = AskOptions::default().with_separator(Separator::None);
    // What is done once for a model, such as loading kernels, is done now.
    encode().ask_with(QUESTION, &options, &mut RunContext::default()).unwrap();

    log.since();
    let encoded = encode();
    let encode = log.since();
    let (mut tokens, mut after_tokens) = (Vec::new(), None);
    let mut on_event = |event: Event<'_>| match event {
        Event::Token { .. } => tokens.push(log.since()),
        Event::Mask { .. } => after_tokens = Some(log.since()),
        _ => {}
    };
    let mut context = RunContext::default().with_events(&mut on_event);
    let answer = encoded.ask_with(QUESTION, &options, &mut context).unwrap();
    assert!(answer.mask.is_some() && tokens.len() > 3, "{}", answer.text);
    Run {
        encode,
        first_token: tokens[0],
        next_token: tokens[1..].iter().copied().reduce(Counts::most).unwrap(),
        after_tokens: after_tokens.unwrap(),
        mask: log.since(),
        token_ids: answer.token_ids,
    }
}

/// What every stage costs, from runs of two layers and of four.
fn stages(two: &Run, four: &Run) -> [Counts; 8] {
    let split = |two: Counts, four: Counts| {
        let one = four.less(two).divided(2);
        (one, two.less(one.times(2)))
    };
    let (block, encoding) = split(two.encode, four.encode);
    let (first_layer, first) = split(two.first_token, four.first_token);
    let (next_layer, next) = split(two.next_token, four.next_token);
    [block, encoding, first_layer, first, next_layer, next, two.after_tokens, two.mask]
}

#[test]
fn stages_launch_copy_and_wait_no_more_than_they_may() {
    let Some(mut log) = Log::open() else {
        eprintln!("skipped: no FAKECUDA_LOG, which scripts/check-fakecuda sets");
        return;
    };
    let deeper = checkpoint::with_two_more_layers();
    let two = run(&checkpoint::recorded(), &mut log);
    let four = run(deeper.path(), &mut log);
    assert_eq!(two.token_ids, four.token_ids, "layers that add nothing changed the answer");

    let costs = stages(&two, &four);
    println!("{:43} launches       copies        waits     bytes up       down", "at most");
    let mut over = Vec::new();
    for (bound, cost) in BOUNDS.iter().zip(&costs) {
        let pairs = [
            (cost.launches, bound.launches),
            (cost.copies, bound.copies),
            (cost.waits, bound.waits),
        ];
        let cells = pairs.map(|(count, most)| {
            format!("{count:4} of {most:3}{}", if most < count { "!" } else { " " })
        });
        let (stage, cells) = (bound.stage, cells.join(" "));
        println!("{stage:42} {cells} {:11} {:10}", cost.bytes_up, cost.bytes_down);
        if pairs.iter().any(|(count, most)| most < count) {
            over.push(stage);
        }
    }
    assert!(over.is_empty(), "more than it may: {}", over.join("; "));
}
