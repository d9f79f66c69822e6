"""Many CTs on a Ray cluster: a list of volumes, spread over actors that load the model once each.

    python -m r1seg.ray --model ./SegVol --manifest list.jsonl --out results --actors 4 --gpus 1

Lists, folders and result lines are those of ``r1seg batch`` (docs/batch.md). A volume that cannot be used fails
its own row only. A run that was stopped continues: volumes that already have results are skipped.

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
from r1seg._lists import places, read_rows
from r1seg._r1seg import folder_of

#: A volume is skipped once this many processes of one run have died of it.
MOST_DEATHS = 2
#: How many times a volume is retried after an error that may be temporary.
RETRIES = 1
#: Seconds to wait before a retry.
PAUSE = 1.0
#: Keywords of ``r1seg.load`` that say where and how a model runs, and do not change results.
_WITHOUT_EFFECT = ("device", "mmap", "verify", "memory_limit")

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
    """Runs every volume of a list, and returns a result line for each, in the order of the list.

    ``manifest`` is a list as JSON lines or CSV, or the rows themselves. ``actors`` is how many processes
    compute, or the fewest and the most of them; each takes ``cpus`` processors and ``gpus`` GPUs and loads
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
    basis = _basis(settings)
    keys = {row["id"]: _key(row, basis) for row in rows}
    lines = _done(out, keys) if resume else {}
    todo = [row for row in rows if row["id"] not in lines]
    if todo:
        (out / "results").mkdir(parents=True, exist_ok=True)
        settings |= {"out": str(out), "threads": max(1, int(cpus)) if gpus == 0 else None, "run": uuid.uuid4().hex}
        least, most = (actors, actors) if isinstance(actors, int) else actors
        items = [{"row": json.dumps(row), "key": keys[row["id"]]} for row in todo]
        # Ray restarts dead actors and their batches without end; the run ends because a volume is skipped
        # after MOST_DEATHS.
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
    """Loads the model once, and runs one batch of volumes after another."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.out = Path(settings["out"])
        if settings["threads"]:
            with contextlib.suppress(errors.UsageError):
                r1seg.set_num_threads(settings["threads"])
        # A file for each start, so that their number also tells how many times the model was loaded.
        self.part = self.out / "results" / f"part-{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
        self.part.touch()
        self.unusable: errors.Error | None = None
        try:
            self.model = r1seg.load(settings["model"], **settings["load"])
        except errors.Error as error:
            # Raised here, it would reach the driver only as text within an error of Ray's.
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
        with _Marker(self.out, row["id"], self.settings["run"]) as deaths:
            try:
                if deaths >= MOST_DEATHS:
                    raise errors.InternalError(
                        f"{deaths} processes ended while this volume was read or computed",
                        "R-BAT-08",
                        fix="look at it with `r1seg inspect`; `r1seg batch` says more about how they ended",
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
            raise _refused(f"{model.family} takes no questions", "name what to segment with `text` or `organ`")
        return encoded.segment(
            row.get("texts", []) or None,
            organs=organs or None,
            classes=row.get("classes", []) or None,
            names=names,
            **at,
        )
    for kind in ("texts", "classes", "points", "points_mm", "center"):
        if row.get(kind):
            raise _refused(
                f"{model.family} takes no `{kind}`", "ask a question with `prompt`, or name an organ with `organ`"
            )
    results = encoded.ask_many(questions, **at, **settings["ask"]) if questions else []
    results += [encoded.ask(organ=organ, **at, **settings["ask"]) for organ in organs]
    if not results:
        raise _refused("this volume has no prompt", "give `prompt` or `organs`")
    if not names:
        return r1seg.join(results)
    if len(names) != len(results):
        raise _refused(
            f"{len(names)} labels, and the number of prompts is {len(results)}",
            "name the label of every prompt, in their order, or of none",
        )
    return r1seg.join(results, names=names)


def _refused(what: str, fix: str) -> errors.DataError:
    return errors.DataError(what, "R-BAT-10", fix=fix)


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
        code, text, fix = "R-BUG-02", f"{type(error).__name__}: {error}", None
    line = {"status": "failed", "code": code, "text": text, "fix": fix, "exit_code": _exit_code(error)}
    return line | {"folder": None, "answers": [], "masks": [], "warnings": []}


def _exit_code(error: Exception) -> int:
    return next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), 70)


class _Marker:
    """A file that exists while a volume is worked on: a line for each start, with the id of its run.

    Lines that stay are of processes that died. Those of other runs do not count: a run that was stopped
    leaves them, too.
    """

    def __init__(self, out: Path, id: str, run: str) -> None:
        self.path = out / ".running" / hashlib.sha256(id.encode()).hexdigest()[:32]
        self.run = run

    def __enter__(self) -> int:
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a+") as file:
            file.seek(0)
            deaths = file.read().split("\n").count(self.run)
            file.write(self.run + "\n")
            file.flush()
            os.fsync(file.fileno())
        return deaths

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def _basis(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the results of all volumes depend on."""
    load = {name: value for name, value in settings["load"].items() if name not in _WITHOUT_EFFECT}
    return {**settings, "load": load, "version": r1seg.__version__, "model_files": _model_files(settings["model"])}


def _model_files(model: str) -> list[list[Any]]:
    """What tells whether the files of a model folder were replaced; nothing for a model that is a name."""
    files = []
    for path in sorted(Path(model).rglob("*")):
        if path.is_file():
            stat = path.stat()
            # The manifest holds the hash of every file, so its own content counts.
            is_manifest = path.name == "manifest.json"
            state = [hashlib.sha256(path.read_bytes()).hexdigest()] if is_manifest else [stat.st_size, stat.st_mtime_ns]
            files.append([path.relative_to(model).as_posix(), *state])
    return files


def _key(row: Mapping[str, Any], basis: Mapping[str, Any]) -> str:
    """What the results of a volume depend on, with its size and time of change in place of its contents."""
    state: dict[str, Any] = {"row": row, **basis}
    with contextlib.suppress(OSError):
        stat = os.stat(row["image"])
        state["input"] = [stat.st_size, stat.st_mtime_ns]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _done(out: Path, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The lines of volumes that have results, where these would be the same again."""
    done: dict[str, dict[str, Any]] = {}
    for part in sorted((out / "results").glob("part-*.jsonl")):
        # `splitlines` would also split at characters that JSON allows within text, such as U+2028.
        for text in part.read_text(encoding="utf-8").split("\n"):
            try:
                line = json.loads(text)
            except ValueError:
                continue  # cut short when its process died
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
    parser.add_argument(
        "-m", "--model", required=True, help="a folder that all nodes see, or the name of a downloaded model"
    )
    parser.add_argument("--manifest", required=True, help="the list of volumes, as JSON lines or CSV")
    parser.add_argument("-o", "--out", required=True, help="the folder of results, which all nodes share")
    parser.add_argument("--actors", type=int, default=1, metavar="N", help="processes that compute (default: 1)")
    parser.add_argument("--cpus", type=float, default=1, metavar="N", help="processors for each (default: 1)")
    parser.add_argument("--gpus", type=float, default=0, metavar="N", help="GPUs for each (default: 0)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="volumes in a task (default: 8)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--no-preview", action="store_true", help="draw no pictures")
    parser.add_argument("--no-resume", action="store_true", help="also run volumes that already have results")
    parser.add_argument("--address", help="address of a running Ray cluster (default: this machine)")
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
