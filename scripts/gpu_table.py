"""What scripts/gpu-report found, as Markdown, and whether it is as fast as it is to be."""

from comparing import table, time_of

# Of the H100 and the H200 in bf16: a stage, its most seconds, and how a person says so.
TARGETS = [
    ("vit_s", 3e-3, "vision transformer, at most 3 ms"),
    ("prefill_s", 8e-3, "prefill of 296 tokens, at most 8 ms"),
    ("decode_per_token_s", 1 / 270, "decode, at least 270 tokens/s"),
    ("first_answer_s", 90e-3, "first answer, warm, at most 90 ms"),
]
# The H200 reads its memory faster.
H200_DECODE = ("decode_per_token_s", 1 / 380, "decode on an H200, at least 380 tokens/s")
AHEAD = ("vit_s", "projector_s", "prefill_s", "decode_per_token_s", "mask_s", "first_answer_s")
JUDGED = "r1seg bf16"
PYTORCH = ("PyTorch eager", "PyTorch compiled")


def targets(data):
    """What is aimed at, what was measured, and `met`, `missed` or `not measured`."""
    stages = data.get("stages") or {}
    medians = stages.get("medians", {})
    ours = medians.get(JUDGED, {})
    gpu = data.get("machine", {}).get("gpu", {}).get("name", "")
    rows = []
    if data.get("tiny"):
        return rows
    limits = TARGETS + ([H200_DECODE] if "H200" in gpu else [])
    # Times of another GPU are not what the limits are about.
    if not ("H100" in gpu or "H200" in gpu):
        limits = []
    for key, most, text in limits:
        seconds = ours.get(key)
        result = "not measured" if seconds is None else "met" if seconds <= most else "missed"
        rows.append({"target": text, "measured": shown(key, seconds), "result": result})
    for name in PYTORCH:
        for key in AHEAD:
            theirs, seconds = medians.get(name, {}).get(key), ours.get(key)
            text = f"{stage(stages, key)}: ahead of {name}"
            if theirs and seconds:
                result = "met" if seconds < theirs else "missed"
                measured = f"{theirs / seconds:.2f} times as fast"
            else:
                result, measured = "not measured", ""
            rows.append({"target": text, "measured": measured, "result": result})
    return rows


def stage(stages, key):
    return stages.get("names", {}).get(key, key.removesuffix("_s").replace("_", " "))


def shown(key, seconds):
    if seconds is None:
        return ""
    if key == "decode_per_token_s":
        return f"{time_of(seconds)} ({1 / seconds:.3g} tokens/s)"
    return time_of(seconds)


def heading(data):
    machine, build = data.get("machine", {}), data.get("build", {})
    gpu, host = machine.get("gpu", {}), machine.get("host", {})
    name = gpu.get("name") or machine.get("device") or "a device that nothing names"
    lines = [f"## {name}", ""]
    if gpu:
        lines.append(
            f"- GPU: {name}, compute capability {gpu.get('compute_capability', '?')}, "
            f"{gpu.get('memory_mib', '?')} MiB; driver {gpu.get('driver', '?')}; at most "
            f"{gpu.get('sm_clock_max_mhz', '?')} MHz, its memory "
            f"{gpu.get('memory_clock_max_mhz', '?')} MHz"
        )
    lines.append(
        f"- machine: {host.get('processor', '?')}, {host.get('cores', '?')} cores, "
        f"{host.get('memory_gib', '?')} GiB; {host.get('system', '?')}"
    )
    torch = (machine.get("pytorch") or {}).get("torch")
    lines.append(
        f"- r1seg at {build.get('commit', '?')}, profile {build.get('profile', '?')}, for compute "
        f"capability {build.get('compute_cap', '?')}; PyTorch {torch or 'not installed'}"
    )
    if data.get("tiny"):
        lines.append("- tiny shapes: no times to compare")
    if data.get("problem"):
        lines.append(f"- {data['problem']}")
    return lines


def steps(data):
    rows = []
    for entry in data.get("steps", []):
        note = " ".join((entry.get("note") or "").split()).replace("|", "\\|")
        rows.append((entry["name"], [entry["status"], f"{entry['seconds']:.0f} s", note]))
    return ["### Steps", "", table(["result", "time", ""], rows)]


def recorded(data):
    rows = []
    for name, group in sorted(data["golden"]["groups"].items()):
        failed = ", ".join(case["name"] for case in group["failed"])
        rows.append((name, [str(group["passed"]), str(len(group["failed"])), failed]))
    text = ["### Recorded cases", "", table(["passed", "failed", "which"], rows)]
    return text if data["golden"]["finished"] else [*text, "", "Not all of them had the time."]


def times(data):
    stages = data["stages"]
    columns = stages["medians"]
    measured = [key for key in stages["names"] if any(key in c for c in columns.values())]
    rows = []
    for key in measured:
        cells = [shown(key, c.get(key)) for c in columns.values()]
        rows.append((stage(stages, key), cells))
    peaks = [c.get("peak_device_gib") for c in columns.values()]
    if any(peaks):
        rows.append(("peak device memory", [f"{p:.2f} GiB" if p else "" for p in peaks]))
    text = ["### Stages", "", table(columns, rows), ""]
    rounds = ", ".join(f"{name} {count}" for name, count in stages["rounds"].items())
    text.append(
        f"Medians of {stages['shape']['runs']} runs a process, and of rounds in turns ({rounds}; 0 "
        "is the round that warms up). Memory is what the process takes, sampled; of PyTorch, that "
        "of its tensors."
    )
    return text if data.get("tiny") else text + ratios(stages)


def ratios(stages):
    columns = stages["medians"]
    ours = [name for name in columns if name.startswith("r1seg")]
    theirs = [name for name in PYTORCH if name in columns]
    if not ours or not theirs:
        return []
    pairs = [(us, them) for them in theirs for us in ours]
    rows = []
    for key in stages["names"]:
        cells = []
        for us, them in pairs:
            seconds, other = columns[us].get(key), columns[them].get(key)
            cells.append(f"{other / seconds:.2f}" if seconds and other else "")
        if any(cells):
            rows.append((stage(stages, key), cells))
    titles = [f"{us.removeprefix('r1seg ')} / {them}" for us, them in pairs]
    return ["", "Times as fast as PyTorch:", "", table(titles, rows)]


def judged(data):
    rows = [(row["target"], [row["measured"], row["result"]]) for row in targets(data)]
    return [f"### Targets, {JUDGED}", "", table(["measured", "result"], rows)]


def benchmarks(data):
    rows = []
    for case in data["benches"]:
        rate = f"{case['per_s']:.3g}" if case["per_s"] else ""
        rows.append((f"{case['group']}: {case['case']}", [time_of(case["s"]), rate]))
    return ["### Benchmarks", "", table(["median", "elements a second"], rows)]


def render(data):
    """The whole report, with what there is so far."""
    parts = [heading(data)]
    if data.get("stages", {}).get("medians"):
        parts.append(times(data))
    if targets(data):
        parts.append(judged(data))
    if data.get("golden"):
        parts.append(recorded(data))
    if data.get("benches"):
        parts.append(benchmarks(data))
    parts.append(steps(data))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"
