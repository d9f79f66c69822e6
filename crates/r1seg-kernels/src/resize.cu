// Resizing of volumes.
//
//   trilinear   [rows, D, H, W] to [rows, to..] of f32, corners not aligned. grid (voxels of the
//               output / 256, rounded up, rows or fewer), 256 threads
//   nearest     tokens [batch, D, H, W, C], each repeated `factor` times along each axis. grid
//               (tokens of the output), any block
//
// Voxels between which nothing lies are weighted in f32 as r1seg-nn's `interpolation_matrix` does.

#include "common.cuh"

struct Trilinear {
  const void *x;
  float *y;
  int64_t rows;
  int from[3];
  int to[3];
};

// Two voxels along an axis, and how far from the first one to the second.
struct Between {
  int64_t low, high;
  float fraction;
};

// Rounded after each operation, as on the CPU: a fused one could fall on another voxel.
__device__ __forceinline__ Between between(int i, int from, int to) {
  const float scale = __fdiv_rn(float(from), float(to));
  const float source = fmaxf(__fsub_rn(__fmul_rn(float(i) + 0.5f, scale), 0.5f), 0.0f);
  Between b;
  b.low = min(int(source), from - 1);
  b.high = min(b.low + 1, int64_t(from) - 1);
  b.fraction = source - float(b.low);
  return b;
}

__device__ __forceinline__ float mixed(float low, float high, float fraction) {
  return low * (1.0f - fraction) + high * fraction;
}

template <typename T> __device__ void trilinear(const Trilinear &p) {
  const int64_t out = int64_t(p.to[0]) * p.to[1] * p.to[2];
  const int64_t in = int64_t(p.from[0]) * p.from[1] * p.from[2];
  const int64_t voxel = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (voxel >= out) return;
  const Between w = between(voxel % p.to[2], p.from[2], p.to[2]);
  Between h = between(voxel / p.to[2] % p.to[1], p.from[1], p.to[1]);
  Between d = between(voxel / p.to[2] / p.to[1], p.from[0], p.to[0]);
  h.low *= p.from[2], h.high *= p.from[2];
  d.low *= int64_t(p.from[1]) * p.from[2], d.high *= int64_t(p.from[1]) * p.from[2];
  for (int64_t row = blockIdx.y; row < p.rows; row += gridDim.y) {
    const T *x = static_cast<const T *>(p.x) + row * in;
    const auto along = [&](int64_t start) {
      return mixed(wide(x[start + w.low]), wide(x[start + w.high]), w.fraction);
    };
    const auto plane = [&](int64_t start) {
      return mixed(along(start + h.low), along(start + h.high), h.fraction);
    };
    p.y[row * out + voxel] = mixed(plane(d.low), plane(d.high), d.fraction);
  }
}

struct Nearest {
  const void *x;
  void *y;
  int size[3]; // Of the input.
  int channels;
  int factor;
};

template <typename T> __device__ void nearest(const Nearest &p) {
  int64_t token = blockIdx.x, source = 0, stride = 1;
#pragma unroll
  for (int i = 2; i >= 0; i--) {
    const int to = p.size[i] * p.factor;
    source += token % to / p.factor * stride;
    token /= to;
    stride *= p.size[i];
  }
  source += token * stride; // What is left is the batch.
  const T *x = static_cast<const T *>(p.x) + source * p.channels;
  T *y = static_cast<T *>(p.y) + int64_t(blockIdx.x) * p.channels;
  for (int c = threadIdx.x; c < p.channels; c += blockDim.x) y[c] = x[c];
}

KERNEL(trilinear, (const Trilinear p), (p))
KERNEL(nearest, (const Nearest p), (p))
