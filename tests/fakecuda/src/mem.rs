//! Device memory: host memory with a list of what is allocated.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::{Mutex, RwLock};

pub struct Allocation {
    pub size: usize,
    /// In the order of allocation.
    pub number: u64,
    /// The stream that wrote it last, and when; and those that have read it since. See
    /// `driver::touch`.
    pub write: (u64, u64),
    pub reads: Vec<(u64, u64)>,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Device,
    /// Of the host, where the device may reach it.
    Pinned,
    /// A variable of a module.
    Variable,
}

impl Allocation {
    fn new(size: usize, number: u64, kind: Kind) -> Self {
        Self { size, number, write: (0, 0), reads: Vec::new(), kind }
    }
}

#[derive(Default)]
pub struct Heap {
    pub live: BTreeMap<u64, Allocation>,
    pub used: usize,
    pub peak: usize,
    pub count: u64,
    freed: Vec<(u64, usize, u64)>,
}

static HEAP: RwLock<Option<Heap>> = RwLock::new(None);
static LIMIT: Mutex<Option<usize>> = Mutex::new(None);

pub fn with<T>(f: impl FnOnce(&mut Heap) -> T) -> T {
    let mut heap = HEAP.write().unwrap_or_else(|e| e.into_inner());
    f(heap.get_or_insert_with(Heap::default))
}

/// Bytes of the pretended device: `FAKECUDA_MEMORY` in MiB, 80 GiB unless set.
pub fn capacity() -> usize {
    let mut limit = LIMIT.lock().unwrap_or_else(|e| e.into_inner());
    *limit.get_or_insert_with(|| {
        let mib = std::env::var("FAKECUDA_MEMORY").ok().and_then(|m| m.parse::<usize>().ok());
        mib.unwrap_or(80 << 10) << 20
    })
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 512).expect("an allocation's layout")
}

/// Filled with 0xFF, which is NaN in every float type: what is read before it is written shows.
fn fresh(size: usize) -> Option<u64> {
    // SAFETY: the size is not zero.
    let p = unsafe { alloc_zeroed(layout(size)) };
    if p.is_null() {
        return None;
    }
    if std::env::var_os("FAKECUDA_ZERO").is_none() {
        // SAFETY: just allocated.
        unsafe { p.write_bytes(0xFF, size) };
    }
    Some(p as u64)
}

/// Memory of the device.
pub fn allocate(size: usize) -> Option<u64> {
    if size == 0 || with(|heap| heap.used + size) > capacity() {
        return None;
    }
    let start = fresh(size)?;
    with(|heap| {
        heap.used += size;
        heap.peak = heap.peak.max(heap.used);
        heap.count += 1;
        let number = heap.count;
        heap.live.insert(start, Allocation::new(size, number, Kind::Device));
    });
    Some(start)
}

/// Memory of the host that the device may reach. It does not count for the device's.
pub fn allocate_pinned(size: usize) -> Option<u64> {
    let start = fresh(size)?;
    with(|heap| heap.live.insert(start, Allocation::new(size, 0, Kind::Pinned)));
    Some(start)
}

/// A variable of a module, which kernels may touch and nobody frees.
pub fn register(start: u64, size: usize) {
    with(|heap| heap.live.insert(start, Allocation::new(size, 0, Kind::Variable)));
}

pub fn is_pinned(address: u64) -> bool {
    let Some((start, _)) = find(address) else { return false };
    with(|heap| heap.live.get(&start).is_some_and(|a| a.kind == Kind::Pinned))
}

pub fn free_pinned(start: u64) -> bool {
    let found = with(|heap| {
        heap.live.get(&start).filter(|a| a.kind == Kind::Pinned)?;
        heap.live.remove(&start).map(|a| a.size)
    });
    let Some(size) = found else { return false };
    // SAFETY: allocated by `fresh` with this layout, and just taken off the list.
    unsafe { dealloc(start as *mut u8, layout(size)) };
    true
}

pub fn free(start: u64) -> bool {
    let found = with(|heap| {
        heap.live.get(&start).filter(|a| a.kind == Kind::Device)?;
        let found = heap.live.remove(&start)?;
        heap.used -= found.size;
        if heap.freed.len() > 4096 {
            heap.freed.drain(..2048);
        }
        heap.freed.push((start, found.size, found.number));
        Some(found.size)
    });
    match found {
        Some(size) => {
            // SAFETY: allocated above with this layout, and just taken off the list.
            unsafe { dealloc(start as *mut u8, layout(size)) };
            true
        }
        None => false,
    }
}

pub fn find(address: u64) -> Option<(u64, u64)> {
    let heap = HEAP.read().unwrap_or_else(|e| e.into_inner());
    let (start, found) = heap.as_ref()?.live.range(..=address).next_back()?;
    let end = start + found.size as u64;
    (address < end).then_some((*start, end))
}

/// Whether all of it is in one allocation.
pub fn covers(address: u64, size: usize) -> bool {
    size == 0 || find(address).is_some_and(|(_, end)| address + size as u64 <= end)
}

pub fn describe(address: u64) -> String {
    let heap = HEAP.read().unwrap_or_else(|e| e.into_inner());
    let Some(heap) = heap.as_ref() else {
        return "nothing is allocated".into();
    };
    if let Some((start, size, number)) =
        heap.freed.iter().rev().find(|(s, n, _)| *s <= address && address < s + *n as u64)
        && find_in(heap, address).is_none()
    {
        return format!("inside freed allocation {number} of {size} bytes at {start:#x}");
    }
    match heap.live.range(..=address).next_back() {
        Some((start, found)) => format!(
            "{} bytes past the start of allocation {} of {} bytes at {start:#x}",
            address - start,
            found.number,
            found.size
        ),
        None => "below every allocation".into(),
    }
}

fn find_in(heap: &Heap, address: u64) -> Option<()> {
    let (start, found) = heap.live.range(..=address).next_back()?;
    (address < start + found.size as u64).then_some(())
}
