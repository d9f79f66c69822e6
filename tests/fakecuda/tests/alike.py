#!/usr/bin/env python3
"""Compares what two devices wrote: masks by their Dice, numbers by their deviation.

    tests/alike.py FOLDER OTHER

Every .npy and .nii.gz file in FOLDER must be in OTHER, too. Labels need a Dice of 0.99, numbers a
deviation below a thousandth of the largest. Needs no packages.
"""

import array
import ast
import gzip
import pathlib
import sys

# The types of NIfTI (datatype) and numpy (descr) that r1seg writes.
NIFTI = {2: "B", 512: "H", 4: "h", 16: "f"}
NUMPY = {"|u1": "B", "<u2": "H", "<i2": "h", "<f4": "f"}


def numbers(path):
    """The numbers of a file, and whether they are labels."""
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = gzip.decompress(data)
        kind = NIFTI[int.from_bytes(data[70:72], "little")]
        data = data[int(array.array("f", data[108:112])[0]):]
    else:
        end = 10 + int.from_bytes(data[8:10], "little")
        kind = NUMPY[ast.literal_eval(data[10:end].decode())["descr"]]
        data = data[end:]
    return array.array(kind, data), kind != "f"


def compare(path, other):
    """What to say of two files, and whether they are alike."""
    if not other.exists():
        return "not written", False
    (a, labels), (b, _) = numbers(path), numbers(other)
    if len(a) != len(b) or not len(a):
        return f"{len(a)} and {len(b)} numbers", False
    if labels:
        both = sum(x == y != 0 for x, y in zip(a, b))
        every = sum(map(bool, a)) + sum(map(bool, b))
        dice = 2 * both / every if every else 1.0
        return f"Dice {dice:.4f} of {every // 2} voxels", dice >= 0.99 and every > 0
    gap = max(abs(x - y) for x, y in zip(a, b)) / max(map(abs, a))
    return f"deviation {gap:.1e}", gap < 1e-3


def main():
    folder, other = map(pathlib.Path, sys.argv[1:])
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name.endswith((".npy", ".nii.gz")))
    bad = not files
    for path in files:
        name = path.relative_to(folder)
        told, good = compare(path, other / name)
        print(f"    {name}: {told}{'' if good else ', which is too far'}")
        bad |= not good
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
