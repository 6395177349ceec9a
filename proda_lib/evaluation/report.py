"""Runs → tables: mean ± standard deviation over seeds, beside the papers' numbers, with the names of the records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import metadata

import pandas as pd

from proda_lib.evaluation.cells import Spread, Table
from proda_lib.evaluation.tables import Rows
from proda_lib.training import runs
from proda_lib.training.recipe import NETWORK_NAMES, command
from proda_lib.training.runs import Run, flatten

#: Finished runs by row: name → one run per seed.
RunRows = dict[str, list[Run]]
#: Name of a metric in a run's record ("paper/both/a_t"), or several, of which the first that the run has is taken.
Key = str | tuple[str, ...]

DATASETS = {"world": "SSG-World", "cad120": "CAD-120", "cad120_clips": "CAD-120, clips",
            "action_genome": "Action Genome"}  # fmt: skip


def get_runs(rows: Rows, device: str = "cpu", weights: bool = False) -> RunRows:
    """The runs of each row: read if they are there, else trained. Without ``weights`` a committed record will do."""
    make = runs.get if weights else runs.get_numbers
    return {name: [make(recipe, device) for recipe in recipes] for name, recipes in rows.items()}


def committed_runs(rows: Rows) -> RunRows:
    """The committed records of each row, as far as there are any; they have metrics, but no weights."""
    found = {name: [run for recipe in recipes if (run := runs.committed(recipe))] for name, recipes in rows.items()}
    return {name: kept for name, kept in found.items() if kept}


def spread(found: Iterable[Run], key: Key) -> Spread:
    """One metric of several runs; runs that do not have it are left out."""
    keys = (key,) if isinstance(key, str) else key
    values = []
    for run in found:
        flat = flatten(run.metrics)
        values += [float(flat[k]) for k in keys if k in flat][:1]
    return Spread(tuple(values))


def frame_of(
    lines: dict[str, Key], columns: dict[tuple[str, str], tuple[Sequence[Run], str]], corner: str = ""
) -> pd.DataFrame:
    """A frame of :class:`Spread`, a line a metric.

    Args:
        lines: label → key. ``columns``: (group, name) → runs, and what stands before the key in their records.
        corner: head of the first column.
    """
    cells = {
        column: [spread(found, tuple(prefix + k for k in ((key,) if isinstance(key, str) else key)))
                 for key in lines.values()]
        for column, (found, prefix) in columns.items()
    }  # fmt: skip
    return pd.DataFrame(cells, index=pd.Index(list(lines), name=corner))


def without_empty_lines(frame: pd.DataFrame, group: str | None = None) -> pd.DataFrame:
    """Drop the lines in which no cell (of a column group) has a value."""
    cells = frame if group is None else frame[[group]]
    return frame[[any(cell.values for cell in line) for line in cells.to_numpy()]]


# --- what the runs are ------------------------------------------------------------------------------------------------


def setting(found: RunRows) -> str:
    """One sentence on data, size and seeds, from the records: for the note below a table."""
    some = [run for group in found.values() for run in group]
    if not some:
        return "No runs."

    recipes = [run.recipe for run in some]
    names = _listed(DATASETS.get(r.dataset, r.dataset) for r in recipes)
    first = some[0].record["videos"]
    what = "clips" if recipes[0].dataset == "cad120_clips" else "videos"
    size = f"{first[0]['train']} training and {first[0]['test']} test {what}"
    if len(first) > 1:
        size = f"{len(first)} folds, {sum(fold['test'] for fold in first)} test {what}"
    seeds = sorted({r.seed for r in recipes})
    versions = [part for run in some for part in run.record["data"].split(", ")]  # a start has the version of the data
    return (f"{names}, data version {_listed(versions)}; profile "
            f"{_listed(r.profile for r in recipes)}; {size}; seed{'s' * (len(seeds) > 1)} {_listed(seeds)}"
            f"{' (mean ± standard deviation)' if len(seeds) > 1 else ''}; best epoch by "
            f"{_listed(r.select for r in recipes)}.")  # fmt: skip


def about(run: Run) -> list[str]:
    """Sentences on a run: what was trained, on what, and which specifications it has met."""
    recipe = run.recipe
    met = "It was trained on specifications of present actions, and of present and absent ones up to a fixed length. "
    met += (
        "It has also met single absent actions."
        if recipe.absent_singles or recipe.absent_row
        else "It never met an absent action in a shorter one: what it answers to such a question is an extrapolation."
    )
    return [f"Run {run.name}. {setting({'ProDA': [run]})}", met]


def network_size(found: RunRows) -> str:
    """One sentence on how large the networks are and how long they train: for pages whose sizes are their own."""
    some = [run.recipe for group in found.values() for run in group if run.recipe.model in NETWORK_NAMES]
    epochs = ", ".join(f"{first} + {second}" for first, second in
                       sorted({(r.pretrain_epochs, r.posttrain_epochs) for r in some}))  # fmt: skip
    return (f"Networks: width {_listed(r.width for r in some)}, {_listed(r.frames for r in some)} frames, "
            f"{epochs} epochs (the two stages).")  # fmt: skip


def _listed(values: Iterable) -> str:
    return ", ".join(map(str, sorted(set(values))))


def repository() -> str:
    """Address of the project's repository, from the package's metadata."""
    links = (entry.partition(", ") for entry in metadata("proda-lib").get_all("Project-URL") or [])
    return next((address for name, _, address in links if name == "Repository"), "")


def records(found: RunRows) -> Table:
    """Which runs a table was made of. Those of profile "reference" are committed, and link to their record."""
    lines, seen = [], set()
    for row, group in found.items():
        for run in group:
            if run.name in seen:
                continue
            seen.add(run.name)
            record, name = run.record, run.name
            if run.recipe.profile == "reference":
                name = f'<a href="{repository()}/blob/main/results/runs/{run.name}.json">{run.name}</a>'
            device = record["hardware"].get("gpu", record["hardware"]["device"])
            lines.append((row, run.recipe.seed, name, f"{record['seconds']:.0f} s", device, record["commit"] or "–",
                          rerun_command(run)))  # fmt: skip
    frame = pd.DataFrame(lines, columns=["row", "seed", "record", "time", "device", "commit", "command"])
    return Table(frame.set_index("row"), "Recipe, versions, curves and all metrics: results/runs/ (committed) or the "
                 "run store.")  # fmt: skip


def rerun_command(run: Run) -> str:
    """The command that makes a run again, with its number of threads: sums over another have other last digits.

    Without the number for the few records of before it was kept.
    """
    count = run.record["hardware"].get("threads")
    return f"OMP_NUM_THREADS={count} " * bool(count) + command(run.recipe)
