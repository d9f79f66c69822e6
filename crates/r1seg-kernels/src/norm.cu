// Norms of rows: a layer norm, or a root-mean-square norm where nothing is subtracted.
//
//   row_norm    grid (rows), block of whole warps, shared memory of width floats where they fit
//   row_parts   grid (parts, rows): the mean of each part of a long row, and the squares around it
//   long_norm   grid (parts, rows): joins the parts of its row, and normalizes its own
//
// x, plus and out are [rows, width]; factors are [width] weights, then [width] biases when centered.
// The variance takes a second pass over the row, so that a mean that dwarfs it costs no digits; that
// pass also finds by how much the rounded mean is off.

#include "epilogue.cuh"

struct RowNorm {
  const void *x;
  const void *plus; // What is added to x first, or null.
  const float *factors;
  void *out;
  float *parts; // [rows, parts, 2] of a long row: mean, sum of squares around it
  int64_t width;
  int part; // Numbers of a long row that one block takes.
  float eps;
  int centered;
  int gelu;
  int staged; // Whether the row fits the shared memory.
};

template <typename T>
__device__ __forceinline__ float at(const RowNorm &p, int64_t i) {
  const float x = wide(static_cast<const T *>(p.x)[i]);
  return p.plus ? x + wide(static_cast<const T *>(p.plus)[i]) : x;
}

template <typename T>
__device__ __forceinline__ void write(const RowNorm &p, int64_t row, int64_t i, float unit) {
  float y = unit * p.factors[i];
  if (p.centered) y += p.factors[p.width + i];
  static_cast<T *>(p.out)[row * p.width + i] = narrow<T>(p.gelu ? gelu_erf(y) : y);
}

template <typename T> __device__ void row_norm(const RowNorm &p) {
  extern __shared__ float staged[];
  const int64_t row = blockIdx.x, start = row * p.width;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) {
    const float x = at<T>(p, start + i);
    if (p.staged) staged[i] = x; // Read again by the same thread alone.
    sum += x;
  }
  const float mean = p.centered ? block_sum(sum) / p.width : 0.0f;
  float squares = 0.0f, rest = 0.0f;
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) {
    const float x = (p.staged ? staged[i] : at<T>(p, start + i)) - mean;
    squares += x * x;
    rest += x;
  }
  const float off = p.centered ? block_sum(rest) / p.width : 0.0f;
  const float variance = fmaxf(block_sum(squares) / p.width - off * off, 0.0f);
  const float inverse = 1.0f / sqrtf(variance + p.eps);
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) {
    const float x = (p.staged ? staged[i] : at<T>(p, start + i)) - mean - off;
    write<T>(p, row, i, x * inverse);
  }
}

// How many numbers of a row the part `index` has.
__device__ __forceinline__ int64_t part_len(const RowNorm &p, int64_t index) {
  const int64_t left = p.width - index * p.part;
  return left < p.part ? left : p.part;
}

template <typename T> __device__ void row_parts(const RowNorm &p) {
  const int64_t row = blockIdx.y, start = row * p.width + int64_t(blockIdx.x) * p.part;
  const int64_t len = part_len(p, blockIdx.x);
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < len; i += blockDim.x) sum += at<T>(p, start + i);
  const float mean = p.centered ? block_sum(sum) / len : 0.0f;
  float squares = 0.0f;
  for (int64_t i = threadIdx.x; i < len; i += blockDim.x) {
    const float x = at<T>(p, start + i) - mean;
    squares += x * x;
  }
  squares = block_sum(squares);
  if (threadIdx.x == 0) {
    float *part = p.parts + (row * gridDim.x + blockIdx.x) * 2;
    part[0] = mean;
    part[1] = squares;
  }
}

template <typename T> __device__ void long_norm(const RowNorm &p) {
  const int64_t row = blockIdx.y, first = int64_t(blockIdx.x) * p.part;
  const float *parts = p.parts + row * gridDim.x * 2;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) sum += parts[2 * i] * part_len(p, i);
  const float mean = block_sum(sum) / p.width;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) {
    const float off = parts[2 * i] - mean;
    squares += parts[2 * i + 1] + off * off * part_len(p, i);
  }
  const float inverse = 1.0f / sqrtf(block_sum(squares) / p.width + p.eps);
  for (int64_t i = threadIdx.x; i < part_len(p, blockIdx.x); i += blockDim.x) {
    const float x = at<T>(p, row * p.width + first + i) - mean;
    write<T>(p, row, first + i, x * inverse);
  }
}

KERNEL(row_norm, (const RowNorm p), (p))
KERNEL(row_parts, (const RowNorm p), (p))
KERNEL(long_norm, (const RowNorm p), (p))
