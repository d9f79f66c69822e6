"""Writes the arrays in this folder: see README.md."""

import struct
from pathlib import Path

import blosc2
import numpy as np

from napari_voxtell_serialization import pack_array as pack_vxa2
from nnInteractive.inference.remote.serialization import pack_array as pack_nnia

FOLDER = Path(__file__).parent
NONE, SHUFFLE = blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE


def ramp(dtype, shape):
    """Whole numbers below 100 that repeat now and then."""
    n = np.arange(np.prod(shape), dtype=np.uint64)
    return (n % 90 + n // 270 % 10).astype(dtype).reshape(shape)


def noise(shape):
    """A linear congruential generator, which no codec shrinks."""
    state, out = 1, bytearray()
    for _ in range(int(np.prod(shape))):
        state = (state * 1103515245 + 12345) % (1 << 31)
        out.append(state >> 16 & 255)
    return np.frombuffer(bytes(out), np.uint8).reshape(shape)


def box(dtype, shape):
    mask = np.zeros(shape, dtype)
    mask[2:5, 3:9, 4:7] = 1
    return mask


def framed(array, **parameters):
    """nnInteractive's framing around a chunk that is made as the parameters say."""
    chunk = blosc2.compress2(array.tobytes(), typesize=array.dtype.itemsize, **parameters)
    return around(array, chunk)


def around(array, chunk):
    """nnInteractive's framing around a chunk of an array's size."""
    name = array.dtype.name.encode()
    head = struct.pack("<4sBBBB", b"NNIA", 1, 1, array.ndim, len(name)) + name
    shape = struct.pack(f"<{array.ndim}q", *array.shape)
    return head + shape + struct.pack("<IQQ", 1, array.nbytes, len(chunk)) + chunk


def write(name, data):
    (FOLDER / name).write_bytes(data)


SMALL, MIDDLE = (6, 10, 9), (24, 10, 31)
for dtype in ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
              "float16", "float32", "float64"]:
    write(f"ramp_{dtype}.nnia", pack_nnia(ramp(dtype, SMALL)))
write("zero_int16.nnia", pack_nnia(np.zeros(SMALL, np.int16)))
write("same_int16.nnia", pack_nnia(np.full(SMALL, -1000, np.int16)))
write("nan_float32.nnia", pack_nnia(np.full(SMALL, np.nan, np.float32)))
write("noise_uint8.nnia", pack_nnia(noise(SMALL)))
write("box_uint8.nnia", pack_nnia(box(np.uint8, SMALL), filters=[NONE]))
write("big_endian_int16.nnia", pack_nnia(ramp(">i2", SMALL)))
write("ramp_float32.vxa2", pack_vxa2(ramp(np.float32, SMALL)))
write("box_uint16.vxa2", pack_vxa2(box(np.uint16, SMALL)))

# What the clients do not send by themselves at this size: several blocks, which threads write in any
# order, with a short last one; streams; each codec with and without a filter.
for codec in [blosc2.Codec.ZSTD, blosc2.Codec.LZ4, blosc2.Codec.LZ4HC, blosc2.Codec.BLOSCLZ]:
    for split in [blosc2.SplitMode.ALWAYS_SPLIT, blosc2.SplitMode.NEVER_SPLIT]:
        for filter in [NONE, SHUFFLE]:
            name = f"{codec.name}_{split.name.split('_')[0]}_{filter.name}".lower()
            data = framed(ramp(np.int16, MIDDLE), codec=codec, clevel=5, filters=[filter],
                          blocksize=2048, nthreads=4, splitmode=split)
            write(f"{name}_int16.nnia", data)
# Planes that are runs of one byte: 0x0101 as elements.
runs = ramp(np.uint16, MIDDLE) | 0x0100
write("runs_uint16.nnia", framed(runs, codec=blosc2.Codec.ZSTD, clevel=5, filters=[SHUFFLE],
                                 blocksize=2048, splitmode=blosc2.SplitMode.ALWAYS_SPLIT))
# Matches of BloscLZ that are long, and those from far away.
far = np.concatenate([noise((1, 20, 500)) % 16, np.full((1, 20, 500), 7, np.uint8)] * 2)
write("far_uint8.nnia", framed(far, codec=blosc2.Codec.BLOSCLZ, clevel=9, filters=[NONE]))
# What says that all elements are alike.
for name, value in [("nan", blosc2.SpecialValue.NAN), ("uninit", blosc2.SpecialValue.UNINIT)]:
    special = blosc2.SChunk(chunksize=2160, cparams={"typesize": 4})
    special.fill_special(540, value)
    write(f"special_{name}_float32.nnia", around(np.zeros(SMALL, np.float32), special.get_chunk(0)))
special = blosc2.SChunk(chunksize=1080, cparams={"typesize": 2})
special.fill_special(540, blosc2.SpecialValue.VALUE, np.int16(-1000).tobytes())
write("special_value_int16.nnia", around(np.zeros(SMALL, np.int16), special.get_chunk(0)))
write("bitshuffle_int16.nnia", framed(ramp(np.int16, MIDDLE), codec=blosc2.Codec.ZSTD,
                                      filters=[blosc2.Filter.BITSHUFFLE]))
write("zlib_int16.nnia", framed(ramp(np.int16, MIDDLE), codec=blosc2.Codec.ZLIB, filters=[NONE]))
