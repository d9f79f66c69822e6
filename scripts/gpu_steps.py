"""The steps of scripts/gpu-report: each measures one thing within a limit."""

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import comparing
import gpu_machine as machine
from comparing import Failed
from gpu_pack import BENCHES

# Of the whole run: `prepare` is what making checkpoints takes beside the recorded cases.
FULL = SimpleNamespace(
    variant="phi3-mini", bytes=17 << 30, prompt_tokens=296, tokens=8, runs=7, rounds=3,
    golden=[], bench="full|phi3-2l|demo", bench_seconds=0.5, prepare=200,
)  # fmt: skip
TINY = SimpleNamespace(
    variant="tiny", bytes=1 << 26, prompt_tokens=40, tokens=4, runs=1, rounds=1,
    golden=["m3d_clip::", "demo_model_in_bf16"], bench="tiny/f32|tiny$", bench_seconds=0.01,
    prepare=60,
)  # fmt: skip


class Checkpoints:
    """Random weights in bf16, and what they become when quantized, made in the background."""

    def __init__(self, programs, sizes, folder):
        self.programs, self.variant, self.folder = programs, sizes.variant, Path(folder)
        self.deadline = time.monotonic() + sizes.prepare
        self.ready, self.problems, self.seconds = {}, {}, {}
        self.thread = threading.Thread(target=self._make, daemon=True)
        self.thread.start()

    def _make(self):
        program = self.programs.paths.get("write_checkpoint", "write_checkpoint")
        self._run("bf16", [program, "--variant", self.variant, "--out", self.folder / "bf16"])
        if "bf16" not in self.ready:
            return
        convert = [self.programs.paths.get("r1seg", "r1seg"), "convert", self.folder / "bf16"]
        threads = []
        for name in ("q8_0", "q4k"):
            command = [*convert, "--quant", name, "-o", self.folder / name, "--quiet"]
            threads.append(threading.Thread(target=self._run, args=(name, command), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _run(self, name, command):
        start = time.monotonic()
        try:
            machine.output(command, self.deadline - start)
            self.ready[name] = self.folder / name
        except Failed as error:
            self.problems[name] = str(error)
        self.seconds[name] = round(time.monotonic() - start, 1)

    def wait(self, limit):
        """Whether there is anything to measure."""
        self.thread.join(max(0, min(self.deadline - time.monotonic(), limit)) + 1)
        if not self.ready:
            raise Failed("; ".join(self.problems.values()) or "not done in time")


class Worker:
    """PyTorch in a process that lives on, so that it loads and compiles once."""

    def __init__(self, command):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.log, text=True, start_new_session=True,
        )  # fmt: skip
        machine.LIVE.add(self.process)

    def ask(self, kind, limit):
        timer = threading.Timer(max(limit, 1), machine.end, (self.process,))
        timer.start()
        try:
            self.process.stdin.write(kind + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        in_time = timer.is_alive()
        timer.cancel()
        if line:
            return json.loads(line)
        machine.end(self.process)
        if not in_time:
            raise Failed(f"PyTorch {kind}: not done within {limit:.0f} s")
        self.log.seek(0)
        raise Failed(f"PyTorch {kind}: {machine.gist(self.log.read()) or 'it ended'}")


def golden(programs, sizes, device, environment, limit):
    """The recorded cases, by the numbers that they compute in."""
    environment = {
        **environment,
        "R1SEG_TEST_DEVICE": device,
        "CARGO_MANIFEST_DIR": str(programs.root / "crates/r1seg"),
        "RUST_BACKTRACE": "0",
    }
    command = [programs.path("golden"), *sizes.golden]
    status, out, err = machine.call(command, limit, environment, programs.root)
    results = re.findall(r"^test (\S+) \.\.\. (ok|FAILED|ignored)", out, re.MULTILINE)
    if not results:
        raise Failed(f"no recorded case ran: exit status {status}: {machine.gist(err or out)}")
    groups = {}
    for name, result in results:
        group = groups.setdefault(dtype_of(name), {"passed": 0, "failed": []})
        if result == "ok":
            group["passed"] += 1
        elif result == "FAILED":
            told = re.search(rf"^---- {re.escape(name)} stdout ----\n(.*?)\n\n", out, re.M | re.S)
            group["failed"].append({"name": name, "why": told[1].strip()[-600:] if told else ""})
    return {"groups": groups, "finished": status is not None}


def dtype_of(name):
    if name.startswith("quantized::"):
        return "quantized"
    if re.search(r"half_precision::|bf16|(^|_)f16", name):
        return "bf16 and f16"
    return "f32"


class Stages:
    """Full-size stages of r1seg and of PyTorch, in turns."""

    def __init__(self, programs, sizes, device, environment, torch_python):
        self.programs, self.sizes, self.environment = programs, sizes, environment
        self.python, self.worker = torch_python, None
        self.shape = SimpleNamespace(
            prompt_tokens=sizes.prompt_tokens, tokens=sizes.tokens, runs=sizes.runs,
            threads=len(os.sched_getaffinity(0)), device=device,
        )  # fmt: skip
        self.first, self.results, self.peaks, self.problems = {}, {}, {}, {}
        self.config, self.names = None, {}

    def prepare(self, checkpoints, with_r1seg):
        """The columns by name: how to run each, within a limit."""
        folder = checkpoints.ready["bf16"]
        self.config = json.loads((folder / "config.json").read_text())
        self.names = comparing.stage_names(self.config, self.shape)
        self.volume = folder.parent / "volume.npy"
        comparing.write_volume(self.volume, self.config["img_size"])
        columns = {}
        if with_r1seg:
            for name in filter(checkpoints.ready.get, ("bf16", "q8_0", "q4k")):
                path = checkpoints.ready[name]
                columns[f"r1seg {name}"] = lambda limit, path=path: self.r1seg(path, limit)
        if self.python:
            columns["PyTorch eager"] = lambda limit: self.torch("eager", folder, limit)
        self.folder, self.columns = folder, columns
        return columns

    def r1seg(self, folder, limit):
        bench = comparing.r1seg_bench(
            self.programs.path("r1seg"), folder, self.shape, "--volume", self.volume
        )
        environment = {**self.environment, "RAYON_NUM_THREADS": str(self.shape.threads)}
        return comparing.last_json(machine.output(bench, limit, environment))

    def torch(self, kind, folder, limit):
        if self.worker is None or self.worker.process.poll() is not None:
            more = ("--dtype", "bf16", "--volume", self.volume, "--serve")
            command = comparing.reference(self.python, folder, self.shape, *more)
            self.worker = Worker(command)
        return self.worker.ask(kind, limit)

    def measure(self, columns, limit, note):
        """A round to warm up, in which memory is sampled, and as many more as fit."""
        columns, deadline = dict(columns), time.monotonic() + limit
        last = 0
        for number in range(1 + self.sizes.rounds):
            start = time.monotonic()
            if number and deadline < start + last:
                self.problems.setdefault("rounds", f"{number - 1} of {self.sizes.rounds} fit")
                break
            for name in comparing.in_turns(columns, number):
                try:
                    self.run(name, columns[name], number, deadline - time.monotonic())
                except Failed as error:
                    self.problems[name] = str(error).removeprefix(f"{name}: ")
                    del columns[name]
                note(self.found())
            last = time.monotonic() - start
        if not columns:
            raise Failed("; ".join(f"{name}: {why}" for name, why in self.problems.items()))

    def run(self, name, column, number, limit):
        if limit <= 0:
            raise Failed(f"{name}: no time left")
        if number:
            self.results.setdefault(name, []).append(column(limit))
            return
        with machine.Sampler() as sampler:
            first = column(limit)
        figures = sampler.figures()
        # PyTorch's own count is of its tensors alone, in a process that does more than one thing.
        self.peaks.setdefault(name, {**figures, **self.own_peak(first)})
        self.first.setdefault(name, first)

    @staticmethod
    def own_peak(result):
        return {key: result[key] for key in ("peak_device_gib",) if result.get(key)}

    def found(self):
        # What only warmed up counts where nothing else is there.
        runs = {**{name: [of] for name, of in self.first.items()}, **self.results}
        medians = {name: comparing.median_of(of) for name, of in runs.items()}
        for name, figures in self.peaks.items():
            medians.get(name, {}).update(figures)
        return {
            "shape": {"image": self.config["img_size"], **vars(self.shape)},
            "names": self.names,
            "rounds": {name: len(self.results.get(name, [])) for name in runs},
            "medians": medians,
            "runs": runs,
            "problems": self.problems,
        }


def benches(programs, sizes, device, environment, folder, limit, note):
    """Notes criterion's medians, also those of a benchmark that was cut; what went wrong."""
    home, deadline = Path(folder) / "criterion", time.monotonic() + limit
    environment = {
        **environment,
        "R1SEG_BENCH_DEVICE": device,
        "R1SEG_BENCH_SECONDS": str(sizes.bench_seconds),
        "CRITERION_HOME": str(home),
    }
    problems = {}
    for name in BENCHES:
        try:
            command = [programs.path(name), "--bench", "--noplot", sizes.bench]
            machine.output(command, deadline - time.monotonic(), environment, folder)
        except Failed as error:
            problems[name] = str(error)
        note(measured(home))
    return problems


def measured(home):
    cases = []
    for path in sorted(home.glob("**/new/estimates.json")):
        case = json.loads(path.with_name("benchmark.json").read_text())
        seconds = json.loads(path.read_text())["median"]["point_estimate"] / 1e9
        elements = (case.get("throughput") or {}).get("Elements")
        name = "/".join(filter(None, (case["function_id"], case["value_str"])))
        rate = elements / seconds if elements else None
        cases.append({"group": case["group_id"], "case": name, "s": seconds, "per_s": rate})
    return cases
