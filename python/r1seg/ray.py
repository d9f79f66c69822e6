"""Many CTs on a Ray cluster: a list of volumes, spread over actors that load the model once each.

    python -m r1seg.ray --model ./SegVol --manifest list.jsonl --out results --actors 4 --gpus 1

Lists, folders and lines of results are those of ``r1seg batch`` (docs/batch.md), so that one can go on where
the other ended to look at. A volume that cannot be used costs its row. A run that was ended, however, goes on
where it was: volumes whose results are there are left out.

Rows carry paths, which every node must see; voxels never travel.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import r1seg
from r1seg import errors
from r1seg._lists import folder_of, places, read_rows

#: How often a process may die of a volume before it is left out.
MOST_DEATHS = 2
#: How often what may go well a moment later is tried again.
RETRIES = 1
#: Seconds before that.
PAUSE = 1.0

#: The exit code of a run of one volume, by the class of its error.
_EXIT_CODES = {
    errors.UsageError: 2,
    errors.DataError: 65,
    errors.MissingError: 66,
    errors.DeviceError: 69,
    errors.InternalError: 70,
    errors.NotFiniteError: 70,
    errors.OutputError: 73,
    errors.StorageError: 74,
    errors.ResourceError: 75,
    errors.NetworkError: 75,
    errors.ModelError: 78,
}


def run(
    manifest: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    actors: int | tuple[int, int] = 1,
    cpus: float = 1,
    gpus: float = 0,
    batch_size: int = 8,
    resume: bool = True,
    load: Mapping[str, Any] | None = None,
    encode: Mapping[str, Any] | None = None,
    ask: Mapping[str, Any] | None = None,
    preview: bool = True,
) -> list[dict[str, Any]]:
    """Runs every volume of a list, and returns a line for each, in their order.

    ``manifest`` is a list as JSON lines or CSV, or the rows themselves. ``actors`` is how many processes
    compute, or the least and the most of them; each takes ``cpus`` processors and ``gpus`` GPUs and loads
    the model once. ``load``, ``encode`` and ``ask`` are keywords of :func:`r1seg.load`,
    :meth:`r1seg.Model.encode` and of questions. ``out`` must be a folder that all nodes share.
    """
    import ray.data

    rows = read_rows(manifest)
    out = Path(out).absolute()
    model = _absolute(model)
    settings = {
        "model": model, "load": dict(load or {}), "encode": dict(encode or {}), "ask": dict(ask or {}),
        "preview": preview,
    }  # fmt: skip
    keys = {row["id"]: _key(row, settings) for row in rows}
    lines = _done(out, keys) if resume else {}
    todo = [row for row in rows if row["id"] not in lines]
    if todo:
        (out / "results").mkdir(parents=True, exist_ok=True)
        settings |= {"out": str(out), "threads": max(1, int(cpus)) if gpus == 0 else None}
        least, most = (actors, actors) if isinstance(actors, int) else actors
        items = [{"row": json.dumps(row), "key": keys[row["id"]]} for row in todo]
        # Ray begins actors and their batches again without end; what a process dies of is left out after
        # MOST_DEATHS, so that there is one.
        dataset = ray.data.from_items(items, override_num_blocks=-(-len(todo) // batch_size)).map_batches(
            _Actor,
            fn_constructor_args=(settings,),
            compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
            batch_size=batch_size,
            num_cpus=cpus,
            num_gpus=gpus or None,
        )
        for item in dataset.iter_rows():
            line = json.loads(item["line"])
            if "unusable" in line:
                raise getattr(errors, line["unusable"])(*line["parts"])
            lines[line["id"]] = line
    ordered = [lines[row["id"]] for row in rows]
    _replace(out / "results.jsonl", "".join(_json(line) for line in ordered))
    return ordered


class _Actor:
    """Loads the model once, and runs the volumes of one batch after the other."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.out = Path(settings["out"])
        if settings["threads"]:
            with contextlib.suppress(errors.UsageError):
                r1seg.set_num_threads(settings["threads"])
        # A file for each start, which is also what shows how often the model was loaded.
        self.part = self.out / "results" / f"part-{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
        self.part.touch()
        self.unusable: errors.Error | None = None
        try:
            self.model = r1seg.load(settings["model"], **settings["load"])
        except errors.Error as error:
            # Raised here, it would reach the driver as a text among others of Ray.
            self.unusable = error

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        if self.unusable:
            kind, parts = self.unusable.__reduce__()
            return {"line": [json.dumps({"unusable": kind.__name__, "parts": parts})]}
        lines = [self._line(json.loads(row), key) for row, key in zip(batch["row"], batch["key"], strict=True)]
        return {"line": [json.dumps(line) for line in lines]}

    def _line(self, row: dict[str, Any], key: str) -> dict[str, Any]:
        start = time.perf_counter()
        line: dict[str, Any] = {"id": row["id"], "status": "ok", "code": None, "text": None, "fix": None}
        line |= {"exit_code": 0, "attempts": 1, "image": row["image"], "folder": None, "answers": []}
        line |= {"masks": [], "warnings": []}
        with _Marker(self.out, row["id"]) as deaths:
            try:
                if deaths >= MOST_DEATHS:
                    raise errors.InternalError(
                        f"{deaths} processes ended while this volume was read or computed",
                        "R-PY-03",
                        fix="look at it with `r1seg inspect`; `r1seg batch` says more about its end",
                    )
                line |= self._run(row, line)
            except errors.Cancelled:
                raise
            except Exception as error:  # noqa: BLE001 - one volume must not end the others
                line |= _failure(error)
        line |= {"key": key, "seconds": time.perf_counter() - start}
        line["finished_unix_ms"] = int(time.time() * 1000)
        with self.part.open("a", encoding="utf-8") as file:
            file.write(_json(line))
            file.flush()
            os.fsync(file.fileno())
        return line

    def _run(self, row: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(1 + RETRIES):
            line["attempts"] = attempt + 1
            try:
                result = _result(self.model, row, self.settings)
                folder = folder_of(row["id"])
                result.save(self.out / folder, overwrite=True, preview=self.settings["preview"])
                return _found(result) | {"folder": folder}
            except errors.TEMPORARY:
                if attempt == RETRIES:
                    raise
                time.sleep(PAUSE)
        raise AssertionError("every attempt returns or raises")


def _result(model: r1seg.Model, row: dict[str, Any], settings: Mapping[str, Any]) -> r1seg.Result:
    which = {name: row[name] for name in ("series", "frame", "key") if row.get(name) is not None}
    encoded = model.encode(row["image"], **which, **settings["encode"])
    at = places(row, encoded.volume)
    names = row.get("labels")
    questions, organs = row.get("prompts", []), row.get("organs", [])
    if "question" not in model.prompts:
        if questions:
            raise errors.UsageError(f"{model.family} takes no questions", fix="name what to segment with text")
        return encoded.segment(
            row.get("texts", []) or None,
            organs=organs or None,
            classes=row.get("classes", []) or None,
            names=names,
            **at,
        )
    for kind in ("texts", "classes"):
        if row.get(kind):
            raise errors.UsageError(f"{model.family} takes no {kind}", fix="ask a question with prompt, or name organs")
    results = encoded.ask_many(questions, **at, **settings["ask"]) if questions else []
    results += [encoded.ask(organ=organ, **at, **settings["ask"]) for organ in organs]
    if not results:
        raise errors.UsageError("the row asks nothing", fix="give prompt or organs")
    if not names:
        return r1seg.join(results)
    if len(names) != len(results):
        raise errors.UsageError(
            f"{len(names)} labels, and the number of prompts is {len(results)}",
            fix="name the label of every prompt, in their order, or of none",
        )
    return r1seg.join(results, names=names)


def _found(result: r1seg.Result) -> dict[str, Any]:
    report = result.report
    of_mask = ("label", "name", "voxels", "volume_ml", "mean_hu", "centroid_mm")
    return {
        "answers": [
            {"label": answer.label, "name": answer.name, "status": answer.status, "answer": answer.text}
            for answer in result.answers
        ],
        "masks": [{name: mask[name] for name in of_mask} for mask in report["masks"]],
        "warnings": [warning["code"] for warning in report["warnings"]],
    }


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, errors.Error):
        code, text, fix = error.code, error.message, error.fix
    else:
        code, text, fix = "R-PY-04", f"{type(error).__name__}: {error}", None
    line = {"status": "failed", "code": code, "text": text, "fix": fix, "exit_code": _exit_code(error)}
    return line | {"folder": None, "answers": [], "masks": [], "warnings": []}


def _exit_code(error: Exception) -> int:
    return next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), 70)


class _Marker:
    """A file as long as a volume is worked on: what stays of it says how often a process died of it."""

    def __init__(self, out: Path, id: str) -> None:
        self.path = out / ".running" / hashlib.sha256(id.encode()).hexdigest()[:32]

    def __enter__(self) -> int:
        self.path.parent.mkdir(exist_ok=True)
        deaths = self.path.stat().st_size if self.path.exists() else 0
        with self.path.open("a") as file:
            file.write("x")
            file.flush()
            os.fsync(file.fileno())
        return deaths

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def _key(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What results depend on, but for the contents of the volume."""
    state: dict[str, Any] = {"row": row, "settings": settings, "version": r1seg.__version__}
    for name in ("manifest.json", "config.json"):
        file = Path(settings["model"]) / name
        if file.is_file():
            state[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    with contextlib.suppress(OSError):
        stat = os.stat(row["image"])
        state["input"] = [stat.st_size, stat.st_mtime_ns]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _done(out: Path, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Lines of volumes whose results are there, and of what they would be again."""
    done: dict[str, dict[str, Any]] = {}
    for part in sorted((out / "results").glob("part-*.jsonl")):
        for text in part.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # cut short by the end of its process
            is_same = line.get("status") == "ok" and keys.get(line.get("id")) == line.get("key")
            if is_same and (out / line["folder"] / "report.json").is_file():
                done[line["id"]] = line
    return done


def _absolute(model: str | os.PathLike[str]) -> str:
    return str(Path(model).absolute()) if Path(model).is_dir() else str(model)


def _json(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """``python -m r1seg.ray``."""
    parser = argparse.ArgumentParser(prog="python -m r1seg.ray", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("-m", "--model", required=True, help="a folder that all nodes see, or a downloaded model")
    parser.add_argument("--manifest", required=True, help="the list of volumes, as JSON lines or CSV")
    parser.add_argument("-o", "--out", required=True, help="the folder of results, which all nodes share")
    parser.add_argument("--actors", type=int, default=1, metavar="N", help="processes that compute (default: 1)")
    parser.add_argument("--cpus", type=float, default=1, metavar="N", help="processors of each (default: 1)")
    parser.add_argument("--gpus", type=float, default=0, metavar="N", help="GPUs of each (default: 0)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="volumes of a task (default: 8)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--no-preview", action="store_true", help="draw no pictures")
    parser.add_argument("--no-resume", action="store_true", help="run volumes again whose results are there")
    parser.add_argument("--address", help="of a running Ray cluster; without one, this machine")
    given = parser.parse_args(arguments)
    import ray

    ray.init(address=given.address, ignore_reinit_error=True)
    try:
        lines = run(
            given.manifest, given.model, given.out, actors=given.actors, cpus=given.cpus, gpus=given.gpus,
            batch_size=given.batch_size, resume=not given.no_resume, load={"device": given.device},
            preview=not given.no_preview,
        )  # fmt: skip
    except errors.Error as error:
        print(f"r1seg: {error}", file=sys.stderr)
        return _exit_code(error)
    failed = [line for line in lines if line["status"] == "failed"]
    for line in failed:
        print(f"r1seg: {line['id']}: [{line['code']}] {line['text']}", file=sys.stderr)
    print(f"{len(lines) - len(failed)} of {len(lines)} volumes have results in {given.out}")
    return 4 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
