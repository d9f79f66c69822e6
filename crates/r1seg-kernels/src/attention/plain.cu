// Attention on CUDA cores: softmax(scale * q k^T + bias) v with f32 scores, softmax and sums,
// without scores in global memory. Any alignment, any number of queries and keys.
//
// attend_plain_{32,64,96,128,256}_{f32,f16,bf16}(Attention): heads of up to so many elements.
//   grid (heads, ceil(lq / 64), batch), block 128, static shared memory only (at most 34 KiB).
//
// A query that sees no key gets zeros.
#include "common.cuh"

namespace {

constexpr int ROWS = 64;  // queries of a block
constexpr int KEYS = 64;  // keys of a tile
constexpr int SLICE = 32; // elements of queries and keys in shared memory at a time
constexpr int PITCH = 68; // 64 and what keeps columns in different banks
constexpr int THREADS = 128;

// A slice of 64 rows, transposed: to[element][row]; zeros outside the rows and the head.
template <typename T>
__device__ __forceinline__ void stage_rows(float *to, const T *from, int64_t stride, int rows,
                                           int e0, int dim, bool vectors) {
#pragma unroll
  for (int step = 0; step < 64 * SLICE / 4 / THREADS; step++) {
    const int n = step * THREADS + threadIdx.x;
    // Neighboring lanes take neighboring rows, which are neighboring banks.
    const int row = n % 8 + n / 64 * 8, e = n / 8 % 8 * 4;
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row < rows) x = load4(from + row * stride, e0 + e, dim, vectors);
    float *at = to + e * PITCH + row;
    at[0] = x.x, at[PITCH] = x.y, at[2 * PITCH] = x.z, at[3 * PITCH] = x.w;
  }
}

// The same of queries that are rotated on the way.
template <typename T>
__device__ __forceinline__ void stage_rotated(float *to, const T *from, int64_t stride, int rows,
                                              int e0, int dim, const float *angles, int half) {
  for (int n = threadIdx.x; n < 64 * SLICE; n += THREADS) {
    const int row = n % 8 + n / 256 * 8, e = n / 8 % 32;
    float x = 0.0f;
    if (row < rows && e0 + e < dim)
      x = rotated(from + row * stride, e0 + e, angles + int64_t(row) * 2 * half, half);
    to[e * PITCH + row] = x;
  }
}

// Each thread has 8 queries, of them 4 keys' scores and DIM / 16 elements of the output: thread
// (y, x) queries 8y.., keys 4x.., elements 2x, 2x + 1, 2x + 32, .. So the 16 threads of a query are
// half a warp.
template <typename T, int DIM> __device__ __forceinline__ void attend_plain(const Attention &a) {
  constexpr int VALUES = DIM > 128 ? 16 : 32; // keys whose values are in shared memory at a time
  constexpr int STAGE = 2 * SLICE * PITCH > VALUES * DIM ? 2 * SLICE * PITCH : VALUES * DIM;
  __shared__ __align__(16) float stage[STAGE];
  __shared__ __align__(16) float weights[KEYS * PITCH]; // [key][query]
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
  const int head = blockIdx.x, batch = blockIdx.z, kv_head = head / (a.heads / a.kv_heads);
  // With a causal mask the last queries have the most work, and begin.
  const int first = (gridDim.y - 1 - blockIdx.y) * ROWS, rows = min(ROWS, a.lq - first);
  const int last = first + rows - 1;
  const T *q = static_cast<const T *>(a.q) + batch * a.q_batch + head * a.q_head + first * a.q_row;
  const T *keys = static_cast<const T *>(a.k) + batch * a.k_batch + kv_head * a.k_head;
  const T *values = static_cast<const T *>(a.v) + batch * a.v_batch + kv_head * a.v_head;
  const float *bias = a.bias;
  if (bias != nullptr) bias += batch * a.bias_batch + head * a.bias_head;
  const float *angles = a.rotary;
  if (angles != nullptr) angles += int64_t(first) * 2 * a.rotary_half;
  const bool q_vectors = by_fours(q, a.q_row), k_vectors = by_fours(keys, a.k_row);
  const bool v_vectors = by_fours(values, a.v_row);

  float out[8][DIM / 16] = {}, most[8], sum[8] = {};
#pragma unroll
  for (int r = 0; r < 8; r++) most[r] = NEGATIVE_INFINITY;
  const int end = a.end(last);
  for (int j0 = a.begin(first) / KEYS * KEYS; j0 < end; j0 += KEYS) {
    float s[8][4] = {};
    for (int e0 = 0; e0 < a.dim; e0 += SLICE) {
      __syncthreads(); // What was staged before has been read.
      if (angles != nullptr)
        stage_rotated(stage, q, a.q_row, rows, e0, a.dim, angles, a.rotary_half);
      else
        stage_rows(stage, q, a.q_row, rows, e0, a.dim, q_vectors);
      stage_rows(stage + SLICE * PITCH, keys + j0 * a.k_row, a.k_row, a.lk - j0, e0, a.dim,
                 k_vectors);
      __syncthreads();
      const float *query = stage + 8 * y, *key = stage + SLICE * PITCH + 4 * x;
      const int left = min(SLICE, a.dim - e0);
      for (int e8 = 0; e8 < left; e8 += 8) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
          const float4 q0 = *reinterpret_cast<const float4 *>(query + (e8 + e) * PITCH);
          const float4 q1 = *reinterpret_cast<const float4 *>(query + (e8 + e) * PITCH + 4);
          const float4 k = *reinterpret_cast<const float4 *>(key + (e8 + e) * PITCH);
          const float qs[8] = {q0.x, q0.y, q0.z, q0.w, q1.x, q1.y, q1.z, q1.w};
#pragma unroll
          for (int r = 0; r < 8; r++) {
            s[r][0] += qs[r] * k.x;
            s[r][1] += qs[r] * k.y;
            s[r][2] += qs[r] * k.z;
            s[r][3] += qs[r] * k.w;
          }
        }
      }
    }

    const bool whole = j0 >= a.begin(last) && j0 + KEYS <= a.end(first);
#pragma unroll
    for (int r = 0; r < 8; r++) {
      const int i = first + 8 * y + r, begin = a.begin(i), end = a.end(i);
      float top = most[r];
#pragma unroll
      for (int n = 0; n < 4; n++) {
        const int j = j0 + 4 * x + n;
        s[r][n] *= a.scale;
        if (bias != nullptr && i < a.lq && j < a.lk) s[r][n] += bias[i * a.bias_row + j];
        if (!whole && (j < begin || j >= end)) s[r][n] = NEGATIVE_INFINITY;
        top = fmaxf(top, s[r][n]);
      }
#pragma unroll
      for (int offset = 8; offset > 0; offset >>= 1)
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
      // Of a query that has seen no key yet all weights are zero, whatever is subtracted.
      const float base = top == NEGATIVE_INFINITY ? 0.0f : top;
      const float shrink = power_of_two((most[r] - base) * LOG2E);
      most[r] = top;
      sum[r] *= shrink;
#pragma unroll
      for (int n = 0; n < 4; n++) {
        s[r][n] = power_of_two((s[r][n] - base) * LOG2E);
        sum[r] += s[r][n];
      }
#pragma unroll
      for (int n = 0; n < DIM / 16; n++) out[r][n] *= shrink;
    }
    // Row 16n + x for key 4x + n, so that neighboring threads write to different banks. Only this
    // half of the warp reads them.
#pragma unroll
    for (int n = 0; n < 4; n++) {
      float *at = weights + (16 * n + x) * PITCH + 8 * y;
      *reinterpret_cast<float4 *>(at) = make_float4(s[0][n], s[1][n], s[2][n], s[3][n]);
      *reinterpret_cast<float4 *>(at + 4) = make_float4(s[4][n], s[5][n], s[6][n], s[7][n]);
    }

    for (int r0 = 0; r0 < KEYS; r0 += VALUES) {
      __syncthreads();
#pragma unroll 4
      for (int step = 0; step < VALUES * DIM / 4 / THREADS; step++) {
        const int n = step * THREADS + threadIdx.x;
        const int row = r0 + n / (DIM / 4), e = n % (DIM / 4) * 4, j = j0 + row % 16 * 4 + row / 16;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (j < a.lk) v = load4(values + j * a.v_row, e, a.dim, v_vectors);
        *reinterpret_cast<float4 *>(stage + 4 * n) = v;
      }
      __syncthreads();
#pragma unroll 4
      for (int row = 0; row < VALUES; row++) {
        const float *weight = weights + (r0 + row) * PITCH + 8 * y;
        const float4 w0 = *reinterpret_cast<const float4 *>(weight);
        const float4 w1 = *reinterpret_cast<const float4 *>(weight + 4);
        const float ws[8] = {w0.x, w0.y, w0.z, w0.w, w1.x, w1.y, w1.z, w1.w};
#pragma unroll
        for (int n = 0; n < DIM / 32; n++) {
          const float2 v = *reinterpret_cast<const float2 *>(stage + row * DIM + 2 * x + 32 * n);
#pragma unroll
          for (int r = 0; r < 8; r++) {
            out[r][2 * n] += ws[r] * v.x;
            out[r][2 * n + 1] += ws[r] * v.y;
          }
        }
      }
    }
  }

#pragma unroll
  for (int r = 0; r < 8; r++) {
    const int i = first + 8 * y + r;
#pragma unroll
    for (int offset = 8; offset > 0; offset >>= 1)
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], offset);
    if (i >= a.lq) continue;
    T *row = static_cast<T *>(a.out) + batch * a.out_batch + head * a.out_head + i * a.out_row;
    const float inverse = sum[r] > 0.0f ? 1.0f / sum[r] : 0.0f;
#pragma unroll
    for (int n = 0; n < DIM / 16; n++) {
      const int e = 2 * x + n % 2 + n / 2 * 32;
      if (e < a.dim) row[e] = narrow<T>(out[r][n] * inverse);
    }
  }
}

} // namespace

ATTENTION_ENTRY(attend_plain_32, attend_plain, 32, THREADS, 4)
ATTENTION_ENTRY(attend_plain_64, attend_plain, 64, THREADS, 4)
ATTENTION_ENTRY(attend_plain_96, attend_plain, 96, THREADS, 3)
ATTENTION_ENTRY(attend_plain_128, attend_plain, 128, THREADS, 3)
ATTENTION_ENTRY(attend_plain_256, attend_plain, 256, THREADS, 2)
