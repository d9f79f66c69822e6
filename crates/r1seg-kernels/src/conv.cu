// 3D convolutions, and transposed ones, of any sizes, in one launch: no unfolded input is ever in
// memory. Tensors and weights are as conv.cuh says.
//
//   conv3d_plain   grid (row blocks * remainders * cell blocks, batch), 256 threads. Row blocks are
//                  of 64 output channels, cell blocks of 128 cells.

#include "conv.cuh"

constexpr int ROWS = 64, CELLS = 128, STEPS = 16, THREADS = 256;

// One row of the unfolded input: a channel as a tap meets it.
struct Step {
  int64_t input;   // From where tap 0 of channel 0 would be.
  int64_t weights; // In a row block of tiles; -1 behind the last step.
  int at[3];       // The input's voxels, from where tap 0 would be.
};

__device__ __forceinline__ Step step(const Conv &p, const Place &at, int64_t index) {
  const Walk(&w)[3] = at.walks;
  const int channel = index % p.in_channels;
  int tap = index / p.in_channels;
  Step s;
  int taps[3];
#pragma unroll
  for (int i = 2; i >= 0; i--) {
    const int along = tap % w[i].taps;
    tap /= w[i].taps;
    taps[i] = w[i].first + along * w[i].tap_step;
    s.at[i] = along * w[i].sense;
  }
  const int64_t voxels = int64_t(p.axes[0].input) * p.axes[1].input * p.axes[2].input;
  s.input = channel * voxels +
            (int64_t(s.at[0]) * p.axes[1].input + s.at[1]) * p.axes[2].input + s.at[2];
  const int kernel = p.axes[0].kernel * p.axes[1].kernel * p.axes[2].kernel;
  const int used = (taps[0] * p.axes[1].kernel + taps[1]) * p.axes[2].kernel + taps[2];
  const int column = channel % TILE;
  s.weights = (int64_t(channel / TILE) * kernel + used) * TILE * TILE + column / 2 % 4 * 8 +
              column / 8 * 4 + column % 2;
  return s;
}

template <typename T> __device__ void conv3d_plain(const Conv &p) {
  __shared__ Step steps[2][STEPS];
  __shared__ __align__(16) float a[2][STEPS][ROWS + 4], b[2][STEPS][CELLS];
  const Place at = place(p, ROWS);
  const Walk(&w)[3] = at.walks;
  const int most[3] = {most_cells(p, 0), most_cells(p, 1), most_cells(p, 2)};
  const int thread = threadIdx.x;
  const int d = p.axes[0].input, h = p.axes[1].input, width = p.axes[2].input;

  // What this thread loads: every second step of one cell, and of four rows one step.
  const int column = thread % CELLS, first_step = thread / CELLS;
  const int64_t cell = int64_t(at.tile) * CELLS + column;
  const int x0 = cell % most[2] * w[2].stride + w[2].base;
  const int y0 = cell / most[2] % most[1] * w[1].stride + w[1].base;
  const int z = cell / most[2] / most[1];
  // Behind the last cell nothing is inside.
  const int z0 = z < most[0] ? z * w[0].stride + w[0].base : INT32_MIN / 2;
  const T *x = static_cast<const T *>(p.x) + int64_t(at.batch) * p.in_channels * d * h * width;
  const int64_t origin = (int64_t(z0) * h + y0) * width + x0;

  const int a_step = thread % STEPS, a_row = thread / STEPS;
  const int kernel = p.axes[0].kernel * p.axes[1].kernel * p.axes[2].kernel;
  const int64_t tile_row = int64_t(blocks(p.in_channels, TILE)) * kernel * TILE * TILE;
  const int tile_rows = blocks(p.out_channels, TILE);
  const T *weights = static_cast<const T *>(p.weights) + at.rows * (ROWS / TILE) * tile_row +
                     a_row % 8 * 32 + a_row / 8 * 2;

  const int64_t length = int64_t(w[0].taps) * w[1].taps * w[2].taps * p.in_channels;
  const int64_t count = (length + STEPS - 1) / STEPS;
  const auto list = [&](int64_t block) {
    if (thread >= STEPS) return;
    const int64_t index = block * STEPS + thread;
    Step &s = steps[block % 2][thread];
    if (index < length) s = step(p, at, index);
    else s.weights = -1;
  };

  float from_a[ROWS / TILE], from_b[STEPS / 2];
  const auto load = [&](int64_t block) {
    const int64_t offset = steps[block % 2][a_step].weights;
#pragma unroll
    for (int i = 0; i < ROWS / TILE; i++) {
      const bool inside = offset >= 0 && at.rows * (ROWS / TILE) + i < tile_rows;
      from_a[i] = inside ? wide(weights[i * tile_row + offset]) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < STEPS / 2; i++) {
      const Step &s = steps[block % 2][first_step + 2 * i];
      const bool inside = s.weights >= 0 && unsigned(z0 + s.at[0]) < unsigned(d) &&
                          unsigned(y0 + s.at[1]) < unsigned(h) &&
                          unsigned(x0 + s.at[2]) < unsigned(width);
      from_b[i] = inside ? wide(x[origin + s.input]) : 0.0f;
    }
  };
  const auto stage = [&](int64_t block) {
#pragma unroll
    for (int i = 0; i < ROWS / TILE; i++) a[block % 2][a_step][a_row + TILE * i] = from_a[i];
#pragma unroll
    for (int i = 0; i < STEPS / 2; i++) b[block % 2][first_step + 2 * i][column] = from_b[i];
  };

  // What it computes: four rows of two times four cells.
  const int row = thread / 16 * 4, cells = thread % 16 * 4;
  float sum[4][8] = {};
  list(0);
  __syncthreads();
  load(0);
  stage(0);
  list(1);
  __syncthreads();
  for (int64_t block = 0; block < count; block++) {
    // The next block is on its way while this one is multiplied.
    if (block + 1 < count) load(block + 1);
    // Its list was last read before the barrier, when this block was loaded.
    list(block + 2);
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
      const float4 rows = *reinterpret_cast<const float4 *>(&a[block % 2][k][row]);
      const float4 low = *reinterpret_cast<const float4 *>(&b[block % 2][k][cells]);
      const float4 high = *reinterpret_cast<const float4 *>(&b[block % 2][k][cells + CELLS / 2]);
      const float left[4] = {rows.x, rows.y, rows.z, rows.w};
      const float right[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
    }
    if (block + 1 < count) stage(block + 1);
    __syncthreads();
  }

  const int out[3] = {p.axes[0].output, p.axes[1].output, p.axes[2].output};
  const int64_t voxels = int64_t(out[0]) * out[1] * out[2];
  T *y = static_cast<T *>(p.y) + int64_t(at.batch) * p.out_channels * voxels;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const int64_t cell = int64_t(at.tile) * CELLS + cells + j % 4 + j / 4 * (CELLS / 2);
    const int to_x = cell % most[2] * w[2].out_step + w[2].out_first;
    const int to_y = cell / most[2] % most[1] * w[1].out_step + w[1].out_first;
    const int64_t to_z = cell / most[2] / most[1] * w[0].out_step + w[0].out_first;
    if (to_z >= out[0] || to_y >= out[1] || to_x >= out[2]) continue;
    const int64_t to = (to_z * out[1] + to_y) * out[2] + to_x;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int channel = at.rows * ROWS + row + i;
      if (channel >= p.out_channels) continue;
      y[channel * voxels + to] = narrow<T>(sum[i][j] + (p.bias ? p.bias[channel] : 0.0f));
    }
  }
}

// Not by KERNEL: all registers of a smaller block are there to be used.
extern "C" __global__ void __launch_bounds__(THREADS) OF_NUMBER(conv3d_plain)(const Conv p) {
  conv3d_plain<Number>(p);
}
