"""Pages of the grid read finished runs and never train: what is missing is named, with the command that makes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from proda_lib.datasets.registry import installed
from proda_lib.errors import DataError
from proda_lib.evaluation.cells import Spread, Table
from proda_lib.evaluation.report import Key, RunRows, get_runs, rerun_command, setting, spread
from proda_lib.evaluation.tables import Rows
from proda_lib.training import runs
from proda_lib.training.recipe import Recipe, command

#: Profiles that train what a page shows while the page is executed.
SMALL = ("smoke", "quick")


@dataclass(frozen=True, repr=False)
class Recorded:
    """Finished runs of a table, by row, and the recipes that were not run yet.

    Attributes:
        runs: row → its runs, one per seed that was run; every row of the table is there, if only as an empty list.
        missing: row → recipes without a run. ``source``: which profile the runs are of, for the note below a table.
    """

    runs: RunRows
    missing: dict[str, list[Recipe]] = field(default_factory=dict)
    source: str = ""

    @property
    def note(self) -> str:
        """Data, size, seeds; which profile; how many runs are missing."""
        missing = sum(map(len, self.missing.values()))
        rest = f" {missing} of {missing + sum(map(len, self.runs.values()))} runs were not run yet." if missing else ""
        return f"{self.source} {setting(self.runs)}{rest}"

    def __repr__(self) -> str:
        return self.note

    _repr_markdown_ = __repr__


def read(rows: Rows) -> Recorded:
    """The runs of these recipes: from the run store, or as committed records."""
    found: RunRows = {name: [] for name in rows}
    missing: dict[str, list[Recipe]] = {}
    for name, recipes in rows.items():
        for recipe in recipes:
            if run := runs.find(recipe) or runs.committed(recipe):
                found[name].append(run)
            else:
                missing.setdefault(name, []).append(recipe)
    return Recorded(found, missing)


def recorded(
    table: Callable[..., Rows], profile: str, seeds: Sequence[int] = (0, 1, 2), dataset: str = "world"
) -> Recorded:
    """Runs of this profile if there are any, else those of profile "reference"; ``source`` says which.

    The small profiles train a few rows on other pages: theirs are read only where every row has one.
    """
    found = read(table(profile, seeds, dataset))
    there = all if profile in SMALL else any
    if there(found.runs.values()) or profile == "reference":
        return Recorded(found.runs, found.missing, f"Profile {profile}, read, not computed on this page.")
    instead = read(table("reference", seeds, dataset))
    which = "some of these rows" if any(found.runs.values()) else "these rows"
    source = f"Profile {profile} has no runs of {which}: these are the committed records of profile reference."
    return Recorded(instead.runs, instead.missing, source)


def made_or_read(
    table: Callable[..., Rows], profile: str, seeds: Sequence[int], dataset: str = "world", device: str = "cpu"
) -> Recorded:
    """For the few pages that small profiles compute: "smoke" and "quick" train what is missing, others only read.

    Of a data set that is not installed, all only read.
    """
    if profile in SMALL and _can_be_read(dataset):
        return Recorded(get_runs(table(profile, seeds, dataset), device), {}, f"Profile {profile}, computed here.")
    return recorded(table, profile, seeds, dataset)


def _can_be_read(dataset: str) -> bool:
    with contextlib.suppress(DataError):
        return dataset == "world" or installed(dataset.removesuffix("_clips"), "annotations").is_dir()
    return False


def cell(found: Recorded, row: str, key: Key) -> Spread:
    """One metric of a row's runs; a row without runs says "not run"."""
    values = spread(found.runs.get(row, []), key).values
    return Spread(values, blank="–" if found.runs.get(row) else "not run")


def commands(found: Recorded) -> Table:
    """The command that makes each cell again, run or not run yet."""
    lines = []
    for row, group in found.runs.items():
        for run in group:
            lines.append((row, run.recipe.seed, run.name, rerun_command(run)))
        for recipe in found.missing.get(row, []):
            lines.append((row, recipe.seed, "not run", "OMP_NUM_THREADS=1 " + command(recipe)))
    frame = pd.DataFrame(lines, columns=["row", "seed", "record", "command"]).drop_duplicates("command")
    note = "The same command gives the same numbers, bit for bit on the same machine."
    if not frame["command"].str.startswith("OMP_NUM_THREADS=").all():
        note += " A command without a number of threads is of a record from before it was kept."
    return Table(frame.set_index("row"), note)
