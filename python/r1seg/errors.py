"""Errors of r1seg.

Each says what is wrong, where, and what to do about it. Its class says who must act, and derives from one of
Python's own classes where one fits, so that ``except FileNotFoundError`` works.
"""

from __future__ import annotations


class Error(Exception):
    """Any error of r1seg."""

    #: What is wrong.
    message: str
    #: A stable code, such as ``R-IN-01``; ``docs/errors.md`` of the project lists all of them.
    code: str
    #: The file or folder at fault.
    path: str | None
    #: What to do about it.
    fix: str | None

    def __init__(self, message: str, code: str = "R-BUG-02", path: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.path = path
        self.fix = fix

    def __str__(self) -> str:
        where = f"`{self.path}`: " if self.path else ""
        fix = f"\n  fix: {self.fix}" if self.fix else ""
        return f"[{self.code}] {where}{self.message}{fix}"

    def __reduce__(self) -> tuple[type[Error], tuple[str, str, str | None, str | None]]:
        # Errors travel between processes, as in multiprocessing and Ray.
        return type(self), (self.message, self.code, self.path, self.fix)


class UsageError(Error, ValueError):
    """An argument is wrong, or is not for this model."""


class DataError(Error, ValueError):
    """The volume was read and cannot be used."""


class MissingError(Error, FileNotFoundError):
    """A file or a model is missing, or may not be read."""


class DeviceError(Error, RuntimeError):
    """The device is missing, or cannot run this build."""


class OutputError(Error, OSError):
    """The output exists already, or cannot be created."""


class StorageError(Error, OSError):
    """The storage failed while reading or writing."""


class ResourceError(Error, MemoryError):
    """There is not enough memory, or no further thread, at the moment."""


class NetworkError(Error, ConnectionError):
    """The network or a server fails at the moment."""


class ModelError(Error, ValueError):
    """The model, its configuration or its tokenizer is broken or unknown."""


class NotFiniteError(Error, ArithmeticError):
    """A computation ended in NaN or infinity although all weights are finite."""


class Cancelled(Error):
    """The caller stopped the work."""


class InternalError(Error, RuntimeError):
    """A fault of r1seg itself."""


#: Errors that may not occur again a moment later, or on another machine.
TEMPORARY = (ResourceError, NetworkError, StorageError)
