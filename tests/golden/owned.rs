//! Models and encoded volumes are owned: they can be kept in a `static`, used by several threads, and
//! held by a task across an `await`.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use r1seg::volume::Volume;
use r1seg::{
    EncodeOptions, EncodedVolume, M3dClip, Preprocess, PromptableModel, PromptedVolume, R1SegModel,
    Recipe, RunContext, SegmentMode, SegmentOptions, SegmentPrompt,
};

use crate::case::{data, on_device, volume};

const QUESTION: &str = "Can you segment the liver in this image?";
const TEXT: &str = "liver";
const THREADS: usize = 3;

fn language_model() -> R1SegModel {
    R1SegModel::load_with(data("phi3"), &on_device()).unwrap()
}

fn promptable_model() -> PromptableModel {
    PromptableModel::load_with(data("segvol"), &on_device()).unwrap()
}

fn clip() -> M3dClip {
    M3dClip::load_with(data("m3d-clip"), &on_device()).unwrap()
}

fn asked_volume() -> Volume {
    volume("phi3/golden/volume.npy")
}

/// The model and the volume go out of scope here: what is returned owns what it needs.
fn encoded() -> EncodedVolume {
    let options = EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
    language_model().encode_with(&asked_volume(), &options, &mut RunContext::default()).unwrap()
}

fn prompted() -> PromptedVolume {
    let options = SegmentOptions::default()
        .with_preprocess(Preprocess::Recipe(Recipe::None))
        .with_mode(SegmentMode::Zoom);
    promptable_model()
        .encode_with(&volume("segvol/golden/volume.npy"), &options, &mut RunContext::default())
        .unwrap()
}

/// The tokens of an answer, the mask of a text and the embedding of another.
type Results = (Vec<u32>, Vec<u8>, Vec<f32>);

fn results(encoded: &EncodedVolume, prompted: &PromptedVolume, clip: &M3dClip) -> Results {
    let answer = encoded.ask(QUESTION).unwrap();
    let mask = prompted.segment(&SegmentPrompt::of_text(TEXT)).unwrap().mask;
    let embedding = clip.embed_text(TEXT).unwrap().embedding;
    (answer.token_ids, mask.into_parts().0, embedding)
}

#[test]
fn models_and_encoded_volumes_in_a_static_serve_several_threads() {
    static HELD: OnceLock<(EncodedVolume, PromptedVolume, M3dClip)> = OnceLock::new();
    let (encoded, prompted, clip) = HELD.get_or_init(|| (encoded(), prompted(), clip()));
    let threads: Vec<_> =
        (0..THREADS).map(|_| thread::spawn(|| results(encoded, prompted, clip))).collect();
    let direct = results(&self::encoded(), &self::prompted(), &self::clip());
    assert!(!direct.0.is_empty() && direct.1.contains(&1));
    for thread in threads {
        assert_eq!(thread.join().unwrap(), direct);
    }
}

#[test]
fn a_clone_of_a_model_serves_another_thread_after_the_first_is_gone() {
    let model = language_model();
    let clone = model.clone();
    let options = EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
    let direct = model
        .encode_with(&asked_volume(), &options, &mut RunContext::default())
        .unwrap()
        .ask(QUESTION)
        .unwrap()
        .token_ids;
    drop(model);
    let volume = asked_volume();
    let of_clone = thread::spawn(move || {
        let encoded = clone.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
        drop((clone, volume));
        encoded.ask(QUESTION).unwrap().token_ids
    });
    assert_eq!(of_clone.join().unwrap(), direct);
}

/// Is pending once, as a task that waits for its client is.
async fn wait() {
    let mut waited = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// What a runtime with several threads asks of a task.
fn spawnable<F: Future + Send + 'static>(future: F) -> F {
    future
}

#[test]
fn a_task_holds_models_and_encoded_volumes_across_an_await() {
    let task = spawnable(async {
        let model = language_model();
        wait().await;
        let options = EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
        let encoded =
            model.encode_with(&asked_volume(), &options, &mut RunContext::default()).unwrap();
        let (prompted, clip) = (prompted(), clip());
        wait().await;
        results(&encoded, &prompted, &clip)
    });
    let of_task = thread::spawn(move || block_on(task)).join().unwrap();
    assert_eq!(of_task, results(&encoded(), &prompted(), &clip()));
}
