"""What a pickle may hold: single values, containers of them, and how many and how deep for the size of its file."""

from __future__ import annotations

from typing import Any

import numpy as np

EXPANSION = 8  #: values and copied bytes, at most, for each byte of the file (plus 1,000)
MAX_DEPTH = 100  #: containers inside each other, at most
MAX_DIGITS = 300  #: decimal digits of a whole number, at most
PLAIN = "plain data or NumPy arrays"

_TEXT = (str, bytes)
_PLAIN_ATOMS = frozenset((str, bytes, int, float, bool, type(None)))


class Refused(Exception):
    """The pickle asks for something outside the allowed set."""

    def __init__(self, where: str, found: object, expected: str):
        super().__init__(where, found, expected)
        self.where, self.found, self.expected = where, found, expected


class Room:
    """How many values and copied bytes may still come out of a file of ``size`` bytes."""

    def __init__(self, size: int):
        self.left = EXPANSION * size + 1000

    def take(self, amount: int) -> None:
        """Raises :class:`Refused` if there is less room than ``amount``."""
        self.left -= amount
        if self.left < 0:
            raise Refused("size", "more values than its bytes can hold", f"at most {EXPANSION} for each byte")


def check_tree(value: Any, room: Room) -> None:
    """Bounds a value's depth, and its size written out as a tree; finds what is no data. No recursion, no hashing.

    A value that is used twice counts twice, because readers walk the value as a tree: fifty lists of which each holds
    the next one twice take a few bytes of file and of memory, and more than the memory when they are printed.

    Raises:
        Refused: too deep, too large (cycles are both), or something that is neither a container nor a single value.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                room.take(2 * len(item) + sum([len(key) // 64 for key in item if type(key) in _TEXT]))
                inner.extend(item.values())
            elif kind is list or kind is tuple:
                room.take(len(item))
                inner.extend(item)
            elif kind is str or kind is bytes:
                if len(item) >= 64:
                    room.take(len(item) // 64)
            elif kind in _PLAIN_ATOMS:
                continue
            elif kind is set or kind is frozenset:
                room.take(len(item) + sum([len(member) // 64 for member in item if type(member) in _TEXT]))
            elif kind is np.ndarray:
                room.take(item.nbytes)
            elif not isinstance(item, np.number | np.bool):
                raise Refused("value", "a global or a NumPy type", PLAIN)
        level = inner
    if level:
        raise Refused("values", f"more than {MAX_DEPTH} inside each other", "nesting that data has")


def check_keys(keys: Any) -> None:
    """Keys and members of sets are single values, so that no nested value is ever hashed or compared.

    Large whole numbers can be chosen to collide; the hash of text is random.
    """
    if set(map(type, keys)) <= {str}:
        return
    for key in keys:
        whole = type(key) is int and abs(key) >= 2**63
        if whole or not (type(key) in _PLAIN_ATOMS or isinstance(key, np.number | np.bool)):
            raise Refused("key", "a large number" if whole else type(key).__name__, "text or a number")


def whole(text: bytes) -> int:
    """A whole number in decimal digits."""
    if len(text) > MAX_DIGITS:
        raise Refused("number", f"{len(text)} digits", f"at most {MAX_DIGITS}")
    return int(text)


def whole_of_bytes(raw: bytes) -> int:
    """A whole number in little-endian bytes with a sign."""
    if 2.5 * len(raw) > MAX_DIGITS:
        raise Refused("number", f"{len(raw)} bytes", f"at most {MAX_DIGITS} digits")
    return int.from_bytes(raw, "little", signed=True)
