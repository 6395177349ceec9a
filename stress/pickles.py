"""Pickles that try to run something, or to fill memory or time. None is larger than a few megabytes."""

from __future__ import annotations

import copyreg
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_U4, _U8 = struct.Struct("<I"), struct.Struct("<Q")
_HEAD = b"\x80\x04"


class _Call:
    """Pickles to a call of ``function`` with ``arguments``; ``state`` is set on what it returns."""

    def __init__(self, function: Callable, *arguments: object, state: object = None):
        self.made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.made


def _text(text: str) -> bytes:
    return b"\x8c" + bytes([len(text.encode())]) + text.encode()


def _global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"


def _doubled(levels: int, make: bytes) -> bytes:
    """A value, then ``levels`` times a container of two of what stands on top: ``make`` takes two from the stack."""
    return b"N" + b"".join(b"\x94h" + bytes([level]) + make for level in range(levels))


def _lists(levels: int) -> bytes:
    """A list of lists, each of which holds the one before it twice, by the memo."""
    return b"](]\x94" + b"".join(b"]\x94(h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(levels)) + b"e"


def _array(side: int, content: bytes, kind: str = "u1") -> bytes:
    dtype = _global("numpy", "dtype") + _text(kind) + b"\x89\x88\x87R(K\x03" + _text("|") + b"NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\x00tb"
    made = _global("numpy.core.multiarray", "_reconstruct") + _global("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    return made + b"(K\x01\x8a\x06" + side.to_bytes(6, "little") + b"\x85" + dtype + b"\x89" + content + b"tb"


def running(canary: Path) -> dict[str, bytes]:
    """Pickles that make the folder ``canary`` where they are trusted, or try to."""
    path, mkdir = str(canary), f"import os; os.mkdir({str(canary)!r})"
    cases = {f"os.mkdir, protocol {p}": pickle.dumps(_Call(os.mkdir, path), p) for p in range(6)}
    cases |= {
        "os.system": pickle.dumps(_Call(os.system, f"mkdir {path}")),
        "builtins.exec": pickle.dumps(_Call(exec, mkdir)),
        "builtins.eval": pickle.dumps(_Call(eval, f"__import__('os').mkdir({path!r})")),
        "getattr chain": _HEAD + _global("builtins", "getattr") + _global("os", "path") + _text("os") + b"\x86R"
                         + _text("mkdir") + b"\x86" + _global("builtins", "getattr") + b"\x86R.",
        "dotted name": _HEAD + _global("numpy", "core.multiarray.os.mkdir") + _text(path) + b"\x85R.",
        "name of the loader": _HEAD + _global("proda_lib.datasets.safe_pickle", "os.mkdir") + _text(path) + b"\x85R.",
        "numpy.load": _HEAD + _global("numpy", "load") + _text(path) + b"\x85R.",
        "INST": b"(S'" + path.encode() + b"'\nios\nmkdir\n.",
        "OBJ": b"(cos\nmkdir\nS'" + path.encode() + b"'\no.",
        "NEWOBJ": _HEAD + _global("os", "mkdir") + _text(path) + b"\x85\x81.",
        "NEWOBJ_EX": _HEAD + _global("os", "mkdir") + _text(path) + b"\x85}\x92.",
        "BUILD of a global's state": b"cnumpy\nndarray\n}S'call'\ncos\nmkdir\nsb.",
        "BUILD of slots": b"cnumpy\ndtype\n(S'f4'\ntR(N}S'dtype'\ncos\nmkdir\nstb.",
        "BUILD of a dict": b"}}S'__class__'\ncos\nmkdir\nsb.",
        "persistent id": b"Pos.mkdir\n.",
        "persistent id on the stack": _HEAD + _text("os.mkdir") + b"Q.",
        "call of a call": b"cnumpy\nndarray\n(tR(S'" + path.encode() + b"'\ntR.",
        "call of text": _HEAD + _text("os.mkdir") + _text(path) + b"\x85R.",
    }  # fmt: skip
    return cases | dict(_extensions(path))


def _extensions(path: str) -> Iterator[tuple[str, bytes]]:
    """Codes of the extension registry, for a function that is registered while the pickle is made."""
    copyreg.add_extension("posix", "mkdir", 0xF1)
    try:
        yield "EXT1", pickle.dumps(_Call(os.mkdir, path), 2)
    finally:
        copyreg.remove_extension("posix", "mkdir", 0xF1)
    yield "EXT2", b"\x80\x02\x83\xf1\x00" + b"X" + _U4.pack(len(path)) + path.encode() + b"\x85R."
    yield "EXT4", b"\x80\x02\x84\xf1\x00\x00\x00" + b"X" + _U4.pack(len(path)) + path.encode() + b"\x85R."


def filling() -> dict[str, bytes]:
    """Pickles that ask for far more memory or time than their size is worth, or break Python's own machine."""
    huge = 10**12
    big = b"\x8e" + _U8.pack(2**20) + bytes(2**20)
    many = b"]\x94(" + b"".join(b"J" + struct.pack("<i", i) for i in range(20_000)) + b"e"
    again = 50_000
    return {
        "memo number of 4 bytes": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "memo number in digits": b"Np" + b"9" * 18 + b"\n.",
        "memo number that was not given": b"\x80\x02j\xff\xff\xff\x7f.",
        "BINBYTES8 of 10**12": _HEAD + b"\x8e" + _U8.pack(huge) + b"x.",
        "BINUNICODE8 of 10**12": _HEAD + b"\x8d" + _U8.pack(huge) + b"x.",
        "BYTEARRAY8 of 10**12": b"\x80\x05\x96" + _U8.pack(huge) + b"x.",
        "BYTEARRAY8 of 3 GiB": b"\x80\x05\x96" + _U8.pack(3 * 2**30) + b"x.",
        "BINBYTES of 4 GiB": b"\x80\x03B\xff\xff\xff\xffx.",
        "BINSTRING of a negative length": b"T\xff\xff\xff\xffx.",
        "LONG4 of 2 GiB": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
        "LONG4 of 1 MiB": b"\x80\x02\x8b" + _U4.pack(2**20) + b"\x7f" * 2**20 + b".",
        "LONG in 100,000 digits": b"L" + b"9" * 100_000 + b"L\n.",
        "frame of 10**12": _HEAD + b"\x95" + _U8.pack(huge) + b"N.",
        "out-of-band buffer": b"\x80\x05\x97.", "read-only buffer": b"\x80\x05\x97\x98.",
        "DUP": b"\x80\x02]" + b"2" * 2**20 + b"t.", "POP of everything": b"\x80\x02N000.",
        "marks": b"\x80\x02" + b"(" * 2**18, "empty sets": _HEAD + b"(" + b"\x8f" * 2**18 + b"l",
        "lists in lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "tuples in tuples": b"\x80\x02N" + b"\x85" * 100_000 + b".",
        "tuples in tuples as a key": b"\x80\x02}N" + b"\x85" * 100_000 + b"Ns.",
        "tuples in tuples in a set": _HEAD + b"\x8f(N" + b"\x85" * 100_000 + b"\x90.",
        "doubled tuples": _HEAD + _doubled(60, b"\x86") + b".",
        "doubled tuples as a key": _HEAD + b"}" + _doubled(60, b"\x86") + b"Ns.",
        "doubled tuples in a set": _HEAD + b"\x8f(" + _doubled(60, b"\x86") + b"\x90.",
        "doubled tuples in a frozenset": _HEAD + b"(" + _doubled(60, b"\x86") + b"\x91.",
        "doubled lists": _HEAD + _lists(60) + b".",
        "a list in itself": b"\x80\x02]q\x00h\x00a.", "a dict in itself": b"\x80\x02}q\x00K\x01h\x00s.",
        "colliding keys": b"\x80\x02}(" + b"".join(
            b"\x8a\x10" + (i * (2**61 - 1)).to_bytes(16, "little") + b"N" for i in range(2**15, 2**16)) + b"u.",
        "a megabyte of text, used again and again": _HEAD + b"](X" + _U4.pack(2**20) + b"a" * 2**20 + b"\x94"
                                                    + b"h\x00" * again + b"e.",
        "a list, made a set again and again": _HEAD + b"](" + many + (
            _global("builtins", "set") + b"h\x00\x85R") * 1000 + b"e.",
        "text, encoded again and again": _HEAD + b"](X" + _U4.pack(2**20) + b"a" * 2**20 + b"\x94" + (
            _global("_codecs", "encode") + b"h\x00" + _text("latin1") + b"\x86R") * 3000 + b"e.",
        "bytes(10**12)": b"\x80\x03" + b"cbuiltins\nbytes\n\x8a\x06" + huge.to_bytes(6, "little") + b"\x85R.",
        "array of 10**12 without content": _HEAD + _array(huge, b"C\x00") + b".",
        "one array, used again and again": _HEAD + b"](" + _array(2**20, big) + b"\x94" + b"h\x00" * again + b"e.",
        "array of objects": b"\x80\x02" + _array(1, b"C\x08" + bytes(8), "O8") + b".",
        "a key that is an array": _HEAD + b"}" + _array(1, b"C\x01a") + b"Ns.",
        "a global as data": b"\x80\x02]cnumpy\nndarray\na.",
        "a number type as data": b"cnumpy\ndtype\n(S'f4'\ntR.",
        "two values": b"\x80\x02NN.", "nothing": b"", "a second pickle behind it": b"\x80\x02N.\x80\x02N.",
        "half a surrogate pair": b"\x80\x02X\x03\x00\x00\x00\xed\xa0\x80.",
    }  # fmt: skip
