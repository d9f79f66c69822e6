// What the kernels for GPUs share: numbers of three types computed with in f32, and sums.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(__half x) { return __half2float(x); }
__device__ __forceinline__ float wide(__nv_bfloat16 x) { return __bfloat162float(x); }

// Rounded to the nearest number of the type.
template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ __half narrow<__half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// The sum over the 32 lanes of a warp, in every lane.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// The sum over a block of whole warps, in every thread. Every thread of the block calls it.
__device__ __forceinline__ float block_sum(float x) {
  __shared__ float sums[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = warp_sum(x);
  __syncthreads(); // A sum before this one may still be read.
  if (lane == 0) sums[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? sums[lane] : 0.0f);
}

// Each file is compiled for each type by itself, so that a program loads, and a driver compiles, the
// kernels of the type that it computes in.
#if defined(R1SEG_F16)
using Number = __half;
#define OF_NUMBER(NAME) NAME##_f16
#elif defined(R1SEG_BF16)
using Number = __nv_bfloat16;
#define OF_NUMBER(NAME) NAME##_bf16
#elif defined(R1SEG_F32)
using Number = float;
#define OF_NUMBER(NAME) NAME##_f32
#else
#error "build.rs says which type of number"
#endif

// KERNEL(NAME, (PARAMETERS), (ARGUMENTS)) defines NAME_f32, NAME_f16 or NAME_bf16, which calls
// NAME<Number>.
#define KERNEL(NAME, PARAMETERS, ARGUMENTS)                                                        \
  extern "C" __global__ void OF_NUMBER(NAME) PARAMETERS { NAME<Number> ARGUMENTS; }
