// What the kernels of 3D convolutions share: their parameters, and what a block computes.
//
// A cell is an output, or, of a transposed convolution, `stride` outputs along each axis, of which
// a block computes those of one remainder by the stride: there are as many `remainders` as the
// product of the strides, else 1. Sums are in f32.
//
// Weights are of x's type, [out / 16, in / 16, kd, kh, kw, 8, 4, 2, 2, 2], filled up with zeros: a
// tile of 16 x 16 channels as mma.sync takes it. Of the small axes the first and the fourth are the
// output channel's (row % 8, row / 8), the others the input channel's (column / 2 % 4, column / 8,
// column % 2). They are aligned to 16 bytes.
//
// A channel of the input or of the output has fewer than 2^31 voxels. Outputs may read behind the
// end of the input, where zeros are.
#pragma once

#include "common.cuh"

struct Axis {
  int input;
  int output;
  int kernel;
  int stride;
  int padding; // Of a transposed convolution what PyTorch calls so, which makes the output smaller.
};

struct Conv {
  const void *x;       // [batch, in, D, H, W]
  const void *weights; // In tiles.
  const float *bias;   // [out], or null
  void *y;             // [batch, out, D', H', W']
  Axis axes[3];
  int in_channels;
  int out_channels;
  int transposed;
  int tile[3]; // Cells of a tile of conv3d_mma*, the last a multiple of 8.
};

// Channels of the input and of the output in a tile of weights.
constexpr int TILE = 16;

__host__ __device__ constexpr int blocks(int n, int each) { return (n + each - 1) / each; }

// What the outputs of a block read along an axis. Output `cell * out_step + out_first` meets tap
// `first + j * tap_step` at the input `cell * stride + base + j * sense`, for j < taps.
//
// A transposed convolution is one such convolution for each remainder of an output by the stride:
// it meets every stride-th tap, backward.
struct Walk {
  int cells, out_step, out_first;
  int taps, first, tap_step;
  int stride, base, sense;
};

__device__ __forceinline__ Walk walk(const Axis &axis, bool transposed, int remainder) {
  Walk w;
  if (!transposed) {
    w.cells = axis.output, w.out_step = 1, w.out_first = 0;
    w.taps = axis.kernel, w.first = 0, w.tap_step = 1;
    w.stride = axis.stride, w.base = -axis.padding, w.sense = 1;
    return w;
  }
  const int reach = remainder + axis.padding;
  w.cells = blocks(axis.output - remainder, axis.stride);
  w.out_step = axis.stride, w.out_first = remainder;
  w.first = reach % axis.stride, w.tap_step = axis.stride;
  w.taps = axis.kernel > w.first ? blocks(axis.kernel - w.first, axis.stride) : 0;
  w.stride = 1, w.base = reach / axis.stride, w.sense = -1;
  return w;
}

// Which part of the output is a block's. Blocks that read the same input follow one another.
struct Place {
  int rows;     // Of output channels.
  int tile;     // Of cells.
  int batch;
  Walk walks[3];
};

__device__ __forceinline__ Place place(const Conv &p, int rows_each) {
  Place at;
  int index = blockIdx.x;
  const int rows = blocks(p.out_channels, rows_each);
  at.rows = index % rows;
  index /= rows;
  at.batch = blockIdx.y;
#pragma unroll
  for (int i = 2; i >= 0; i--) {
    const int remainders = p.transposed ? p.axes[i].stride : 1;
    at.walks[i] = walk(p.axes[i], p.transposed, index % remainders);
    index /= remainders;
  }
  at.tile = index;
  return at;
}

// Cells along an axis: of a transposed convolution those of the remainder with the most.
__device__ __forceinline__ int most_cells(const Conv &p, int axis) {
  return p.transposed ? blocks(p.axes[axis].output, p.axes[axis].stride) : p.axes[axis].output;
}
