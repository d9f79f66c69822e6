"""The programs of scripts/gpu-report: built, packed, and unpacked on a machine without cargo."""

import json
import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import comparing
from comparing import ROOT, Absent, Failed

# Benchmarks that run on a device; they are the largest part of a pack.
BENCHES = ("encoder", "decode", "mask_decoder", "end_to_end")
SCRIPTS = "gpu-report comparing.py gpu_machine.py gpu_pack.py gpu_steps.py gpu_table.py"
SCRIPTS += " pytorch_networks.py pytorch_reference.py"
# What the recorded cases read, and a folder that their paths lead through.
DATA = ("tests/data", "crates/r1seg-phantom/model", "crates/r1seg/Cargo.toml")
ARCHIVE, ABOUT = "pack.tar.xz", "pack.json"
# Programs hold the same kernels: a window over two of them writes these once.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 128 << 20}]
WANTED_MIB = 64


class Programs:
    """Where the programs are, the files that they read, and how they were built."""

    def __init__(self, root, paths, about):
        self.root, self.paths, self.about = Path(root), paths, about

    def path(self, name):
        if name not in self.paths:
            raise Absent(f"{name} is not in this pack")
        return self.paths[name]


def build(benches):
    """Builds everything for CUDA in this tree."""
    targets = ["--bin", "r1seg", "--test", "golden", "--example", "write_checkpoint"]
    for name in benches:
        targets += ["--bench", name]
    command = [ROOT / "scripts/build-cuda.sh", "-p", "r1seg-cli", "-p", "r1seg", *targets]
    command.append("--message-format=json-render-diagnostics")
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise Failed("scripts/build-cuda.sh failed")
    paths = {}
    for line in run.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable"):
            paths[message["target"]["name"]] = Path(message["executable"])
    return Programs(ROOT, paths, about("release"))


def found_in(folder, benches):
    """Programs that cargo left in a target folder such as target/debug, the newest of each."""
    paths = {}
    for name in ("r1seg", "write_checkpoint", "golden", *benches):
        hashed = (path for path in folder.glob(f"deps/{name}-*") if not path.suffix)
        files = [*folder.glob(name), *folder.glob(f"examples/{name}"), *hashed]
        files = [path for path in files if path.is_file() and os.access(path, os.X_OK)]
        if files:
            paths[name] = max(files, key=lambda path: path.stat().st_mtime)
    return Programs(ROOT, paths, about(folder.name))


def about(profile):
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, cwd=ROOT)
    return {
        "commit": comparing.commit(),
        "profile": profile,
        "compute_cap": os.environ.get("CUDA_COMPUTE_CAP", "90"),
        "rustc": rustc.stdout.strip(),
    }


def pack(programs, folder, with_data):
    """Writes a folder that another machine runs; the sizes of what is in it, in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCRIPTS.split():
        shutil.copy2(ROOT / "scripts" / name, folder / name)
    staged = folder / "bin"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    sizes = {}
    for name, path in programs.paths.items():
        # The program itself is found whatever cargo called it.
        subprocess.run(["strip", "-o", staged / name, path], check=True)
        sizes[name] = (staged / name).stat().st_size
    part = folder / (ARCHIVE + ".part")
    with lzma.open(part, "w", filters=FILTERS) as file:
        with tarfile.open(fileobj=file, mode="w|") as archive:
            archive.add(staged, "bin")
            for name in DATA if with_data else ():
                archive.add(ROOT / name, name)
    part.rename(folder / ARCHIVE)
    shutil.rmtree(staged)
    known = {**programs.about, "programs": sizes}
    (folder / ABOUT).write_text(json.dumps(known, indent=1) + "\n")
    return sizes, sum(path.stat().st_size for path in folder.iterdir())


def unpack(folder, into):
    """The programs of a pack, laid out in the folder `into`; data may be those of this tree."""
    known = json.loads((folder / ABOUT).read_text())
    with lzma.open(folder / ARCHIVE) as file, tarfile.open(fileobj=file, mode="r|") as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(into, **safe)
    paths = {path.name: path for path in sorted((into / "bin").iterdir())}
    return Programs(into if (into / DATA[0]).exists() else ROOT, paths, known)
