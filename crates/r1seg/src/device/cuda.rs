//! A CUDA device: one stream for all threads, and a first computation to prove it.

use candle_core::cuda::cudarc::driver::{
    CudaSlice, CudaViewMut, DeviceRepr, DriverError, PinnedHostSlice, sys,
};
use candle_core::cuda::{CudaError, kernels::AFFINE};
use candle_core::{CudaDevice, Device, Tensor};

use super::DeviceChoice;
use super::kernels::{Gpu, Needs, Version};
use crate::Error;

/// Opens a device, and computes with it: a driver opens devices and loads no kernel that it cannot
/// run.
///
/// # Errors
/// [`Error::DeviceUnavailable`] when it cannot be used, [`Error::DeviceUnfit`] when this build is for
/// other devices or drivers.
pub(super) fn open(ordinal: usize) -> Result<Device, Error> {
    let device = DeviceChoice::Cuda(ordinal).to_string();
    let unavailable = |reason: String| Error::DeviceUnavailable { device: device.clone(), reason };
    let cuda = CudaDevice::new_with_stream(ordinal).map_err(|e| unavailable(words(e)))?;
    #[expect(unsafe_code, reason = "events order streams, and there is one")]
    // SAFETY: without events, nothing may use memory on another stream than the one that it was
    // allocated on. This device, its clones and its tensors share the stream that
    // `new_with_stream` created; candle takes no other, and operations between tensors of two
    // devices are errors. A stream runs its work in the order in which it was submitted, by
    // whichever host thread, and Rust orders what host threads do with one tensor.
    // `Device::new_cuda` would not do: its stream is another for each host thread.
    unsafe {
        cuda.disable_event_tracking();
    }
    let opened = Device::Cuda(cuda.clone());
    match try_out(&opened) {
        Ok(()) => Ok(opened),
        Err(error) => {
            let status = words(error);
            let unfit = Needs::of(AFFINE.ptx())
                .and_then(|needs| gpu(&cuda).unfit(device.clone(), &needs, &status));
            Err(unfit.unwrap_or_else(|| unavailable(status)))
        }
    }
}

/// Page-locked memory of zeros, from which a device copies by itself. `None` where the system gives
/// none.
///
/// cudarc lets go of it while a device may still copy, because this device keeps no events: whoever
/// has it waits for what was submitted before it is written or dropped.
pub(crate) fn page_locked(device: &CudaDevice, len: usize) -> Option<PinnedHostSlice<u8>> {
    let stream = device.cuda_stream();
    #[expect(unsafe_code, reason = "page-locked memory comes without values")]
    // SAFETY: all of it is written before a reference to it is made. It is cached as other memory is
    // (no flag), so that it may be read, too.
    unsafe {
        let mut memory = stream.context().alloc_pinned_with_flags::<u8>(len, 0).ok()?;
        memory.as_mut_ptr().ok()?.write_bytes(0, len);
        Some(memory)
    }
}

/// The memory of numbers on a device as bytes.
pub(crate) fn bytes_of<T: Number>(numbers: &mut CudaSlice<T>) -> Option<CudaViewMut<'_, u8>> {
    let len = numbers.num_bytes();
    #[expect(unsafe_code, reason = "numbers are written as the bytes that a file has of them")]
    // SAFETY: any bytes are numbers of these types.
    unsafe {
        numbers.transmute_mut::<u8>(len)
    }
}

/// What weights are on a device: numbers of which any bytes are one.
pub(crate) trait Number: DeviceRepr {}

impl Number for u8 {}
impl Number for f32 {}
impl Number for half::f16 {}
impl Number for half::bf16 {}

/// A kernel of candle's and one of ours, and a matrix product.
fn try_out(device: &Device) -> candle_core::Result<()> {
    let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], device)?;
    let y = x.affine(2.0, 1.0)?.matmul(&x)?.to_vec2::<f32>()?;
    // Small whole numbers are exact, however they are rounded.
    if y != [[18.0, 26.0], [34.0, 50.0]] {
        candle_core::bail!("its first matrix product is wrong: {y:?}")
    }
    if !r1seg_nn::all_finite(&x)? {
        candle_core::bail!("it finds numbers that are not there")
    }
    Ok(())
}

fn gpu(device: &CudaDevice) -> Gpu {
    let stream = device.cuda_stream();
    let context = stream.context();
    let capability = context.compute_capability().ok().and_then(|(major, minor)| {
        Some(Version(u32::try_from(major).ok()?, u32::try_from(minor).ok()?))
    });
    let name = context.name().unwrap_or_else(|_| "the device".to_string());
    Gpu { name, capability, cuda: cuda_version() }
}

/// The newest CUDA version that the driver supports.
fn cuda_version() -> Option<Version> {
    let mut version = 0;
    #[expect(unsafe_code, reason = "cudarc has no safe function for it")]
    // SAFETY: the driver writes one integer through the pointer, which is valid for that.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    status.result().ok()?;
    let version = u32::try_from(version).ok()?;
    Some(Version(version / 1000, version % 1000 / 10))
}

/// What went wrong, for people.
fn words(error: candle_core::Error) -> String {
    use candle_core::Error;
    let source = match error {
        Error::WithBacktrace { inner, .. }
        | Error::Context { inner, .. }
        | Error::WithPath { inner, .. } => return words(*inner),
        Error::Cuda(source) => source,
        other => return other.to_string(),
    };
    match source.downcast_ref::<CudaError>() {
        Some(CudaError::Cuda(error)) => driver_words(*error),
        Some(CudaError::Load { cuda, .. }) => driver_words(*cuda),
        Some(CudaError::Cublas(error)) => {
            format!("cuBLAS failed ({:?}); check that libcublas is on the library path", error.0)
        }
        Some(CudaError::Curand(error)) => {
            format!("cuRAND failed ({:?}); check that libcurand is on the library path", error.0)
        }
        _ => source.to_string(),
    }
}

fn driver_words(error: DriverError) -> String {
    if error.0 == sys::CUresult::CUDA_ERROR_STUB_LIBRARY {
        // What the functions of a library answer that is not there (scripts/cuda-stage).
        return "the NVIDIA driver (libcuda) is missing or too old".to_string();
    }
    match error.error_string() {
        Ok(text) => format!("{:?}: {}", error.0, text.to_string_lossy().trim_end_matches('.')),
        Err(_) => format!("{:?}", error.0),
    }
}
