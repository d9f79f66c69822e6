// A linear layer of a few rows, which is bound by reading its weights: each is read once, for all
// rows, and what follows the product (bias, activation, residual) costs no pass of its own.
//
//   few_rows_M   M = 1, 2, 4, 8 >= rows; grid (outputs / OUTPUTS_PER_BLOCK, rounded up), block 32 WARPS
//   finish       what follows a product of many rows: one thread per number of the result
//
// A warp computes two rows of the weight: two outputs, or the gate and the value of one.

#include "../epilogue.cuh"

constexpr int WARPS = 4;

struct FewRows {
  const void *x;        // [rows, k]
  const void *weight;   // [n, k]; [2 n, k] when gated, the gates first
  const void *bias;     // A number per row of the weight, or null.
  const void *residual; // [rows, n], or null.
  void *out;            // [rows, n]
  int64_t n;
  int64_t k;
  int rows;
  int activation;
  int wide_out; // The result is f32 whatever the type.
};

__device__ __forceinline__ void widened(uint4 raw, float *x, float) {
  const float *from = reinterpret_cast<const float *>(&raw);
#pragma unroll
  for (int i = 0; i < 4; i++) x[i] = from[i];
}
__device__ __forceinline__ void widened(uint4 raw, float *x, __half) {
  const __half2 *from = reinterpret_cast<const __half2 *>(&raw);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float2 two = __half22float2(from[i]);
    x[2 * i] = two.x, x[2 * i + 1] = two.y;
  }
}
__device__ __forceinline__ void widened(uint4 raw, float *x, __nv_bfloat16) {
  // A bf16 number is the upper half of an f32.
  const uint32_t from[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    x[2 * i] = __uint_as_float(from[i] << 16);
    x[2 * i + 1] = __uint_as_float(from[i] & 0xffff0000u);
  }
}

template <typename T, int M>
__device__ __forceinline__ void dots(const FewRows &p, const T *first, const T *second,
                                     float (&sums)[2][M]) {
  constexpr int VECTOR = 16 / sizeof(T);
  const T *x = static_cast<const T *>(p.x);
  const int lane = threadIdx.x % 32;
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(p.weight);
  if (p.k % VECTOR == 0 && addresses % 16 == 0) {
#pragma unroll 4
    for (int64_t i = lane * VECTOR; i < p.k; i += 32 * VECTOR) {
      float w[2][VECTOR];
      widened(__ldg(reinterpret_cast<const uint4 *>(first + i)), w[0], T());
      widened(__ldg(reinterpret_cast<const uint4 *>(second + i)), w[1], T());
#pragma unroll
      for (int m = 0; m < M; m++) {
        float values[VECTOR];
        const int64_t row = m < p.rows ? m : 0;
        widened(__ldg(reinterpret_cast<const uint4 *>(x + row * p.k + i)), values, T());
#pragma unroll
        for (int j = 0; j < VECTOR; j++) {
          sums[0][m] += w[0][j] * values[j];
          sums[1][m] += w[1][j] * values[j];
        }
      }
    }
    return;
  }
  for (int64_t i = lane; i < p.k; i += 32) {
    const float w[2] = {wide(first[i]), wide(second[i])};
#pragma unroll
    for (int m = 0; m < M; m++) {
      const float value = wide(x[(m < p.rows ? m : 0) * p.k + i]);
      sums[0][m] += w[0] * value;
      sums[1][m] += w[1] * value;
    }
  }
}

template <typename T>
__device__ __forceinline__ void put(const FewRows &p, int64_t row, int64_t output, float y) {
  const int64_t at = row * p.n + output;
  if (p.residual) y += wide(static_cast<const T *>(p.residual)[at]);
  if (p.wide_out) static_cast<float *>(p.out)[at] = y;
  else static_cast<T *>(p.out)[at] = narrow<T>(y);
}

template <typename T, int M> __device__ void few_rows(const FewRows &p) {
  const int64_t warp = int64_t(blockIdx.x) * WARPS + threadIdx.x / 32;
  const bool pair = p.activation == GATED;
  const int64_t one = pair ? warp : 2 * warp;
  if (one >= p.n) return; // Whole warps.
  const bool both = pair || one + 1 < p.n;
  const int64_t other = pair ? p.n + one : both ? one + 1 : one;
  const T *weight = static_cast<const T *>(p.weight), *bias = static_cast<const T *>(p.bias);
  float sums[2][M] = {};
  dots<T, M>(p, weight + one * p.k, weight + other * p.k, sums);
  const float offsets[2] = {bias ? wide(bias[one]) : 0.0f, bias ? wide(bias[other]) : 0.0f};
#pragma unroll
  for (int m = 0; m < M; m++) {
    const float a = warp_sum(sums[0][m]) + offsets[0], b = warp_sum(sums[1][m]) + offsets[1];
    if (threadIdx.x % 32 != m || m >= p.rows) continue;
    if (pair) {
      put<T>(p, m, one, silu(a) * b);
    } else {
      put<T>(p, m, one, activated(a, p.activation));
      if (both) put<T>(p, m, other, activated(b, p.activation));
    }
  }
}

// `x` is the product, [rows, n] or [rows, 2 n]; without a gate `out` may be `x` itself.
template <typename T> __device__ void finish(const FewRows &p) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= p.rows * p.n) return;
  const int64_t row = at / p.n, output = at % p.n;
  const T *x = static_cast<const T *>(p.x), *bias = static_cast<const T *>(p.bias);
  if (p.activation == GATED) {
    float gate = wide(x[2 * p.n * row + output]), up = wide(x[2 * p.n * row + p.n + output]);
    if (bias) gate += wide(bias[output]), up += wide(bias[p.n + output]);
    put<T>(p, row, output, silu(gate) * up);
  } else {
    const float sum = wide(x[at]) + (bias ? wide(bias[output]) : 0.0f);
    put<T>(p, row, output, activated(sum, p.activation));
  }
}

template <typename T> __device__ void few_rows_1(const FewRows &p) { few_rows<T, 1>(p); }
template <typename T> __device__ void few_rows_2(const FewRows &p) { few_rows<T, 2>(p); }
template <typename T> __device__ void few_rows_4(const FewRows &p) { few_rows<T, 4>(p); }
template <typename T> __device__ void few_rows_8(const FewRows &p) { few_rows<T, 8>(p); }

KERNELS(few_rows_1, (const FewRows p), (p))
KERNELS(few_rows_2, (const FewRows p), (p))
KERNELS(few_rows_4, (const FewRows p), (p))
KERNELS(few_rows_8, (const FewRows p), (p))
KERNELS(finish, (const FewRows p), (p))
