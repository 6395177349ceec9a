"""Work that is killed at random moments, run again, and compared with work that was left in peace."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.numpy import load_file

from proda_lib.datasets import prepare as preparing
from proda_lib.datasets import store
from proda_lib.datasets.miniature import write_action_genome
from proda_lib.datasets.world import WorldConfig, make_videos
from proda_lib.graph import SceneGraph
from proda_lib.training import loop, runs
from proda_lib.training.recipe import Recipe, make_recipe

_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Work:
    """Something long that can be killed and started again.

    Attributes:
        do: does it in a folder, or what is left of it.
        result: what it made, in a form that compares bit for bit.
        files: which files are complete whenever they have their final name; a kill must leave no broken one.
        prepare: what all forks share, such as slow imports; called once, here.
    """

    name: str
    do: Callable[[Path], object]
    result: Callable[[Path], object]
    files: str = "**/*"
    prepare: Callable[[], object] = lambda: None


def smoke_recipe(model: str = "proda", **changes) -> Recipe:
    return make_recipe("smoke", **{"model": model, "train_videos": 6, "test_videos": 2, "batch_videos": 4, **changes})


def training(model: str = "proda") -> Work:
    """A smoke run with a checkpoint after every step: weights, scores and metrics."""

    def prepare() -> None:
        import lightning_fabric  # noqa: F401

    def do(folder: Path) -> None:
        torch.set_num_threads(1)
        os.environ["PRODA_RUNS"] = str(folder)
        loop.SAVE_EVERY, loop.LOOK_EVERY = 0.0, 1  # a checkpoint waits for a look
        runs.get(smoke_recipe(model))

    def result(folder: Path) -> dict[str, bytes]:
        run = folder / runs.run_name(smoke_recipe(model))
        record = json.loads((run / "record.json").read_text())
        names = (run / "fold0" / "model" / "model.safetensors", run / "scores.safetensors")
        return {path.name: path.read_bytes() for path in names} | {"metrics": json.dumps(record["metrics"]).encode()}

    return Work("training", do, result, prepare=prepare)


def videos(count: int = 12) -> list[SceneGraph]:
    return make_videos(WorldConfig(), "train", count)


def write_store(folder: Path) -> None:
    """Twelve videos, a shard for every two."""
    store.SHARD_VIDEOS = 2
    graphs = videos()
    with store.StoreWriter(folder / "store", graphs[0].vocabulary, {"encoder": "none"}) as writer:
        for graph in graphs:
            if graph.video not in writer.videos:
                writer.add(graph)


def _stored(folder: Path) -> dict[str, bytes]:
    files = (path for path in (folder / "store").iterdir() if path.name != ".lock" and not is_partial(path))
    return {path.name: path.read_bytes() for path in files}


@functools.cache
def source() -> Path:
    """Official files of twelve videos, their frames in plain colours, and in ``few`` those of five of the videos.

    Made once and shared by all forks, so that no kill is spent on it.
    """
    import PIL.Image

    from proda_lib.features.clip import ClipEncoder

    ClipEncoder.load("random-tiny")  # what it imports is shared, too
    folder = Path(tempfile.mkdtemp(prefix="proda-stress-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_action_genome(folder, [graph.sample_frames(4) for graph in videos(12)])
    for key in (folder / "annotations" / "frame_list.txt").read_text().split():
        path = folder / "frames" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (480, 270), (int(path.stem) % 256, 90, 160)).save(path)
    (folder / "few").mkdir()
    for video in sorted((folder / "frames").iterdir())[1::2][:5]:
        (folder / "few" / video.name).symlink_to(video)
    return folder


def extract(folder: Path, frames: str = "frames") -> None:
    """Features of random weights, two videos at a time through the encoder, and a shard for each video."""
    preparing.GROUP, preparing.FLUSH_SECONDS = 2, -1.0
    preparing.prepare_charades(source(), source() / frames, folder / "out", "random-tiny", split="train",
                               skip_broken=frames == "few", say=lambda line: None)  # fmt: skip


def extend(folder: Path) -> None:
    """A store of the videos whose frames are there, and then the others put into their places in it."""
    if not (folder / "few").exists():
        extract(folder, "few")
        (folder / "few").touch()
    extract(folder)


def _extracted(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "out" / "train").iterdir() if path.name != ".lock"}


WORKS = (
    training(),
    Work("packed store", write_store, _stored, "store/*"),
    Work("feature extraction", extract, _extracted, "out/**/*", source),
    Work("extraction into a finished store", extend, _extracted, "out/**/*", source),
)


def start(call: Callable[[], object]) -> multiprocessing.Process:
    """``call`` in a silent fork of this process."""

    def silent() -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        call()

    process = _FORK.Process(target=silent)
    process.start()
    return process


def finish(process: multiprocessing.Process, seconds: float = 300) -> int | None:
    """Wait and return the exit code; None if it had to be ended."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def is_partial(path: Path) -> bool:
    """Whether the name says that the file is not finished."""
    return ".partial" in path.name


def files_in(folder: Path) -> set[str]:
    """Every file, by its path in the folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def broken_files(folder: Path, pattern: str) -> list[str]:
    """Files under a final name that cannot be read whole."""
    bad = []
    for path in folder.glob(pattern):
        try:
            if path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".arrow":
                store.pa.ipc.open_file(path).read_all()
        except Exception as error:
            bad.append(f"{path.name}: {type(error).__name__}: {error}")
    return bad


@dataclass
class Moments:
    """What kills at random moments did to one kind of work.

    Attributes:
        killed: kills; ``ended_before``: moments that came after the work's end, and were drawn again.
        lost: results that differ, in any file under a final name, from those of work that was left in peace.
        broken: kills that left a broken file under a final name.
        left_over: kills after which, when the work is done, a file is there that work in peace does not leave.
    """

    killed: int = 0
    ended_before: int = 0
    lost: int = 0
    broken: int = 0
    left_over: int = 0
    seconds: float = 0.0
    messages: list[str] = dataclasses.field(default_factory=list)


def kill_at_random(work: Work, moments: int, seed: int, progress: Callable[[], object] = lambda: None) -> Moments:
    """Kill ``work`` in ``moments`` fresh folders, once each, start it again, and compare.

    A moment is drawn evenly over the time that the work takes when it is left in peace. One that comes after the work's
    end is counted and drawn again.
    """
    rng, found, started = random.Random(f"{seed} {work.name}"), Moments(), time.monotonic()
    work.prepare()
    with tempfile.TemporaryDirectory() as folder:
        clock = time.monotonic()
        if finish(start(lambda: work.do(Path(folder)))) != 0:
            raise RuntimeError(f"{work.name} ended with an error even in peace")
        length = time.monotonic() - clock
        expected, there = work.result(Path(folder)), files_in(Path(folder))
    while found.killed < moments and found.ended_before < 5 * moments:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            process = start(lambda folder=folder: work.do(folder))
            process.join(rng.uniform(0, length))
            if process.exitcode is not None:
                found.ended_before += 1
                continue
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            found.killed += 1
            if bad := broken_files(folder, work.files):
                found.broken += 1
                found.messages += bad
            code = finish(start(lambda folder=folder: work.do(folder)))
            if code != 0 or work.result(folder) != expected:
                found.lost += 1
                how = "another result" if code == 0 else f"exit code {code}"
                found.messages.append(f"after kill {found.killed}: {how}")
            if left := sorted(files_in(folder) - there):
                found.left_over += 1
                found.messages.append(f"left over: {', '.join(left)}")
        progress()
    found.seconds = round(time.monotonic() - started, 1)
    return found
