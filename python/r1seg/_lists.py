"""Lists of many volumes, as ``r1seg batch`` reads them (docs/batch.md)."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from r1seg import Volume, errors

_FIELDS = {
    "id", "image", "prompt", "prompts", "text", "texts", "organ", "organs", "class", "classes", "points",
    "points_mm", "box", "box_mm", "center", "label", "labels", "series", "frame", "key",
}  # fmt: skip
_PLURALS = ("prompts", "texts", "organs", "classes", "labels", "points", "points_mm")


def read_rows(manifest: str | os.PathLike[str] | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a list, each with an id and an absolute path; plural fields only."""
    if isinstance(manifest, (str, os.PathLike)):
        path = Path(manifest)
        given = list(_parse(path))
        base = path.absolute().parent
    else:
        given = [(number, dict(row)) for number, row in enumerate(manifest, 1)]
        base = Path.cwd()
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, fields in given:
        row = _row(number, dict(fields), base)
        if row["id"] in seen:
            raise errors.UsageError(
                f"row {number}: the id `{row['id']}` is that of row {seen[row['id']]}, too",
                fix="give each volume an id of its own",
            )
        seen[row["id"]] = number
        rows.append(row)
    if not rows:
        raise errors.UsageError("the list has no row", fix="give at least one volume")
    return rows


def _parse(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv" or not (path.suffix in (".jsonl", ".ndjson") or text.lstrip().startswith("{")):
        for number, cells in enumerate(csv.DictReader(text.splitlines()), 2):
            cells = {name: cell for name, cell in cells.items() if cell not in (None, "")}
            yield (
                number,
                {name: cell.split("|") if name in _PLURALS else cell for name, cell in cells.items()},
            )
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, dict(json.loads(line))
            except (TypeError, ValueError) as error:
                raise errors.UsageError(f"line {number} is no JSON object: {error}", path=str(path)) from error


def _row(number: int, fields: dict[str, Any], base: Path) -> dict[str, Any]:
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        raise errors.UsageError(
            f"row {number}: no field is called `{unknown[0]}`",
            fix=f"the fields are {', '.join(sorted(_FIELDS))}",
        )
    image = fields.get("image")
    if not isinstance(image, str) or not image:
        raise errors.UsageError(f"row {number} has no image", fix="give the path of a volume")
    for singular, plural in (("prompt", "prompts"), ("text", "texts"), ("organ", "organs"),
                             ("class", "classes"), ("label", "labels")):  # fmt: skip
        values = fields.pop(plural, None) or []
        values = [values] if isinstance(values, (str, int)) else list(values)
        if (one := fields.pop(singular, None)) is not None:
            values = [one, *values]
        if values:
            fields[plural] = [str(value) for value in values]
    if fields.get("frame") is not None:
        fields["frame"] = int(fields["frame"])
    name = Path(image).name
    for ending in (".gz", ".nii", ".npy", ".npz", ".nrrd", ".nhdr", ".hdr", ".img", ".zip", ".dcm"):
        name = name.removesuffix(ending)
    fields["id"] = str(fields.get("id") or name)
    fields["image"] = str((base / image).absolute())
    return fields


def folder_of(id: str) -> str:
    """The folder of an id, as ``r1seg batch`` names it: ``aa/bb/NAME``."""
    digest = hashlib.sha256(id.encode()).hexdigest()
    name = "".join(
        c if (c.isalnum() or c in ".-_+=@,") and not (c == "." and at in (0, len(id) - 1))
        else "".join(f"%{byte:02X}" for byte in c.encode())
        for at, c in enumerate(id)
    )  # fmt: skip
    stem = name.lower().split(".")[0].rstrip("0123456789")
    if stem in ("con", "prn", "aux", "nul", "com", "lpt"):
        name += "%"
    if len(name.encode()) > 200:
        name = name.encode()[:200].decode(errors="ignore") + "~" + digest[:16]
    return f"{digest[:2]}/{digest[2:4]}/{name}"


def places(row: Mapping[str, Any], volume: Volume) -> dict[str, Any]:
    """Places as keywords: lists are in (i, j, k) of the file, arrays in axes of their own."""

    def turned(voxel: list[Any]) -> list[Any]:
        return voxel if volume.axes == "xyz" else voxel[::-1]

    found: dict[str, Any] = {}
    inside: list[bool] = []
    for name, turn in (("points", turned), ("points_mm", list)):
        for point, positive in map(_point, row.get(name, [])):
            found.setdefault(name, []).append(turn(point))
            inside.append(positive)
    if not all(inside):
        found["point_labels"] = inside
    for name, turn in (("box", turned), ("box_mm", list)):
        if row.get(name) is not None:
            numbers = _numbers(row[name], 6)
            found[name] = [turn(numbers[:3]), turn(numbers[3:])]
    if row.get("center") is not None:
        found["center"] = turned(_numbers(row["center"], 3))
    return found


def _point(given: Any) -> tuple[list[Any], bool]:
    if isinstance(given, Mapping):
        return _numbers(given["voxel"], 3), bool(given.get("positive", True))
    if isinstance(given, str):
        text, _, sign = given.partition(":")
        if sign not in ("", "pos", "neg"):
            raise errors.UsageError(f"`{given}` is not a point", fix="write i,j,k or i,j,k:neg")
        return _numbers(text, 3), sign != "neg"
    return _numbers(given, 3), True


def _numbers(given: Any, count: int) -> list[Any]:
    try:
        if isinstance(given, str):
            given = [json.loads(number) for number in given.split(",")]
        numbers = [number for part in given for number in (part if isinstance(part, list) else [part])]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not all(isinstance(number, (int, float)) for number in numbers):
        raise errors.UsageError(f"{given!r} are not {count} numbers", fix=f"give {count}, with commas between")
    return numbers
