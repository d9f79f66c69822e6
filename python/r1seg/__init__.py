"""3D CT reasoning segmentation: a CT and a question in plain language in, an answer and a 3D mask out.

>>> import r1seg
>>> model = r1seg.load("R1Seg-3D-Phi-3-4B")              # a folder, a downloaded model, or "demo"
>>> ct = model.encode("ct.nii.gz")                       # a path, an array, nibabel, SimpleITK
>>> result = ct.ask("Which organ makes bile? Please segment it.")
>>> result.text, result.mask.shape                       # the mask lies on the array of the CT
>>> result.save("results")                               # what the command line writes

For research use only: r1seg is not a medical device. Nothing is sent anywhere.
"""

import os as _os

from r1seg import _r1seg, errors
from r1seg._r1seg import (
    Answer,
    Box,
    CancelToken,
    EncodedVolume,
    Event,
    Model,
    Result,
    Volume,
    Warning,
    __version__,
    join,
    load,
    models,
    set_num_threads,
)
from r1seg.errors import Error

__all__ = [
    "Answer",
    "Box",
    "CancelToken",
    "EncodedVolume",
    "Error",
    "Event",
    "Model",
    "Result",
    "Volume",
    "Warning",
    "__version__",
    "errors",
    "join",
    "load",
    "models",
    "set_num_threads",
]


def _limit_tensor_threads() -> None:
    """Keeps the tensor library to the processors of this process: it counts those of the machine."""
    if _r1seg._tensor_threads > _r1seg._processors:
        _os.environ.setdefault("CANDLE_NUM_THREADS", str(_r1seg._processors))


_limit_tensor_threads()
