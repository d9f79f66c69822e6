"""What scripts/gpu-report asks of a machine: its GPU, CUDA's libraries, PyTorch, time limits."""

import contextlib
import glob
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from comparing import Failed

# What a program of scripts/build-cuda.sh opens at run time.
NEEDED = ("libcublas.so.13", "libcurand.so.10")
# In terms of `nvidia-smi --query-gpu`; a driver that does not know one of them tells the others.
FACTS = {
    "name": "name",
    "compute_capability": "compute_cap",
    "driver": "driver_version",
    "memory_mib": "memory.total",
    "memory_used_mib": "memory.used",
    "sm_clock_mhz": "clocks.sm",
    "sm_clock_max_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem",
    "memory_clock_max_mhz": "clocks.max.mem",
    "power_limit_w": "power.limit",
    "performance_state": "pstate",
    "mig": "mig.mode.current",
}
PROBE = """
import importlib.metadata, importlib.util, json, platform, sys
spec = importlib.util.find_spec("nvidia")
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "python": platform.python_version(), "torch": version("torch"), "numpy": version("numpy"),
    "nvidia": list(spec.submodule_search_locations) if spec else [],
}))
"""


# Processes that are to end when the report ends.
LIVE = set()


def call(command, limit, env=None, cwd=None):
    """Exit status, or None past the limit, and both outputs; nothing that it started lives on."""
    command = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Failed(f"{command[0]}: {error}") from None
        LIVE.add(process)
        try:
            status = process.wait(max(limit, 1))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


def end(process):
    """Kills a process that leads a session, with all in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    LIVE.discard(process)


def output(command, limit, env=None, cwd=None):
    """As `call`, of a command that must succeed: what it prints."""
    status, out, err = call(command, limit, env, cwd)
    name = " ".join(Path(str(word)).name for word in command[:2])
    if status is None:
        raise Failed(f"{name}: not done within {limit:.0f} s")
    if status:
        raise Failed(f"{name}: exit status {status}: {gist(err.strip() or out)}")
    return out


def gist(text):
    """What went wrong, of all that was printed: from the first error on, or the last lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if re.match(r"error\b|.*panicked", line)), -3)
    return " ".join(lines[first:])[:400]


def which_gpu():
    """The index that `nvidia-smi -i` takes for the first device that programs see."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"


def smi(fields):
    program = shutil.which("nvidia-smi")
    if not program:
        raise Failed("no nvidia-smi")
    query = [program, "-i", which_gpu(), f"--query-gpu={','.join(fields)}"]
    text = output([*query, "--format=csv,noheader,nounits"], 20)
    return [value.strip() for value in text.splitlines()[0].split(",")]


def gpu():
    """Facts about the GPU, as far as they are told."""
    try:
        return dict(zip(FACTS, smi(FACTS.values())))
    except (Failed, IndexError):
        pass
    found = {}
    for name, field in FACTS.items():
        with contextlib.suppress(Failed, IndexError):
            found[name] = smi([field])[0]
        if not found:
            break
    return found


class Sampler:
    """Device memory and the clock, several times a second, while a command runs."""

    def __init__(self):
        self.memory, self.clocks, self.process = [], [], None

    def __enter__(self):
        program = shutil.which("nvidia-smi")
        if program:
            query = [program, "-i", which_gpu(), "--query-gpu=memory.used,clocks.sm"]
            query += ["--format=csv,noheader,nounits", "-lms", "50"]
            self.process = subprocess.Popen(
                query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                start_new_session=True,
            )  # fmt: skip
            self.thread = threading.Thread(target=self._read, daemon=True)
            self.thread.start()
            # The first sample is what others use.
            deadline = time.monotonic() + 3
            while not self.memory and time.monotonic() < deadline and self.process.poll() is None:
                time.sleep(0.01)
        return self

    def _read(self):
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                memory, clock = line.split(",")
                self.memory.append(float(memory))
                self.clocks.append(float(clock))

    def __exit__(self, *_):
        if self.process:
            end(self.process)
            self.thread.join(5)

    def figures(self):
        if not self.memory:
            return {}
        peak = max(self.memory) - self.memory[0]
        found = {"peak_device_gib": peak / 1024} if 0 < peak else {}
        return {**found, "sm_clock_mhz": max(self.clocks, default=None)}


def pythons(named):
    """Pythons and what is installed in them; the one that was named, or those on PATH."""
    paths = [named] if named else [sys.executable, *map(shutil.which, ("python3", "python"))]
    found = {}
    for path in filter(None, paths):
        # A virtual environment's python links to another, and has other packages.
        path = os.path.abspath(path)
        if path not in found:
            with contextlib.suppress(Failed, ValueError):
                found[path] = json.loads(output([path, "-c", PROBE], 30))
    return found


def library_folders(pythons):
    """Where CUDA's libraries may lie, the most particular first."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            folders += [f"{os.environ[variable]}/lib64", f"{os.environ[variable]}/lib"]
    for pattern in ("/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/x86_64-linux/lib"):
        folders += sorted(glob.glob(pattern), reverse=True)
    for facts in pythons.values():
        for folder in facts["nvidia"]:
            folders += sorted(glob.glob(f"{folder}/*/lib"))
    program = shutil.which("ldconfig") or "/sbin/ldconfig"
    with contextlib.suppress(Failed):
        # `name (kind) => path`
        for line in output([program, "-p"], 20).splitlines():
            if re.search(r"libcu(da|blas|rand)\.so", line) and " => " in line:
                folders.append(os.path.dirname(line.split(" => ")[1]))
    folders += ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64"]
    return list(dict.fromkeys(filter(os.path.isdir, filter(None, folders))))


def libraries(pythons):
    """What is found of what programs need, the environment that finds it, and what is wrong."""
    folders = library_folders(pythons)

    def first(name):
        return next((folder for folder in folders if os.path.exists(f"{folder}/{name}")), None)

    found = {name: first(name) for name in (*NEEDED, "libcuda.so.1")}
    path = list(dict.fromkeys(filter(None, found.values())))
    # What stood there already stays in front of nothing that it lacks.
    path += [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(dict.fromkeys(path))}
    missing = [name for name in NEEDED if not found[name]]
    problem = None
    if missing:
        problem = f"not found: {', '.join(missing)}"
        older = first("libcublas.so.12")
        if older and "libcublas.so.13" in missing:
            problem += f"; only CUDA 12's libcublas.so.12, in {older}, which this build cannot use"
        problem += ". Libraries of CUDA 13 come with it, with a PyTorch for it, or with "
        problem += "`pip install nvidia-cublas nvidia-curand`"
    return found, environment, problem


def host():
    """The machine around the GPU."""

    def line(path, name):
        with contextlib.suppress(OSError):
            for text in Path(path).read_text().splitlines():
                if text.startswith(name):
                    return text.split(":")[1].strip()
        return None

    memory = line("/proc/meminfo", "MemTotal")
    return {
        "processor": line("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.split()[0]) / 2**20, 1) if memory else None,
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
    }


def roomy_folder(bytes_needed):
    """A parent for files of full size: memory, where there is plenty, for then no disk is waited
    for; None if there is no room anywhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        text = Path("/proc/meminfo").read_text()
        available = int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) * 1024
        # Converting and loading need memory of their own.
        if 3 * bytes_needed < available and bytes_needed < shutil.disk_usage("/dev/shm").free:
            return "/dev/shm"
    folder = tempfile.gettempdir()
    return folder if bytes_needed < shutil.disk_usage(folder).free else None
