// What happens to the sum of a linear layer before it is written.
#pragma once

#include "common.cuh"

// As `Activation` of r1seg-nn.
enum Activation { NONE = 0, GELU = 1, RELU = 2, QUICK_GELU = 3, GATED = 4 };

// x Φ(x), with the distribution function itself: no difference of nearly equal numbers.
__device__ __forceinline__ float gelu_erf(float x) { return x * normcdff(x); }

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

__device__ __forceinline__ float activated(float x, int activation) {
  switch (activation) {
  case GELU: return gelu_erf(x);
  case RELU: return x < 0.0f ? 0.0f : x; // NaN stays NaN.
  case QUICK_GELU: return x / (1.0f + expf(-1.702f * x));
  default: return x;
  }
}
