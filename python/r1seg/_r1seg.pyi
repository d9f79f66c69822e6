from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Voxel = Sequence[int]
Millimeters = Sequence[float]
Source = str | PathLike[str] | npt.ArrayLike | Any
"""A path, an array, or an image of nibabel or SimpleITK."""
Axes = Literal["xyz", "zyx"]
Mode = Literal["resize", "sliding", "zoom", "crop", "grow"]

__version__: str
_processors: int
_tensor_threads: int

class Warning:
    code: str
    text: str
    fix: str | None

class Box:
    first: list[int]
    last: list[int]
    mm: list[list[float]] | None

class Answer:
    name: str
    prompt: str | None
    text: str | None
    status: Literal["found", "empty_mask", "not_found"]
    label: int
    boxes: list[Box]
    seg_probabilities: list[float]
    finish_reason: Literal["stop", "length"] | None

class Event:
    kind: Literal["prompt", "window", "text", "token", "text_done", "mask"]
    prompt: int | None
    text: str | None
    index: int | None
    of: int | None

class CancelToken:
    def __init__(self) -> None: ...
    def cancel(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...

class Volume:
    def __init__(
        self,
        source: Source,
        *,
        affine: npt.ArrayLike | None = None,
        spacing: Sequence[float] | None = None,
        axes: Axes | None = None,
        affine_from: str | PathLike[str] | None = None,
        frame: int | None = None,
        key: str | None = None,
        series: int | str | None = None,
        allow_gaps: bool = False,
        allow_modality: bool = False,
        max_voxels: int | None = None,
    ) -> None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def axes(self) -> Axes: ...
    @property
    def affine(self) -> npt.NDArray[np.float64] | None: ...
    @property
    def spacing(self) -> list[float] | None: ...
    @property
    def orientation(self) -> str | None: ...
    @property
    def warnings(self) -> list[Warning]: ...
    @property
    def path(self) -> Path | None: ...
    def to_numpy(self) -> npt.NDArray[np.float32]: ...
    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray: ...

class Result:
    @property
    def answers(self) -> list[Answer]: ...
    @property
    def text(self) -> str | None: ...
    @property
    def found(self) -> bool: ...
    @property
    def mask(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None: ...
    def mask_of(self, label: int | str) -> npt.NDArray[np.uint8]: ...
    @property
    def labels(self) -> dict[int, str]: ...
    @property
    def volume(self) -> Volume: ...
    @property
    def warnings(self) -> list[Warning]: ...
    @property
    def report(self) -> dict[str, Any]: ...
    def preview(self) -> bytes: ...
    def _repr_png_(self) -> bytes: ...
    def save(self, folder: str | PathLike[str], *, overwrite: bool = False, preview: bool = True) -> Path: ...
    def to_nibabel(self) -> Any: ...
    def to_sitk(self) -> Any: ...

class EncodedVolume:
    @property
    def volume(self) -> Volume: ...
    @property
    def recipe(self) -> str: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def effective_resolution_mm(self) -> list[float] | None: ...
    @property
    def slice_features(self) -> npt.NDArray[np.float32] | None: ...
    @property
    def warnings(self) -> list[Warning]: ...
    def ask(
        self,
        question: str | None = None,
        *,
        organ: str | None = None,
        box: Sequence[Voxel] | None = None,
        box_mm: Sequence[Millimeters] | None = None,
        name: str | None = None,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        separator: Literal["none", "space"] | None = None,
        first_seg: bool = False,
        abstain: bool = False,
        drafts: bool = True,
        on_text: Callable[[str], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
        cancel: CancelToken | None = None,
    ) -> Result: ...
    def ask_many(
        self,
        questions: Sequence[str],
        *,
        box: Sequence[Voxel] | None = None,
        box_mm: Sequence[Millimeters] | None = None,
        names: Sequence[str] | None = None,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        separator: Literal["none", "space"] | None = None,
        first_seg: bool = False,
        abstain: bool = False,
        drafts: bool = True,
        on_event: Callable[[Event], object] | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Result]: ...
    def segment(
        self,
        text: str | Sequence[str] | None = None,
        *,
        organs: str | Sequence[str] | None = None,
        classes: str | int | Sequence[str | int] | None = None,
        everything: bool | Literal["ct-body", "mri-body", "mri-brain"] | None = None,
        points: Sequence[Voxel] = ...,
        points_mm: Sequence[Millimeters] = ...,
        point_labels: Sequence[bool | int] | None = None,
        box: Sequence[Voxel] | None = None,
        box_mm: Sequence[Millimeters] | None = None,
        mask: Source | None = None,
        center: Voxel | None = None,
        points_at_once: bool = False,
        names: str | Sequence[str] | None = None,
        on_event: Callable[[Event], object] | None = None,
        cancel: CancelToken | None = None,
    ) -> Result: ...

class Model:
    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def input_shape(self) -> list[int]: ...
    @property
    def prompts(self) -> list[str]: ...
    @property
    def outputs(self) -> list[str]: ...
    @property
    def modes(self) -> list[Mode]: ...
    @property
    def classes(self) -> dict[int, str]: ...
    @property
    def memory_bytes(self) -> int: ...
    def encode(
        self,
        volume: Volume | Source,
        *,
        orient: str | None = None,
        mode: Mode | None = None,
        preprocess: str = "auto",
        overlaps: bool = False,
        slice_features: str | PathLike[str] | npt.NDArray[np.float32] | None = None,
        on_event: Callable[[Event], object] | None = None,
        cancel: CancelToken | None = None,
        **reading: Any,
    ) -> EncodedVolume: ...
    def embed(
        self,
        volume: Volume | Source | None = None,
        *,
        text: str | None = None,
        orient: str | None = None,
        preprocess: str = "auto",
        slice_features: str | PathLike[str] | npt.NDArray[np.float32] | None = None,
        cancel: CancelToken | None = None,
        **reading: Any,
    ) -> npt.NDArray[np.float32]: ...

def load(
    source: str | PathLike[str],
    *,
    device: str = "auto",
    dtype: Literal["auto", "f32", "bf16", "f16"] = "auto",
    compute: Literal["auto", "f32", "bf16", "f16"] = "auto",
    mmap: bool | None = None,
    verify: bool = False,
    memory_limit: int | None = None,
    num_clicks: int | None = None,
    questions: int = 1,
    cancel: CancelToken | None = None,
) -> Model: ...
def models() -> list[dict[str, Any]]: ...
def set_num_threads(threads: int) -> None: ...
def join(results: Sequence[Result], *, names: Sequence[str] | None = None) -> Result: ...
def folder_of(id: str) -> str: ...
def ids_of(paths: Sequence[str | PathLike[str]], known: Sequence[str]) -> list[str]: ...
