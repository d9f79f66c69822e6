//! All that requests share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::budget::{Budget, Reserved};
use crate::cache::Cache;
use crate::compat::Compat;
use crate::finish::Finisher;
use crate::job::Desk;
use crate::keys::Owner;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::queue::Queue;
use crate::results::Found;
use crate::root::Root;
use crate::shelf::{Kept, Shelf, lock};
use crate::upload::Upload;
use crate::volumes::{Origin, Stored, bytes_of};
use crate::worker::Worker;
use crate::{Config, Error, Served};

/// Volumes that are read at the same time. Reading is bound by memory more than by processors.
const READERS: usize = 2;
/// Results that wait to be written while the models go on.
const UNWRITTEN: usize = 2;

/// A handle to the server's state; clones share it.
pub(crate) type App = Arc<State>;

/// All that requests share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) models: Arc<Models>,
    pub(crate) volumes: Shelf<Stored>,
    pub(crate) results: Arc<Shelf<Found>>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) desk: Desk,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) root: Arc<Root>,
    /// What is kept for plug-ins of viewers.
    pub(crate) compat: Compat,
    /// Requests in flight.
    pub(crate) requests: Arc<Semaphore>,
    /// Volumes that may be read at the same time.
    pub(crate) readers: Arc<Semaphore>,
    disk: Budget,
    memory: Budget,
    is_ready: AtomicBool,
    is_draining: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where the server listens, once it does.
    bound: Mutex<Option<SocketAddr>>,
}

impl State {
    /// Starts the threads that work.
    pub(crate) fn start(config: Config, served: Vec<Served>) -> Result<App, Error> {
        config.check()?;
        let models = Arc::new(Models::new(served)?);
        let root = Arc::new(Root::new(config.upload_dir.as_deref())?);
        let metrics = Arc::new(Metrics::default());
        let compat = Compat::new(&config, &models, &metrics)?;
        let limits = &config.limits;
        let queue = Arc::new(Queue::new(limits.queue));
        let cache = Arc::new(Cache::new(limits.max_cache_bytes, &metrics.cache_bytes));
        let results = Arc::new(Shelf::new(&metrics.results));
        let disk = Budget::new(limits.max_stored_bytes, &metrics.stored_bytes);
        let (finisher, from) = sync_channel(UNWRITTEN);
        let writer = Finisher {
            models: models.clone(),
            results: results.clone(),
            metrics: metrics.clone(),
            root: root.clone(),
            disk: disk.clone(),
            ttl: limits.ttl,
            git: option_env!("R1SEG_GIT"),
        };
        let worker = Worker {
            models: models.clone(),
            queue: queue.clone(),
            cache: cache.clone(),
            metrics: metrics.clone(),
            finisher,
        };
        let named = |name: &str| std::thread::Builder::new().name(name.to_string());
        let threads = vec![
            named("r1seg-models").spawn(move || worker.run())?,
            named("r1seg-results").spawn(move || writer.run(&from))?,
        ];
        let desk = Desk {
            queue,
            metrics: metrics.clone(),
            timeout: limits.timeout,
            next: Arc::new(AtomicU64::new(0)),
        };
        Ok(Arc::new(Self {
            models,
            volumes: Shelf::new(&metrics.volumes),
            results,
            cache,
            desk,
            root,
            compat,
            requests: Arc::new(Semaphore::new(limits.max_requests)),
            readers: Arc::new(Semaphore::new(READERS)),
            disk,
            memory: Budget::new(limits.max_memory_bytes, &metrics.memory_bytes),
            is_ready: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            threads: Mutex::new(threads),
            bound: Mutex::new(None),
            metrics,
            config,
        }))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst) && !self.is_draining()
    }

    pub(crate) fn set_ready(&self) {
        self.is_ready.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    /// Takes no more requests.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn set_bound(&self, address: SocketAddr) {
        *lock(&self.bound) = Some(address);
    }

    pub(crate) fn bound(&self) -> SocketAddr {
        lock(&self.bound).unwrap_or(self.config.address)
    }

    /// Ends the threads once they have done what waits.
    pub(crate) fn stop(&self) {
        self.desk.queue.close();
        for thread in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
    }

    /// A folder that no message may name.
    pub(crate) fn private(&self) -> PathBuf {
        self.root.path()
    }

    /// Removes whatever has expired; blocks.
    pub(crate) fn sweep(&self) {
        self.compat.sweep();
        for volume in self.volumes.take_expired() {
            self.let_go(&volume);
        }
        for found in self.results.take_expired() {
            found.wipe();
        }
    }

    /// Removes a volume, all that models made of it, and all results about it; blocks.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn delete_volume(&self, id: &str, owner: Owner) -> Result<(), Error> {
        let volume = self.volumes.take(id, owner).ok_or(Error::NotFound { what: "volume" })?;
        self.let_go(&volume);
        for found in self.results.take_all(|found| found.volume == id) {
            found.wipe();
        }
        Ok(())
    }

    fn let_go(&self, volume: &Stored) {
        volume.wipe();
        let (content, owner) = (volume.content, volume.owner());
        let is_same = |other: &Stored| other.content == content && other.owner() == owner;
        if !self.volumes.any(is_same) {
            self.cache.forget(&content, owner);
        }
    }

    /// Lets go of the volume that its owner used least recently, of those that may go. Whether there was one.
    pub(crate) fn make_room(&self, owner: Owner) -> bool {
        let may_go = |volume: &Stored| volume.may_yield && volume.owner() == owner;
        let idlest = self.volumes.take_idlest(may_go);
        idlest.inspect(|volume| self.let_go(volume)).is_some()
    }

    /// Takes more memory, for which volumes of the same owner that may go make room.
    ///
    /// # Errors
    /// [`Error::NoRoom`] where that is not enough; what can never fit makes nothing go.
    pub(crate) fn reserve(
        &self,
        memory: &mut Reserved,
        bytes: u64,
        owner: Owner,
    ) -> Result<(), Error> {
        let could_fit = bytes <= self.config.limits.max_memory_bytes;
        while !memory.grow(bytes) {
            if !(could_fit && self.make_room(owner)) {
                return Err(self.full());
            }
        }
        Ok(())
    }

    /// That there is no room, and when there may be.
    pub(crate) fn full(&self) -> Error {
        let retry = self.volumes.next_expiry().unwrap_or(self.config.limits.ttl);
        Error::NoRoom { retry: retry.max(Duration::from_secs(1)) }
    }

    /// Space for an upload, of which nothing is taken yet.
    pub(crate) fn disk(&self) -> Reserved {
        self.disk.nothing()
    }

    /// Memory, of which nothing is taken yet.
    pub(crate) fn memory(&self) -> Reserved {
        self.memory.nothing()
    }

    /// Reads an upload and keeps it.
    ///
    /// # Errors
    /// Those of reading; [`Error::NoRoom`]. Nothing is left of the upload then.
    pub(crate) async fn keep(
        self: &Arc<Self>,
        upload: Upload,
        owner: Owner,
    ) -> Result<Arc<Stored>, Error> {
        let turn = self.readers.clone().acquire_owned().await.map_err(|_| Error::Draining)?;
        let begin = std::time::Instant::now();
        let state = self.clone();
        // The turn ends with the reading, which goes on when the client disconnects.
        let reading = move || {
            let _turn = turn;
            state.read(upload, owner)
        };
        let read = tokio::task::spawn_blocking(reading).await;
        let volume = read.map_err(|_| {
            self.metrics.panics.inc();
            Error::Panicked
        })??;
        self.metrics.stage("read", begin.elapsed());
        self.metrics.uploads.inc();
        self.metrics.upload_bytes.inc_by(volume.bytes());
        self.volumes.put(volume.clone());
        Ok(volume)
    }

    fn read(&self, upload: Upload, owner: Owner) -> Result<Arc<Stored>, Error> {
        let limits = &self.config.limits;
        let input = upload.reading.read(&upload.source()?, limits.max_volume_bytes)?;
        // The thread that hashes the file looks at it before it goes.
        let _ = input.sha256();
        let (mut memory, bytes) = (self.memory.nothing(), bytes_of(&input));
        if upload.may_yield {
            self.reserve(&mut memory, bytes, owner)?;
        } else if !memory.grow(bytes) {
            return Err(self.full());
        }
        let origin = Origin {
            owner,
            name: upload.name(),
            sha256: upload.sha256(),
            content: upload.content(),
            lease: crate::shelf::Lease::new(limits.ttl),
            folder: upload.folder,
            may_yield: upload.may_yield,
            disk: upload.disk,
            memory,
        };
        Ok(Stored::new(input, origin))
    }
}
