// One new token of a sequence against its cache of keys and values: rotates the query and the new
// key, appends the new key and value to the cache, and gives softmax(scale * q k^T) v in f32. No
// block needs what another has appended: each has the new token's row at hand.
//
// attend_step_{1,2,4,8,16}_{f32,f16,bf16}(Step): up to so many query heads for each key head.
//   grid (kv_heads, splits), block 32 * warps with 1 to 4 warps, bytes of dynamic shared memory
//     4 * (group + 1) * width + 32 * warps * group + warps * stages * 16 * width * sizeof(T)
//   where width is dim rounded up to 16 bytes of T, in elements, group the number in the kernel's
//   name, and stages from 1 to 3. To stay within 48 KiB: 4 warps and as many stages as fit if that
//   is two or more, else 2 warps. With splits == 1 it writes `out`, otherwise `partial`, which has
//   heads * splits * (dim + 2) floats.
// attend_step_combine_{f32,f16,bf16}(Step): joins the partial results to `out`.
//   grid (heads), block any, no shared memory.
//
// dim is at most 256. The cache is read by 16 bytes where its addresses and dim allow it, otherwise
// by elements. Splits may outnumber what there is to split.
#include "common.cuh"

struct Step {
  const void *qkv;       // [heads + 2 * kv_heads][dim]: query heads, key heads, value heads
  void *keys, *values;   // row p of head h at h * head_stride + p * dim
  const float *rotary;   // the new token's cosines, then its sines; or null
  void *out;             // [heads][dim]
  float *partial;        // [heads][splits][dim] sums, then [heads][splits] maxima and totals
  int64_t key_head, value_head; // strides between heads, in elements
  int32_t heads, kv_heads, dim;
  int32_t past;          // rows of the cache that are filled: the new token's is the next
  int32_t window;        // the last so many positions are seen, the new one among them; 0 for all
  float scale;           // above zero
  int32_t rotary_half, splits, stages;
};
static_assert(sizeof(Step) == 104, "The host fills in the same layout.");

namespace {

constexpr int KEYS = 8;      // of a warp's tile: 4 lanes share one
constexpr int TOGETHER = 4;  // heads whose warps' sums are joined at a time

// 16 bytes of shared memory as floats.
__device__ __forceinline__ void unpack(float (&x)[4], const float *from) {
  const float4 v = *reinterpret_cast<const float4 *>(from);
  x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}

template <typename T> __device__ __forceinline__ void unpack(float (&x)[8], const T *from) {
  const uint4 bits = *reinterpret_cast<const uint4 *>(from);
  const T *parts = reinterpret_cast<const T *>(&bits);
#pragma unroll
  for (int n = 0; n < 8; n++) x[n] = wide(parts[n]);
}

template <typename T> __device__ __forceinline__ float2 two(const T *from) {
  if constexpr (sizeof(T) == 4) {
    return *reinterpret_cast<const float2 *>(from);
  } else {
    const uint32_t bits = *reinterpret_cast<const uint32_t *>(from);
    const T *parts = reinterpret_cast<const T *>(&bits);
    return make_float2(wide(parts[0]), wide(parts[1]));
  }
}

// Waits for all but the newest `stages` - 1 groups of copies.
__device__ __forceinline__ void wait_for_oldest(int stages) {
  if (stages == 3) copies_done<2>();
  else if (stages == 2) copies_done<1>();
  else copies_done<0>();
}

// e^(scale * (x - base)) for factor = scale * log2(e); 0 for x = -inf.
__device__ __forceinline__ float weight(float x, float base, float factor) {
  return power_of_two((x - (base == NEGATIVE_INFINITY ? 0.0f : base)) * factor);
}

// The warps take the split's tiles in turn, each with copies of its own under way, and need each
// other only at the end.
template <typename T, int GROUP> __device__ __forceinline__ void attend_step(const Step &a) {
  constexpr int VECTOR = 16 / sizeof(T);
  extern __shared__ __align__(16) unsigned char memory[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const int kv_head = blockIdx.x, split = blockIdx.y, group = a.heads / a.kv_heads, dim = a.dim;
  const int chunks = (dim + VECTOR - 1) / VECTOR, width = chunks * VECTOR;
  float *query = reinterpret_cast<float *>(memory), *fresh = query + GROUP * width;
  float *weights = fresh + width + warp * GROUP * KEYS; // [head][key]
  T *all_tiles = reinterpret_cast<T *>(fresh + width + warps * GROUP * KEYS);
  T *tiles = all_tiles + warp * a.stages * 2 * KEYS * width;
  const float factor = a.scale * LOG2E;

  // Of the filled rows in sight, this split's.
  const int sight = a.window > 0 ? max(0, a.past + 1 - a.window) : 0;
  const int share = ((a.past - sight + a.splits - 1) / a.splits + KEYS - 1) / KEYS * KEYS;
  const int begin = sight + split * share, end = min(a.past, begin + share);
  const bool newest = split == a.splits - 1;
  T *keys = static_cast<T *>(a.keys) + kv_head * a.key_head;
  T *values = static_cast<T *>(a.values) + kv_head * a.value_head;
  const bool vectors = width == dim && (reinterpret_cast<uintptr_t>(keys) |
                                        reinterpret_cast<uintptr_t>(values)) % 16 == 0;

  // Begins to copy the warp's next tile, if there is one: keys, then values. Where rows are whole
  // vectors, both are single runs of memory.
  const int size = 2 * KEYS * width, step = warps * KEYS;
  T *const last_tile = tiles + (a.stages - 1) * size, *next = tiles;
  int ahead = begin + warp * KEYS;
  const auto fetch = [&] {
    T *to = next;
    const int j = ahead, real = (end - j) * chunks, shift = KEYS * width;
    ahead += step;
    next = next == last_tile ? tiles : next + size;
    if (j < end && vectors) {
      const T *key = keys + int64_t(j) * dim, *value = values + int64_t(j) * dim;
#pragma unroll 1
      for (int c = lane; c < KEYS * chunks; c += 32) {
        const int from = c < real ? c * VECTOR : 0;
        copy_async(to + c * VECTOR, key + from, c < real);
        copy_async(to + shift + c * VECTOR, value + from, c < real);
      }
    } else if (j < end) {
#pragma unroll 1
      for (int c = lane; c < KEYS * width; c += 32) {
        const int row = c / width, e = c % width;
        const bool is_real = j + row < end && e < dim;
        const int64_t from = int64_t(j + row) * dim + e;
        to[c] = is_real ? keys[from] : narrow<T>(0.0f);
        to[shift + c] = is_real ? values[from] : narrow<T>(0.0f);
      }
    }
    copies_begun();
  };
#pragma unroll 1
  for (int n = 1; n < a.stages; n++) fetch();

  const T *qkv = static_cast<const T *>(a.qkv);
  const T *new_key = qkv + (a.heads + kv_head) * dim, *new_value = new_key + a.kv_heads * dim;
#pragma unroll 1
  for (int n = threadIdx.x; n < (GROUP + 1) * width; n += blockDim.x) {
    const int g = n / width, e = n % width;
    const T *from = g == GROUP ? new_key : qkv + (kv_head * group + g) * dim;
    const bool real = e < dim && (g < group || g == GROUP);
    query[n] = real ? rotated(from, e, a.rotary, a.rotary_half) : 0.0f;
  }
  __syncthreads();

  float top[GROUP], sum[GROUP]; // Of `sum` each lane has the part of its keys.
  float2 out[GROUP][4] = {};    // elements 2 * lane and the next of every 64
#pragma unroll
  for (int g = 0; g < GROUP; g++) top[g] = NEGATIVE_INFINITY, sum[g] = 0.0f;
  if (newest) {
#pragma unroll 1
    for (int e = threadIdx.x; e < dim; e += blockDim.x) {
      keys[int64_t(a.past) * dim + e] = narrow<T>(fresh[e]);
      values[int64_t(a.past) * dim + e] = new_value[e];
    }
  }
  if (newest && warp == 0) {
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
      float score = 0.0f;
#pragma unroll 1
      for (int e = lane; e < dim; e += 32) score += query[g * width + e] * fresh[e];
      top[g] = warp_sum(score);
      sum[g] = lane < 4 ? 1.0f : 0.0f;
#pragma unroll
      for (int n = 0; n < 4; n++) {
        const int e = 2 * lane + 64 * n;
        if (e < dim) out[g][n].x = wide(new_value[e]);
        if (e + 1 < dim) out[g][n].y = wide(new_value[e + 1]);
      }
    }
  }

  const T *key = tiles;
  for (int j0 = begin + warp * KEYS; j0 < end; j0 += step) {
    fetch();
    wait_for_oldest(a.stages);
    __syncwarp();
    const T *value = key + KEYS * width;
    float s[GROUP] = {};
#pragma unroll(GROUP < 4 ? 4 : 1)
    for (int c = lane % 4; c < chunks; c += 4) {
      float x[VECTOR];
      unpack(x, key + lane / 4 * width + c * VECTOR);
#pragma unroll
      for (int g = 0; g < GROUP; g++)
#pragma unroll
        for (int m = 0; m < VECTOR; m += 4) {
          const float4 q = *reinterpret_cast<const float4 *>(query + g * width + c * VECTOR + m);
          s[g] += x[m] * q.x + x[m + 1] * q.y + x[m + 2] * q.z + x[m + 3] * q.w;
        }
    }
    const bool real = j0 + lane / 4 < end;
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
      s[g] += __shfl_xor_sync(0xffffffffu, s[g], 1);
      s[g] += __shfl_xor_sync(0xffffffffu, s[g], 2);
      if (!real) s[g] = NEGATIVE_INFINITY;
      float base = fmaxf(top[g], s[g]);
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2)
        base = fmaxf(base, __shfl_xor_sync(0xffffffffu, base, offset));
      const float shrink = power_of_two((top[g] - base) * factor);
      const float own = power_of_two((s[g] - base) * factor);
      top[g] = base;
      sum[g] = sum[g] * shrink + own;
#pragma unroll
      for (int m = 0; m < 4; m++) out[g][m].x *= shrink, out[g][m].y *= shrink;
      if (lane % 4 == g % 4) weights[g * KEYS + lane / 4] = own;
    }
    __syncwarp();
#pragma unroll
    for (int m = 0; m < 4; m++) {
      if (64 * m >= width) break;
      // Keeps reads from being moved ahead of their turn, which takes registers.
      if constexpr (GROUP >= 8) __syncwarp();
      // Lanes behind the row's end compute its end again, in vain.
      const T *column = value + min(2 * lane + 64 * m, width - 2);
      float2 v[KEYS];
#pragma unroll
      for (int j = 0; j < KEYS; j++) v[j] = two(column + j * width);
#pragma unroll
      for (int g = 0; g < GROUP; g++)
#pragma unroll
        for (int j = 0; j < KEYS; j += 4) {
          const float4 w = *reinterpret_cast<const float4 *>(weights + g * KEYS + j);
          out[g][m].x += w.x * v[j].x + w.y * v[j + 1].x + w.z * v[j + 2].x + w.w * v[j + 3].x;
          out[g][m].y += w.x * v[j].y + w.y * v[j + 1].y + w.z * v[j + 2].y + w.w * v[j + 3].y;
        }
    }
    __syncwarp(); // The tile and the weights have been read.
    key = key == last_tile ? tiles : key + size;
  }

  // The warps' sums meet in the memory of the tiles: elements, maximum and total of each.
  float *meet = reinterpret_cast<float *>(all_tiles);
  const int pitch = dim + 2;
#pragma unroll
  for (int g0 = 0; g0 < GROUP; g0 += TOGETHER) {
    if (g0 >= group) break;
    __syncthreads();
#pragma unroll
    for (int g = g0; g < g0 + TOGETHER && g < GROUP; g++) {
      float *to = meet + (warp * TOGETHER + g - g0) * pitch;
      float total = sum[g];
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2)
        total += __shfl_xor_sync(0xffffffffu, total, offset);
      if (lane == 0) to[dim] = top[g], to[dim + 1] = total;
#pragma unroll
      for (int m = 0; m < 4; m++) {
        const int e = 2 * lane + 64 * m;
        if (e < dim) to[e] = out[g][m].x;
        if (e + 1 < dim) to[e + 1] = out[g][m].y;
      }
    }
    __syncthreads();
    const int heads = min(TOGETHER, group - g0);
#pragma unroll 1
    for (int n = threadIdx.x; n < heads * dim; n += blockDim.x) {
      const int g = n / dim, e = n % dim, head = kv_head * group + g0 + g;
      float base = NEGATIVE_INFINITY, total = 0.0f, x = 0.0f;
#pragma unroll 1
      for (int w = 0; w < warps; w++) base = fmaxf(base, meet[(w * TOGETHER + g) * pitch + dim]);
#pragma unroll 1
      for (int w = 0; w < warps; w++) {
        const float *from = meet + (w * TOGETHER + g) * pitch;
        const float part = weight(from[dim], base, factor);
        total += part * from[dim + 1];
        x += part * from[e];
      }
      if (a.splits == 1) {
        static_cast<T *>(a.out)[head * dim + e] = narrow<T>(x / total);
      } else {
        const int64_t at = int64_t(head) * a.splits + split;
        a.partial[at * dim + e] = x;
        float *state = a.partial + int64_t(a.heads) * a.splits * dim + 2 * at;
        if (e == 0) state[0] = base, state[1] = total;
      }
    }
  }
}

template <typename T> __device__ __forceinline__ void combine(const Step &a) {
  const int64_t at = int64_t(blockIdx.x) * a.splits;
  const float *states = a.partial + int64_t(a.heads) * a.splits * a.dim + 2 * at;
  const float factor = a.scale * LOG2E;
  float base = NEGATIVE_INFINITY;
  for (int s = 0; s < a.splits; s++) base = fmaxf(base, states[2 * s]);
  for (int e = threadIdx.x; e < a.dim; e += blockDim.x) {
    float total = 0.0f, x = 0.0f;
    for (int s = 0; s < a.splits; s++) {
      const float part = weight(states[2 * s], base, factor);
      total += part * states[2 * s + 1];
      x += part * a.partial[(at + s) * a.dim + e];
    }
    static_cast<T *>(a.out)[blockIdx.x * a.dim + e] = narrow<T>(x / total);
  }
}

} // namespace

#define STEP(GROUP)                                                                                \
  extern "C" __global__ void __launch_bounds__(128) OF_NUMBER(attend_step_##GROUP)(const Step a) { \
    attend_step<Number, GROUP>(a);                                                                 \
  }

STEP(1)
STEP(2)
STEP(4)
STEP(8)
STEP(16)
extern "C" __global__ void OF_NUMBER(attend_step_combine)(const Step a) { combine<Number>(a); }
