"""A full disk, and two processes that want the same thing."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from proda_lib.datasets.own import write_own
from proda_lib.datasets.store import StoreWriter
from proda_lib.graph import save_graphs
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.training import runs
from proda_lib.training.checkpoint import save_checkpoint
from proda_lib.training.recipe import Recipe
from stress.children import Ending, in_child
from stress.crashes import finish, smoke_recipe, start, videos

ROOM = 32 * 1024  #: bytes that fit
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Writing:
    """Something that is written twice: a small one that fits, and one of more than :data:`ROOM` bytes."""

    name: str
    write: Callable[[Path, bool], object]


def _model(large: bool) -> ProDA:
    width = 32 if large else 2
    return ProDA(ModelConfig(actions=3, objects=3, relations=2, width=width, heads=1, layers=1, depth=1, candidates=1))


def _checkpoint(folder: Path, large: bool) -> None:
    model = torch.nn.Linear(200 if large else 2, 200)
    optimizer = torch.optim.AdamW(model.parameters())
    save_checkpoint(folder / "a.safetensors", {"recipe": "x"}, model, optimizer, None)


def _store(folder: Path, large: bool) -> None:
    graphs = videos(60 if large else 1)
    with StoreWriter(folder, graphs[0].vocabulary) as writer:
        for graph in graphs:
            if graph.video not in writer.videos:
                writer.add(graph)


def _run(folder: Path, large: bool) -> None:
    scores = {"a": np.zeros(10 if not large else 10_000)}
    runs._write_run(folder, {"name": "x", "metrics": {}, "large": large}, scores)


WRITINGS = (
    Writing("checkpoint", _checkpoint),
    Writing("saved model", lambda folder, large: _model(large).save_pretrained(folder)),
    Writing("scene graphs", lambda folder, large: save_graphs(folder / "a", videos(20 if large else 1))),
    Writing("own JSON", lambda folder, large: write_own(videos(1)[0], folder / ("b" if large else "a"))),
    Writing("packed store", _store),
    Writing("run", _run),
)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name != ".lock"}  # fmt: skip


def fill_up(writing: Writing, folder: Path, limit_files: bool = True) -> tuple[Ending, bool]:
    """Write the large one where there is no room; how that ended, and whether the small one is as it was, alone.

    Args:
        folder: an empty one. ``limit_files``: let no file grow beyond :data:`ROOM`; otherwise ``folder`` is full
            already when the large one comes.
    """
    torch.set_num_threads(1)
    writing.write(folder, False)
    before = content(folder)
    if not limit_files:
        with open(folder / ".lock.filler", "wb", buffering=0) as filler:
            while True:
                try:
                    filler.write(bytes(4096))
                except OSError:
                    break

    def write() -> None:
        if limit_files:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
        writing.write(folder, True)

    ending = in_child(write, 60)
    (folder / ".lock.filler").unlink(missing_ok=True)
    return ending, content(folder) == before


@contextmanager
def small_disk(size: int = 2**20) -> Iterator[Path | None]:
    """A file system of ``size`` bytes in memory; None where it cannot be mounted."""
    with tempfile.TemporaryDirectory() as name:
        options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", name]
        try:
            mounted = subprocess.run(options, capture_output=True, check=False).returncode == 0
        except OSError:
            mounted = False
        try:
            yield Path(name) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", name], check=True)


def made_up(recipe: Recipe, folder: Path, *_: object) -> None:
    """In place of training: a moment, then a record."""
    time.sleep(0.3)
    record = {"name": folder.name, "recipe": dataclasses.asdict(recipe), "metrics": {}, "curves": []}
    runs._write_run(folder, record, {"a": np.zeros(1)})


def two_of_one_run(folder: Path, made: Callable = runs._make) -> dict[str, object]:
    """Two processes ask for the same run at once: exit codes, and how often it was made.

    Args:
        made: what makes it.
    """
    os.environ["PRODA_RUNS"] = str(folder)
    torch.set_num_threads(1)
    gate = _FORK.Event()

    def ask() -> None:

        def noted(*arguments):
            with open(folder / "made", "a") as file:
                file.write("x")
            made(*arguments)

        runs._make = noted
        gate.wait()
        runs.get(smoke_recipe("logistic"))

    processes = [start(ask), start(ask)]
    gate.set()
    codes = [finish(process) for process in processes]
    return {"exit codes": codes, "made": len((folder / "made").read_text())}


def two_writers(folder: Path) -> Ending:
    """A second process opens a store that this one is writing."""
    vocabulary = videos(1)[0].vocabulary
    with StoreWriter(folder, vocabulary):
        return in_child(lambda: StoreWriter(folder, vocabulary))
