"""What the scripts that time r1seg against other tools share."""

import argparse
import array
import json
import math
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What r1seg and the reference in PyTorch both measure, and what a table calls it.
STAGES = {
    "start_s": "start: `--version`, or the imports",
    "load_s": "load, files in the page cache",
    "read_s": "read the volume, `.npy`",
    "vit_s": "vision transformer, {volume}",
    "projector_s": "projector",
    "prefill_s": "prefill, {prompt} tokens",
    "decode_per_token_s": "decode, per token",
    "mask_s": "mask, {passes} passes, upsampled",
    "first_answer_s": "first answer, {tokens} tokens and a mask, from `.npy`",
    "second_prefill_s": "second question, first token",
}

# ATen, oneDNN and MKL choose their instructions apart from each other, and oneDNN had another name.
VARIABLES = (
    "R1SEG_ISA",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
)
# Instruction sets as r1seg names them, and what these three call the same.
ISAS = {
    "portable": ("default", "SSE41", "SSE4_2"),
    "avx2": ("avx2", "AVX2", "AVX2"),
    "avx-vnni": ("avx2", "AVX2_VNNI", "AVX2_E1"),
    "avx512": ("avx512", "AVX512_CORE", "AVX512"),
    "avx512-vnni": ("avx512", "AVX512_CORE_VNNI", "AVX512"),
    "avx512-bf16": ("avx512", "AVX512_CORE_BF16", "AVX512_E3"),
    "amx-bf16": ("avx512", "AVX512_CORE_AMX", "AVX512_E4"),
}
# Prints what PyTorch's three parts say that they use.
PROBE = """
import torch
print("aten", torch.backends.cpu.get_cpu_capability())
torch.ones(64).to_mkldnn().relu()
torch.ones(64, 64) @ torch.ones(64, 64)
"""


class Failed(SystemExit):
    """Ends a comparison; a report of many steps notes it and goes on."""


class Absent(Failed):
    """There is nothing to measure: no PyTorch, or a program that was not packed."""


def arguments(description):
    """A parser with the options of every comparison."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=form)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--runs", type=int, default=3, help="per process; their median counts [3]")
    parser.add_argument("--prompt-tokens", type=int, default=296, help="[296]")
    parser.add_argument("--tokens", type=int, default=8, help="of an answer [8]")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="of each tool [all]")
    parser.add_argument("--r1seg", type=Path, help="a program that is built already")
    parser.add_argument("--json", type=Path, help="a file for every number of every round")
    isa_argument(parser)
    return parser


def isa_argument(parser):
    help = "hold r1seg to it, and PyTorch where that is compared [the processor's best]"
    parser.add_argument("--isa", choices=ISAS, help=help)


def hold(args, program):
    """Holds the processes that are started from here on to `--isa`, if the processor has it."""
    if not args.isa:
        return
    aten, onednn, mkl = ISAS[args.isa]
    os.environ.update(zip(VARIABLES, (args.isa, aten, onednn, onednn, mkl)))
    doctor = subprocess.run([program, "doctor", "--json"], capture_output=True, text=True)
    if doctor.returncode == 2:
        raise Failed(doctor.stderr.strip())
    kernels = json.loads(doctor.stdout)["cpu"]["kernels"]
    if kernels != args.isa:
        raise Failed(f"{program} is held to {args.isa} and uses {kernels}")


def used_by_pytorch(args):
    """What `--isa` makes of PyTorch, in its own words, so that a table cannot claim more."""
    if not args.isa:
        return {}
    environment = {**os.environ, "ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
    probe = [sys.executable, "-c", PROBE]
    run = subprocess.run(probe, env=environment, capture_output=True, text=True, check=True)

    def first(pattern):
        found = re.search(pattern, run.stdout, re.MULTILINE)
        return found[1] if found else "?"

    return {
        "ATen": first(r"^aten (.*)$"),
        "oneDNN": first(r"^onednn_verbose.*,isa:(.*)$"),
        "MKL": first(r"^MKL_VERBOSE .*? architecture (.*?)(?: enabled processors)?, "),
    }


def shape_flags(args):
    """Of `r1seg bench`, and of the processes that the scripts start."""
    shape = {"--prompt-tokens": args.prompt_tokens, "--tokens": args.tokens, "--runs": args.runs}
    return [str(word) for pair in shape.items() for word in pair]


def built():
    """The program, built from this tree."""
    build = ["cargo", "build", "--quiet", "--release", "-p", "r1seg-cli"]
    subprocess.run(build, cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/r1seg"


def result_of(command, threads):
    """The JSON that a process prints, last if it prints more."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise Failed(f"failed: {' '.join(map(str, command))}\n{run.stderr[-2000:]}")
    return last_json(run.stdout)


def last_json(text):
    return json.loads(text if text.startswith("{\n") else text.splitlines()[-1])


def warm(folder):
    """Brings the files into the page cache."""
    buffer = bytearray(16 << 20)
    for path in Path(folder).iterdir():
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def r1seg_bench(program, folder, args, *more):
    """The command that times one checkpoint."""
    bench = [program, "bench", "--model", folder, "--output", "json", "--device", args.device]
    return [*bench, *shape_flags(args), *more]


def reference(python, folder, args, *more):
    """The command that times PyTorch on one checkpoint."""
    worker = [python, Path(__file__).with_name("pytorch_reference.py"), folder]
    worker += ["--threads", str(args.threads), "--device", args.device]
    return [*worker, *shape_flags(args), *more]


def seconds_of(command):
    """The whole life of a process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def write_volume(path, shape):
    """Numbers in 0..1 as `.npy`, the same in every run."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    draw = random.Random(0).random
    voxels = array.array("f", (draw() for _ in range(math.prod(shape))))
    magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    Path(path).write_bytes(magic + header.encode() + voxels.tobytes())


def interleaved(columns, rounds):
    """Runs every tool once a round, every other round backwards: results by the tool's name."""
    results = {name: [] for name in columns}
    for number in range(rounds):
        for name in in_turns(columns, number):
            result = columns[name]()
            results[name].append(result)
            token = result["decode_per_token_s"]
            print(f"round {number + 1} of {rounds}: {name}: {token:.3g} s/token", file=sys.stderr)
    return results


def in_turns(names, number):
    return list(names) if number % 2 == 0 else list(reversed(list(names)))


def median_of(results):
    """Each number's median over the rounds; what is no number is the same in all."""
    merged = dict(results[0])
    for key, value in merged.items():
        if isinstance(value, float):
            merged[key] = statistics.median(result[key] for result in results)
    return merged


def stage_names(config, args):
    """`STAGES` with the sizes of a model and of a run."""
    sizes = {
        "volume": "x".join(map(str, config["img_size"])),
        "prompt": args.prompt_tokens,
        "tokens": args.tokens,
        "passes": 1 + config["num_clicks"],
    }
    return {key: name.format(**sizes) for key, name in STAGES.items()}


def table(titles, rows):
    """Markdown; the first column has no title."""
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    return "\n".join(lines)


def time_of(seconds):
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if 1 <= seconds else f"{seconds * 1e3:.3g} ms"


def about(args, **tools):
    """Where and with what was measured."""

    def field(path, name):
        lines = Path(path).read_text().splitlines()
        return next((line.split(":")[1].strip() for line in lines if line.startswith(name)), "?")

    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    processor = field("/proc/cpuinfo", "model name")
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}",
        "threads": args.threads,
        **({"isa": args.isa} if args.isa else {}),
        "r1seg": commit(),
        **tools,
        "rounds": args.rounds,
    }


def commit():
    git = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"


def finish(args, where, results, medians):
    """One line about the run, and the file, if one was asked for."""
    line = [where["machine"]] + [f"{k} {v}" for k, v in where.items() if k != "machine"]
    print(f"\n{'; '.join(line)}.")
    if args.json:
        everything = {**where, "medians": medians, "runs": results}
        args.json.write_text(json.dumps(everything, indent=1) + "\n")
