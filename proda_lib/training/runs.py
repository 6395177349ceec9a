"""The run store: a recipe goes in, a finished run comes out, trained at most once.

A run lives in ``runs/NAME/``, NAME = data set, model and a hash of recipe, data version and ``NUMERICS``::

    record.json          recipe, versions, commit, hardware, time, metrics, curves; written last: with it, a run is done
    scores.safetensors   the test scores that the metrics were computed from
    fold0/model/         save_pretrained of each fold's model (world has one fold, CAD-120 four)
    fold0/pretrained/    ProDA between its two stages
    fold0/*.safetensors  checkpoints, removed when the run is done

Two processes that want the same run do not train it twice: the second waits for the first's lock and reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import load_file, save

from proda_lib.datasets.registry import Split, data_version, load_splits, visual_features
from proda_lib.distributed import any_process, barrier, first_decides, processes, rank
from proda_lib.errors import CheckpointError, DataError
from proda_lib.files import write_atomically, write_json
from proda_lib.models.saved import SavedModel
from proda_lib.models.shipped import shipped_version
from proda_lib.paths import results_root, runs_root
from proda_lib.training.data import evaluation_videos
from proda_lib.training.outcome import fit_and_score, make_fabric, score_folder, summarise
from proda_lib.training.provenance import commit, hardware, reproducible, versions
from proda_lib.training.recipe import NETWORK_NAMES, NUMERICS, Recipe, command, read_recipe
from proda_lib.training.stages import MODELS

#: While the first process waits for another one's run, the others hear from it this often (seconds).
LOCK_EVERY = 10.0


@dataclass(frozen=True)
class Run:
    """A finished run. ``folder`` is None when only its committed record is at hand."""

    record: dict
    folder: Path | None

    @property
    def name(self) -> str:
        return self.record["name"]

    @property
    def metrics(self) -> dict:
        return self.record["metrics"]

    @property
    def curves(self) -> list[dict]:
        return self.record["curves"]

    @property
    def recipe(self) -> Recipe:
        return read_recipe(self.record["recipe"])

    def existing_folder(self) -> Path:
        """The folder with the weights; a :class:`CheckpointError` with the command that makes it, if it is not here."""
        if self.folder is None:
            expected = f"its folder, which this makes: {command(self.recipe)}"
            raise CheckpointError(f"run {self.name}: weights: found its committed record only, expected {expected}")
        return self.folder

    def model(self, fold: int = 0, device: str = "cpu") -> SavedModel:
        """The trained model of a fold, in evaluation mode."""
        return MODELS[self.recipe.model].from_pretrained(self.existing_folder() / f"fold{fold}" / "model", device)

    def scores(self) -> dict[str, np.ndarray]:
        """Test scores by name, rows in the order of the folds' test videos."""
        return load_file(self.existing_folder() / "scores.safetensors")


def run_name(recipe: Recipe) -> str:
    """Name of the recipe's folder in the run store."""
    return f"{recipe.dataset}-{recipe.model}-{recipe.hash(_version(recipe))}"


def _version(recipe: Recipe) -> str:
    """What the run's hash says of all that it reads: its data and, if it starts from them, the library's weights."""
    version = data_version(recipe.dataset)
    return f"{version}, start {shipped_version()}" if recipe.start else version


def find(recipe: Recipe) -> Run | None:
    """The finished run of a recipe in the run store, or None."""
    folder = runs_root() / run_name(recipe)
    return Run(_read(folder / "record.json"), folder) if (folder / "record.json").exists() else None


def committed(recipe: Recipe) -> Run | None:
    """The record of a recipe among the committed results, or None. It has metrics, but no weights."""
    path = results_root() / "runs" / f"{run_name(recipe)}.json"
    return Run(_read(path), None) if path.exists() else None


def list_runs() -> list[Run]:
    """Every finished run in the store, by name."""
    return [Run(_read(path), path.parent) for path in sorted(runs_root().glob("*/record.json"))]


def named(name: str) -> Run:
    """The run of this name: the finished one or, if it is not here, its committed record.

    Raises:
        DataError: there is neither, or the record is broken.
    """
    finished, record = runs_root() / name / "record.json", results_root() / "runs" / f"{name}.json"
    if finished.exists():
        return Run(_read(finished), finished.parent)
    if record.exists():
        return Run(_read(record), None)
    expected = "the name of a finished run, see `proda runs`, or of a committed record in results/runs"
    raise DataError(runs_root(), "run", repr(name), expected)


def _read(path: Path) -> dict:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        read_recipe(record["recipe"])
        kinds = {"name": str, "metrics": dict, "curves": list, "seconds": int | float, "hardware": dict}
        if wrong := [name for name, kind in kinds.items() if name in record and not isinstance(record[name], kind)]:
            raise TypeError(f"another type of {', '.join(wrong)}")
        return {**record, **{name: record[name] for name in ("name", "metrics", "curves")}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(path, "record", f"{type(error).__name__}: {error}", "a record written by a run") from error


def get(recipe: Recipe, device: str = "cpu", devices: int = 1, num_nodes: int = 1) -> Run:
    """The recipe's run: read from the store if it is there, else trained, evaluated and stored.

    With several devices the script that calls this is started once for each of them, by Lightning Fabric, ``torchrun``
    or SLURM; every process gets the run. A batch of the recipe is then divided among them, so neither the number of
    steps nor the learning rate changes with the number of devices.

    Raises:
        DataError: the data set is not installed.
    """
    if devices * num_nodes == 1 and (run := find(recipe)):  # of several processes, the first decides, below
        return run
    fabric = make_fabric(recipe, device, devices, num_nodes) if recipe.model in NETWORK_NAMES else None
    folder = runs_root() / run_name(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(runs_root() / f"{folder.name}.lock"):  # another process may make the same run at this moment
        if not first_decides(find(recipe) is not None):
            _make(recipe, folder, device, fabric)
        barrier()  # the record is written
    return find(recipe)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, by the first process for all. While it waits it says so now and then.

    Messages between processes have a time limit (Fabric's is half an hour), and another run may take longer.
    """
    lock = FileLock(path)

    def acquired() -> bool:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=LOCK_EVERY)
        return lock.is_locked

    while not any_process(rank() == 0 and acquired()):
        pass
    try:
        yield
    finally:
        lock.release()


def get_numbers(recipe: Recipe, device: str = "cpu") -> Run:
    """The recipe's run where its metrics are enough: from the run store, or its committed record, or made now."""
    return find(recipe) or committed(recipe) or get(recipe, device)


def evaluate(run: Run, device: str = "cpu") -> dict:
    """Score the run's saved models again on the test videos; the metrics, which should equal ``run.metrics``."""
    return _rescore(run, device)[0]


def update(run: Run, device: str = "cpu") -> Run:
    """Score the run's saved models again and replace its metrics, for measures that came after it was trained.

    The record keeps how it was trained, and gains "scored": commit and seconds of the new scores.
    """
    clock = time.monotonic()
    metrics, kept = _rescore(run, device)
    scored = {"commit": commit(), "seconds": round(time.monotonic() - clock, 1)}
    _write_run(run.existing_folder(), {**run.record, "metrics": metrics, "scored": scored}, kept)
    return named(run.name)


def _rescore(run: Run, device: str) -> tuple[dict, dict[str, np.ndarray]]:
    recipe = run.recipe
    if recipe.model not in NETWORK_NAMES:
        expected = f"those of a network; without its folder, this makes it again: {command(recipe)}"
        raise CheckpointError(f"run {run.name}: found no weights (model {recipe.model}), expected {expected}")
    folder = run.existing_folder()
    splits = _splits(recipe)
    with reproducible(device):
        scores = [score_folder(folder / f"fold{i}", recipe, split, device) for i, split in enumerate(splits)]
    return summarise(recipe, splits, scores)


def flatten(metrics: dict, prefix: str = "") -> dict[str, float]:
    """Nested metrics as one level: {"paper": {"both": {"a_t": 1.0}}} → {"paper/both/a_t": 1.0}."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        flat.update(flatten(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value})
    return flat


def commit_record(run: Run) -> Path:
    """Copy a run's record to the committed results."""
    path = results_root() / "runs" / f"{run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, run.record)
    return path


def _make(recipe: Recipe, folder: Path, device: str, fabric) -> None:
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    splits = _splits(recipe)
    recipe_hash = recipe.hash(_version(recipe))
    scores, curves, earlier = [], [], 0.0
    with reproducible(device):
        for fold, split in enumerate(splits):
            found, rows, spent = fit_and_score(recipe, recipe_hash, split, folder / f"fold{fold}", device, fabric)
            scores.append(found)
            earlier += spent
            curves += [{"fold": fold, **row} for row in rows]
    metrics, kept = summarise(recipe, splits, scores)
    if rank():
        return
    record = {
        "name": folder.name,
        "recipe": dataclasses.asdict(recipe),
        "data": _version(recipe),
        "videos": [{"train": len(s.train), "test": len(s.test)} for s in splits],
        "numerics": NUMERICS,
        "metrics": metrics,
        "curves": curves,
        "versions": versions(),
        "commit": commit(),
        "hardware": {**hardware(device), "processes": processes()},
        "started": started,
        "seconds": round(earlier + time.monotonic() - clock, 1),
    }
    if encoder := visual_features(recipe.dataset):
        record["features"] = encoder
    _write_run(folder, record, kept)
    if recipe.model in NETWORK_NAMES:
        for fold in range(len(splits)):
            for checkpoint in (folder / f"fold{fold}").glob("*.safetensors"):
                checkpoint.unlink()
    for half_written in folder.rglob("*.partial*"):  # what a kill left; the lock says that nobody is writing it
        half_written.unlink()


def _write_run(folder: Path, record: dict, kept: dict[str, np.ndarray]) -> None:
    scores = {name: np.ascontiguousarray(value) for name, value in kept.items()}
    write_atomically(folder / "scores.safetensors", lambda path: path.write_bytes(save(scores)))
    write_json(folder / "record.json", record)


def _splits(recipe: Recipe) -> list[Split]:
    splits = load_splits(recipe.dataset, recipe.train_videos, recipe.test_videos, recipe.changes, recipe.seed,
                         recipe.scenario, recipe.scene_bias)  # fmt: skip
    return [dataclasses.replace(split, test=evaluation_videos(split.test, recipe)) for split in splits]
