//! Launches the kernels of `r1seg-kernels` on tensors of a CUDA device.
//!
//! A kernel takes one structure of parameters by value, in which tensors are [`Pointer`]s. All work
//! of a device runs on its one stream in the order of submission, so that memory may be freed as soon
//! as what reads it was launched.

#![allow(unsafe_code, reason = "kernels get pointers, and their results start without numbers")]

mod attention;
mod choose;
mod conv;
mod elementwise;
mod linear;
mod norm;
mod norm3d;
mod resize;

use std::marker::PhantomData;

use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Result, Shape, Storage, Tensor, WithDType, bail,
};
use half::{bf16, f16};
use r1seg_kernels::cuda::Module;

pub(crate) use attention::{Cached, MAX_HEAD, Scores, attend};
pub(crate) use choose::choose;
pub(crate) use conv::ConvTiles;
pub(crate) use elementwise::{activate, all_finite, gated, gather, gelu_dot, sum};
pub(crate) use linear::{MAX_FEW_ROWS, Matrix, Then, few_rows, finish, widen};
pub(crate) use norm::{RowNorm, row_norm};
pub(crate) use norm3d::{channel_norm, instance_norm};
pub(crate) use resize::{nearest, trilinear};

/// Whether the kernels take it: f32, f16 or bf16 on a CUDA device.
pub(crate) fn takes(x: &Tensor) -> bool {
    x.device().is_cuda() && matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16)
}

/// Where the numbers of a tensor begin, in the memory of its device.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Pointer<'a>(u64, PhantomData<&'a Tensor>);

impl<'a> Pointer<'a> {
    const NULL: Self = Self(0, PhantomData);

    /// Of a tensor with any strides.
    fn first(x: &'a Tensor) -> Result<Self> {
        fn start<T: DeviceRepr>(slice: &CudaSlice<T>, offset: usize) -> u64 {
            let (pointer, _) = slice.device_ptr(slice.stream());
            pointer + (offset * size_of::<T>()) as u64
        }
        let (storage, layout) = x.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("a kernel got a tensor of the CPU") };
        let offset = layout.start_offset();
        let address = match &storage.slice {
            CudaStorageSlice::F32(slice) => start(slice, offset),
            CudaStorageSlice::F16(slice) => start(slice, offset),
            CudaStorageSlice::BF16(slice) => start(slice, offset),
            CudaStorageSlice::U32(slice) => start(slice, offset),
            CudaStorageSlice::U8(slice) => start(slice, offset),
            _ => bail!("kernels take no {:?}", x.dtype()),
        };
        Ok(Self(address, PhantomData))
    }

    /// Of a tensor whose numbers follow one another.
    fn of(x: &'a Tensor) -> Result<Self> {
        if !x.is_contiguous() {
            bail!("a kernel needs contiguous numbers, got strides {:?}", x.stride())
        }
        Self::first(x)
    }

    /// Null where there is none.
    fn of_optional(x: Option<&'a Tensor>) -> Result<Self> {
        x.map_or(Ok(Self::NULL), Self::of)
    }
}

/// Bytes of shared memory that every device gives a block, those that a kernel has itself included.
const SHARED: usize = 48 << 10;

/// The most blocks along the second and third axis of a grid.
const MAX_BLOCKS: usize = 65_535;

/// The blocks of a launch and the threads of each.
struct Grid {
    blocks: [usize; 3],
    threads: usize,
    /// Bytes.
    shared: usize,
}

impl Grid {
    fn new(blocks: [usize; 3], threads: usize) -> Self {
        Self { blocks, threads, shared: 0 }
    }

    /// One thread per element.
    fn for_each(count: usize) -> Self {
        const THREADS: usize = 256;
        Self::new([count.div_ceil(THREADS), 1, 1], THREADS)
    }
}

/// A structure that a kernel takes.
///
/// # Safety
/// It has the fields of the kernel's own structure, in their order (`repr(C)`), and its pointers lead
/// to as many numbers as the kernel reads and writes.
unsafe trait Parameters {}

/// As cudarc passes it.
#[repr(transparent)]
struct ByValue<P>(P);

// SAFETY: the driver copies as many bytes as the kernel declares, and `Parameters` promises these.
unsafe impl<P: Parameters> DeviceRepr for ByValue<P> {}

/// Launches `{kernel}_{dtype}`.
fn launch<P: Parameters>(
    device: &CudaDevice,
    (module, kernel, dtype): (Module, &str, DType),
    grid: Grid,
    parameters: P,
) -> Result<()> {
    let (ptx, number) = match dtype {
        DType::F32 => (module.f32, "f32"),
        DType::F16 => (module.f16, "f16"),
        DType::BF16 => (module.bf16, "bf16"),
        other => bail!("kernels compute in no {other:?}"),
    };
    let [x, y, z] = grid.blocks;
    if grid.blocks.contains(&0) {
        return Ok(());
    }
    if y > MAX_BLOCKS || z > MAX_BLOCKS {
        bail!("{kernel} would need a grid of {:?} blocks", grid.blocks)
    }
    let narrow = |n: usize| match u32::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => bail!("{kernel} would need a grid of {:?} blocks", grid.blocks),
    };
    let config = LaunchConfig {
        grid_dim: (narrow(x)?, narrow(y)?, narrow(z)?),
        block_dim: (narrow(grid.threads)?, 1, 1),
        shared_mem_bytes: narrow(grid.shared)?,
    };
    let entry = format!("{kernel}_{number}");
    let function = device.get_or_load_custom_func(&entry, ptx.name, ptx.text)?;
    let parameters = ByValue(parameters);
    let mut builder = function.builder();
    builder.arg(&parameters);
    // SAFETY: `Parameters` promises what the kernel takes; the tensors behind its pointers are
    // borrowed until here, and the stream keeps the order of this launch and what frees them.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}

/// The device of a tensor.
fn device_of(x: &Tensor) -> Result<CudaDevice> {
    match x.device() {
        Device::Cuda(device) => Ok(device.clone()),
        _ => bail!("a kernel got a tensor of the CPU"),
    }
}

/// A tensor that a kernel is about to fill.
fn unfilled(shape: impl Into<Shape>, dtype: DType, device: &CudaDevice) -> Result<Tensor> {
    fn slice<T: DeviceRepr + WithDType + candle_core::cuda_backend::CudaDType>(
        len: usize,
        device: &CudaDevice,
    ) -> Result<CudaStorage> {
        // SAFETY: every number is written by the kernel that the caller launches next.
        // A driver allocates no empty memory.
        let slice = unsafe { device.alloc::<T>(len.max(1)) }?;
        Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
    }
    let shape = shape.into();
    let len = shape.elem_count();
    let storage = match dtype {
        DType::F32 => slice::<f32>(len, device)?,
        DType::F16 => slice::<f16>(len, device)?,
        DType::BF16 => slice::<bf16>(len, device)?,
        DType::U32 => slice::<u32>(len, device)?,
        other => bail!("kernels give no {other:?}"),
    };
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}
