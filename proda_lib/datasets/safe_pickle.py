"""Reading pickles that come from the public internet: plain values and NumPy arrays of numbers, nothing else.

A pickle is a program. Here every global that it may name is a stand-in of ours that checks its arguments, so that
nothing of the interpreter can be called or changed by a file. Memory is not guarded: a hostile file can still ask for
more than the machine has.
"""

from __future__ import annotations

import math
import os
import pickle
import re
from typing import Any

import numpy as np

from proda_lib.errors import DataError


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something outside the allowed set."""

    def __init__(self, where: str, found: object, expected: str):
        super().__init__(f"{where}: {found}")
        self.where, self.found, self.expected = where, found, expected


class _StandIn:
    """A global that a pickle may name: callable, but with no state that a pickle could set."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *arguments):
        return self._function(*arguments)

    def __setstate__(self, state):
        raise _Refused("state", "a change to a global", "data only")


class _DType:
    """What a pickle says about a NumPy type; turned into a fresh one by :meth:`dtype`."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: str, *_: object):
        if not isinstance(name, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|c(8|16)", name):
            raise _Refused("array type", repr(name), "numbers or booleans")
        self._name, self._order = name, "="

    def __setstate__(self, state: tuple) -> None:
        _version, order, *structure = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in structure[:3]):
            raise _Refused("array type", repr(state), "a plain type without fields")
        self._order = order

    def dtype(self) -> np.dtype:
        return np.dtype(self._name).newbyteorder(self._order)


class _Array(np.ndarray):
    """An array whose content is checked before NumPy sees it; otherwise a usual array."""

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, raw = state[-4:]
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # a Python 2 string
        if not isinstance(dtype, _DType) or not isinstance(raw, bytes):
            raise _Refused("array", f"{type(dtype).__name__}, {type(raw).__name__}", "a number type and bytes")
        dtype, shape = dtype.dtype(), tuple(int(side) for side in shape)
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(raw):
            raise _Refused("array", f"{len(raw)} bytes", f"shape {shape} of {dtype}")
        super().__setstate__((1, shape, dtype, bool(fortran), raw))


def _reconstruct(_subtype: object, _shape: object, _code: object) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _scalar(dtype: _DType, raw: bytes | str) -> np.generic:
    array = _reconstruct(None, None, None)
    array.__setstate__(((), dtype, False, raw))
    return array[()]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise _Refused("encoding", repr(encoding), "latin1, as protocol 2 writes bytes")
    return text.encode("latin1")


def _bytes(*arguments: object) -> bytes:
    if arguments:  # bytes(10**12) would fill the memory; protocol 2 needs the empty ones alone
        raise _Refused("bytes", arguments, "no argument")
    return b""


_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _StandIn(_reconstruct),
    ("numpy", "dtype"): _StandIn(_DType),
    ("_codecs", "encode"): _StandIn(_encode),
    **{(module, "bytes"): _StandIn(_bytes) for module in ("builtins", "__builtin__")},
    **{(module, name): _StandIn(function)
       for module in ("builtins", "__builtin__")
       for name, function in (("set", lambda items=(): set(items)), ("frozenset", lambda items=(): frozenset(items)))},
    **{(f"numpy.{core}.multiarray", name): _StandIn(function)
       for core in ("core", "_core")
       for name, function in (("_reconstruct", _reconstruct), ("scalar", _scalar))},
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise _Refused(f"global {module}.{name}", "a request to import it", "plain data or NumPy arrays") from None


def safe_load(path: str | os.PathLike) -> Any:
    """Read a pickle made of dicts, lists, tuples, sets, strings, numbers and NumPy arrays of numbers.

    Python 2 strings are decoded as latin1. Nothing that the file names is imported or called.

    Raises:
        DataError: the file is missing, cut off, no pickle, or names any other global (the message says which).
    """
    try:
        with open(path, "rb") as file:
            return _Unpickler(file, fix_imports=False, encoding="latin1").load()
    except OSError as error:
        raise DataError(path, "file", error.strerror or error, "a readable pickle") from error
    except _Refused as error:
        raise DataError(path, error.where, error.found, error.expected) from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(path, "pickle", f"{type(error).__name__}: {error}", "a complete, undamaged pickle") from error
