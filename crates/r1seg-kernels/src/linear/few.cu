// A linear layer of a few rows, and what follows the product of many.
//
//   few_rows_M   M = 1, 2, 4, 8 >= rows; grid (rows of the weight / (2 WARPS), rounded up), block 32 WARPS
//   finish       one thread per number of the result

#include "few.cuh"

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

template <typename T, int M> __device__ void few_rows(const FewRows &p) {
  const T *weight = static_cast<const T *>(p.weight);
  few_outputs<T, M>(p, [&](int64_t one, int64_t other, float (&sums)[2][M]) {
    dots<T, M>(p, weight + one * p.k, weight + other * p.k, sums);
  });
}

// `x` is the product, [rows, n], or [rows, 2 n] when gated.
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

KERNEL(few_rows_1, (const FewRows p), (p))
KERNEL(few_rows_2, (const FewRows p), (p))
KERNEL(few_rows_4, (const FewRows p), (p))
KERNEL(few_rows_8, (const FewRows p), (p))
KERNEL(finish, (const FewRows p), (p))
