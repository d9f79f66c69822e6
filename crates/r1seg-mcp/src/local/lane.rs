//! Work that is done one piece after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use r1seg::CancelToken;
use tokio::sync::Mutex;

use crate::{Call, Error, Step};

/// Calls that may wait for their turn.
const MOST_WAITING: usize = 32;

/// Does one piece of work at a time; others wait in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Lane {
    turn: Arc<Mutex<()>>,
    /// Those that wait, and the one that is done.
    calls: Arc<AtomicUsize>,
}

/// Counts a call as long as it waits or is done.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Cancels the work when nobody waits for it anymore.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Lane {
    /// Does a piece of work on a thread of its own, when its turn has come.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Call) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let before = self.calls.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(Arc::clone(&self.calls));
        if MOST_WAITING < before {
            return Err(Error::Busy { waiting: before - 1 });
        }
        if before > 0 {
            call.progress.report(Step::Waiting { before });
        }
        let _guard = CancelOnDrop(call.cancel.clone());
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let work = move || {
            call.cancel.check()?;
            let result = work(&call);
            // Not before the work has really ended, whoever waits for it.
            drop((turn, counted));
            result
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Fault))
    }

    /// Waits until nothing is done.
    pub(super) async fn idle(&self) {
        drop(self.turn.lock().await);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_that_ends_unexpectedly_is_a_fault_and_the_next_is_done() {
        let lane = Lane::default();
        let ended = lane.run::<()>(Call::default(), |_| panic!("on purpose")).await;
        assert_eq!(ended.unwrap_err().code(), "R-MCP-09");
        assert_eq!(lane.run(Call::default(), |_| Ok(7)).await.unwrap(), 7);
        assert_eq!(lane.calls.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn no_two_pieces_are_done_at_once_and_too_many_are_refused() {
        let lane = Arc::new(Lane::default());
        let running = Arc::new(AtomicUsize::new(0));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..MOST_WAITING + 5 {
            let (lane, running) = (Arc::clone(&lane), Arc::clone(&running));
            let work = move |_: &Call| {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                std::thread::sleep(Duration::from_millis(25));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            };
            calls.spawn(async move { lane.run(Call::default(), work).await });
        }
        let results = calls.join_all().await;
        let codes: Vec<_> =
            results.iter().filter_map(|r| r.as_ref().err()).map(Error::code).collect();
        assert_eq!(codes, ["R-MCP-06"; 4]);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_cancelled() {
        let lane = Arc::new(Lane::default());
        let (started, mut has_started) = tokio::sync::mpsc::channel(1);
        let call = Call::default();
        let cancel = call.cancel.clone();
        let run = {
            let lane = Arc::clone(&lane);
            tokio::spawn(async move {
                let work = move |call: &Call| {
                    let _ = started.blocking_send(());
                    while !call.cancel.is_cancelled() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok(())
                };
                lane.run(call, work).await
            })
        };
        has_started.recv().await.unwrap();
        run.abort();
        lane.idle().await;
        assert!(cancel.is_cancelled());
    }
}
