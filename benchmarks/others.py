"""What else takes time: the world, imports, the command, loading batches, training in full, building the book."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.cases import Row, ratio_row
from benchmarks.dense import DenseBatch
from benchmarks.measure import Sample, python, seconds, side_by_side
from benchmarks.store import STORE, store_rows
from benchmarks.workload import TrainStep, Workload, make_video
from proda_lib.datasets import world
from proda_lib.models.proda import ProDA
from proda_lib.paths import project_root
from proda_lib.training.data import epoch_loader, split_validation
from proda_lib.training.outcome import loader_workers, make_fabric
from proda_lib.training.recipe import Recipe, make_recipe
from proda_lib.training.stages import train

IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
#: All that a training run needs; ``import proda_lib`` alone loads nothing.
MODULES = "proda_lib.training.runs, proda_lib.models.proda"
COMMAND = "import sys; sys.argv[0] = 'proda'; from proda_lib.cli import main; main()"


def world_row(features: bool, repeats: int, videos: int) -> Row:
    """Videos of SSG-World made per second."""
    config = world.WorldConfig(features=features)
    world.make_videos(config, "train", 2)  # tables that are made once
    sample = Sample([seconds(lambda: world.make_videos(config, "train", videos)) for _ in range(repeats)])
    name = "world_generation_features" if features else "world_generation"
    return Row(name, f"{videos} videos", "videos/s", None, videos / sample.median, None, sample.spread, (repeats,))


def import_row(repeats: int) -> Row:
    """Seconds from a started interpreter to a usable library, in fresh processes."""
    sample = Sample([float(python(IMPORT.format(MODULES))) for _ in range(1 + repeats)][1:])
    return Row("import_proda_lib", MODULES, "s", None, sample.median, None, sample.spread, (repeats,))


def help_row(repeats: int) -> Row:
    """Seconds of ``proda --help``, the interpreter's start included."""
    sample = Sample([seconds(lambda: python(COMMAND, "--help")) for _ in range(1 + repeats)][1:])
    return Row("cli_help", "proda --help", "s", None, sample.median, None, sample.spread, (repeats,))


def loading_row(repeats: int, device: str = "cpu", recipe: Recipe | None = None, batches: int = 8) -> Row:
    """Seconds to load a batch of an epoch, against seconds of a training step on it.

    One process, no workers: what a step waits for if nothing is loaded beside it. Sizes are those of the profile
    "reference", on as many videos as ``batches`` batches need (an epoch visits a video several times).
    """
    recipe = recipe or make_recipe("reference")
    graphs = world.make_videos(world.WorldConfig(), "train", recipe.batch_videos * batches)
    model = ProDA(recipe.model_config(graphs[0].vocabulary)).to(device)
    step = TrainStep(model)
    waiting = itertools.chain.from_iterable(epoch_loader(graphs, recipe, epoch)[0] for epoch in itertools.count())
    rows = next(waiting).to(device)
    dense = DenseBatch.of(graphs[:1], max(g.num_slots for g in graphs[:1])).to(device)  # which our step never reads
    work = Workload(graphs, rows, dense)

    def load() -> None:
        for _ in range(batches):
            next(waiting).to(device)

    samples = side_by_side({"load": load, "step": functools.partial(step, work)}, repeats, device=device)
    loaded, stepped = samples["load"].median / batches, samples["step"].median
    size = f"{recipe.batch_videos} videos x {recipe.specs_per_video} specifications, D={recipe.width}"
    note = f"reference: a training step; {1 / loaded:.3g} batches/s against {1 / stepped:.3g} steps/s, no workers"
    return ratio_row("data_loading", size, samples["step"], samples["load"], (1.0, 1 / batches), note)


def training_row(device: str, recipe: Recipe | None = None) -> Row:
    """Seconds of both stages of ProDA, as the paper's profile has them, in bf16, on as many random videos as Action
    Genome trains on and of its sparsity, without visual features; validation and checkpoints included.
    """
    recipe = recipe or make_recipe("paper", dataset="action_genome", precision="bf16-mixed")
    graphs = [make_video(seed, "sparse") for seed in range(recipe.train_videos)]
    kept, judged_on = split_validation(graphs, recipe.seed)
    fabric = make_fabric(recipe, device)
    with tempfile.TemporaryDirectory() as folder:
        took = seconds(
            lambda: train(recipe, "benchmark", kept, judged_on, 0, 0, Path(folder), fabric, loader_workers(device)),
            device,
        )
    epochs = f"{recipe.pretrain_epochs} + {recipe.posttrain_epochs} epochs"
    size = f"{recipe.train_videos:,} videos, {epochs}, N={recipe.frames}, D={recipe.width}, {recipe.precision}"
    return Row("two_stage_training", size, "s", None, took, None, None, (1,), "no visual features")


def site_row() -> Row:
    """Seconds of ``jupyter-book build book/``, into an empty folder; executes nothing."""
    command = [Path(sys.executable).parent / "jupyter-book", "build", "-q", "book/", "--path-output"]
    with tempfile.TemporaryDirectory() as folder:
        took = seconds(lambda: subprocess.run([*command, folder], cwd=project_root(), capture_output=True, check=True))
    return Row("jupyter_book_build", "jupyter-book build book/", "s", None, took, None, None, (1,))


def book_row() -> Row:
    """Seconds of ``make book`` in a fresh clone whose environment is installed (this one's is lent to it)."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", project_root(), clone], check=True)
        (clone / ".venv").symlink_to(Path(sys.prefix))
        (clone / "build").mkdir()
        shutil.copy(clone / "requirements.lock", clone / "build/.installed")  # newer than what it depends on
        own = {**os.environ, "PYTHONPATH": str(clone)}
        took = seconds(lambda: subprocess.run(["make", "book"], cwd=clone, env=own, capture_output=True, check=True))
    return Row("make_book", "fresh clone, profile quick", "s", None, took, None, None, (1,), "environment installed")


OTHERS: dict[str, Callable[..., Row]] = {
    "world_generation": lambda repeats, device: world_row(False, repeats, 300),
    "world_generation_features": lambda repeats, device: world_row(True, repeats, 300),
    "import_proda_lib": lambda repeats, device: import_row(repeats),
    "cli_help": lambda repeats, device: help_row(repeats),
    "data_loading": lambda repeats, device: loading_row(repeats, device),
    "jupyter_book_build": lambda repeats, device: site_row(),
    "make_book": lambda repeats, device: book_row(),
}
#: Asked for with ``--device cuda`` only: on a processor it takes days.
ON_GPU: dict[str, Callable[..., Row]] = {"two_stage_training": lambda repeats, device: training_row(device)}


def other_rows(repeats: int, device: str, wanted: set[str]) -> list[Row]:
    """The rows that are asked for. These have no yardstick; data loading is held against the training step."""
    torch.manual_seed(0)
    rows = [make(repeats, device) for name, make in {**OTHERS, **ON_GPU}.items() if name in wanted]
    return rows + (store_rows(repeats) if wanted & set(STORE) else [])
