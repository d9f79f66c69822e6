// Activations, sums, rows of a table and a search for broken numbers, one pass over memory
// each.
//
//   activate    one thread per number
//   gated       one thread per number of the result: silu(gate) * up of rows [gate | up]
//   sum         one thread per number: x + y, with y as often as it takes
//   gelu_dot    one warp per row: the product of gelu(x) with weights
//   gather      grid (ids): rows of a table
//   find_broken any grid: sets out, which is 0, to 1 where a number is NaN or infinite

#include "epilogue.cuh"

struct Elementwise {
  const void *x;
  const void *y;
  void *out;
  int64_t len;   // Numbers of the result; rows of gelu_dot.
  int64_t width; // Of a row; numbers of y for sum.
  int activation;
};

__device__ __forceinline__ int64_t thread_index() {
  return int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <typename T> __device__ void activate(const Elementwise &p) {
  const int64_t i = thread_index();
  if (i >= p.len) return;
  const float x = wide(static_cast<const T *>(p.x)[i]);
  static_cast<T *>(p.out)[i] = narrow<T>(activated(x, p.activation));
}

template <typename T> __device__ void gated(const Elementwise &p) {
  const int64_t i = thread_index();
  if (i >= p.len) return;
  const T *gate = static_cast<const T *>(p.x) + i / p.width * 2 * p.width + i % p.width;
  static_cast<T *>(p.out)[i] = narrow<T>(silu(wide(gate[0])) * wide(gate[p.width]));
}

template <typename T> __device__ void sum(const Elementwise &p) {
  const int64_t i = thread_index();
  if (i >= p.len) return;
  const float x = wide(static_cast<const T *>(p.x)[i]);
  const float y = wide(static_cast<const T *>(p.y)[p.width == p.len ? i : i % p.width]);
  static_cast<T *>(p.out)[i] = narrow<T>(x + y);
}

template <typename T> __device__ void gelu_dot(const Elementwise &p) {
  const int64_t row = thread_index() / 32;
  if (row >= p.len) return; // Whole warps.
  const T *x = static_cast<const T *>(p.x) + row * p.width, *y = static_cast<const T *>(p.y);
  float dot = 0.0f;
  for (int64_t i = threadIdx.x % 32; i < p.width; i += 32) dot += gelu_erf(wide(x[i])) * wide(y[i]);
  dot = warp_sum(dot);
  if (threadIdx.x % 32 == 0) static_cast<T *>(p.out)[row] = narrow<T>(dot);
}

template <typename T> __device__ void gather(const Elementwise &p) {
  const int64_t id = static_cast<const uint32_t *>(p.y)[blockIdx.x];
  const T *row = static_cast<const T *>(p.x) + id * p.width;
  T *out = static_cast<T *>(p.out) + int64_t(blockIdx.x) * p.width;
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) out[i] = row[i];
}

template <typename T> __device__ void find_broken(const Elementwise &p) {
  const T *x = static_cast<const T *>(p.x);
  bool broken = false;
  for (int64_t i = thread_index(); i < p.len; i += int64_t(gridDim.x) * blockDim.x)
    broken |= !isfinite(wide(x[i]));
  if (broken) *static_cast<uint32_t *>(p.out) = 1; // All that write, write the same.
}

KERNEL(activate, (const Elementwise p), (p))
KERNEL(gated, (const Elementwise p), (p))
KERNEL(sum, (const Elementwise p), (p))
KERNEL(gelu_dot, (const Elementwise p), (p))
KERNEL(gather, (const Elementwise p), (p))
KERNEL(find_broken, (const Elementwise p), (p))
