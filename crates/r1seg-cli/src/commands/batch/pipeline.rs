//! Volumes on their way: read by several threads, computed by the one that called, written by several,
//! with bounded queues between them, so that reading and writing hide behind the model.
//!
//! Nothing here knows models or files: [`Work`] does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use r1seg::CancelToken;

use super::budget::{Budget, Reserved};
use super::stages::{Done, Limits, Stop, Work, caught, is_fault, is_transient};
use crate::codes::Code;
use crate::exit::CliError;

/// How often somebody looks at the clock and at Ctrl-C.
const TICK: Duration = Duration::from_millis(50);
/// How long what failed for the moment is left in peace.
const PAUSE: Duration = Duration::from_millis(500);
/// Volumes in a row that fail through no fault of their own, before the run stops: the next one would be no
/// better.
const FAULTS_IN_A_ROW: usize = 3;

/// What goes from the readers to the model, and from there to the writers.
struct Message<'a, T> {
    item: usize,
    attempts: u32,
    outcome: Result<T, CliError>,
    reserved: Reserved<'a>,
}

/// A volume that was computed.
type Computed<'a, W> = Message<'a, (<W as Work>::Ready, <W as Work>::Found)>;

/// What all threads share.
struct Shared<'a, W: Work> {
    work: &'a W,
    cancel: &'a CancelToken,
    budget: Budget,
    waiting: Mutex<VecDeque<usize>>,
    stopped: AtomicBool,
    finished: AtomicBool,
    fatal: Mutex<Option<CliError>>,
    faults: AtomicUsize,
}

/// Takes `items` through all stages, in about this order.
///
/// # Errors
/// What every other volume would fail of, too. Cancelled, it ends without an error.
pub(super) fn run<W: Work>(
    work: &W,
    items: &[usize],
    limits: Limits,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    let shared = Shared {
        work,
        cancel,
        budget: Budget::new(limits.bytes),
        waiting: Mutex::new(items.iter().copied().collect()),
        stopped: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        fatal: Mutex::default(),
        faults: AtomicUsize::new(0),
    };
    let threads = limits.threads.clamp(1, items.len().max(1));
    let started: Result<(), CliError> = thread::scope(|scope| {
        let shared = &shared;
        let _ended = Ended(&shared.finished);
        let (to_model, from_readers) = sync_channel(threads);
        let (to_writers, from_model) = sync_channel(threads);
        let from_model = Arc::new(Mutex::new(from_model));
        start(scope, "watch", || shared.watch())?;
        for _ in 0..threads {
            let to_model = to_model.clone();
            start(scope, "read", move || shared.read(&to_model))?;
            let from_model = from_model.clone();
            start(scope, "write", move || shared.write(&from_model))?;
        }
        drop((to_model, from_model));
        shared.compute(from_readers, &to_writers);
        Ok(())
    });
    started?;
    match shared.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn start<'s>(
    scope: &'s thread::Scope<'s, '_>,
    name: &str,
    body: impl FnOnce() + Send + 's,
) -> Result<(), CliError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, body);
    thread.map(drop).map_err(|e| {
        let what = format!("a thread could not be started: {e}");
        let fix = "raise the limits of the process, or give --jobs-io 1";
        CliError::new(Code::NoThread, what).fix(fix)
    })
}

/// Tells the watch that all else has ended, however that came.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<'a, W: Work> Shared<'a, W> {
    fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) || self.cancel.is_cancelled()
    }

    fn stop(&self, error: Option<CliError>) {
        self.stopped.store(true, Ordering::SeqCst);
        let mut fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        if fatal.is_none() {
            *fatal = error;
        }
    }

    fn watch(&self) {
        while !self.finished.load(Ordering::SeqCst) {
            self.work.tick(self.cancel.is_cancelled());
            thread::sleep(TICK);
        }
    }

    fn next(&self) -> Option<usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn read<'s>(&'s self, to_model: &SyncSender<Message<'s, W::Ready>>) {
        while let Some(item) = self.next() {
            let estimate = self.work.estimate(item);
            let Some(mut reserved) = self.budget.reserve(estimate, &|| self.has_stopped()) else {
                return;
            };
            let (outcome, attempts) = self.twice(|| self.work.read(item));
            let outcome = match outcome {
                Ok(None) => continue,
                Ok(Some(ready)) => {
                    reserved.resize(self.work.size(&ready));
                    Ok(ready)
                }
                Err(Stop::Item(error)) => Err(error),
                Err(Stop::Run(error)) => return self.stop(Some(error)),
                Err(Stop::Cancelled) => return,
            };
            if to_model.send(Message { item, attempts, outcome, reserved }).is_err() {
                return;
            }
        }
    }

    fn compute<'s>(
        &'s self,
        from_readers: Receiver<Message<'s, W::Ready>>,
        to_writers: &SyncSender<Computed<'s, W>>,
    ) {
        for Message { item, attempts, outcome, reserved } in from_readers {
            if self.has_stopped() {
                return;
            }
            let (outcome, attempts) = match outcome {
                Err(error) => (Err(error), attempts),
                Ok(ready) => {
                    let (found, attempts) = self.twice(|| self.work.compute(item, &ready));
                    match found {
                        Ok(found) => (Ok((ready, found)), attempts),
                        Err(Stop::Item(error)) => (Err(error), attempts),
                        Err(Stop::Run(error)) => return self.stop(Some(error)),
                        Err(Stop::Cancelled) => return,
                    }
                }
            };
            if to_writers.send(Message { item, attempts, outcome, reserved }).is_err() {
                return;
            }
        }
    }

    fn write<'s>(&'s self, from_model: &Mutex<Receiver<Computed<'s, W>>>) {
        loop {
            let message = from_model.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Message { item, attempts, outcome, reserved }) = message else { return };
            // What was computed when a limit of errors was reached is still written.
            if self.cancel.is_cancelled() {
                continue;
            }
            let written = match outcome {
                Ok((ready, found)) => {
                    let done = Done { ready, found, attempts };
                    caught(|| self.work.write(item, done))
                }
                Err(error) => Err(Stop::Item(error)),
            };
            drop(reserved);
            match written {
                Ok(()) => self.faults.store(0, Ordering::SeqCst),
                Err(Stop::Item(error)) => self.fail(item, error, attempts),
                Err(Stop::Run(error)) => self.stop(Some(error)),
                Err(Stop::Cancelled) => {}
            }
        }
    }

    fn fail(&self, item: usize, error: CliError, attempts: u32) {
        let last = is_fault(&error).then(|| error.clone());
        match self.work.fail(item, error, attempts) {
            Ok(true) => {}
            Ok(false) => self.stop(None),
            Err(error) => self.stop(Some(error)),
        }
        if let Some(error) = last
            && self.faults.fetch_add(1, Ordering::SeqCst) + 1 >= FAULTS_IN_A_ROW
        {
            let what =
                format!("{FAULTS_IN_A_ROW} volumes in a row failed like this: {}", error.what);
            self.stop(Some(CliError { what, ..error }));
        }
    }

    /// Does a stage once, and once more where it failed for the moment. Says how often.
    fn twice<T>(&self, stage: impl Fn() -> Result<T, Stop>) -> (Result<T, Stop>, u32) {
        let first = caught(&stage);
        let Err(Stop::Item(error)) = &first else { return (first, 1) };
        if !is_transient(error) {
            return (first, 1);
        }
        thread::sleep(PAUSE);
        if self.has_stopped() {
            return (Err(Stop::Cancelled), 1);
        }
        (caught(&stage), 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a volume in the model.
    type Compute = dyn Fn(usize, u32) -> Result<u64, Stop> + Sync;

    struct Numbers<'a> {
        compute: &'a Compute,
        calls: Mutex<Vec<usize>>,
        written: Mutex<Vec<(usize, u64, u32)>>,
        failed: Mutex<Vec<(usize, &'static str, u32)>>,
        max_errors: usize,
    }

    impl Numbers<'_> {
        fn new(compute: &Compute) -> Numbers<'_> {
            let (calls, written, failed) = Default::default();
            Numbers { compute, calls, written, failed, max_errors: usize::MAX }
        }
    }

    impl Work for Numbers<'_> {
        type Ready = u64;
        type Found = u64;

        fn estimate(&self, _: usize) -> u64 {
            4
        }

        fn size(&self, _: &u64) -> u64 {
            1
        }

        fn read(&self, item: usize) -> Result<Option<u64>, Stop> {
            Ok((item != 7).then_some(item as u64))
        }

        fn compute(&self, item: usize, _: &u64) -> Result<u64, Stop> {
            let mut calls = self.calls.lock().unwrap();
            let before = calls.iter().filter(|of| **of == item).count();
            calls.push(item);
            drop(calls);
            (self.compute)(item, before as u32)
        }

        fn write(&self, item: usize, done: Done<u64, u64>) -> Result<(), Stop> {
            self.written.lock().unwrap().push((item, done.ready + done.found, done.attempts));
            Ok(())
        }

        fn fail(&self, item: usize, error: CliError, attempts: u32) -> Result<bool, CliError> {
            let mut failed = self.failed.lock().unwrap();
            failed.push((item, error.code, attempts));
            Ok(failed.len() <= self.max_errors)
        }

        fn tick(&self, _: bool) {}
    }

    fn all(numbers: &Numbers<'_>, count: usize) -> Result<(), CliError> {
        let items: Vec<usize> = (0..count).collect();
        run(numbers, &items, Limits { threads: 3, bytes: 8 }, &CancelToken::default())
    }

    fn item(code: Code) -> Stop {
        Stop::Item(CliError::new(code, "x"))
    }

    #[test]
    fn every_volume_is_written_once_but_what_is_done_already() {
        let numbers = Numbers::new(&|item, _| Ok(item as u64));
        all(&numbers, 50).unwrap();
        let mut written = numbers.written.into_inner().unwrap();
        written.sort();
        let expected: Vec<_> = (0..50).filter(|n| *n != 7).map(|n| (n, 2 * n as u64, 1)).collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn r9_what_fails_or_panics_stops_nothing_else() {
        let numbers = Numbers::new(&|item, _| match item {
            3 => Err(item_of_data()),
            5 => panic!("a fault"),
            _ => Ok(0),
        });
        fn item_of_data() -> Stop {
            item(Code::BatchPrompt)
        }
        all(&numbers, 20).unwrap();
        let mut failed = numbers.failed.into_inner().unwrap();
        failed.sort();
        assert_eq!(failed, [(3, "R-BAT-10", 1), (5, "R-BUG-01", 1)]);
        assert_eq!(numbers.written.into_inner().unwrap().len(), 17);
    }

    #[test]
    fn what_fails_for_the_moment_is_tried_once_more() {
        let numbers = Numbers::new(&|number, before| match (number, before) {
            (1, 0) | (2, _) => Err(item(Code::Allocation)),
            (3, _) => Err(item(Code::ItemTimeout)),
            _ => Ok(0),
        });
        all(&numbers, 5).unwrap();
        let mut failed = numbers.failed.into_inner().unwrap();
        failed.sort();
        assert_eq!(failed, [(2, "R-MEM-03", 2), (3, "R-BAT-09", 1)]);
        assert!(numbers.written.into_inner().unwrap().contains(&(1, 1, 2)));
    }

    #[test]
    fn what_every_volume_would_fail_of_stops_the_run() {
        let numbers = Numbers::new(&|number, _| match number {
            4 => Err(Stop::Run(CliError::new(Code::BatchUnwritable, "full"))),
            _ => Ok(0),
        });
        assert_eq!(all(&numbers, 1000).unwrap_err().code, "R-BAT-07");
        assert!(numbers.written.into_inner().unwrap().len() < 1000);
        let numbers = Numbers::new(&|_, _| panic!("always"));
        let error = all(&numbers, 1000).unwrap_err();
        assert!(error.what.starts_with("3 volumes in a row"), "{}", error.what);
        assert!(numbers.failed.into_inner().unwrap().len() < 20);
    }

    #[test]
    fn a_limit_of_errors_ends_the_run_without_one() {
        let mut numbers = Numbers::new(&|_, _| Err(item(Code::BatchPrompt)));
        numbers.max_errors = 2;
        all(&numbers, 1000).unwrap();
        let failed = numbers.failed.into_inner().unwrap().len();
        assert!((3..20).contains(&failed), "{failed}");
    }

    #[test]
    fn r3_a_run_that_is_stopped_ends_soon() {
        let cancel = CancelToken::default();
        let stop = cancel.clone();
        let compute = move |number: usize, _: u32| match number {
            5 => {
                stop.cancel();
                Err(Stop::Cancelled)
            }
            _ => Ok(0),
        };
        let numbers = Numbers::new(&compute);
        let items: Vec<usize> = (0..100_000).collect();
        run(&numbers, &items, Limits { threads: 2, bytes: 8 }, &cancel).unwrap();
        assert!(numbers.calls.into_inner().unwrap().len() < 100);
    }
}
