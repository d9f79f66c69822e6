"""What the tests share: numbers in the types of CUDA, the driver's functions, comparisons."""

import ctypes as c
import math

import numpy as np

erf = np.vectorize(math.erf)


NP = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "u8": np.uint8, "u32": np.uint32,
      "i64": np.int64, "i16": np.int16, "i32": np.int32, "bf16": np.uint16}
# Half a unit in the last place, with room for approximations.
TOLERANCE = {"f32": 1e-6, "f64": 1e-12, "f16": 2e-3, "bf16": 1.6e-2}


def to_bf16(x):
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    nan = np.isnan(np.asarray(x, np.float32))
    return np.where(nan, 0x7FC0, rounded).astype(np.uint16)


def encode(x, ty):
    return to_bf16(x) if ty == "bf16" else np.asarray(x).astype(NP[ty])


def decode(a, ty):
    if ty == "bf16":
        return (a.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return a.astype(np.float64) if ty in TOLERANCE else a


class Cuda:
    def __init__(self, library, folder):
        self.lib, self.folder, self.modules = c.CDLL(library), folder, {}
        context = c.c_size_t()
        self.check(self.lib.cuInit(0))
        self.check(self.lib.cuDevicePrimaryCtxRetain(c.byref(context), 0))
        self.check(self.lib.cuCtxSetCurrent(context))

    def check(self, code):
        if code:
            raise RuntimeError(f"CUDA error {code}")

    def function(self, module, name):
        if module not in self.modules:
            handle = c.c_size_t()
            text = open(f"{self.folder}/{module}.ptx", "rb").read()
            self.check(self.lib.cuModuleLoadData(c.byref(handle), c.c_char_p(text)))
            self.modules[module] = handle
        function = c.c_size_t()
        self.check(self.lib.cuModuleGetFunction(c.byref(function), self.modules[module], name.encode()))
        return function

    def put(self, array):
        array = np.ascontiguousarray(array)
        address = c.c_uint64()
        self.check(self.lib.cuMemAlloc_v2(c.byref(address), c.c_size_t(max(array.nbytes, 1))))
        self.check(self.lib.cuMemcpyHtoD_v2(address, array.ctypes.data_as(c.c_void_p), c.c_size_t(array.nbytes)))
        return address

    def empty(self, shape, dtype):
        address = c.c_uint64()
        size = max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)
        self.check(self.lib.cuMemAlloc_v2(c.byref(address), c.c_size_t(size)))
        return address

    def get(self, address, shape, dtype):
        out = np.empty(shape, dtype)
        self.check(self.lib.cuMemcpyDtoH_v2(out.ctypes.data_as(c.c_void_p), address, c.c_size_t(out.nbytes)))
        return out

    def launch(self, module, name, grid, block, arguments, shared=0, stream=c.c_uint64(2)):
        grid, block = [(list(x) + [1, 1])[:3] for x in (grid, block)]
        pointers = (c.c_void_p * len(arguments))(
            *[c.cast(c.pointer(a), c.c_void_p) for a in arguments])
        self.check(self.lib.cuLaunchKernel(self.function(module, name), *[c.c_uint(n) for n in grid + block],
                                           c.c_uint(shared), stream, pointers, None))


def size(n):
    return c.c_size_t(int(n))


def scalar(value, ty):
    raw = encode(np.array([value]), ty)
    kinds = {1: c.c_uint8, 2: c.c_uint16, 4: c.c_uint32, 8: c.c_uint64}
    return kinds[raw.itemsize](int(raw.view({1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[raw.itemsize])[0]))


def for_elements(n):
    return [max(1, -(-n // 1024))], [1024]


class Report:
    def __init__(self, verbose):
        self.verbose, self.rows, self.bad = verbose, {}, 0

    def near(self, family, name, got, want, ty, times=1.0):
        """The greatest error over the greatest value."""
        worst = float(np.abs(decode(got, ty) - want).max() / np.abs(want).max())
        self.note(family, name, worst, worst <= Near.LIMIT[ty] * times)

    def check(self, family, name, got, want, ty, tolerance=None, floor=1e-3):
        got, want = np.asarray(decode(got, ty)), np.asarray(want)
        if ty in TOLERANCE:
            limit = TOLERANCE[ty] if tolerance is None else tolerance
            both = np.isnan(got) & np.isnan(want) | (got == want)
            gap = np.where(both, 0, np.abs(got - want) / np.maximum(np.abs(want), floor))
            worst = float(np.nanmax(gap)) if gap.size else 0.0
            good = got.shape == want.shape and not np.isnan(gap).any() and worst <= limit
        else:
            worst, good = float((got != want).sum()), np.array_equal(got, want)
        self.note(family, name, worst, good)

    def note(self, family, name, worst, good):
        row = self.rows.setdefault(family, [0, 0.0])
        row[0] += 1
        row[1] = max(row[1], worst)
        if not good:
            self.bad += 1
        if not good or self.verbose:
            print(f"  {'ok ' if good else 'BAD'} {name}: worst {worst:.2e}")


class Near:
    """Limits on errors relative to the largest value, a few roundings of the type."""

    LIMIT = {"f32": 1e-5, "f64": 1e-12, "f16": 2e-3, "bf16": 1.2e-2}
