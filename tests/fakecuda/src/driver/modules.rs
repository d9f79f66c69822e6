//! Modules and their functions.

use super::device::{capability, runs};
use super::{INVALID, OK, Status, alive, state};
use crate::exec::Kernel;
use crate::log::{self, event};
use crate::ptx::{self, Init, Module};
use crate::{lower, mem};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

struct Loaded {
    module: Module,
    globals: HashMap<String, u64>,
    functions: Mutex<HashMap<String, &'static Handle>>,
}

pub(super) struct Handle {
    owner: &'static Loaded,
    pub(super) name: String,
    kernel: OnceLock<Result<Kernel, String>>,
    pub(super) dynamic_limit: AtomicU32,
}

impl Handle {
    pub(super) fn kernel(&self) -> Result<&Kernel, &String> {
        self.kernel
            .get_or_init(|| {
                let function = &self.owner.module.functions[&self.name];
                lower::kernel(&self.owner.module, &self.owner.globals, function)
            })
            .as_ref()
    }
}

/// A module, which stays for good. One that was loaded before and has no variables to write to is that
/// one: a program that opens a device for each of its tests loads the same modules again and again.
fn load(text: &str) -> Result<&'static Loaded, String> {
    static LOADED: OnceLock<Mutex<HashMap<String, &'static Loaded>>> = OnceLock::new();
    let mut before = LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner());
    if let Some(loaded) = before.get(text) {
        return Ok(loaded);
    }
    let loaded = parsed(text)?;
    if loaded.module.variables.iter().all(|v| v.space != ".global") {
        before.insert(text.to_string(), loaded);
    }
    Ok(loaded)
}

fn parsed(text: &str) -> Result<&'static Loaded, String> {
    let module = ptx::parse(text)?;
    let mut globals = HashMap::new();
    for v in &module.variables {
        if matches!(v.space.as_str(), ".global" | ".const") && !v.external {
            let place: &'static mut [u128] =
                Box::leak(vec![0u128; v.size.div_ceil(16).max(1)].into());
            let address = place.as_mut_ptr() as u64;
            mem::register(address, v.size.max(1));
            globals.insert(v.name.clone(), address);
        }
    }
    for v in &module.variables {
        let Some(address) = globals.get(&v.name) else {
            continue;
        };
        for (n, init) in v.init.iter().enumerate() {
            let bits = match init {
                Init::Bits(bits) => *bits,
                Init::Address(name, offset) => globals
                    .get(name)
                    .map(|a| a.wrapping_add(*offset as u64))
                    .ok_or_else(|| format!("{} refers to {name}", v.name))?,
            };
            let at = (address + (n * v.width) as u64) as *mut u8;
            // SAFETY: within the variable's bytes, of which there are `width` an element.
            unsafe { at.copy_from(bits.to_le_bytes().as_ptr(), v.width.min(8)) };
        }
    }
    Ok(Box::leak(Box::new(Loaded { module, globals, functions: Mutex::default() })))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut usize, image: *const c_void) -> Status {
    alive!();
    let start = unsafe { *(image as *const u32) };
    if start == 0x464C_457F || start == 0xBA55_ED50 {
        log::warn("a module of machine code: only PTX can be interpreted");
        return 209;
    }
    let text = unsafe { CStr::from_ptr(image.cast()) }.to_string_lossy();
    let began = Instant::now();
    // An old driver: 222, CUDA_ERROR_UNSUPPORTED_PTX_VERSION.
    if let Some(code) = std::env::var("FAKECUDA_LOAD_ERROR").ok().and_then(|c| c.parse().ok()) {
        return code;
    }
    match load(&text) {
        Ok(loaded) if !runs(&loaded.module.target, capability()) => {
            let target = &loaded.module.target;
            log::warn(&format!("a module for {target} on a device of {}", capability()));
            218
        }
        Ok(loaded) => {
            event("cuModuleLoadData", || {
                let ms = began.elapsed().as_millis();
                format!(
                    "{} bytes, {} functions, {ms} ms",
                    text.len(),
                    loaded.module.functions.len()
                )
            });
            unsafe { *module = loaded as *const Loaded as usize };
            OK
        }
        Err(what) => {
            log::fault(&format!("cuModuleLoadData: {what}"));
            218
        }
    }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut usize,
    image: *const c_void,
    _: c_uint,
    _: *mut c_void,
    _: *mut c_void,
) -> Status {
    unsafe { cuModuleLoadData(module, image) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoad(module: *mut usize, path: *const c_char) -> Status {
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    let Ok(mut bytes) = std::fs::read(&path) else {
        return 301;
    };
    bytes.push(0);
    unsafe { cuModuleLoadData(module, bytes.as_ptr().cast()) }
}
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(_: usize) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    function: *mut usize,
    module: usize,
    name: *const c_char,
) -> Status {
    alive!();
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    event("cuModuleGetFunction", || name.clone());
    // SAFETY: modules are leaked, and the handle came from `cuModuleLoadData`.
    let loaded: &'static Loaded = unsafe { &*(module as *const Loaded) };
    if !loaded.module.functions.get(&name).is_some_and(|f| f.entry) {
        log::warn(&format!("cuModuleGetFunction: no kernel {name}"));
        return 500;
    }
    let mut functions = loaded.functions.lock().unwrap_or_else(|e| e.into_inner());
    let handle: &'static Handle = functions.entry(name.clone()).or_insert_with(|| {
        Box::leak(Box::new(Handle {
            owner: loaded,
            name,
            kernel: OnceLock::new(),
            dynamic_limit: AtomicU32::new(48 << 10),
        }))
    });
    unsafe { *function = handle as *const Handle as usize };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetGlobal_v2(
    address: *mut u64,
    bytes: *mut usize,
    module: usize,
    name: *const c_char,
) -> Status {
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    // SAFETY: as above.
    let loaded: &'static Loaded = unsafe { &*(module as *const Loaded) };
    let Some(found) = loaded.globals.get(&name) else {
        return 500;
    };
    let size = loaded.module.variables.iter().find(|v| v.name == name).map_or(0, |v| v.size);
    unsafe {
        if !address.is_null() {
            *address = *found;
        }
        if !bytes.is_null() {
            *bytes = size;
        }
    }
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuFuncGetAttribute(value: *mut c_int, which: c_uint, f: usize) -> Status {
    // SAFETY: a handle from `cuModuleGetFunction`.
    let handle = unsafe { &*(f as *const Handle) };
    let Ok(kernel) = handle.kernel() else {
        return INVALID;
    };
    let found = match which {
        0 => kernel.max_threads.unwrap_or(1024) as c_int,
        1 => kernel.static_shared as c_int,
        3 => kernel.local as c_int,
        4 => 32,
        5 | 6 => 90,
        8 => handle.dynamic_limit.load(Ordering::Relaxed) as c_int,
        _ => 0,
    };
    unsafe { *value = found };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(f: usize, which: c_uint, value: c_int) -> Status {
    // SAFETY: as above.
    let handle = unsafe { &*(f as *const Handle) };
    event("cuFuncSetAttribute", || format!("{} {which} {value}", handle.name));
    if which == 8 {
        if value as u32 > 232_448 {
            return INVALID;
        }
        handle.dynamic_limit.store(value as u32, Ordering::Relaxed);
    }
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(_: usize, _: c_uint) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: *mut c_int,
    _: usize,
    threads: c_int,
    _: usize,
) -> Status {
    unsafe { *blocks = (2048 / threads.max(1)).clamp(1, 32) };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    blocks: *mut c_int,
    f: usize,
    threads: c_int,
    shared: usize,
    _: c_uint,
) -> Status {
    unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, f, threads, shared) }
}
