// Linear layers with weights in GGUF's blocks, as QuantizedMatrix of r1seg-nn has them: read as they
// are for a few rows, which is bound by reading them, and widened for many.
//
//   few_q8_0_M, few_q4k_M   as few_rows_M of few.cu: M = 1, 2, 4, 8 >= rows; grid (rows of the weight /
//                           (2 WARPS), rounded up), or (n / WARPS, rounded up) when gated; block 32 WARPS
//   widen_q8_0, widen_q4k   a weight [n, k] to numbers: a thread for each piece, of which a row has
//                           k / 16 (q8_0) and k / 32 (q4k)
//
// Rows begin at multiples of 16 bytes. k is a multiple of 32 (q8_0) or 256 (q4k), x and out begin at
// multiples of 16 bytes.

#include "few.cuh"

// Numbers that follow one another in a piece.
constexpr int RUN = 16;

// Four bytes in the order of their addresses, each b < 16 as 128 + b: its bits follow those of 128.
__device__ __forceinline__ void above_128(uint32_t bytes, float *x) {
  x[0] = __uint_as_float(__byte_perm(bytes, 0x43000000u, 0x7044 | 0 << 8));
  x[1] = __uint_as_float(__byte_perm(bytes, 0x43000000u, 0x7044 | 1 << 8));
  x[2] = __uint_as_float(__byte_perm(bytes, 0x43000000u, 0x7044 | 2 << 8));
  x[3] = __uint_as_float(__byte_perm(bytes, 0x43000000u, 0x7044 | 3 << 8));
}

// Four signed bytes, exactly. As b + 128 they are the low bits of 2^23 + b + 128, which takes half as
// many cycles as a conversion.
__device__ __forceinline__ void signed_bytes(uint32_t bytes, float *x) {
  const uint32_t positive = bytes ^ 0x80808080u;
  x[0] = __uint_as_float(__byte_perm(positive, 0x4b000000u, 0x7540)) - 8388736.0f;
  x[1] = __uint_as_float(__byte_perm(positive, 0x4b000000u, 0x7541)) - 8388736.0f;
  x[2] = __uint_as_float(__byte_perm(positive, 0x4b000000u, 0x7542)) - 8388736.0f;
  x[3] = __uint_as_float(__byte_perm(positive, 0x4b000000u, 0x7543)) - 8388736.0f;
}

__device__ __forceinline__ float half_of(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

// Rows of all integers, i8, then the scales of 32 each, f16, filled up to 16 bytes.
struct Q8_0 {
  static constexpr int RUNS = 1;
  uint4 integers;
  float scale;

  static __device__ __forceinline__ int64_t row_bytes(int64_t k) { return (k / 32 * 34 + 15) / 16 * 16; }
  static __device__ __forceinline__ int64_t at(int64_t piece, int) { return piece * RUN; }

  static __device__ __forceinline__ Q8_0 load(const uint8_t *row, int64_t k, int64_t piece) {
    const uint16_t *scales = reinterpret_cast<const uint16_t *>(row + k);
    return {__ldg(reinterpret_cast<const uint4 *>(row) + piece), half_of(__ldg(scales + piece / 2))};
  }

  template <bool EXACT> __device__ __forceinline__ void run(int, float (&w)[RUN]) const {
    const uint32_t words[4] = {integers.x, integers.y, integers.z, integers.w};
#pragma unroll
    for (int i = 0; i < 4; i++) signed_bytes(words[i], w + 4 * i);
#pragma unroll
    for (int i = 0; i < RUN; i++) w[i] *= scale; // 11 and 8 bits: exact.
  }
};

// Blocks of 256 numbers in 144 bytes, as in a file: f16 d and dmin, 12 bytes of scales and minima of 32
// numbers each, 128 bytes of which 32 hold 32 numbers in their low halves and the next 32 in their high ones.
struct Q4K {
  static constexpr int RUNS = 2;
  uint4 quarters;
  float scale[2], minimum[2];

  static __device__ __forceinline__ int64_t row_bytes(int64_t k) { return k / 256 * 144; }
  static __device__ __forceinline__ int64_t at(int64_t piece, int run) {
    return piece / 2 * 64 + piece % 2 * RUN + run * 32;
  }

  static __device__ __forceinline__ Q4K load(const uint8_t *row, int64_t, int64_t piece) {
    const int part = piece % 8, pair = part / 2;
    const uint4 *block = reinterpret_cast<const uint4 *>(row) + piece / 8 * 9;
    const uint4 head = __ldg(block);
    Q4K q;
    q.quarters = __ldg(block + 1 + part);
    // The first four scales and minima are the low six bits of bytes; of the others the upper two bits
    // lie above those.
    const uint32_t low = 0x3f3f3f3fu, half = 0x0f0f0f0fu, top = 0x30303030u;
    const uint32_t scales = pair < 2 ? head.y & low : head.w & half | head.y >> 2 & top;
    const uint32_t minima = pair < 2 ? head.z & low : head.w >> 4 & half | head.z >> 2 & top;
    const float d = half_of(head.x & 0xffff), dmin = half_of(head.x >> 16);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int shift = pair % 2 * 16 + i * 8;
      q.scale[i] = d * static_cast<float>(scales >> shift & 0xff);
      q.minimum[i] = dmin * static_cast<float>(minima >> shift & 0xff);
    }
    return q;
  }

  // Exact but for the rounding of the difference. A product does without a subtraction for each number:
  // what it rounds is 1e-6 of the largest weight.
  template <bool EXACT> __device__ __forceinline__ void run(int run, float (&w)[RUN]) const {
    const uint32_t words[4] = {quarters.x, quarters.y, quarters.z, quarters.w};
#pragma unroll
    for (int i = 0; i < 4; i++) above_128(words[i] >> 4 * run & 0x0f0f0f0fu, w + 4 * i);
    const float offset = EXACT ? -minimum[run] : fmaf(-128.0f, scale[run], -minimum[run]);
#pragma unroll
    for (int i = 0; i < RUN; i++) w[i] = fmaf(scale[run], EXACT ? w[i] - 128.0f : w[i], offset);
  }
};

// A run of activations.
template <typename T> __device__ __forceinline__ void load_run(const T *from, float (&x)[RUN]) {
  constexpr int VECTOR = 16 / sizeof(T);
#pragma unroll
  for (int i = 0; i < RUN / VECTOR; i++)
    widened(__ldg(reinterpret_cast<const uint4 *>(from) + i), x + i * VECTOR, T());
}

template <typename W, typename T, int M> __device__ void few(const FewRows &p) {
  const uint8_t *weight = static_cast<const uint8_t *>(p.weight);
  const T *x = static_cast<const T *>(p.x);
  few_outputs<T, M>(p, [&](int64_t one, int64_t other, float (&sums)[2][M]) {
    const uint8_t *first = weight + one * W::row_bytes(p.k);
    const uint8_t *second = weight + other * W::row_bytes(p.k);
    const int64_t pieces = p.k / (RUN * W::RUNS);
    // Two pieces of two rows are on their way at a time.
#pragma unroll 2
    for (int64_t piece = threadIdx.x % 32; piece < pieces; piece += 32) {
      const W a = W::load(first, p.k, piece), b = W::load(second, p.k, piece);
#pragma unroll
      for (int run = 0; run < W::RUNS; run++) {
        float w[2][RUN];
        a.template run<false>(run, w[0]);
        b.template run<false>(run, w[1]);
#pragma unroll
        for (int m = 0; m < M; m++) {
          float values[RUN];
          load_run(x + (m < p.rows ? m : 0) * p.k + W::at(piece, run), values);
#pragma unroll
          for (int i = 0; i < RUN; i++) {
            sums[0][m] += w[0][i] * values[i];
            sums[1][m] += w[1][i] * values[i];
          }
        }
      }
    }
  });
}

struct Widen {
  const uint8_t *weight; // n rows
  void *out;             // [n, k]
  int64_t n;
  int64_t k;
};

template <typename W, typename T> __device__ void widen(const Widen &p) {
  const int64_t pieces = p.k / (RUN * W::RUNS);
  const int64_t thread = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread >= p.n * pieces) return;
  const int64_t row = thread / pieces, piece = thread % pieces;
  const W packed = W::load(p.weight + row * W::row_bytes(p.k), p.k, piece);
#pragma unroll
  for (int run = 0; run < W::RUNS; run++) {
    float w[RUN];
    packed.template run<true>(run, w);
    alignas(16) T numbers[RUN];
#pragma unroll
    for (int i = 0; i < RUN; i++) numbers[i] = narrow<T>(w[i]);
    uint4 *out = reinterpret_cast<uint4 *>(static_cast<T *>(p.out) + row * p.k + W::at(piece, run));
#pragma unroll
    for (int i = 0; i < int(RUN * sizeof(T) / 16); i++)
      out[i] = reinterpret_cast<const uint4 *>(numbers)[i];
  }
}

template <typename T> __device__ void few_q8_0_1(const FewRows &p) { few<Q8_0, T, 1>(p); }
template <typename T> __device__ void few_q8_0_2(const FewRows &p) { few<Q8_0, T, 2>(p); }
template <typename T> __device__ void few_q8_0_4(const FewRows &p) { few<Q8_0, T, 4>(p); }
template <typename T> __device__ void few_q8_0_8(const FewRows &p) { few<Q8_0, T, 8>(p); }
template <typename T> __device__ void few_q4k_1(const FewRows &p) { few<Q4K, T, 1>(p); }
template <typename T> __device__ void few_q4k_2(const FewRows &p) { few<Q4K, T, 2>(p); }
template <typename T> __device__ void few_q4k_4(const FewRows &p) { few<Q4K, T, 4>(p); }
template <typename T> __device__ void few_q4k_8(const FewRows &p) { few<Q4K, T, 8>(p); }
template <typename T> __device__ void widen_q8_0(const Widen &p) { widen<Q8_0, T>(p); }
template <typename T> __device__ void widen_q4k(const Widen &p) { widen<Q4K, T>(p); }

KERNEL(few_q8_0_1, (const FewRows p), (p))
KERNEL(few_q8_0_2, (const FewRows p), (p))
KERNEL(few_q8_0_4, (const FewRows p), (p))
KERNEL(few_q8_0_8, (const FewRows p), (p))
KERNEL(few_q4k_1, (const FewRows p), (p))
KERNEL(few_q4k_2, (const FewRows p), (p))
KERNEL(few_q4k_4, (const FewRows p), (p))
KERNEL(few_q4k_8, (const FewRows p), (p))
KERNEL(widen_q8_0, (const Widen p), (p))
KERNEL(widen_q4k, (const Widen p), (p))
