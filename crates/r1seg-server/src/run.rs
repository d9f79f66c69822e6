//! A server in a program that has no runtime of its own.

use std::net::SocketAddr;
use std::time::Duration;

use r1seg::CancelToken;
use tokio::runtime::Builder;

use crate::{Error, Server};

/// Threads that accept, parse and send. The models have threads of their own.
const THREADS: usize = 2;
/// Threads for files and for drawing slices.
const BLOCKING: usize = 16;
const GLANCE: Duration = Duration::from_millis(50);
/// For threads that a busy machine gives their turn late: what they hold would be left on the disk.
const LAST_TURN: Duration = Duration::from_secs(2);

impl Server {
    /// Listens, warms the models up, says where it listens once it is ready, and answers requests until
    /// `stop` is cancelled. Returns when what ran has finished, or its time was over.
    ///
    /// # Errors
    /// [`Error::Bind`], [`Error::Storage`] where no thread can be started, and what a model fails with
    /// when it is warmed up.
    pub fn run(
        self,
        stop: &CancelToken,
        ready: impl FnOnce(SocketAddr) + Send,
    ) -> Result<(), Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING)
            .thread_name("r1seg-http")
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(self.until(stop, ready));
        // Whoever still waits is gone with the runtime, and what ran for them is cancelled.
        runtime.shutdown_timeout(LAST_TURN);
        self.stop();
        outcome
    }

    async fn until(
        &self,
        stop: &CancelToken,
        ready: impl FnOnce(SocketAddr) + Send,
    ) -> Result<(), Error> {
        let listener = self.listen().await?;
        let address = listener.local_addr()?;
        let over = CancelToken::default();
        let stopped = {
            let (stop, over) = (stop.clone(), over.clone());
            async move {
                while !stop.is_cancelled() && !over.is_cancelled() {
                    tokio::time::sleep(GLANCE).await;
                }
            }
        };
        std::thread::scope(|scope| {
            let warming = scope.spawn(|| {
                let warmed = self.warm_up(stop);
                match &warmed {
                    Ok(()) => ready(address),
                    Err(_) => over.cancel(),
                }
                warmed
            });
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(self.serve(listener, stopped));
            });
            let warmed = warming.join().unwrap_or(Err(Error::Panicked));
            match warmed {
                // Whoever stops a server that is not ready yet gets no error for it.
                Err(error) if error.is_cancelled() => Ok(()),
                other => other,
            }
        })
    }
}
