// Norms of volumes [batch, channels, voxels]: over the voxels of each channel, and over the
// channels of each voxel.
//
//   instance_parts   grid (parts, batch * channels), 256 threads, a part for each 8192 voxels: the
//                    mean of each part of a channel, and the squares around it
//   instance_norm    grid (voxels / 16384, rounded up, batch * channels), 256 threads: joins the
//                    parts of its channel, and normalizes some voxels
//   channel_norm     grid (voxels / 32, rounded up, batch), 256 threads: the layer norm of a voxel
//
// The squares take a second pass over the numbers, so that a mean that dwarfs them costs no digits.
// All sums are taken in an order that depends on the shape alone.

#include "common.cuh"

constexpr int THREADS = 256;

struct InstanceNorm {
  const void *x;
  const float *weight; // [channels], or null, and so is bias then.
  const float *bias;
  float *parts; // [batch * channels, parts, 2]: mean, sum of squares around it
  void *y;
  int64_t voxels;
  int channels;
  float eps;
  int relu;
};

// Voxels that one block of instance_parts reads, and that one of instance_norm writes.
constexpr int64_t PART = 8192, STRETCH = 16384;

// Numbers that are read at a time.
template <typename T> constexpr int WIDTH = 16 / sizeof(T);

// The numbers from `i` on, zeros behind `len`. `whole` says that x is aligned to 16 bytes.
template <typename T>
__device__ __forceinline__ void read(float (&to)[WIDTH<T>], const T *x, int64_t i, int64_t len,
                                     bool whole) {
  if (whole && i + WIDTH<T> <= len) {
    const uint4 bits = *reinterpret_cast<const uint4 *>(x + i);
    const T *numbers = reinterpret_cast<const T *>(&bits);
#pragma unroll
    for (int k = 0; k < WIDTH<T>; k++) to[k] = wide(numbers[k]);
  } else {
#pragma unroll
    for (int k = 0; k < WIDTH<T>; k++) to[k] = i + k < len ? wide(x[i + k]) : 0.0f;
  }
}

template <typename T> __device__ __forceinline__ bool aligned(const T *x) {
  return reinterpret_cast<uintptr_t>(x) % 16 == 0;
}

template <typename T> __device__ void instance_parts(const InstanceNorm &p) {
  constexpr int READS = PART / THREADS / WIDTH<T>;
  const int64_t row = blockIdx.y, start = blockIdx.x * PART;
  const int64_t len = min(PART, p.voxels - start);
  const T *x = static_cast<const T *>(p.x) + row * p.voxels + start;
  const bool whole = aligned(x);
  float values[READS][WIDTH<T>];
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < READS; i++) {
    read(values[i], x, (i * THREADS + threadIdx.x) * WIDTH<T>, len, whole);
#pragma unroll
    for (int k = 0; k < WIDTH<T>; k++) sum += values[i][k];
  }
  const float mean = block_sum(sum) / len;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < READS; i++) {
#pragma unroll
    for (int k = 0; k < WIDTH<T>; k++) {
      const float off = values[i][k] - mean;
      if ((i * THREADS + threadIdx.x) * WIDTH<T> + k < len) squares += off * off;
    }
  }
  squares = block_sum(squares);
  if (threadIdx.x == 0) {
    float *part = p.parts + (row * gridDim.x + blockIdx.x) * 2;
    part[0] = mean;
    part[1] = squares;
  }
}

template <typename T> __device__ void instance_norm(const InstanceNorm &p) {
  const int64_t row = blockIdx.y;
  const int count = (p.voxels + PART - 1) / PART;
  const float2 *parts = reinterpret_cast<const float2 *>(p.parts) + row * count;
  // Of the means only what they differ by is summed.
  const float about = parts[0].x;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < count; i += THREADS)
    sum += (parts[i].x - about) * min(PART, p.voxels - i * PART);
  const float mean = about + block_sum(sum) / p.voxels;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < count; i += THREADS) {
    const float off = parts[i].x - mean;
    squares += parts[i].y + off * off * min(PART, p.voxels - i * PART);
  }
  const float inverse = 1.0f / sqrtf(block_sum(squares) / p.voxels + p.eps);
  const int channel = row % p.channels;
  const float scale = p.weight ? inverse * p.weight[channel] : inverse;
  const float bias = p.weight ? p.bias[channel] : 0.0f;

  const int64_t start = blockIdx.x * STRETCH, len = min(STRETCH, p.voxels - start);
  const T *x = static_cast<const T *>(p.x) + row * p.voxels + start;
  T *y = static_cast<T *>(p.y) + row * p.voxels + start;
  const bool whole = aligned(x) && aligned(y);
  for (int64_t i = threadIdx.x * WIDTH<T>; i < len; i += THREADS * WIDTH<T>) {
    float values[WIDTH<T>];
    read(values, x, i, len, whole);
    __align__(16) T out[WIDTH<T>];
#pragma unroll
    for (int k = 0; k < WIDTH<T>; k++) {
      const float unit = (values[k] - mean) * scale + bias;
      out[k] = narrow<T>(p.relu && unit < 0.0f ? 0.0f : unit); // NaN stays NaN.
    }
    if (whole && i + WIDTH<T> <= len) {
      *reinterpret_cast<uint4 *>(y + i) = *reinterpret_cast<const uint4 *>(out);
    } else {
#pragma unroll
      for (int k = 0; k < WIDTH<T>; k++)
        if (i + k < len) y[i + k] = out[k];
    }
  }
}

struct ChannelNorm {
  const void *x;
  const float *weight; // [channels]
  const float *bias;
  void *y;
  int64_t voxels;
  int channels;
  float eps;
};

// The sum over the warps of a block, for each lane.
__device__ __forceinline__ float lane_sum(float x) {
  __shared__ float sums[THREADS];
  __syncthreads(); // A sum before this one may still be read.
  sums[threadIdx.x] = x;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int warp = 0; warp < THREADS / 32; warp++) sum += sums[warp * 32 + threadIdx.x % 32];
  return sum;
}

// A lane is a voxel, and every warp takes some channels.
template <typename T> __device__ void channel_norm(const ChannelNorm &p) {
  const int64_t voxel = int64_t(blockIdx.x) * 32 + threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const bool inside = voxel < p.voxels;
  const int channels = inside ? p.channels : 0;
  const int64_t start = int64_t(blockIdx.y) * p.channels * p.voxels + voxel;
  const T *x = static_cast<const T *>(p.x) + start;
  T *y = static_cast<T *>(p.y) + start;
  float sum = 0.0f;
  for (int c = warp; c < channels; c += THREADS / 32) sum += wide(x[c * p.voxels]);
  const float mean = lane_sum(sum) / p.channels;
  float rest = 0.0f, squares = 0.0f;
  for (int c = warp; c < channels; c += THREADS / 32) {
    const float off = wide(x[c * p.voxels]) - mean;
    rest += off;
    squares += off * off;
  }
  // What the mean lost when it was rounded: much, where few channels are far from zero.
  rest = lane_sum(rest) / p.channels;
  const float variance = lane_sum(squares) / p.channels - rest * rest;
  const float inverse = 1.0f / sqrtf(fmaxf(variance, 0.0f) + p.eps);
  for (int c = warp; c < channels; c += THREADS / 32) {
    const float unit = (wide(x[c * p.voxels]) - mean - rest) * inverse;
    y[c * p.voxels] = narrow<T>(unit * p.weight[c] + p.bias[c]);
  }
}

KERNEL(instance_parts, (const InstanceNorm p), (p))
KERNEL(instance_norm, (const InstanceNorm p), (p))
KERNEL(channel_norm, (const ChannelNorm p), (p))
