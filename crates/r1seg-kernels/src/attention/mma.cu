// Attention of many queries on tensor cores: softmax(scale * q k^T + bias) v with f32 scores,
// softmax and sums, weights rounded to T for the second product, without scores in global memory.
//
// attend_mma_{32,64,96,128}_{f16,bf16}(Attention): heads of up to so many elements.
//   grid (heads, ceil(lq / 64), batch), block 128, static shared memory only (12, 24, 36, 48 KiB).
// attend_mma_{64,96,128}_tall_{f16,bf16}(Attention): twice the queries for each read of the keys.
//   grid (heads, ceil(lq / 128), batch), block 128, static shared memory only (32, 48, 48 KiB).
//
// q, k, v and out are aligned to 16 bytes, their strides and dim are multiples of 8. The bias and
// the rotary table may lie anywhere. A query that sees no key gets zeros.
#include "../mma.cuh"
#include "common.cuh"

namespace {

constexpr int THREADS = 128, WARPS = THREADS / 32;

__device__ __forceinline__ uint32_t pack(float x, float y, __half) {
  const __half2 pair = __floats2half2_rn(x, y);
  return reinterpret_cast<const uint32_t &>(pair);
}

__device__ __forceinline__ uint32_t pack(float x, float y, __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
  return reinterpret_cast<const uint32_t &>(pair);
}

// Four 8x8 matrices, transposed, each lane giving the address of a row.
__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], const void *row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// Where in a tile 8 elements of a row lie: permuted so that 8 rows' are in different banks.
template <int DIM> __device__ __forceinline__ int place(int row, int chunk) {
  return row * DIM + (chunk ^ (DIM % 64 == 0 ? row & 7 : row >> 1 & 3)) * 8;
}

// Begins to copy ROWS rows to a tile, zeros outside the rows and the head.
template <int DIM, int ROWS, typename T>
__device__ __forceinline__ void fetch(T *tile, const T *from, int64_t stride, int rows,
                                      int chunks) {
  constexpr int WIDE = DIM / 8;
  static_assert(ROWS * WIDE % THREADS == 0, "Each thread copies as much.");
#pragma unroll
  for (int step = 0; step < ROWS * WIDE / THREADS; step++) {
    const int n = step * THREADS + threadIdx.x, row = n / WIDE, chunk = n % WIDE;
    const bool real = row < rows && chunk < chunks;
    copy_async(tile + place<DIM>(row, chunk), real ? from + row * stride + chunk * 8 : from, real);
  }
  copies_begun();
}

// 8 elements of a query from element e on, rotated and rounded.
template <typename T>
__device__ __forceinline__ uint4 rotated8(const T *q, int e, const float *angles, int half) {
  uint4 own = *reinterpret_cast<const uint4 *>(q + e);
  T *x = reinterpret_cast<T *>(&own);
  if (half % 8 == 0) {
    const bool lower = e < half;
    const int at = lower ? e : e - half;
    const uint4 other = *reinterpret_cast<const uint4 *>(q + (lower ? e + half : at));
    const T *y = reinterpret_cast<const T *>(&other);
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const float partner = lower ? wide(y[n]) : -wide(y[n]);
      x[n] = narrow<T>(turned(wide(x[n]), partner, angles[at + n], angles[half + at + n]));
    }
  } else {
#pragma unroll
    for (int n = 0; n < 8; n++) x[n] = narrow<T>(rotated(q, e + n, angles, half));
  }
  return own;
}

// The queries to a tile. This happens once, so it waits for its reads.
template <int DIM, int ROWS, typename T>
__device__ __forceinline__ void load_queries(T *tile, const T *q, const Attention &a, int first) {
  constexpr int WIDE = DIM / 8;
#pragma unroll 2
  for (int step = 0; step < ROWS * WIDE / THREADS; step++) {
    const int n = step * THREADS + threadIdx.x, row = n / WIDE, e = n % WIDE * 8;
    uint4 x = make_uint4(0, 0, 0, 0);
    if (row < a.lq - first && e < a.dim) {
      const T *from = q + (first + row) * a.q_row;
      if (a.rotary != nullptr && e < 2 * a.rotary_half)
        x = rotated8(from, e, a.rotary + int64_t(first + row) * 2 * a.rotary_half, a.rotary_half);
      else
        x = *reinterpret_cast<const uint4 *>(from + e);
    }
    *reinterpret_cast<uint4 *>(tile + place<DIM>(row, n % WIDE)) = x;
  }
}

// Two elements of a row, read at once where it can be.
__device__ __forceinline__ float2 pair_of(const float *row, int j, int last, bool at_once) {
  if (!at_once) return make_float2(row[min(j, last)], row[min(j + 1, last)]);
  return *reinterpret_cast<const float2 *>(row + j);
}

// Each warp has FRAGMENTS times 16 queries. In a product's 16x8 outcome a lane has columns
// 2 * (lane % 4) and the next, of rows lane / 4 and lane / 4 + 8.
template <typename T, int DIM, int FRAGMENTS, int KEYS>
__device__ __forceinline__ void attend_mma(const Attention &a) {
  constexpr int OWN = 16 * FRAGMENTS, ROWS = OWN * WARPS;
  constexpr bool HELD = FRAGMENTS == 1; // The queries stay in registers where there is room.
  __shared__ __align__(16) T queries[ROWS * DIM], keys[KEYS * DIM], values[KEYS * DIM];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int head = blockIdx.x, batch = blockIdx.z, kv_head = head / (a.heads / a.kv_heads);
  // With a causal mask the last queries have the most work, and begin.
  const int first = (gridDim.y - 1 - blockIdx.y) * ROWS, last = min(first + ROWS, a.lq) - 1;
  const T *q = static_cast<const T *>(a.q) + batch * a.q_batch + head * a.q_head;
  const T *k = static_cast<const T *>(a.k) + batch * a.k_batch + kv_head * a.k_head;
  const T *v = static_cast<const T *>(a.v) + batch * a.v_batch + kv_head * a.v_head;
  const float *bias = a.bias;
  if (bias != nullptr) bias += batch * a.bias_batch + head * a.bias_head;
  const bool bias_pairs = reinterpret_cast<uintptr_t>(bias) % 8 == 0 && a.bias_row % 2 == 0;
  const int chunks = a.dim / 8;
  const int warp_first = first + warp * OWN, warp_last = min(warp_first + OWN, a.lq) - 1;

  const int end = a.end(last);
  int j0 = a.begin(first) / KEYS * KEYS;
  if (j0 < end) fetch<DIM, KEYS>(keys, k + j0 * a.k_row, a.k_row, a.lk - j0, chunks);
  load_queries<DIM, ROWS>(queries, q, a, first);
  __syncthreads();
  const auto load_query = [&](uint32_t(&x)[4], int m, int step) {
    const int row = warp * OWN + m * 16 + lane % 16;
    load_matrices(x, queries + place<DIM>(row, 2 * step + lane / 16));
  };
  uint32_t held[HELD ? DIM / 16 : 1][4];
  if constexpr (HELD)
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) load_query(held[step], 0, step);

  float out[FRAGMENTS][DIM / 8][4] = {}, most[FRAGMENTS][2], sum[FRAGMENTS][2] = {};
#pragma unroll
  for (int m = 0; m < FRAGMENTS; m++) most[m][0] = most[m][1] = NEGATIVE_INFINITY;
  // Without a bias the scale and the change of the base of the exponential are one factor.
  const float factor = bias != nullptr ? LOG2E : a.scale * LOG2E;

  for (; j0 < end; j0 += KEYS) {
    copies_done<0>();
    __syncthreads(); // The keys are here, and every warp is done with the values before.
    fetch<DIM, KEYS>(values, v + j0 * a.v_row, a.v_row, a.lk - j0, chunks);

    const bool seen = warp_first <= warp_last && j0 < a.end(warp_last) &&
                      j0 + KEYS > a.begin(warp_first);
    float s[FRAGMENTS][KEYS / 8][4] = {};
    if (seen) {
#pragma unroll
      for (int step = 0; step < DIM / 16; step++) {
        uint32_t query[FRAGMENTS][4];
#pragma unroll
        for (int m = 0; m < FRAGMENTS; m++) {
          if constexpr (HELD)
#pragma unroll
            for (int n = 0; n < 4; n++) query[m][n] = held[step][n];
          else
            load_query(query[m], m, step);
        }
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
          uint32_t key[4];
          const int row = 16 * n + lane / 16 * 8 + lane % 8;
          load_matrices(key, keys + place<DIM>(row, 2 * step + lane / 8 % 2));
#pragma unroll
          for (int m = 0; m < FRAGMENTS; m++) {
            multiply(s[m][2 * n], query[m], key[0], key[1], T());
            multiply(s[m][2 * n + 1], query[m], key[2], key[3], T());
          }
        }
      }
    }

    copies_done<0>();
    __syncthreads(); // The values are here, and every warp is done with the keys.
    if (j0 + KEYS < end)
      fetch<DIM, KEYS>(keys, k + (j0 + KEYS) * a.k_row, a.k_row, a.lk - j0 - KEYS, chunks);
    if (!seen) continue;

    const bool whole = j0 >= a.begin(warp_last) && j0 + KEYS <= a.end(warp_first);
#pragma unroll
    for (int m = 0; m < FRAGMENTS; m++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const int i = warp_first + m * 16 + h * 8 + lane / 4;
        if (bias != nullptr) {
          // Behind the last key anything will do: the mask follows.
          const float *row = bias + min(i, a.lq - 1) * a.bias_row;
          const auto add = [&](bool at_once) {
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
              const float2 y = pair_of(row, j0 + n * 8 + lane % 4 * 2, a.lk - 1, at_once);
              s[m][n][2 * h] = s[m][n][2 * h] * a.scale + y.x;
              s[m][n][2 * h + 1] = s[m][n][2 * h + 1] * a.scale + y.y;
            }
          };
          if (bias_pairs && j0 + KEYS <= a.lk) add(true);
          else add(false);
        }
        if (!whole) {
          const int begin = a.begin(i), end = a.end(i);
#pragma unroll
          for (int n = 0; n < KEYS / 4; n++) {
            const int j = j0 + n / 2 * 8 + lane % 4 * 2 + n % 2;
            if (j < begin || j >= end) s[m][n / 2][2 * h + n % 2] = NEGATIVE_INFINITY;
          }
        }
        float top = most[m][h];
#pragma unroll
        for (int n = 0; n < KEYS / 4; n++) top = fmaxf(top, s[m][n / 2][2 * h + n % 2]);
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        // Of a query that has seen no key yet all weights are zero, whatever is subtracted.
        const float base = top == NEGATIVE_INFINITY ? 0.0f : top * factor;
        const float shrink = power_of_two(most[m][h] * factor - base);
        most[m][h] = top;
        sum[m][h] *= shrink;
#pragma unroll
        for (int n = 0; n < KEYS / 4; n++) {
          float &x = s[m][n / 2][2 * h + n % 2];
          x = power_of_two(x * factor - base);
          sum[m][h] += x;
        }
#pragma unroll
        for (int n = 0; n < DIM / 8; n++)
          out[m][n][2 * h] *= shrink, out[m][n][2 * h + 1] *= shrink;
      }

#pragma unroll
    for (int step = 0; step < KEYS / 16; step++) {
      // The outcomes of the first product are laid out as the factor of the second is.
      uint32_t weights[FRAGMENTS][4];
#pragma unroll
      for (int m = 0; m < FRAGMENTS; m++)
#pragma unroll
        for (int n = 0; n < 4; n++) {
          const float *x = &s[m][2 * step + n / 2][n % 2 * 2];
          weights[m][n] = pack(x[0], x[1], T());
        }
#pragma unroll
      for (int n = 0; n < DIM / 16; n++) {
        uint32_t value[4];
        load_transposed(value, values + place<DIM>(16 * step + lane % 16, 2 * n + lane / 16));
#pragma unroll
        for (int m = 0; m < FRAGMENTS; m++) {
          multiply(out[m][2 * n], weights[m], value[0], value[1], T());
          multiply(out[m][2 * n + 1], weights[m], value[2], value[3], T());
        }
      }
    }
  }

  // Through the tile of the queries, of which a warp's rows are its own, to whole vectors.
#pragma unroll
  for (int m = 0; m < FRAGMENTS; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float total = sum[m][h];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      const float inverse = total > 0.0f ? 1.0f / total : 0.0f;
      const int row = warp * OWN + m * 16 + h * 8 + lane / 4;
#pragma unroll
      for (int n = 0; n < DIM / 8; n++)
        *reinterpret_cast<uint32_t *>(queries + place<DIM>(row, n) + lane % 4 * 2) =
            pack(out[m][n][2 * h] * inverse, out[m][n][2 * h + 1] * inverse, T());
    }
  __syncwarp();
  T *to = static_cast<T *>(a.out) + batch * a.out_batch + head * a.out_head;
#pragma unroll 4
  for (int step = 0; step < OWN * DIM / 8 / 32; step++) {
    const int n = 32 * step + lane;
    const int row = warp * OWN + n / (DIM / 8), chunk = n % (DIM / 8);
    if (first + row < a.lq && chunk < chunks)
      *reinterpret_cast<uint4 *>(to + (first + row) * a.out_row + chunk * 8) =
          *reinterpret_cast<const uint4 *>(queries + place<DIM>(row, chunk));
  }
}

} // namespace

#ifndef R1SEG_F32 // Tensor cores multiply numbers of half the width.
#define ENTRY(NAME, DIM, FRAGMENTS, KEYS, BLOCKS)                                                  \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) OF_NUMBER(NAME)(const Attention a) { \
    attend_mma<Number, DIM, FRAGMENTS, KEYS>(a);                                                   \
  }

ENTRY(attend_mma_32, 32, 1, 64, 4)
ENTRY(attend_mma_64, 64, 1, 64, 4)
ENTRY(attend_mma_96, 96, 1, 64, 3)
ENTRY(attend_mma_128, 128, 1, 64, 3)
ENTRY(attend_mma_64_tall, 64, 2, 64, 2)
ENTRY(attend_mma_96_tall, 96, 2, 64, 2)
// Half the keys, for the queries leave room for no more.
ENTRY(attend_mma_128_tall, 128, 2, 32, 2)
#endif
