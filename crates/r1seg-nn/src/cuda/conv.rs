//! 3D convolutions and transposed ones, each in one launch.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::ConvGeometry;
use r1seg_kernels::cuda::{CONV, CONV_MMA};

use super::{Grid, Parameters, Pointer, SHARED, device_of, launch, unfilled};

/// As `Axis` of conv.cuh.
#[repr(C)]
struct Axis {
    input: i32,
    output: i32,
    kernel: i32,
    stride: i32,
    padding: i32,
}

#[repr(C)]
struct Args<'a> {
    x: Pointer<'a>,
    weights: Pointer<'a>,
    bias: Pointer<'a>,
    y: Pointer<'a>,
    axes: [Axis; 3],
    in_channels: i32,
    out_channels: i32,
    transposed: i32,
    tile: [i32; 3],
}

// SAFETY: as `Conv` of conv.cuh; `ConvTiles` checks the lengths.
unsafe impl Parameters for Args<'_> {}

/// Channels of a tile of weights, of the output and of the input.
const TILE: usize = 16;

/// Blocks of threads that keep a large device busy.
const ENOUGH: usize = 256;

/// The weights of a convolution in tiles, as conv.cuh describes them, and its bias.
#[derive(Debug, Clone)]
pub(crate) struct ConvTiles {
    /// `[out / 16, in / 16, kd * kh * kw, 16 * 16]`
    tiles: Tensor,
    /// `[out]` in f32
    bias: Option<Tensor>,
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 3],
}

impl ConvTiles {
    /// # Shapes
    /// - `taps`: `[out, in, kd * kh * kw]`    - `bias`: `[out]`
    pub(crate) fn new(taps: &Tensor, kernel: [usize; 3], bias: Option<&Tensor>) -> Result<Self> {
        let (out_channels, in_channels, count) = taps.dims3()?;
        if count != kernel.iter().product::<usize>()
            || bias.is_some_and(|bias| bias.dims() != [out_channels])
        {
            bail!("a kernel of {kernel:?} with weights of shape {:?}", taps.dims())
        }
        let [rows, columns] = [out_channels, in_channels].map(|n| n.div_ceil(TILE));
        let padded = taps.pad_with_zeros(0, 0, rows * TILE - out_channels)?;
        let padded = padded.pad_with_zeros(1, 0, columns * TILE - in_channels)?;
        let split = padded.contiguous()?.reshape(vec![rows, 2, 8, columns, 2, 4, 2, count])?;
        let tiles = split.permute(vec![0, 3, 7, 2, 5, 4, 1, 6])?.contiguous()?;
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)?.contiguous()).transpose()?;
        let tiles = tiles.reshape((rows, columns, count, TILE * TILE))?;
        Ok(Self { tiles, bias, in_channels, out_channels, kernel })
    }

    /// # Shapes
    /// - `x`: `[B, in, input..]`    - returns: `[B, out, output..]`, in the dtype of `x`
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        geometry: ConvGeometry,
        transposed: bool,
    ) -> Result<Tensor> {
        let ConvGeometry { input: [d, h, w], output, stride, .. } = geometry;
        let b = x.dim(0)?;
        if x.dims() != [b, self.in_channels, d, h, w] {
            bail!(
                "a convolution of {} channels got an input of shape {:?}",
                self.in_channels,
                x.dims()
            )
        }
        if !super::takes(x) {
            let wide = x.to_dtype(DType::F32)?;
            return self.forward(&wide, geometry, transposed)?.to_dtype(x.dtype());
        }
        let (device, dtype) = (device_of(x)?, x.dtype());
        let shape = (b, self.out_channels, output[0], output[1], output[2]);
        let y = unfilled(shape, dtype, &device)?;
        if y.elem_count() == 0 {
            return Ok(y);
        }
        let job = Job {
            kernel: self.kernel,
            // A transposed convolution is one convolution for each remainder by the stride.
            cells: axes(|i| if transposed { output[i].div_ceil(stride[i]) } else { output[i] }),
            remainders: if transposed { stride.iter().product() } else { 1 },
            stride,
            transposed,
        };
        let tensor_cores =
            if dtype == DType::F32 { None } else { job.tensor_cores(self.out_channels, b) };
        let (module, name, blocks, tile, threads, shared) = match tensor_cores {
            Some((kernel, tile)) => {
                let blocks = self.out_channels.div_ceil(kernel.rows) * job.tiles(tile);
                let threads = tile.iter().product();
                (CONV_MMA, kernel.name, blocks, tile, threads, job.shared(tile))
            }
            None => {
                let cells = job.cells.iter().product::<usize>().div_ceil(128);
                let blocks = self.out_channels.div_ceil(64) * cells;
                (CONV, "conv3d_plain", blocks, [1; 3], 256, 0)
            }
        };
        let x = x.contiguous()?;
        let weights = self.tiles.to_dtype(dtype)?;
        let args = Args {
            x: Pointer::of(&x)?,
            weights: Pointer::of(&weights)?,
            bias: Pointer::of_optional(self.bias.as_ref())?,
            y: Pointer::of(&y)?,
            axes: self.axes(geometry)?,
            in_channels: self.in_channels as i32,
            out_channels: self.out_channels as i32,
            transposed: i32::from(transposed),
            tile: tile.map(|n| n as i32),
        };
        let grid = Grid { blocks: [blocks * job.remainders, b, 1], threads, shared };
        launch(&device, (module, name, dtype), grid, args)?;
        Ok(y)
    }

    /// Checked, so that the kernels may count the voxels of a channel in 32 bits.
    fn axes(&self, geometry: ConvGeometry) -> Result<[Axis; 3]> {
        let ConvGeometry { input, output, stride, padding } = geometry;
        let voxels = |size: [usize; 3]| size.iter().product::<usize>();
        let reach = |i: usize| stride[i] * output[i] + self.kernel[i] + padding[i];
        let limit = i32::MAX as usize;
        if voxels(input) > limit || voxels(output) > limit || (0..3).any(|i| reach(i) > limit) {
            bail!("a convolution of {input:?} voxels to {output:?}")
        }
        Ok([0, 1, 2].map(|i| Axis {
            input: input[i] as i32,
            output: output[i] as i32,
            kernel: self.kernel[i] as i32,
            stride: stride[i] as i32,
            padding: padding[i] as i32,
        }))
    }
}

fn axes(f: impl Fn(usize) -> usize) -> [usize; 3] {
    [f(0), f(1), f(2)]
}

/// A kernel of conv_mma.cu.
#[derive(Clone, Copy)]
struct MmaKernel {
    name: &'static str,
    /// Output channels of a block.
    rows: usize,
}

/// What a launch is planned by.
struct Job {
    kernel: [usize; 3],
    cells: [usize; 3],
    remainders: usize,
    stride: [usize; 3],
    transposed: bool,
}

impl Job {
    /// `None` when the input of no tile fits the shared memory.
    fn tensor_cores(&self, out_channels: usize, batch: usize) -> Option<(MmaKernel, [usize; 3])> {
        const KERNELS: [MmaKernel; 3] = [
            MmaKernel { name: "conv3d_mma64", rows: 64 },
            MmaKernel { name: "conv3d_mma48", rows: 48 },
            MmaKernel { name: "conv3d_mma16", rows: 16 },
        ];
        /// By their size: larger ones read less of the input twice.
        const SHAPES: [&[[usize; 3]]; 4] = [
            &[[4, 4, 16], [4, 8, 8]],
            &[[2, 4, 16], [4, 4, 8]],
            &[[2, 2, 16], [2, 4, 8]],
            &[[1, 2, 16], [1, 4, 8], [2, 2, 8], [1, 1, 32]],
        ];
        // What a block does beside its products takes about as long as 16 rows.
        let time = |kernel: &MmaKernel| out_channels.div_ceil(kernel.rows) * (kernel.rows + 16);
        let kernel = KERNELS.into_iter().min_by_key(time)?;
        let rows = out_channels.div_ceil(kernel.rows) * self.remainders * batch;
        let fitting = SHAPES.iter().filter_map(|shapes| {
            let fit = shapes.iter().filter(|tile| self.shared(**tile) <= SHARED);
            fit.copied().min_by_key(|tile| self.tiles(*tile))
        });
        let fitting: Vec<_> = fitting.collect();
        let busy = fitting.iter().find(|tile| rows * self.tiles(**tile) >= ENOUGH);
        Some((kernel, *busy.or(fitting.last())?))
    }

    fn tiles(&self, tile: [usize; 3]) -> usize {
        axes(|i| self.cells[i].div_ceil(tile[i])).iter().product()
    }

    /// Bytes of shared memory for a tile.
    fn shared(&self, tile: [usize; 3]) -> usize {
        let taps = axes(|i| match self.transposed {
            true => self.kernel[i].div_ceil(self.stride[i]),
            false => self.kernel[i],
        });
        let step = axes(|i| if self.transposed { 1 } else { self.stride[i] });
        let [d, h, w] = axes(|i| (tile[i] - 1) * step[i] + taps[i]);
        // Rows of 4 n + 2 voxels.
        let pitch = w.next_multiple_of(2) + 2 * usize::from(w.next_multiple_of(2) % 4 == 0);
        36 * d * h * pitch + 8 * taps.iter().product::<usize>()
    }
}
