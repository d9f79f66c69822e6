// 3D convolutions, and transposed ones, of f16 and bf16 on tensor cores, in one launch: no unfolded
// input is ever in memory. Tensors and weights are as conv.cuh says.
//
//   conv3d_mma16, conv3d_mma48, conv3d_mma64
//       grid (row blocks * remainders * tiles, batch), one warp for 32 cells of a tile, of which
//       there are at most 8. Row blocks are of as many output channels as the name says; tiles are
//       counted along each axis. Shared memory: 36 bytes for each voxel of the input that a tile
//       reads, in rows of 4 n + 2, and 8 for each tap.

#include "conv.cuh"
#include "mma.cuh"

// Where the 8 channels `half` of a voxel are in shared memory. Halves are swapped such that neither
// 8 voxels in a row nor the two pairs of a matrix that are 8 voxels apart share banks.
__device__ __forceinline__ int slot(int voxel, int half) {
  return voxel * 2 + ((half ^ voxel >> 2 ^ voxel >> 3) & 1);
}

// `TILES` times 16 output channels of a tile of cells. Of the input, 16 channels of all voxels that
// the tile reads are in shared memory at a time, and every tap takes its factors from there.
template <typename T, int TILES> __device__ void conv3d_mma(const Conv &p) {
  extern __shared__ uint4 shared[];
  const Place at = place(p, TILES * TILE);
  const Walk(&w)[3] = at.walks;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int taps = w[0].taps * w[1].taps * w[2].taps;

  int first[3], extent[3], tile = at.tile;
#pragma unroll
  for (int i = 2; i >= 0; i--) {
    const int tiles = blocks(most_cells(p, i), p.tile[i]);
    first[i] = tile % tiles * p.tile[i];
    tile /= tiles;
    extent[i] = (p.tile[i] - 1) * w[i].stride + max(w[i].taps, 1);
  }
  // Rows of 4 n + 2 voxels: the four rows that a matrix may span lie in different banks.
  const int pitch = extent[2] + ((2 - extent[2]) & 3);
  const int cells = extent[0] * extent[1] * pitch;
  uint4 *const inputs = shared;                                     // [cells, 2] octets of channels
  int *const sources = reinterpret_cast<int *>(inputs + 2 * cells); // [cells]: voxels, or -1
  int2 *const steps = reinterpret_cast<int2 *>(sources + cells); // [taps]

  const int size[3] = {p.axes[0].input, p.axes[1].input, p.axes[2].input};
  for (int i = threadIdx.x; i < cells; i += blockDim.x) {
    const int in_tile[3] = {i / pitch / extent[1], i / pitch % extent[1], i % pitch};
    bool inside = in_tile[2] < extent[2];
    int source = 0;
#pragma unroll
    for (int k = 0; k < 3; k++) {
      const int back = w[k].sense < 0 ? w[k].taps - 1 : 0;
      const int voxel = first[k] * w[k].stride + w[k].base - back + in_tile[k];
      inside = inside && unsigned(voxel) < unsigned(size[k]);
      source = source * size[k] + voxel;
    }
    sources[i] = inside ? source : -1;
  }
  for (int i = threadIdx.x; i < taps; i += blockDim.x) {
    const int along[3] = {i / w[2].taps / w[1].taps, i / w[2].taps % w[1].taps, i % w[2].taps};
    int tap = 0, shift = 0;
#pragma unroll
    for (int k = 0; k < 3; k++) {
      tap = tap * p.axes[k].kernel + w[k].first + along[k] * w[k].tap_step;
      shift = shift * (k == 2 ? pitch : extent[k]) +
              (w[k].sense < 0 ? w[k].taps - 1 - along[k] : along[k]);
    }
    steps[i] = make_int2(tap, shift); // Which weights, and how many voxels on.
  }

  // Columns of the products are cells in such an order that a thread ends up with 8 in a row.
  const int side = lane / 8 % 2;
  int voxel[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int cell = warp * 32 + lane % 8 / 2 * 8 + (2 * i + lane / 16) * 2 + lane % 2;
    const int x = cell % p.tile[2], y = cell / p.tile[2] % p.tile[1];
    const int z = cell / p.tile[2] / p.tile[1];
    voxel[i] = (z * w[0].stride * extent[1] + y * w[1].stride) * pitch + x * w[2].stride;
  }

  const int kernel = p.axes[0].kernel * p.axes[1].kernel * p.axes[2].kernel;
  const int chunks = blocks(p.in_channels, TILE), tile_rows = blocks(p.out_channels, TILE);
  const uint4 *const weights = static_cast<const uint4 *>(p.weights) + lane;
  const auto load = [&](uint4 (&a)[TILES], int chunk, int tap) {
#pragma unroll
    for (int i = 0; i < TILES; i++) {
      const int64_t row = at.rows * TILES + i;
      a[i] = row < tile_rows ? weights[((row * chunks + chunk) * kernel + tap) * 32]
                             : make_uint4(0, 0, 0, 0);
    }
  };
  const int64_t voxels = int64_t(size[0]) * size[1] * size[2];
  const uint16_t *x =
      static_cast<const uint16_t *>(p.x) + int64_t(at.batch) * p.in_channels * voxels;

  float sum[TILES][4][4] = {};
  __syncthreads();
  for (int chunk = 0; chunk < (taps ? chunks : 0); chunk++, x += TILE * voxels) {
    const int channels = min(TILE, p.in_channels - chunk * TILE);
    uint4 a[TILES];
    load(a, chunk, steps[0].x);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      for (int i = threadIdx.x; i < cells; i += blockDim.x) {
        const int source = sources[i];
        uint32_t octet[8];
#pragma unroll
        for (int c = 0; c < 8; c++) {
          const int channel = half * 8 + c;
          octet[c] = source >= 0 && channel < channels ? x[channel * voxels + source] : 0;
        }
        inputs[slot(i, half)] = make_uint4(octet[0] | octet[1] << 16, octet[2] | octet[3] << 16,
                                           octet[4] | octet[5] << 16, octet[6] | octet[7] << 16);
      }
    }
    __syncthreads();
    for (int tap = 0; tap < taps; tap++) {
      uint4 next[TILES];
      if (tap + 1 < taps) load(next, chunk, steps[tap + 1].x);
      const int shift = steps[tap].y;
#pragma unroll
      for (int i = 0; i < 2; i++) {
        // The factors of 16 cells: for each 8 of them the halves of 16 channels.
        uint32_t b[4];
        load_matrices(b, &inputs[slot(voxel[i] + shift, side)]);
#pragma unroll
        for (int k = 0; k < TILES; k++) {
          const uint32_t rows[4] = {a[k].x, a[k].y, a[k].z, a[k].w};
          multiply(sum[k][2 * i], rows, b[0], b[1], T());
          multiply(sum[k][2 * i + 1], rows, b[2], b[3], T());
        }
      }
#pragma unroll
      for (int i = 0; i < TILES; i++) a[i] = next[i];
    }
    __syncthreads();
  }

  const int cell = warp * 32 + lane % 4 * 8;
  const int to_x = first[2] + cell % p.tile[2];
  const int to_y = (first[1] + cell / p.tile[2] % p.tile[1]) * w[1].out_step + w[1].out_first;
  const int to_z = (first[0] + cell / p.tile[2] / p.tile[1]) * w[0].out_step + w[0].out_first;
  const int64_t rows = int64_t(p.axes[0].output) * p.axes[1].output;
  const int64_t row = int64_t(to_z) * p.axes[1].output + to_y;
  if (to_z >= p.axes[0].output || to_y >= p.axes[1].output || to_x >= w[2].cells) return;
  const int count = min(8, w[2].cells - to_x);
#pragma unroll
  for (int i = 0; i < 2 * TILES; i++) {
    const int channel = (at.rows * TILES + i / 2) * TILE + i % 2 * 8 + lane / 4;
    if (channel >= p.out_channels) continue;
    const float bias = p.bias ? p.bias[channel] : 0.0f;
    T *y = static_cast<T *>(p.y) +
           ((int64_t(at.batch) * p.out_channels + channel) * rows + row) * p.axes[2].output +
           to_x * w[2].out_step + w[2].out_first;
    __align__(16) T values[8];
#pragma unroll
    for (int j = 0; j < 8; j++) values[j] = narrow<T>(sum[i / 2][j / 2][i % 2 * 2 + j % 2] + bias);
    if (w[2].out_step == 1 && count == 8 && reinterpret_cast<uintptr_t>(y) % 16 == 0) {
      *reinterpret_cast<uint4 *>(y) = *reinterpret_cast<const uint4 *>(values);
    } else {
#pragma unroll
      for (int j = 0; j < 8; j++)
        if (j < count) y[j * w[2].out_step] = values[j];
    }
  }
}

#ifndef R1SEG_F32 // Tensor cores multiply numbers of half the width.
#define MMA(ROWS)                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 2) OF_NUMBER(conv3d_mma##ROWS)(const Conv p) { \
    conv3d_mma<Number, ROWS / TILE>(p);                                                            \
  }

MMA(16)
MMA(48)
MMA(64)
#endif
