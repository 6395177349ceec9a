"""Names that somebody typed: what they may have meant."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Sequence

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = 80


def brief(value: object) -> str:
    """``repr`` for an error message: what is long loses its middle."""
    return _BRIEF.repr(value)


def plain(name: str) -> str:
    """A name without the accidents of writing: "Open_door " and "open door" are the same."""
    return " ".join(name.replace("_", " ").split()).casefold()


def nearest_names(name: str, names: Sequence[str], count: int = 5) -> str:
    """The names most like ``name``, for an error message: "nearest: 'a', 'b'", or how many there are.

    A name's parts count too, so that "cup" finds "cup/glass/bottle" and "hold_cup" finds "put_down_cup".
    """
    if not names:
        return "it has none"
    lowered = name.casefold()[:200]
    parts = {part for part in re.split(r"\W+|_", lowered) if len(part) > 1}

    def likeness(other: str) -> float:
        own = other.casefold()[:200]
        shared = len(parts & set(re.split(r"\W+|_", own)))
        return shared + difflib.SequenceMatcher(None, lowered, own).ratio()

    best = sorted(((likeness(other), other) for other in names), key=lambda pair: -pair[0])[:count]
    near = [brief(other) for value, other in best if value >= 0.6]
    if near:
        return f"nearest: {', '.join(near)}"
    return f"such as {', '.join(map(brief, names[:count]))} ({len(names)} in all)"
