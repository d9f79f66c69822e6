"""What scripts/check-batch draws, compares and counts."""

import csv
import gzip
import json
import math
import random
import struct
import sys
from array import array
from pathlib import Path

# Different between two runs that do the same.
TIMES = ["seconds", "model_seconds", "finished_unix_ms"]


def nifti(path, shape, spacing, voxels):
    """Writes voxels [D, H, W] of 16 bits, or f32, that lie as a CT does (LPS)."""
    (d, h, w), (sd, sh, sw) = shape, spacing
    code, bits = (4, 16) if voxels.typecode == "h" else (16, 32)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, w, h, d, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, sw, sh, sd, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2f", header, 112, 1, 0)
    header[123] = 2
    struct.pack_into("<2h", header, 252, 0, 1)
    struct.pack_into("<4f", header, 280, -sw, 0, 0, sw * w / 2)
    struct.pack_into("<4f", header, 296, 0, -sh, 0, sh * h / 2)
    struct.pack_into("<4f", header, 312, 0, 0, sd, 0)
    header[344:347] = b"n+1"
    data = bytes(header) + voxels.tobytes()
    Path(path).write_bytes(gzip.compress(data, 1, mtime=0))


def body(rng, shape):
    """Ellipsoids in a trunk, in HU, with noise. Row by row, since nothing but Python is needed."""
    d, h, w = shape
    voxels = array("h", [-1000]) * (d * h * w)
    for size, value in [(0.9, 20), (0.4, 60), (0.25, 120), (0.2, 200)]:
        noise = array("h", [round(value + rng.gauss(0, 8)) for _ in range(4 * w)])
        cz, cy, cx = (rng.uniform(-0.4, 0.4) * (0.9 - size) for _ in range(3))
        for z in range(d):
            for y in range(h):
                rest = size**2 - (2 * z / d - 1 - cz) ** 2 - (2 * y / h - 1 - cy) ** 2
                if rest <= 0:
                    continue
                half = math.sqrt(rest)
                start, end = (round((1 + cx + side * half) * w / 2) for side in (-1, 1))
                start, end = max(start, 0), min(end, w)
                if start < end:
                    at, of = (z * h + y) * w, rng.randrange(2 * w)
                    voxels[at + start : at + end] = noise[of : of + end - start]
    return voxels


def volumes(count, folder, manifest):
    """Small volumes, ten of which cannot be used, and their list."""
    rng, folder = random.Random(7), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    small, spacing = (16, 48, 48), (10, 7, 7)
    bad = {n: kind for kind, n in enumerate(rng.sample(range(20, count), 10))}
    with open(manifest, "w") as rows:
        for n in range(count):
            path, row = folder / f"v{n}.nii.gz", {"id": f"v{n}"}
            kind = bad.get(n)
            if kind != 2:
                nifti(path, small, spacing, body(rng, small))
            if kind in (0, 1):
                path.write_bytes(path.read_bytes()[: 3000 + 900 * kind])
            elif kind in (3, 4):
                path.write_text("not a volume\n" * 50)
            elif kind in (5, 6):
                nifti(path, small, spacing, array("f", [math.nan]) * math.prod(small))
            elif kind == 7:
                row["organ"] = "livver"
            elif kind == 8:
                row["prompt"] = "x " * 20000
            elif kind == 9:
                path.write_bytes(b"")
            rows.write(json.dumps({**row, "image": str(path)}) + "\n")


def lines(out):
    found = {}
    for path in sorted(Path(out).glob("results*.jsonl")):
        for text in path.read_text().splitlines():
            line = json.loads(text)
            assert line["id"] not in found, f"{line['id']} is there twice"
            found[line["id"]] = line
    return found


def plain(out):
    """Everything in a folder of results, without times and what depends on the volumes before."""
    out, found = Path(out), {}
    for path in out.rglob("*"):
        name = str(path.relative_to(out))
        if not path.is_file() or name.startswith(".") or name.startswith("results"):
            continue
        if path.name == "report.json":
            report = json.loads(path.read_text())
            for part in [report, *report.get("answers", [])]:
                part.pop("timings_ms", None)
                part.pop("drafts", None)
            # The folder is another one.
            for field in ["peak_rss_mb", "output_folder"]:
                report.pop(field, None)
            found[name] = json.dumps(report, sort_keys=True)
        else:
            found[name] = path.read_bytes()
    for name, line in lines(out).items():
        found[f"line {name}"] = json.dumps({k: v for k, v in line.items() if k not in TIMES})
    return found


def same(a, b):
    a, b = plain(a), plain(b)
    apart = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    for name in apart[:5]:
        print(f"  {name}:\n    {str(a.get(name))[:400]}\n    {str(b.get(name))[:400]}")
    return not apart


def accounted(count, bad, out):
    found = lines(out)
    failed = [line for line in found.values() if line["status"] == "failed"]
    for line in sorted(failed, key=lambda line: line["exit_code"]):
        print(f"  {line['id']}: {line['code']}, exit code {line['exit_code']}")
    whole = all(
        (Path(out) / line["folder"] / "report.json").is_file()
        for line in found.values()
        if line["status"] == "ok"
    )
    with open(Path(out) / "summary.csv") as table:
        ids = {row["id"] for row in csv.DictReader(table)}
    return len(found) == count and len(failed) == bad and whole and len(ids) == count


def rate(count, seconds, out):
    """Volumes a second, beside those of the model alone."""
    model = sum(line["model_seconds"] for line in lines(out).values())
    print(
        f"check-batch: {count / seconds:.2f} volumes a second; {model:.1f} of {seconds:.1f} s are in the "
        f"model: {model / seconds:.3f} of the rate of the model alone"
    )


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "volumes":
        volumes(int(rest[0]), rest[1], rest[2])
    elif what == "large":
        rng, folder, full = random.Random(3), Path(rest[1]), (160, 512, 512)
        folder.mkdir(parents=True, exist_ok=True)
        for n in range(int(rest[0])):
            nifti(folder / f"l{n}.nii.gz", full, (2, 0.8, 0.8), body(rng, full))
    elif what == "same":
        sys.exit(not same(*rest))
    elif what == "accounted":
        sys.exit(not accounted(int(rest[0]), int(rest[1]), rest[2]))
    elif what == "rate":
        rate(int(rest[0]), float(rest[1]), rest[2])
    elif what == "single":
        print(f"check-batch: {int(rest[0]) / float(rest[1]):.2f} volumes a second")
