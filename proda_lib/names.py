"""Names that somebody typed: what they may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

COUNT = 5  #: names that a message gives


def plain(name: str) -> str:
    """A name without the accidents of writing: "Open_door " and "open door" are the same."""
    return " ".join(name.replace("_", " ").split()).casefold()


def nearest_names(name: str, names: Sequence[str]) -> str:
    """The names most like ``name``, for an error message: "nearest: 'a', 'b'", or how many there are.

    A name's parts count too, so that "cup" finds "cup/glass/bottle" and "hold_cup" finds "put_down_cup".
    """
    if not names:
        return "it has none"
    lowered = name.casefold()[:200]
    parts = {part for part in re.split(r"\W+|_", lowered) if len(part) > 1}

    def likeness(other: str) -> float:
        own = other.casefold()
        shared = len(parts & set(re.split(r"\W+|_", own)))
        return shared + difflib.SequenceMatcher(None, lowered, own).ratio()

    best = sorted(((likeness(other), other) for other in names), key=lambda pair: -pair[0])[:COUNT]
    near = [repr(other) for value, other in best if value >= 0.6]
    if near:
        return f"nearest: {', '.join(near)}"
    return f"such as {', '.join(map(repr, names[:COUNT]))} ({len(names)} in all)"
