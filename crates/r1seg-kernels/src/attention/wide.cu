// Attention of few queries, or of heads of more than 256 elements, on CUDA cores: a block for each
// query, softmax(scale * q k^T + bias) v in f32. Any alignment.
//
// attend_wide_{128,256,1024}_{f32,f16,bf16}(Attention): heads of up to so many elements.
//   grid (heads, lq, batch), block 256, static shared memory only (at most 33 KiB).
//
// A query that sees no key gets zeros.
#include "common.cuh"

namespace {

constexpr int WARPS = 8;  // of a block for one query
constexpr int AHEAD = 4;  // keys of a warp at a time, whose reads overlap

// One query of one head: the warps share the keys among them, the lanes the elements, each
// elements 4 * lane.. of every 128.
template <typename T, int PARTS> __device__ __forceinline__ void attend_wide(const Attention &a) {
  __shared__ float outs[WARPS][PARTS * 128], tops[WARPS], sums[WARPS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int head = blockIdx.x, i = blockIdx.y, batch = blockIdx.z;
  const int kv_head = head / (a.heads / a.kv_heads);
  const T *q = static_cast<const T *>(a.q) + batch * a.q_batch + head * a.q_head + i * a.q_row;
  const T *keys = static_cast<const T *>(a.k) + batch * a.k_batch + kv_head * a.k_head;
  const T *values = static_cast<const T *>(a.v) + batch * a.v_batch + kv_head * a.v_head;
  const float *bias = a.bias;
  if (bias != nullptr) bias += batch * a.bias_batch + head * a.bias_head + i * a.bias_row;
  const float *angles = a.rotary;
  if (angles != nullptr) angles += int64_t(i) * 2 * a.rotary_half;
  const bool k_vectors = by_fours(keys, a.k_row), v_vectors = by_fours(values, a.v_row);

  float query[PARTS][4], out[PARTS][4] = {}, top = NEGATIVE_INFINITY, sum = 0.0f;
#pragma unroll
  for (int p = 0; p < PARTS; p++)
#pragma unroll
    for (int n = 0; n < 4; n++) {
      const int e = 128 * p + 4 * lane + n;
      query[p][n] = e < a.dim ? rotated(q, e, angles, a.rotary_half) : 0.0f;
    }
  const int end = a.end(i);
  for (int j0 = a.begin(i) + warp * AHEAD; j0 < end; j0 += WARPS * AHEAD) {
    float s[AHEAD] = {};
#pragma unroll
    for (int p = 0; p < PARTS; p++)
#pragma unroll
      for (int n = 0; n < AHEAD; n++)
        if (128 * p < a.dim && j0 + n < end) {
          const float4 k = load4(keys + (j0 + n) * a.k_row, 128 * p + 4 * lane, a.dim, k_vectors);
          s[n] += query[p][0] * k.x + query[p][1] * k.y + query[p][2] * k.z + query[p][3] * k.w;
        }
    const float before = top;
#pragma unroll
    for (int n = 0; n < AHEAD; n++) {
      s[n] = warp_sum(s[n]) * a.scale;
      if (j0 + n >= end) s[n] = NEGATIVE_INFINITY;
      else if (bias != nullptr) s[n] += bias[j0 + n];
      top = fmaxf(top, s[n]);
    }
    const float base = top == NEGATIVE_INFINITY ? 0.0f : top;
    const float shrink = power_of_two((before - base) * LOG2E);
    sum *= shrink;
#pragma unroll
    for (int n = 0; n < AHEAD; n++) {
      s[n] = power_of_two((s[n] - base) * LOG2E);
      sum += s[n];
    }
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
#pragma unroll
      for (int n = 0; n < 4; n++) out[p][n] *= shrink;
#pragma unroll
      for (int n = 0; n < AHEAD; n++)
        if (128 * p < a.dim && j0 + n < end) {
          const float4 v = load4(values + (j0 + n) * a.v_row, 128 * p + 4 * lane, a.dim, v_vectors);
          out[p][0] += s[n] * v.x;
          out[p][1] += s[n] * v.y;
          out[p][2] += s[n] * v.z;
          out[p][3] += s[n] * v.w;
        }
    }
  }

#pragma unroll
  for (int p = 0; p < PARTS; p++)
#pragma unroll
    for (int n = 0; n < 4; n++) outs[warp][128 * p + 4 * lane + n] = out[p][n];
  if (lane == 0) tops[warp] = top, sums[warp] = sum;
  __syncthreads();
  float base = NEGATIVE_INFINITY, total = 0.0f, shares[WARPS];
#pragma unroll
  for (int w = 0; w < WARPS; w++) base = fmaxf(base, tops[w]);
  if (base == NEGATIVE_INFINITY) base = 0.0f;
#pragma unroll
  for (int w = 0; w < WARPS; w++) {
    shares[w] = power_of_two((tops[w] - base) * LOG2E);
    total += shares[w] * sums[w];
  }
  const float inverse = total > 0.0f ? 1.0f / total : 0.0f;
  T *row = static_cast<T *>(a.out) + batch * a.out_batch + head * a.out_head + i * a.out_row;
  for (int e = threadIdx.x; e < a.dim; e += 32 * WARPS) {
    float x = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) x += shares[w] * outs[w][e];
    row[e] = narrow<T>(x * inverse);
  }
}

} // namespace

ATTENTION_ENTRY(attend_wide_128, attend_wide, 1, 32 * WARPS, 1)
ATTENTION_ENTRY(attend_wide_256, attend_wide, 2, 32 * WARPS, 1)
ATTENTION_ENTRY(attend_wide_1024, attend_wide, 8, 32 * WARPS, 1)
