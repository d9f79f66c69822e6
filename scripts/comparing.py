"""What the scripts that time r1seg against other tools share."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def arguments(description):
    """A parser with the options of every comparison."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=form)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--runs", type=int, default=3, help="a process; their median counts [3]")
    parser.add_argument("--prompt-tokens", type=int, default=296, help="[296]")
    parser.add_argument("--tokens", type=int, default=8, help="of an answer [8]")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="of each tool [all]")
    parser.add_argument("--r1seg", type=Path, help="a program that is built already")
    parser.add_argument("--json", type=Path, help="a file for every number of every round")
    return parser


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
        sys.exit(f"failed: {' '.join(map(str, command))}\n{run.stderr[-2000:]}")
    text = run.stdout
    return json.loads(text if text.startswith("{\n") else text.splitlines()[-1])


def warm(folder):
    """Brings the files into the page cache."""
    buffer = bytearray(16 << 20)
    for path in Path(folder).iterdir():
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def interleaved(columns, rounds):
    """Runs every tool once a round, every other round backwards: results by the tool's name."""
    results = {name: [] for name in columns}
    for number in range(rounds):
        names = list(columns)
        for name in names if number % 2 == 0 else reversed(names):
            result = columns[name]()
            results[name].append(result)
            token = result["decode_per_token_s"]
            print(f"round {number + 1} of {rounds}: {name}: {token:.3g} s/token", file=sys.stderr)
    return results


def median_of(results):
    """Each number's median over the rounds; what is no number is the same in all."""
    merged = dict(results[0])
    for key, value in merged.items():
        if isinstance(value, float):
            merged[key] = statistics.median(result[key] for result in results)
    return merged


def about(args, **tools):
    """Where and with what was measured."""

    def field(path, name):
        lines = Path(path).read_text().splitlines()
        return next((line.split(":")[1].strip() for line in lines if line.startswith(name)), "?")

    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    processor = field("/proc/cpuinfo", "model name")
    git = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude=*"]
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}",
        "threads": args.threads,
        "r1seg": subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown",
        **tools,
        "rounds": args.rounds,
    }


def finish(args, where, results, medians):
    """One line about the run, and the file, if one was asked for."""
    line = [where["machine"]] + [f"{k} {v}" for k, v in where.items() if k != "machine"]
    print(f"\n{'; '.join(line)}.")
    if args.json:
        everything = {**where, "medians": medians, "runs": results}
        args.json.write_text(json.dumps(everything, indent=1) + "\n")
