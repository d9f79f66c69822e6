"""Lists of many volumes, as ``r1seg batch`` reads them (docs/batch.md)."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from r1seg import Volume, errors
from r1seg._r1seg import ids_of

_FIELDS = (
    "id", "image", "prompt", "prompts", "text", "texts", "organ", "organs", "class", "classes", "points",
    "points_mm", "box", "box_mm", "center", "label", "labels", "series", "frame", "key",
)  # fmt: skip
_PLURALS = {"prompt": "prompts", "text": "texts", "organ": "organs", "class": "classes", "label": "labels"}
_FIX = (
    'a row is {"id": .., "image": .., "prompt": ..}, or in CSV the same under a line of names; '
    "docs/batch.md lists the fields"
)


def read_rows(manifest: str | os.PathLike[str] | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a list, each with an id, an absolute path, plural fields only, and places as numbers."""
    given: Iterable[tuple[int, Mapping[str, Any]]]
    if isinstance(manifest, (str, os.PathLike)):
        path = os.fspath(manifest)
        unit, base, given = "line", Path(path).absolute().parent, _parse(path)
    else:
        path, unit, base, given = None, "row", Path.cwd(), enumerate(manifest, 1)
    rows: dict[int, dict[str, Any]] = {}
    for number, fields in given:
        try:
            rows[number] = _row(fields, base)
        except ValueError as error:
            raise _wrong(f"{unit} {number}: {error}", path) from error
    if not rows:
        raise _wrong("there are no volumes in the list", path)
    unnamed = [row for row in rows.values() if "id" not in row]
    known = [row["id"] for row in rows.values() if "id" in row]
    for row, id in zip(unnamed, ids_of([row["image"] for row in unnamed], known), strict=True):
        row["id"] = id
    seen: dict[str, int] = {}
    for number, row in rows.items():
        if (first := seen.setdefault(row["id"], number)) != number:
            raise errors.DataError(
                f"{unit} {number}: the id `{row['id']}` is also that of {unit} {first}",
                "R-BAT-03",
                path=path,
                fix="give every volume an id of its own, and each of them once",
            )
    return list(rows.values())


def _wrong(what: str, path: str | None) -> errors.DataError:
    return errors.DataError(what, "R-BAT-01", path=path, fix=_FIX)


def _parse(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The fields of each row, and the line where it starts."""
    try:
        # As bytes: reading as text would change line ends within quoted cells.
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise errors.MissingError(
            f"the list cannot be read: {error.strerror}", "R-BAT-02", path=path, fix="check its path"
        ) from error
    except UnicodeDecodeError as error:
        raise _wrong("it is not UTF-8", path) from error
    is_json = {".csv": False, ".jsonl": True, ".ndjson": True, ".json": True}.get(Path(path).suffix.lower())
    if is_json is None:
        is_json = text.lstrip().startswith("{")
    return _json_lines(text, path) if is_json else _table(text, path)


def _json_lines(text: str, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # `splitlines` would also split at characters that JSON allows within text, such as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise _wrong(f"line {number}: this is not a JSON object: {error}", path) from error
        if not isinstance(fields, dict):
            raise _wrong(f"line {number}: this is not a JSON object", path)
        yield number, fields


def _table(text: str, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    records = _records(text, path)
    _, header = next(records, (1, []))
    names = [name.lower() for name in header]
    if names and "image" not in names:
        near = difflib.get_close_matches("image", names, 1)
        hint = f"; did you mean `image` by `{near[0]}`?" if near else ""
        raise _wrong(f"line 1: it has no column `image`{hint}", path)
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise _wrong(f"line 1: it has two columns `{twice[0]}`", path)
    for number, cells in records:
        if len(cells) != len(names):
            raise _wrong(f"line {number}: it has {len(cells)} fields, and the first line has {len(names)}", path)
        fields: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=True)}
        for name in _PLURALS.values():
            if fields.get(name):
                fields[name] = [part.strip() for part in fields[name].split("|")]
        yield number, fields


def _records(text: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """The trimmed cells of each record of a table, and the line where it starts."""
    reader, end = csv.reader(io.StringIO(text, newline="")), 0
    try:
        for cells in reader:
            start, end = end + 1, reader.line_num
            if cells:
                yield start, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise _wrong(f"line {end + 1}: {error}", path) from error


def _row(fields: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The row that these fields make; a ``ValueError`` says why they make none."""
    for name in fields:
        if name not in _FIELDS:
            near = difflib.get_close_matches(str(name), _FIELDS, 1)
            hint = f": did you mean `{near[0]}`?" if near else f"; the fields are {', '.join(_FIELDS)}"
            raise ValueError(f"`{name}` is not a field{hint}")
    # Null and blank text are as good as no value.
    fields = {name: value for name, value in fields.items() if value is not None and str(value).strip()}
    if "image" not in fields:
        raise ValueError("it has no `image`")
    row: dict[str, Any] = {
        name: _text(name, fields[name]) for name in ("id", "image", "series", "frame", "key") if name in fields
    }
    row["image"] = str((base / row["image"]).absolute())
    if "frame" in row:
        if not row["frame"].isdecimal():
            raise ValueError(f"`frame` is {row['frame']}; a whole number is needed")
        row["frame"] = int(row["frame"])
    for one, many in _PLURALS.items():
        values = fields.get(many, [])
        values = [_text(many, value) for value in (values if isinstance(values, (list, tuple)) else [values])]
        if one in fields:
            if values:
                raise ValueError(f"it has both `{one}` and `{many}`")
            values = [_text(one, fields[one])]
        if values:
            row[many] = values
    for name, kind in (("points", _index), ("points_mm", _millimeters)):
        if name in fields:
            row[name] = _points(name, fields[name], kind)
    for name, count, kind in (("box", 6, _index), ("box_mm", 6, _millimeters), ("center", 3, _index)):
        if name in fields:
            row[name] = _numbers(name, fields[name], count, kind)
    if "box" in row and "box_mm" in row:
        raise ValueError("it has both `box` and `box_mm`")
    for name in ("box", "box_mm"):
        corners = row.get(name, [])
        if any(low > high for low, high in zip(corners[:3], corners[3:], strict=True)):
            raise ValueError(f"`{name}` is reversed; give the smaller corner first")
    if row.keys() <= {"id", "image", "series", "frame", "key", "labels"}:
        raise ValueError("this volume has no prompt")
    return row


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"`{name}` is neither text nor a number")
    return str(value)


def _points(name: str, given: Any, kind: Callable[[str], float]) -> list[tuple[list[float], bool]]:
    """Points, and whether each is inside what is sought."""
    if isinstance(given, str):
        given = given.split("|")
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"`{name}` is not a list of points")
    # One point need not be in a list of its own.
    if given and all(isinstance(part, Real) for part in given):
        given = [given]
    return [_point(name, point, kind) for point in given]


def _point(name: str, given: Any, kind: Callable[[str], float]) -> tuple[list[float], bool]:
    positive = True
    if isinstance(given, Mapping):
        positive = given.get("positive", True) is True
        given = given.get("voxel", given.get("mm"))
        if not isinstance(given, (list, tuple)):
            raise ValueError(f"a point of `{name}` has no `voxel`")
    elif isinstance(given, str):
        given, colon, sign = given.strip().partition(":")
        if colon and sign not in ("pos", "neg"):
            raise ValueError(f"`{sign}` in `{name}` is neither pos nor neg")
        positive = sign != "neg"
    return _numbers(name, given, 3, kind), positive


def _numbers(name: str, given: Any, count: int, kind: Callable[[str], float]) -> list[float]:
    """Numbers from an array, or from text with commas between them."""
    if isinstance(given, str):
        given = given.split(",")
    numbers = []
    for part in given if isinstance(given, (list, tuple)) else [given]:
        try:
            # As text, so that neither 1.5 nor True becomes an index.
            numbers.append(kind(str(part)))
        except ValueError:
            what = "a voxel index" if kind is _index else "a finite number"
            raise ValueError(f"`{part}` in `{name}` is not {what}") from None
    if len(numbers) != count:
        raise ValueError(f"`{name}` needs {count} numbers, and {len(numbers)} were given")
    return numbers


def _index(text: str) -> int:
    if (index := int(text)) < 0:
        raise ValueError("indices begin at 0")
    return index


def _millimeters(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("a place is finite")
    return number


def places(row: Mapping[str, Any], volume: Volume) -> dict[str, Any]:
    """Places as keywords: rows have voxels as (i, j, k) of the file, and arrays have axes of their own."""

    def turned(voxel: list[Any]) -> list[Any]:
        return voxel if volume.axes == "xyz" else voxel[::-1]

    found: dict[str, Any] = {}
    inside: list[bool] = []
    for name, turn in (("points", turned), ("points_mm", list)):
        for at, positive in row.get(name, []):
            found.setdefault(name, []).append(turn(at))
            inside.append(positive)
    if not all(inside):
        found["point_labels"] = inside
    for name, turn in (("box", turned), ("box_mm", list)):
        if name in row:
            found[name] = [turn(row[name][:3]), turn(row[name][3:])]
    if "center" in row:
        found["center"] = turned(row["center"])
    return found
