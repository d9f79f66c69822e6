// Appends new tokens of a sequence to its cache: keys rotated by their positions, values as they are.
//
// append_{f32,f16,bf16}(Append): grid (tokens, kv_heads), block any, no shared memory.
#include "common.cuh"

struct Append {
  const void *qkv;     // [tokens][heads + 2 * kv_heads][dim]: query heads, key heads, value heads
  void *keys, *values; // row p of head h at h * head_stride + p * dim
  const float *rotary; // for each token its cosines, then its sines; or null
  int64_t key_head, value_head; // strides between heads, in elements
  int32_t heads, kv_heads, dim;
  int32_t past;        // rows of the cache that are filled
  int32_t rotary_half;
};

template <typename T> __device__ void append(const Append &a) {
  const int64_t token = blockIdx.x, head = blockIdx.y;
  const T *heads = static_cast<const T *>(a.qkv) + token * (a.heads + 2 * a.kv_heads) * a.dim;
  const T *key = heads + (a.heads + head) * a.dim, *value = key + int64_t(a.kv_heads) * a.dim;
  const int64_t row = (a.past + token) * a.dim;
  T *keys = static_cast<T *>(a.keys) + head * a.key_head + row;
  T *values = static_cast<T *>(a.values) + head * a.value_head + row;
  const float *angles = a.rotary ? a.rotary + token * 2 * a.rotary_half : nullptr;
  for (int e = threadIdx.x; e < a.dim; e += blockDim.x) {
    keys[e] = narrow<T>(rotated(key, e, angles, a.rotary_half));
    values[e] = value[e];
  }
}

KERNEL(append, (const Append a), (a))
