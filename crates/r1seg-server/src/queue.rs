//! Requests that wait for a model, in fair turns.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::job::Job;
use crate::keys::Owner;
use crate::metrics::Metrics;
use crate::shelf::lock;

/// Whose turn it is: that of a key, or of an address where there are no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) owner: Owner,
    pub(crate) address: Option<IpAddr>,
}

/// A bounded queue from which clients are served in turns, however many requests one of them has.
#[derive(Debug)]
pub(crate) struct Queue {
    lanes: Mutex<Lanes>,
    changed: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct Lanes {
    /// The first one is next. None of them is empty.
    lanes: VecDeque<(Client, VecDeque<Job>)>,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { lanes: Mutex::default(), changed: Condvar::new(), limit }
    }

    /// Adds a job behind those of its client. Gives it back where the queue is full or closed.
    pub(crate) fn push(&self, job: Job, metrics: &Metrics) -> Result<(), Box<Job>> {
        let mut lanes = lock(&self.lanes);
        if lanes.is_closed || lanes.len() >= self.limit {
            return Err(Box::new(job));
        }
        let number = job.number;
        match lanes.lanes.iter_mut().find(|(client, _)| *client == job.client) {
            Some((_, jobs)) => jobs.push_back(job),
            None => lanes.lanes.push_back((job.client, VecDeque::from([job]))),
        }
        lanes.count(metrics);
        lanes.tell_positions(Some(number));
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next job, which comes with others that one pass answers as well; at most so many
    /// prompts. `None` once the queue is closed and empty.
    pub(crate) fn next(&self, prompts: usize, metrics: &Metrics) -> Option<Vec<Job>> {
        let mut lanes = lock(&self.lanes);
        let first = loop {
            match lanes.pop() {
                Some(job) => break job,
                None if lanes.is_closed => return None,
                None => {
                    lanes = self.changed.wait(lanes).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let mut jobs = vec![first];
        lanes.take_like(&mut jobs, prompts);
        lanes.count(metrics);
        lanes.tell_positions(None);
        Some(jobs)
    }

    /// Takes out a job whose client has left.
    pub(crate) fn remove(&self, number: u64, metrics: &Metrics) -> Option<Job> {
        let mut lanes = lock(&self.lanes);
        let job = lanes.remove(number);
        lanes.count(metrics);
        if job.is_some() {
            lanes.tell_positions(None);
        }
        job
    }

    /// Takes no more jobs. Those that wait are still given out.
    pub(crate) fn close(&self) {
        lock(&self.lanes).is_closed = true;
        self.changed.notify_all();
    }
}

impl Lanes {
    fn len(&self) -> usize {
        self.lanes.iter().map(|(_, jobs)| jobs.len()).sum()
    }

    fn count(&self, metrics: &Metrics) {
        metrics.queued.set(i64::try_from(self.len()).unwrap_or(i64::MAX));
    }

    /// The first job of the client whose turn it is, who then goes to the end.
    fn pop(&mut self) -> Option<Job> {
        let (client, mut jobs) = self.lanes.pop_front()?;
        let job = jobs.pop_front();
        if !jobs.is_empty() {
            self.lanes.push_back((client, jobs));
        }
        job
    }

    /// Moves jobs that can share a pass with the first of `jobs` to them.
    fn take_like(&mut self, jobs: &mut Vec<Job>, prompts: usize) {
        let Some(sharing) = jobs.first().and_then(|job| job.sharing.clone()) else { return };
        let asked = |jobs: &[Job]| jobs.iter().map(|job| job.asked.len()).sum::<usize>();
        for (_, lane) in &mut self.lanes {
            let mut index = 0;
            while let Some(job) = lane.get(index) {
                let fits = asked(jobs) + job.asked.len() <= prompts;
                if !fits || job.sharing.as_ref() != Some(&sharing) {
                    index += 1;
                } else if let Some(job) = lane.remove(index) {
                    jobs.push(job);
                }
            }
        }
        self.lanes.retain(|(_, lane)| !lane.is_empty());
    }

    fn remove(&mut self, number: u64) -> Option<Job> {
        let job = self.lanes.iter_mut().find_map(|(_, jobs)| {
            let index = jobs.iter().position(|job| job.number == number)?;
            jobs.remove(index)
        });
        self.lanes.retain(|(_, lane)| !lane.is_empty());
        job
    }

    /// Tells those that wait, or one of them, how many are served before it.
    fn tell_positions(&self, only: Option<u64>) {
        let longest = self.lanes.iter().map(|(_, jobs)| jobs.len()).max().unwrap_or(0);
        let mut position = 0;
        for round in 0..longest {
            for job in self.lanes.iter().filter_map(|(_, jobs)| jobs.get(round)) {
                if only.is_none_or(|number| number == job.number) {
                    job.tell_position(position);
                }
                position += 1;
            }
        }
    }
}
