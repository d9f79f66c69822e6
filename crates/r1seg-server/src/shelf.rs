//! Things that are kept for their owner until they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::gauge::Gauge;

use crate::keys::Owner;

/// What can be kept.
pub(crate) trait Kept {
    fn id(&self) -> &str;
    fn owner(&self) -> Owner;
    fn lease(&self) -> &Lease;
}

/// How long something is kept: so long after its last use.
#[derive(Debug)]
pub(crate) struct Lease {
    ttl: Duration,
    /// Unix seconds.
    pub(crate) created: u64,
    until: Mutex<Instant>,
}

impl Lease {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, created: unix_now(), until: Mutex::new(Instant::now() + ttl) }
    }

    pub(crate) fn renew(&self) {
        *lock(&self.until) = Instant::now() + self.ttl;
    }

    /// How much of it is left.
    pub(crate) fn left(&self) -> Duration {
        lock(&self.until).saturating_duration_since(Instant::now())
    }

    /// When it ends, in unix seconds, if nobody uses it again.
    pub(crate) fn expires(&self) -> u64 {
        unix_now() + self.left().as_secs()
    }
}

/// Unix seconds.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is in a mutex, also after a thread that held it has panicked: nothing here is left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that is kept of one kind.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    items: Mutex<HashMap<String, Arc<T>>>,
    gauge: Gauge,
}

impl<T: Kept> Shelf<T> {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        Self { items: Mutex::default(), gauge: gauge.clone() }
    }

    pub(crate) fn put(&self, item: Arc<T>) {
        let mut items = lock(&self.items);
        items.insert(item.id().to_string(), item);
        self.count(&items);
    }

    /// What its owner asks for, which is kept for longer then. Nobody else learns that it exists.
    pub(crate) fn get(&self, id: &str, owner: Owner) -> Option<Arc<T>> {
        let items = lock(&self.items);
        let item = items.get(id).filter(|item| item.owner() == owner && !is_over(item))?;
        item.lease().renew();
        Some(item.clone())
    }

    /// Takes out all that has expired. What somebody works with stays until they are done.
    pub(crate) fn take_expired(&self) -> Vec<Arc<T>> {
        let mut items = lock(&self.items);
        let mut taken = Vec::new();
        items.retain(|_, item| {
            let over = is_over(item);
            if over {
                taken.push(item.clone());
            }
            !over
        });
        self.count(&items);
        taken
    }

    pub(crate) fn take(&self, id: &str, owner: Owner) -> Option<Arc<T>> {
        self.get(id, owner)?;
        let mut items = lock(&self.items);
        let item = items.remove(id);
        self.count(&items);
        item
    }

    /// Takes out what was used least recently, of what `is_wanted` says and nobody works with.
    pub(crate) fn take_idlest(&self, is_wanted: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let mut items = lock(&self.items);
        let is_free = |item: &&Arc<T>| Arc::strong_count(item) == 1 && is_wanted(item);
        let idlest = items.values().filter(is_free).min_by_key(|item| item.lease().left())?;
        let id = idlest.id().to_string();
        let taken = items.remove(&id);
        self.count(&items);
        taken
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.items).len()
    }

    /// Takes out all that `is_wanted` says.
    pub(crate) fn take_all(&self, is_wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut items = lock(&self.items);
        let mut taken = Vec::new();
        items.retain(|_, item| {
            let wanted = is_wanted(item);
            if wanted {
                taken.push(item.clone());
            }
            !wanted
        });
        self.count(&items);
        taken
    }

    /// Whether any of them is as `is_such` says.
    pub(crate) fn any(&self, is_such: impl Fn(&T) -> bool) -> bool {
        lock(&self.items).values().any(|item| is_such(item))
    }

    /// When the first of them expires.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        lock(&self.items).values().map(|item| item.lease().left()).min()
    }

    fn count(&self, items: &HashMap<String, Arc<T>>) {
        self.gauge.set(i64::try_from(items.len()).unwrap_or(i64::MAX));
    }
}

/// Whether something has expired, and nobody holds it but the shelf.
fn is_over<T: Kept>(item: &Arc<T>) -> bool {
    item.lease().left().is_zero() && Arc::strong_count(item) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keys;

    struct Thing(&'static str, Owner, Lease);

    impl Kept for Thing {
        fn id(&self) -> &str {
            self.0
        }

        fn owner(&self) -> Owner {
            self.1
        }

        fn lease(&self) -> &Lease {
            &self.2
        }
    }

    #[test]
    fn s8_what_is_kept_is_for_its_owner_until_it_expires() {
        let keys = Keys::of_lines("0123456789abcdef\nfedcba9876543210").unwrap();
        let owner = |key: &str| keys.owner(Some(format!("Bearer {key}").as_bytes())).unwrap();
        let (one, other) = (owner("0123456789abcdef"), owner("fedcba9876543210"));
        let shelf = Shelf::new(&Gauge::default());
        shelf.put(Arc::new(Thing("a", one, Lease::new(Duration::from_secs(60)))));
        shelf.put(Arc::new(Thing("b", one, Lease::new(Duration::ZERO))));
        assert!(shelf.get("a", one).is_some());
        assert!(shelf.get("a", other).is_none() && shelf.take("a", other).is_none());
        assert!(shelf.get("b", one).is_none());
        let busy = Arc::new(Thing("c", one, Lease::new(Duration::ZERO)));
        shelf.put(busy.clone());
        assert_eq!(shelf.take_expired().len(), 1);
        drop(busy);
        assert_eq!(shelf.take_expired().len(), 1);
        assert!(shelf.take("a", one).is_some() && shelf.get("a", one).is_none());
    }

    #[test]
    fn what_was_used_least_recently_makes_room_unless_somebody_works_with_it() {
        let owner = Owner::default();
        let thing =
            |id, seconds| Arc::new(Thing(id, owner, Lease::new(Duration::from_secs(seconds))));
        let shelf = Shelf::new(&Gauge::default());
        let busy = thing("a", 10);
        shelf.put(busy.clone());
        for (id, seconds) in [("b", 30), ("c", 20), ("d", 25)] {
            shelf.put(thing(id, seconds));
        }
        let next = || shelf.take_idlest(|thing| thing.0 != "d").map(|thing| thing.0);
        assert_eq!([next(), next(), next()], [Some("c"), Some("b"), None]);
        drop(busy);
        assert_eq!((next(), shelf.len()), (Some("a"), 1));
    }
}
