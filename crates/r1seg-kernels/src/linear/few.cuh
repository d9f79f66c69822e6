// What linear layers of a few rows share, whatever their weights are: each weight is read once, for all
// rows, and what follows the product (bias, activation, residual) costs no pass of its own.
//
// A warp computes two rows of the weight: two outputs, or the gate and the value of one.
#pragma once

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

template <typename T>
__device__ __forceinline__ void put(const FewRows &p, int64_t row, int64_t output, float y) {
  const int64_t at = row * p.n + output;
  if (p.residual) y += wide(static_cast<const T *>(p.residual)[at]);
  if (p.wide_out) static_cast<float *>(p.out)[at] = y;
  else static_cast<T *>(p.out)[at] = narrow<T>(y);
}

// `dots(one, other, sums)` adds a lane's share of the products of two rows of the weight to `sums`,
// float [2][M].
template <typename T, int M, typename Dots>
__device__ __forceinline__ void few_outputs(const FewRows &p, Dots dots) {
  const int64_t warp = int64_t(blockIdx.x) * WARPS + threadIdx.x / 32;
  const bool pair = p.activation == GATED;
  const int64_t one = pair ? warp : 2 * warp;
  if (one >= p.n) return; // Whole warps.
  const bool both = pair || one + 1 < p.n;
  const int64_t other = pair ? p.n + one : both ? one + 1 : one;
  const T *bias = static_cast<const T *>(p.bias);
  float sums[2][M] = {};
  dots(one, other, sums);
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
