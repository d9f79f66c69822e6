// What the attention kernels share.
#pragma once

#include "../common.cuh"

constexpr float LOG2E = 1.4426950408889634f;
constexpr float NEGATIVE_INFINITY = -__builtin_huge_valf();

// The one parameter of the kernels for any number of queries. Strides count elements; the elements
// of a row lie side by side. Query head h reads key head h / (heads / kv_heads).
struct Attention {
  const void *q, *k, *v;
  void *out;
  const float *bias;   // or null: [batch, heads, lq, lk], added to the scaled scores
  const float *rotary; // or null: for each query its cosines, then its sines
  int64_t q_batch, q_head, q_row;
  int64_t k_batch, k_head, k_row;
  int64_t v_batch, v_head, v_row;
  int64_t out_batch, out_head, out_row;
  int64_t bias_batch, bias_head, bias_row; // 0 where all share it
  int32_t batch, heads, kv_heads, lq, lk, dim;
  float scale;        // above zero
  int32_t causal;     // query i sees key j only where j <= past + i ..
  int32_t past;
  int32_t window;     // .. and, with a window, only where j > past + i - window; 0 for none
  int32_t rotary_half;

  // The keys that query i sees.
  __device__ __forceinline__ int begin(int i) const {
    return causal && window > 0 ? max(0, past + i - window + 1) : 0;
  }
  __device__ __forceinline__ int end(int i) const { return causal ? min(lk, past + i + 1) : lk; }
};
static_assert(sizeof(Attention) == 216, "The host fills in the same layout.");

// 2^x to some 22 bits, 0 for -inf.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// x turned by an angle, `other` being the second of the pair where x is the first, and its negative
// where x is the second. Products are rounded before the sum, as the CPU's code does it, not fused.
__device__ __forceinline__ float turned(float x, float other, float cosine, float sine) {
  return __fsub_rn(__fmul_rn(x, cosine), __fmul_rn(other, sine));
}

// Element e of a head, rotated by the angles of its position and rounded as a tensor of T is.
template <typename T>
__device__ __forceinline__ float rotated(const T *head, int e, const float *angles, int half) {
  const float x = wide(head[e]);
  if (angles == nullptr || e >= 2 * half) return x;
  const int at = e < half ? e : e - half;
  const float other = e < half ? wide(head[e + half]) : -wide(head[e - half]);
  return wide(narrow<T>(turned(x, other, angles[at], angles[half + at])));
}

// Whether every row may be read by vectors of 4 elements.
template <typename T> __device__ __forceinline__ bool by_fours(const T *rows, int64_t stride) {
  return reinterpret_cast<uintptr_t>(rows) % (4 * sizeof(T)) == 0 && stride % 4 == 0;
}

// 4 elements of a row from e on, 0 behind its end.
template <typename T>
__device__ __forceinline__ float4 load4(const T *row, int e, int dim, bool vectors) {
  float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (vectors && e + 4 <= dim) {
    if constexpr (sizeof(T) == 4) {
      x = *reinterpret_cast<const float4 *>(row + e);
    } else {
      const uint2 bits = *reinterpret_cast<const uint2 *>(row + e);
      const T *parts = reinterpret_cast<const T *>(&bits);
      x = make_float4(wide(parts[0]), wide(parts[1]), wide(parts[2]), wide(parts[3]));
    }
  } else {
    if (e < dim) x.x = wide(row[e]);
    if (e + 1 < dim) x.y = wide(row[e + 1]);
    if (e + 2 < dim) x.z = wide(row[e + 2]);
    if (e + 3 < dim) x.w = wide(row[e + 3]);
  }
  return x;
}

// Copies 16 bytes to shared memory in the background, or writes zeros there.
__device__ __forceinline__ void copy_async(void *to, const void *from, bool real) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(real ? 16 : 0)
               : "memory");
}

// Ends a group of copies.
__device__ __forceinline__ void copies_begun() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most PENDING of this thread's groups are under way.
template <int PENDING> __device__ __forceinline__ void copies_done() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// The entry point NAME, which runs FUNCTION<Number, SIZE>, BLOCKS of them on a multiprocessor.
#define ATTENTION_ENTRY(NAME, FUNCTION, SIZE, THREADS, BLOCKS)                                     \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) OF_NUMBER(NAME)(const Attention a) { \
    FUNCTION<Number, SIZE>(a);                                                                     \
  }
