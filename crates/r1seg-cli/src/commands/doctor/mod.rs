//! `r1seg doctor`: what this machine and this build offer, to paste into a bug report.
//!
//! Nothing here names a person or a file of theirs: of variables only the names are given, and of the
//! home folder only that a path lies in it.

mod text;

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use r1seg::{DeviceChoice, Error, LoadOptions, R1SegModel};
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::exit::{Exit, Reported};
use crate::hints;
use crate::threads;

/// Raised when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Findings {
    schema_version: u32,
    r1seg: Build,
    system: System,
    cpu: Cpu,
    memory: Memory,
    cuda: Cuda,
    models: Models,
    /// Names of variables that are set and that r1seg reads.
    variables: Vec<String>,
    /// Why no model can be loaded on the CPU; null where the embedded one was.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Build {
    version: &'static str,
    commit: Option<&'static str>,
    target: &'static str,
    features: Vec<&'static str>,
    optimized: bool,
}

#[derive(Serialize)]
struct System {
    os: &'static str,
    architecture: &'static str,
    kernel: Option<String>,
}

#[derive(Serialize)]
struct Cpu {
    model: Option<String>,
    /// Of the machine.
    processors: Option<usize>,
    /// That this process may use, by its affinity and the quota of its control group.
    usable_processors: usize,
    /// That compute.
    threads: usize,
    tensor_threads: usize,
    /// The instruction set that the kernels chose.
    kernels: &'static str,
    features: Vec<&'static str>,
}

#[derive(Serialize)]
struct Memory {
    total_bytes: Option<u64>,
    /// Swap included.
    available_bytes: Option<u64>,
    /// What leaves no more than that.
    limited_by: Option<&'static str>,
}

#[derive(Serialize)]
struct Cuda {
    built_in: bool,
    /// The device on which the embedded model was loaded.
    device: Option<String>,
    problem: Option<String>,
    fix: Option<String>,
}

#[derive(Default, Serialize)]
struct Models {
    /// Whether this build downloads models and finds them by name.
    hub: bool,
    cache: Option<String>,
    models: Option<usize>,
    bytes: Option<u64>,
    offline: Option<bool>,
    problem: Option<String>,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit> {
    let loaded = load(DeviceChoice::Cpu);
    let findings = Findings::new(loaded.as_ref().err());
    let text = match args.json {
        true => serde_json::to_string_pretty(&findings)? + "\n",
        false => r1seg::sanitize_terminal(&text::render(&findings)).into_owned(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    match loaded {
        Ok(_) => Ok(Exit::Answered),
        Err(error) => Err(anyhow::Error::from(error).context(Reported)),
    }
}

/// Loads the embedded model, and says where it is.
fn load(device: DeviceChoice) -> Result<String, Error> {
    let model = R1SegModel::load_with("demo", &LoadOptions::default().with_device(device))?;
    Ok(model.device_name())
}

impl Findings {
    fn new(problem: Option<&Error>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            r1seg: Build::new(),
            system: System {
                os: std::env::consts::OS,
                architecture: std::env::consts::ARCH,
                kernel: line_of("/proc/sys/kernel/osrelease"),
            },
            cpu: Cpu::new(),
            memory: Memory::new(),
            cuda: Cuda::new(),
            models: Models::new(),
            variables: variables(),
            problem: problem.map(|error| format!("{}: {error}", error.code())),
        }
    }
}

impl Build {
    fn new() -> Self {
        let features = [("hub", cfg!(feature = "hub")), ("cuda", cfg!(feature = "cuda"))];
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("R1SEG_GIT"),
            target: env!("R1SEG_TARGET"),
            features: features.into_iter().filter_map(|(name, on)| on.then_some(name)).collect(),
            optimized: !cfg!(debug_assertions),
        }
    }
}

impl Cpu {
    fn new() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find(|line| line.starts_with("model name"));
        let processors = info.lines().filter(|line| line.starts_with("processor")).count();
        Self {
            model: model.and_then(|line| Some(line.split_once(':')?.1.trim().to_string())),
            processors: Some(processors).filter(|count| *count != 0),
            usable_processors: threads::processors(),
            threads: rayon::current_num_threads(),
            tensor_threads: r1seg::tensor_threads(),
            kernels: r1seg::cpu_kernels(),
            features: r1seg::cpu_features(),
        }
    }
}

impl Memory {
    fn new() -> Self {
        let tightest = r1seg::memory_limits().into_iter().min_by_key(|(_, bytes)| *bytes);
        Self {
            total_bytes: r1seg::total_memory(),
            available_bytes: tightest.map(|(_, bytes)| bytes),
            limited_by: tightest.map(|(by, _)| by),
        }
    }
}

impl Cuda {
    fn new() -> Self {
        if !cfg!(feature = "cuda") {
            let problem = Some("this r1seg was built without CUDA".to_string());
            return Self { built_in: false, device: None, problem, fix: None };
        }
        let (device, error) = match load(DeviceChoice::Cuda(0)) {
            Ok(device) => (Some(device), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            built_in: true,
            device,
            problem: error.as_ref().map(Error::message),
            fix: error.as_ref().and_then(Error::remedy).as_ref().map(hints::words),
        }
    }
}

impl Models {
    #[cfg(feature = "hub")]
    fn new() -> Self {
        use r1seg::hub::Hub;

        let problem = |error: r1seg::hub::Error| Some(error.to_string());
        let hub = match Hub::from_env() {
            Ok(hub) => hub,
            Err(error) => return Self { hub: true, problem: problem(error), ..Self::default() },
        };
        let found = Self {
            hub: true,
            cache: Some(in_home(&hub.config().cache)),
            offline: Some(hub.config().offline),
            ..Self::default()
        };
        match hub.list() {
            Ok(models) => Self {
                models: Some(models.len()),
                bytes: Some(models.iter().map(|model| model.bytes).sum()),
                ..found
            },
            Err(error) => Self { problem: problem(error), ..found },
        }
    }

    #[cfg(not(feature = "hub"))]
    fn new() -> Self {
        Self::default()
    }
}

/// A path as a person may show it to others: `~` for the home folder, which has their name.
#[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "there is no cache to name"))]
fn in_home(path: &Path) -> String {
    let home = ["HOME", "USERPROFILE"].into_iter().find_map(std::env::var_os);
    let home = home.filter(|home| !home.is_empty());
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_path_buf)) {
        Some(rest) => Path::new("~").join(rest).display().to_string(),
        None => path.display().to_string(),
    }
}

fn variables() -> Vec<String> {
    const OTHERS: [&str; 8] = [
        "CUDA_VISIBLE_DEVICES",
        "CANDLE_NUM_THREADS",
        "HUGGINGFACE_HUB_CACHE",
        "HUGGING_FACE_HUB_TOKEN",
        "RAYON_NUM_THREADS",
        "SSL_CERT_FILE",
        "TRANSFORMERS_OFFLINE",
        "XDG_CACHE_HOME",
    ];
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let ours = |name: &String| {
        (name.starts_with("R1SEG_") && name != threads::RESTARTED)
            || name.starts_with("HF_")
            || OTHERS.contains(&name.as_str())
    };
    let mut names: Vec<String> = names.filter(ours).collect();
    names.sort();
    names
}

/// The one line of a file of the kernel.
fn line_of(file: &str) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_string())
}
