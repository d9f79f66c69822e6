//! What was called: an event a line (`FAKECUDA_LOG`), totals at the end (`FAKECUDA_SUMMARY`).

use crate::exec::Work;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

#[derive(Default)]
struct PerKernel {
    launches: u64,
    blocks: u64,
    threads: u64,
    work: Work,
    time: Duration,
}

#[derive(Default)]
struct PerProduct {
    calls: u64,
    flops: f64,
    time: Duration,
}

#[derive(Default)]
struct Totals {
    calls: BTreeMap<&'static str, u64>,
    bytes: BTreeMap<&'static str, u64>,
    kernels: BTreeMap<String, PerKernel>,
    products: BTreeMap<String, PerProduct>,
    warnings: BTreeMap<String, u64>,
    small_launches: u64,
    threads: BTreeSet<u64>,
}

struct Log {
    started: Instant,
    file: Option<Mutex<std::fs::File>>,
    totals: Mutex<Totals>,
}

static LOG: OnceLock<Log> = OnceLock::new();

unsafe extern "C" {
    fn atexit(f: extern "C" fn()) -> i32;
}

fn log() -> &'static Log {
    LOG.get_or_init(|| {
        // SAFETY: the library is never unloaded.
        unsafe { atexit(at_exit) };
        let file =
            std::env::var("FAKECUDA_LOG").ok().and_then(|p| std::fs::File::create(named(&p)).ok());
        Log { started: Instant::now(), file: file.map(Mutex::new), totals: Mutex::default() }
    })
}

/// The name of a file, in which `%p` stands for the number of the process.
fn named(path: &str) -> String {
    path.replace("%p", &std::process::id().to_string())
}

fn totals(f: impl FnOnce(&mut Totals)) {
    f(&mut log().totals.lock().unwrap_or_else(|e| e.into_inner()));
}

pub fn thread() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static ME: u64 = NEXT.fetch_add(1, Ordering::Relaxed));
    ME.with(|n| *n)
}

/// One call, with what it was about.
pub fn event(name: &'static str, detail: impl FnOnce() -> String) {
    let log = log();
    totals(|t| {
        *t.calls.entry(name).or_default() += 1;
        t.threads.insert(thread());
    });
    if let Some(file) = &log.file {
        let mut file = file.lock().unwrap_or_else(|e| e.into_inner());
        let at = log.started.elapsed().as_micros();
        // In one write, so that a reader never sees half of a call.
        let line = format!("{at}\t{}\t{name}\t{}\n", thread(), detail());
        let _ = file.write_all(line.as_bytes());
    }
}

pub fn bytes(name: &'static str, count: usize) {
    totals(|t| *t.bytes.entry(name).or_default() += count as u64);
}

pub fn launched(name: &str, blocks: u64, threads: u64, work: &Work, time: Duration) {
    totals(|t| {
        if threads < 4096 {
            t.small_launches += 1;
        }
        let k = t.kernels.entry(name.into()).or_default();
        k.launches += 1;
        k.blocks += blocks;
        k.threads += threads;
        k.time += time;
        k.work.warp_instructions += work.warp_instructions;
        k.work.thread_instructions += work.thread_instructions;
        k.work.loaded += work.loaded;
        k.work.stored += work.stored;
        k.work.atomics += work.atomics;
        k.work.divergent_warps += work.divergent_warps;
        k.work.barriers += work.barriers;
    });
}

pub fn product(shape: String, flops: f64, time: Duration) {
    totals(|t| {
        let p = t.products.entry(shape).or_default();
        p.calls += 1;
        p.flops += flops;
        p.time += time;
    });
}

/// Said once on stderr, and counted. `FAKECUDA_QUIET` keeps stderr clean.
pub fn warn(text: &str) {
    totals(|t| {
        let n = t.warnings.entry(text.into()).or_default();
        *n += 1;
        if *n == 1 && t.warnings.len() < 40 && std::env::var_os("FAKECUDA_QUIET").is_none() {
            eprintln!("fakecuda: {text}");
        }
    });
}

pub fn fault(text: &str) {
    eprintln!("fakecuda: {text}");
    totals(|t| *t.warnings.entry(format!("FAULT {text}")).or_default() += 1);
}

extern "C" fn at_exit() {
    let Some(log) = LOG.get() else { return };
    let Ok(to) = std::env::var("FAKECUDA_SUMMARY") else {
        return;
    };
    let text = summary(log);
    if to == "-" {
        eprint!("{text}");
    } else {
        let _ = std::fs::write(named(&to), text);
    }
}

fn summary(log: &Log) -> String {
    let t = log.totals.lock().unwrap_or_else(|e| e.into_inner());
    let mut out = String::new();
    let (peak, left) = crate::mem::with(|h| {
        (h.peak, h.live.values().filter(|a| a.kind == crate::mem::Kind::Device).count())
    });
    let launches: u64 = t.kernels.values().map(|k| k.launches).sum();
    let products: u64 = t.products.values().map(|p| p.calls).sum();
    let _ = writeln!(out, "fakecuda summary");
    let faults = t.warnings.iter().filter(|(text, _)| text.starts_with("FAULT")).map(|(_, n)| n);
    let faults: u64 = faults.sum();
    let _ = writeln!(out, "faults\t{faults}");
    let _ = writeln!(out, "warnings\t{}", t.warnings.values().sum::<u64>() - faults);
    let _ = writeln!(out, "kernel_launches\t{launches}");
    let _ = writeln!(out, "launches_under_4096_threads\t{}", t.small_launches);
    let _ = writeln!(out, "gemm_calls\t{products}");
    let flops: f64 = t.products.values().map(|p| p.flops).sum();
    let _ = writeln!(out, "gemm_gflop\t{:.3}", flops / 1e9);
    let _ = writeln!(out, "peak_device_bytes\t{peak}");
    let _ = writeln!(out, "allocations_left\t{left}");
    let _ = writeln!(out, "host_threads_that_called\t{}", t.threads.len());
    for (name, n) in &t.bytes {
        let _ = writeln!(out, "bytes\t{name}\t{n}");
    }
    for (name, n) in &t.calls {
        let _ = writeln!(out, "calls\t{name}\t{n}");
    }
    let mut kernels: Vec<_> = t.kernels.iter().collect();
    kernels.sort_by_key(|(_, k)| std::cmp::Reverse(k.launches));
    let _ = writeln!(
        out,
        "kernel\tname\tlaunches\tblocks\tthreads\tthread_instructions\tglobal_loaded\t\
         global_stored\tatomics\tdivergent_warps\temulated_ms"
    );
    for (name, k) in kernels {
        let _ = writeln!(
            out,
            "kernel\t{name}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{:.1}",
            k.launches,
            k.blocks,
            k.threads,
            k.work.thread_instructions,
            k.work.loaded,
            k.work.stored,
            k.work.atomics,
            k.work.divergent_warps,
            k.time.as_secs_f64() * 1e3
        );
    }
    let mut shapes: Vec<_> = t.products.iter().collect();
    shapes.sort_by_key(|(_, p)| std::cmp::Reverse(p.calls));
    for (shape, p) in shapes {
        let ms = p.time.as_secs_f64() * 1e3;
        let _ = writeln!(out, "gemm\t{shape}\t{}\t{:.4} GFLOP\t{ms:.1} ms", p.calls, p.flops / 1e9);
    }
    for (text, n) in &t.warnings {
        let _ = writeln!(out, "warning\t{n}\t{text}");
    }
    out
}
