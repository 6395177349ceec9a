"""Reads every hostile file in a process of its own, and says how that ended."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stress.children import Ending, in_child
from stress.files import Hostile, all_hostile

KINDS = ("pickle", "archive", "tensors", "JSON")
MEMORY = 2 * 2**30  #: bytes that a reader may take beyond what the process has
SECONDS = 30.0


def read_hostile(kinds: Sequence[str] = KINDS, every: int = 1) -> Iterator[tuple[Hostile, Ending, bool]]:
    """(hostile file, how reading it ended, whether it did something) for every ``every``-th file of these kinds."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        canary = root / "canary"
        chosen = [hostile for hostile in all_hostile(canary) if hostile.kind in kinds]
        for hostile in chosen[::every]:
            folder = root / "outer" / "inner"
            folder.mkdir(parents=True)
            hostile.make(folder)
            made = {path for path in root.rglob("*") if "inner" not in path.parts}
            ending = in_child(lambda h=hostile, f=folder: h.read(f), SECONDS, MEMORY)
            acted = canary.exists() or {path for path in root.rglob("*") if "inner" not in path.parts} != made
            shutil.rmtree(root / "outer")
            yield hostile, ending, acted
