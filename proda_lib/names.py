"""Names that somebody typed: what they may have meant."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Sequence

COUNT = 5  #: names that a message gives
ARTICLES = ("a", "an", "the", "some")
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = 80


def brief(value: object) -> str:
    """``repr`` for an error message: what is long loses its middle."""
    return _BRIEF.repr(value)


def plain(name: str) -> str:
    """A name without the accidents of writing: "Open_door " and "open door" are the same."""
    return " ".join(name.replace("_", " ").split()).casefold()


def stems(name: str) -> tuple[str, ...]:
    """The words of a name without articles and endings: "Opening a door" and "open_door" are the same."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word and word not in ARTICLES]
    return tuple(map(_stem, words))


def _stem(word: str) -> str:
    if word.endswith("ing") and len(word) > 5:
        word = word[:-3]
        if word[-1] == word[-2] and word[-1] not in "eflosz":  # putting → put, but pulling → pull
            word = word[:-1]
    return word[:-1] if word.endswith("e") else word  # closing, close


def nearest_names(name: str, names: Sequence[str]) -> str:
    """The names most like ``name``, for an error message: "nearest: 'a', 'b'", or how many there are.

    A name's words count too, so that "cup" finds "cup/glass/bottle" and "holding a cup" finds "put_down_cup".
    """
    if not names:
        return "it has none"
    lowered = name.casefold()[:200]
    parts = set(stems(lowered))

    def likeness(other: str) -> float:
        own = other.casefold()[:200]
        shared = len(parts & set(stems(own)))
        return shared + difflib.SequenceMatcher(None, lowered, own).ratio()

    best = sorted(((likeness(other), other) for other in names), key=lambda pair: -pair[0])[:COUNT]
    near = [brief(other) for value, other in best if value >= 0.6]
    if near:
        return f"nearest: {', '.join(near)}"
    return f"such as {', '.join(map(brief, names[:COUNT]))} ({len(names)} in all)"
