"""Damaged input for every reader, drawn from a seed: input ``i`` of a reader depends on (seed, reader, i) alone."""

from __future__ import annotations

import collections
import random
import shutil
import signal
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stress.children import LATE, OTHER, Ending, outcome_of
from stress.mutations import damage_of
from stress.readers import Reader, read_quietly, valid_files, write_valid

SECONDS = 10  #: for one input, at most


class Fuzz:
    """Feeds one reader. ``folder`` is an empty one of its own; the valid input is written and read there first."""

    def __init__(self, reader: Reader, folder: Path):
        self.reader, self.folder = reader, folder
        self.valid = {folder / name: content for name, content in valid_files(reader).items()}
        self.files = [path for path in self.valid if path.name != ".lock"]
        write_valid(reader, folder)
        read_quietly(reader, folder)

    def feed(self, seed: int, number: int) -> tuple[Ending, Path]:
        """Read input ``number`` and say how it ended; the damaged file stays until the next input."""
        self.restore()
        rng = random.Random(f"{seed} {self.reader.name} {number}")
        path = rng.choice(self.files)
        path.write_bytes(damage_of(path.name)(self.valid[path], rng))
        try:
            with time_limit(SECONDS):
                ending = outcome_of(lambda: read_quietly(self.reader, self.folder))
        except TimeoutError:
            ending = Ending(LATE, traceback.format_exc()[-500:])
        return ending, path

    def restore(self) -> None:
        shutil.rmtree(self.folder / "data", ignore_errors=True)  # what an archive was unpacked to
        for path, content in self.valid.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)


class _TooLate(BaseException):
    """Not an ``Exception``, so that no reader catches it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises ``TimeoutError`` in the block when the time is over."""

    def stop(*_):
        raise _TooLate

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TooLate as error:
        raise TimeoutError(f"more than {seconds} s") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(reader: Reader, seed: int, inputs: range) -> tuple[collections.Counter, list[tuple[int, str]]]:
    """How many inputs ended how, and (number, message) of those that ended badly."""
    counts: collections.Counter[str] = collections.Counter()
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        feeder = Fuzz(reader, Path(folder))
        for number in inputs:
            ending, _ = feeder.feed(seed, number)
            counts[ending.outcome] += 1
            if ending.outcome in (OTHER, LATE):
                bad.append((number, ending.message.replace(folder, "")))
    return counts, bad
