// The most likely token of each row of logits, or one that is given, and the logarithm of its
// probability.
//
//   choose_f32   grid (rows), block of whole warps
//
// What crosses to the host is a token and a number, not a vocabulary of logits.

#include "common.cuh"

constexpr int MAX_ROWS = 8;

struct Choose {
  const float *logits; // [rows, vocabulary]
  uint32_t *out;       // [rows, 2]: the token, and the bits of its logarithm as f32
  int64_t vocabulary;
  int64_t forced[MAX_ROWS]; // The token of a row where it is given, else -1.
};

// Stands for a row without a distribution: a NaN, an infinite largest logit.
constexpr uint32_t NO_TOKEN = 0xffffffffu;

__device__ void most_likely(const Choose &p) {
  __shared__ float maxima[32];
  __shared__ uint32_t tokens[32];
  const float *logits = p.logits + int64_t(blockIdx.x) * p.vocabulary;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  float max = -INFINITY;
  uint32_t token = NO_TOKEN;
  float broken = 0.0f;
  for (int64_t i = threadIdx.x; i < p.vocabulary; i += blockDim.x) {
    const float x = logits[i];
    if (x > max) max = x, token = uint32_t(i);
    if (isnan(x)) broken = 1.0f;
  }
  // The first of several that are equal.
  const auto join = [&](float other, uint32_t other_token) {
    if (other > max || (other == max && other_token < token)) max = other, token = other_token;
  };
  for (int offset = 16; offset > 0; offset >>= 1) {
    const float other = __shfl_xor_sync(0xffffffffu, max, offset);
    join(other, __shfl_xor_sync(0xffffffffu, token, offset));
  }
  if (lane == 0) maxima[warp] = max, tokens[warp] = token;
  broken = block_sum(broken);
  for (int i = 0; i < warps; i++) join(maxima[i], tokens[i]);
  float total = 0.0f;
  for (int64_t i = threadIdx.x; i < p.vocabulary; i += blockDim.x) total += expf(logits[i] - max);
  total = block_sum(total);
  if (threadIdx.x == 0) {
    const bool sound = broken == 0.0f && isfinite(max);
    const int64_t forced = p.forced[blockIdx.x];
    if (forced >= 0) token = uint32_t(forced);
    p.out[2 * blockIdx.x] = sound ? token : NO_TOKEN;
    const float logarithm = sound ? logits[token] - max - logf(total) : 0.0f;
    p.out[2 * blockIdx.x + 1] = __float_as_uint(logarithm);
  }
}

#ifdef R1SEG_F32
extern "C" __global__ void choose_f32(const Choose p) { most_likely(p); }
#endif
