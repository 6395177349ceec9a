"""Reading pickles that come from the public internet: plain values and NumPy arrays of numbers, nothing else.

No part of a file is ever run: :mod:`proda_lib.datasets.pickle_machine` knows plain values only and bounds them by the
size of the file. Here the few globals that arrays and sets need are added, as names that stand for functions of this
module; they check what they are given, and nothing is imported.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from proda_lib.datasets.pickle_limits import PLAIN, Refused
from proda_lib.datasets.pickle_machine import Machine
from proda_lib.errors import DataError


class _DType:
    """What a pickle says about a NumPy type; turned into a fresh one by :meth:`dtype`."""

    def __init__(self, name: object, *_: object):
        if type(name) is not str or not re.fullmatch(r"b1|[iu][1248]|f[248]|c(8|16)", name):
            raise Refused("array type", repr(name[:80]) if type(name) is str else type(name).__name__,
                          "numbers or booleans")  # fmt: skip
        self.name, self.order = name, "="

    def set_state(self, state: tuple) -> None:
        _version, order, *structure = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in structure[:3]):
            raise Refused("array type", "fields, a shape or an unknown byte order", "a plain type")
        self.order = order

    def dtype(self) -> np.dtype:
        return np.dtype(self.name).newbyteorder(self.order)


class _Global:
    """A global that a pickle may name: ``call(machine, *arguments)`` stands for it."""

    def __init__(self, call: Callable):
        self.call = call


class _Machine(Machine):
    """Plain values, arrays and sets."""

    def find(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str or (module, name) not in _GLOBALS:
            super().find(module, name)
        self.push(_GLOBALS[module, name])

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Global or type(arguments) is not tuple:
            raise Refused("call", f"of a {type(function).__name__}", PLAIN)
        self.push(function.call(self, *arguments))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(state) is not tuple or type(target) not in (_DType, np.ndarray):
            raise Refused("state", f"for a {type(target).__name__}", "data only")
        if type(target) is _DType:
            target.set_state(state)
        else:
            target.__setstate__(self.array_state(*state[-4:]))

    def array_state(self, shape: Any, dtype: Any, fortran: Any, raw: Any) -> tuple:
        """Version, shape, type, order and bytes of an array, checked before NumPy sees them."""
        if type(raw) is str:
            raw = self.encode(raw)  # a Python 2 string
        if type(dtype) is not _DType or type(raw) is not bytes or type(shape) is not tuple:
            kinds = ", ".join(type(part).__name__ for part in (shape, dtype, raw))
            raise Refused("array", kinds, "a shape, a number type and bytes")
        made = dtype.dtype()
        if len(shape) > 32 or not all(type(side) is int and 0 <= side < 2**48 for side in shape):
            raise Refused("array", f"{len(shape)} sides", "a shape of at most 32 whole numbers from 0 on")
        if math.prod(shape) * made.itemsize != len(raw):
            raise Refused("array", f"{len(raw)} bytes", f"shape {shape} of {made}")
        self.room.take(len(raw))
        return 1, shape, made, bool(fortran), raw

    def array(self, *state: Any) -> np.ndarray:
        found = np.ndarray((0,), np.int8)
        if state:
            found.__setstate__(self.array_state(*state))
        return found

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        if type(text) is not str or encoding != "latin1":
            raise Refused("encoding", "another one", "latin1, as protocol 2 writes bytes")
        self.room.take(len(text))  # the same text may be encoded again and again
        return text.encode("latin1")

    def no_bytes(self, *arguments: Any) -> bytes:
        if arguments:  # bytes(10**12) would fill the memory; protocol 2 needs the empty ones alone
            raise Refused("bytes", "an argument", "no argument")
        return b""


_FUNCTIONS: dict[str, dict[str, Callable]] = {
    "numpy": {"ndarray": lambda m, *_: m.array(), "dtype": lambda m, *arguments: _DType(*arguments)},
    "_codecs": {"encode": _Machine.encode},
    **{module: {"bytes": _Machine.no_bytes, "set": lambda m, items=(): set(m.members(items)),
                "frozenset": lambda m, items=(): frozenset(m.members(items))}
       for module in ("builtins", "__builtin__")},
    **{f"numpy.{core}.multiarray": {"_reconstruct": lambda m, *_: m.array(),
                                    "scalar": lambda m, dtype, raw: m.array((), dtype, False, raw)[()]}
       for core in ("core", "_core")},
    **{f"numpy.{core}.numeric": {  # protocol 5
        "_frombuffer": lambda m, raw, dtype, shape, order: m.array(shape, dtype, order == "F", raw)}
       for core in ("core", "_core")},
}  # fmt: skip
_GLOBALS = {(module, name): _Global(call) for module, calls in _FUNCTIONS.items() for name, call in calls.items()}


def safe_load(path: str | os.PathLike) -> Any:
    """Read a pickle made of dicts, lists, tuples, sets, strings, numbers and NumPy arrays of numbers.

    Python 2 strings are decoded as latin1. Nothing that the file names is imported or called, and memory stays in
    proportion to the size of the file.

    Raises:
        DataError: the file is missing, cut off, no pickle, names any other global (the message says which), or would
            become far larger or deeper than its bytes.
    """
    try:
        return _Machine(Path(path).read_bytes()).run()
    except OSError as error:
        raise DataError(path, "file", error.strerror or error, "a readable pickle") from error
    except Refused as error:
        raise DataError(path, error.where, error.found, error.expected) from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(path, "pickle", f"{type(error).__name__}: {error}", "a complete, undamaged pickle") from error
