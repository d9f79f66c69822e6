//! Weights on their way to a GPU: from their file through a little memory of the host, piece by piece.
//!
//! A piece is read and converted by all cores into one of two buffers, while the device still copies
//! out of the other. Its pages of the file are given back at once.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use candle_core::cuda::cudarc::driver::{CudaEvent, CudaViewMut, PinnedHostSlice, ValidAsZeroBits};
use candle_core::cuda::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Result, Shape, Storage, Tensor, bail};
use half::{bf16, f16};
use r1seg_checkpoint::{StoredTensor, WeightFiles};
use r1seg_nn::{QuantizedMatrix, StoredMatrix, WeightMatrix, WeightType};
use rayon::prelude::*;

use crate::device::cuda::{Number, bytes_of, page_locked};

/// Bytes of a piece, on the device: enough that what a copy costs beside its bytes does not show.
const PIECE: usize = 32 << 20;

/// Bytes that one core converts at a time.
const GRAIN: usize = 64 << 10;

/// A tensor of a file, and how the kernels know its format.
type Part<'a> = (&'a StoredTensor, WeightType);

/// The buffers of a model that is being loaded, from its first tensor on.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<Option<Upload>>);

impl Uploads {
    /// Uploads to `device`, one tensor at a time.
    ///
    /// The buffers are locked meanwhile: it must not be called from tasks of rayon, of which one may wait
    /// for another that waits for the lock.
    ///
    /// # Errors
    /// Those of `upload`.
    pub(crate) fn with<R>(
        &self,
        device: &CudaDevice,
        upload: impl FnOnce(&mut Upload) -> Result<R>,
    ) -> Result<R> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        upload(kept.get_or_insert_with(|| Upload {
            device: device.clone(),
            buffers: [None, None],
            next: 0,
        }))
    }
}

/// What puts tensors on a device.
pub(crate) struct Upload {
    device: CudaDevice,
    buffers: [Option<Buffer>; 2],
    /// Which buffer was used longest ago.
    next: usize,
}

impl Upload {
    /// The numbers of a tensor, rounded once to `dtype`.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub(crate) fn tensor(
        &mut self,
        files: &WeightFiles,
        part: Part<'_>,
        dtype: DType,
    ) -> Result<Tensor> {
        self.filled(files, &[part], Form::Numbers(dtype), Shape::from(part.0.shape.clone()))
    }

    /// One matrix whose rows are those of `parts`, matrices of one width: quantized if all of them are,
    /// in one type that a GPU keeps, else in `dtype`.
    ///
    /// # Errors
    /// When the device is out of memory, or the widths differ.
    pub(crate) fn matrix(
        &mut self,
        files: &WeightFiles,
        parts: &[Part<'_>],
        dtype: DType,
    ) -> Result<WeightMatrix> {
        let (mut n, mut k) = (0, None);
        for (tensor, _) in parts {
            match tensor.shape[..] {
                [rows, width] if k.is_none_or(|k| k == width) => (n, k) = (n + rows, Some(width)),
                _ => bail!("matrices of different widths cannot be stacked"),
            }
        }
        let (Some(&(_, stored)), Some(k)) = (parts.first(), k) else {
            bail!("a linear layer needs a weight")
        };
        let row = QuantizedMatrix::row_bytes(stored, k);
        match row.filter(|_| k != 0 && parts.iter().all(|part| part.1 == stored)) {
            Some(row) => {
                let bytes = self.filled(files, parts, Form::Rows(k), Shape::from((n, row)))?;
                Ok(WeightMatrix::Quantized(QuantizedMatrix::new(bytes, stored, (n, k))?))
            }
            None => {
                let numbers = self.filled(files, parts, Form::Numbers(dtype), Shape::from((n, k)));
                Ok(WeightMatrix::Tensor(numbers?))
            }
        }
    }

    /// A tensor in which the parts follow one another.
    fn filled(
        &mut self,
        files: &WeightFiles,
        parts: &[Part<'_>],
        form: Form,
        shape: Shape,
    ) -> Result<Tensor> {
        let count = shape.elem_count();
        let storage = match form {
            Form::Rows(_) => self.filled_with::<u8>(files, parts, form, count)?,
            Form::Numbers(DType::F32) => self.filled_with::<f32>(files, parts, form, count)?,
            Form::Numbers(DType::F16) => self.filled_with::<f16>(files, parts, form, count)?,
            Form::Numbers(DType::BF16) => self.filled_with::<bf16>(files, parts, form, count)?,
            Form::Numbers(other) => bail!("weights cannot be kept as {other:?}"),
        };
        Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
    }

    fn filled_with<T: Number + ValidAsZeroBits + CudaDType>(
        &mut self,
        files: &WeightFiles,
        parts: &[Part<'_>],
        form: Form,
        count: usize,
    ) -> Result<CudaStorage> {
        let mut numbers = self.device.alloc_zeros::<T>(count)?;
        let Some(mut memory) = bytes_of(&mut numbers) else {
            bail!("{count} numbers have more bytes than an address can count")
        };
        let mut at = 0;
        for part in parts {
            at = self.send(files, *part, form, (&mut memory, at))?;
        }
        if at != memory.len() {
            bail!("tensors of {at} bytes do not fill {} bytes of a device", memory.len())
        }
        Ok(CudaStorage::wrap_cuda_slice(numbers, self.device.clone()))
    }

    /// Sends a tensor to the bytes of a device from `at` on, and returns where it ends.
    fn send(
        &mut self,
        files: &WeightFiles,
        (tensor, stored): Part<'_>,
        form: Form,
        (memory, mut at): (&mut CudaViewMut<'_, u8>, usize),
    ) -> Result<usize> {
        let numbers: usize = tensor.shape.iter().product();
        let (in_file, on_device) = form.unit(stored)?;
        let units = stored.row_bytes(numbers).unwrap_or(0) / in_file;
        let at_once = (PIECE / on_device).max(1);
        for first in (0..units).step_by(at_once) {
            let count = at_once.min(units - first);
            let range = first * in_file..(first + count) * in_file;
            files.populate_part(tensor, range.clone());
            let bytes = files.part(tensor, range.clone());
            let len = count * on_device;
            let Some(mut to) = memory.try_slice_mut(at..at + len) else {
                bail!("a tensor of shape {:?} does not fit its place on a device", tensor.shape)
            };
            let buffer = self.buffer(len)?;
            form.write_all(stored, &bytes, &mut buffer.bytes()?[..len])?;
            buffer.send(len, &mut to)?;
            files.release_part(tensor, range);
            at += len;
        }
        files.release(tensor);
        Ok(at)
    }

    /// The buffer that was used longest ago, with room for `len` bytes, when the device is done with it.
    fn buffer(&mut self, len: usize) -> Result<&mut Buffer> {
        let slot = &mut self.buffers[self.next];
        self.next = 1 - self.next;
        let small = slot.as_ref().is_none_or(|buffer| buffer.len < len);
        if small {
            // Freed before another is allocated.
            *slot = None;
        }
        let buffer = match slot {
            Some(buffer) => buffer,
            None => {
                // Buffers double up to `PIECE`: a small model needs no large ones.
                let roomy = len.next_power_of_two().min(PIECE).max(len);
                slot.insert(Buffer::new(&self.device, roomy)?)
            }
        };
        buffer.sent.synchronize().w()?;
        Ok(buffer)
    }
}

/// What becomes of the bytes of a file.
#[derive(Clone, Copy)]
enum Form {
    /// Numbers of this type.
    Numbers(DType),
    /// Quantized rows of so many weights.
    Rows(usize),
}

impl Form {
    /// Bytes of the least piece: in a file, and on a device.
    fn unit(self, stored: WeightType) -> Result<(usize, usize)> {
        match self {
            Self::Numbers(dtype) => {
                Ok((stored.block_bytes(), stored.block_len() * dtype.size_in_bytes()))
            }
            Self::Rows(k) => match stored.row_bytes(k).zip(QuantizedMatrix::row_bytes(stored, k)) {
                Some(lengths) => Ok(lengths),
                None => bail!("rows of {k} weights in {stored:?} are not kept on a GPU"),
            },
        }
    }

    /// Writes whole units, on all cores.
    fn write_all(self, stored: WeightType, bytes: &Bytes, out: &mut [u8]) -> Result<()> {
        let (in_file, on_device) = self.unit(stored)?;
        let units = (GRAIN / on_device).max(1);
        out.par_chunks_mut(units * on_device).enumerate().try_for_each(|(i, out)| {
            let first = i * units * in_file;
            let bytes = bytes.slice(first..first + out.len() / on_device * in_file);
            match self {
                Self::Rows(k) => QuantizedMatrix::arrange(stored, k, &bytes, out),
                Self::Numbers(dtype) => {
                    let numbers = out.len() / dtype.size_in_bytes();
                    StoredMatrix::new(bytes, stored, (1, numbers)).write(dtype, out)
                }
            }
        })
    }
}

/// Memory of the host that a device copies from.
struct Buffer {
    memory: Memory,
    len: usize,
    /// After the last copy.
    sent: CudaEvent,
    device: CudaDevice,
}

enum Memory {
    /// The device copies out of it by itself.
    PageLocked(PinnedHostSlice<u8>),
    /// Copied by the driver before it returns: where the system lets nobody lock so much memory.
    Plain(Vec<u8>),
}

impl Buffer {
    fn new(device: &CudaDevice, len: usize) -> Result<Self> {
        let sent = device.cuda_stream().context().new_event(None).w()?;
        let memory = match page_locked(device, len) {
            Some(memory) => Memory::PageLocked(memory),
            None => Memory::Plain(vec![0; len]),
        };
        Ok(Self { memory, len, sent, device: device.clone() })
    }

    /// To write to, once `sent` was waited for.
    fn bytes(&mut self) -> Result<&mut [u8]> {
        match &mut self.memory {
            Memory::PageLocked(memory) => memory.as_mut_slice().w(),
            Memory::Plain(memory) => Ok(memory),
        }
    }

    /// Has the device copy the first `len` bytes.
    fn send(&mut self, len: usize, to: &mut CudaViewMut<'_, u8>) -> Result<()> {
        let stream = self.device.cuda_stream();
        let bytes = match &self.memory {
            Memory::PageLocked(memory) => memory.as_slice().w()?,
            Memory::Plain(memory) => memory,
        };
        self.device.memcpy_htod(&bytes[..len], to)?;
        self.sent.record(&stream).w()
    }
}

impl Drop for Buffer {
    /// The memory may go when the device is done with it.
    fn drop(&mut self) {
        // A device that fails here copies nothing any more.
        let _ = self.sent.synchronize();
    }
}
