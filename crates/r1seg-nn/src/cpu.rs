//! Bridges between candle's CPU storage and plain slices.

use candle_core::{CpuStorage, Layout, Result, WithDType, bail};

/// The contiguous f32 elements of a storage, or an error that names the operator.
pub(crate) fn f32_slice<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    op: &str,
) -> Result<&'a [f32]> {
    slice(storage, layout, op)
}

/// The contiguous elements of a storage, or an error that names the operator.
pub(crate) fn slice<'a, T: WithDType>(
    storage: &'a CpuStorage,
    layout: &Layout,
    op: &str,
) -> Result<&'a [T]> {
    let data = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("{op} needs a contiguous input"),
    }
}
