"""Runs → tables: mean ± standard deviation over seeds, beside the papers' numbers, with the names of the records.

A table is made of cells, and a cell is a :class:`Spread`: the values that it stands for stay with it until it is shown.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import metadata

import pandas as pd

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


@dataclass(frozen=True)
class Spread:
    """Values of one measure, one per seed. Shown as "12.3 ± 0.4", a single value as "12.3", none as ``blank``.

    ``signed``: a difference, "+12.3 ± 0.4".
    """

    values: tuple[float, ...] = ()
    digits: int = 1
    blank: str = "–"
    signed: bool = False

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation of a sample (divisor n − 1); NaN for fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        if not self.values:
            return self.blank
        spread = f" ± {self.sd:.{self.digits}f}" if len(self.values) > 1 else ""
        return f"{self.mean:{'+' if self.signed else ''}.{self.digits}f}{spread}".replace("-", "−")


@dataclass(frozen=True)
class Interval:
    """``difference`` of mAP in points (mean over seeds), and the ends of its 95 % bootstrap interval.

    ``seeds``: how many of how many seeds, where it is not all of them.
    """

    difference: float
    low: float
    high: float
    seeds: str = ""

    @property
    def range(self) -> str:
        return f"[{self.low:+.1f}, {self.high:+.1f}] {self.seeds}".replace("-", "−").rstrip()

    @property
    def holds_0(self) -> bool:
        return self.low <= 0 <= self.high


@dataclass(frozen=True, eq=False)
class Table:
    """A frame of cells with a note below, shown without index clutter; ``frame`` has the cells for further use."""

    frame: pd.DataFrame
    note: str = ""

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return f'<p class="table-note">{html.escape(self.note)}</p>'
        strings = self.frame.map(str)
        levels = strings.columns.nlevels
        head = ""
        for level in range(levels):
            cells, heads = "", [c if levels == 1 else c[level] for c in strings.columns]
            for name, span in _spans(heads) if level < levels - 1 else [(h, 1) for h in heads]:
                cells += f'<th colspan="{span}" scope="colgroup">{html.escape(str(name))}</th>'
            corner = html.escape(str(strings.index.name or "")) if level == levels - 1 else ""
            head += f"<tr><th>{corner}</th>{cells}</tr>"
        names = [name if isinstance(name, str) else ": ".join(map(str, name)) for name in strings.index]
        body = "".join(
            f'<tr><th scope="row">{_cell(name)}</th>' + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>"
            for name, row in zip(names, strings.to_numpy().tolist(), strict=True)
        )
        note = f'<p class="table-note">{html.escape(self.note)}</p>' if self.note else ""
        return f'<table class="dataframe results"><thead>{head}</thead><tbody>{body}</tbody></table>{note}'

    def __repr__(self) -> str:
        return self.frame.map(str).to_string() + (f"\n{self.note}" if self.note else "")


def _cell(text: str) -> str:
    """Escaped, unless it is a link."""
    return text if text.startswith("<a ") else html.escape(text)


def _spans(names: Sequence[str]) -> list[tuple[str, int]]:
    spans: list[tuple[str, int]] = []
    for name in names:
        spans[-1:] = [(name, spans[-1][1] + 1)] if spans and spans[-1][0] == name else [*spans[-1:], (name, 1)]
    return spans


class Text(str):
    """Computed sentences: a notebook shows them as text, not as code."""

    def _repr_markdown_(self) -> str:
        return str(self)


def bullets(sentences: Iterable[str]) -> Text:
    """Sentences as a list."""
    return Text("\n".join(f"- {sentence}" for sentence in sentences))


# --- runs -------------------------------------------------------------------------------------------------------------


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


# --- sentences --------------------------------------------------------------------------------------------------------


def differences(first: Sequence[Run], second: Sequence[Run], key: Key, other: Key | None = None) -> Spread:
    """``first`` − ``second`` in a metric, seed by seed (seeds that only one of them has are left out)."""
    values = {}
    for group, wanted in ((first, key), (second, other or key)):
        for run in group:
            values.setdefault(run.recipe.seed, []).extend(spread([run], wanted).values)
    return Spread(tuple(pair[0] - pair[1] for _, pair in sorted(values.items()) if len(pair) == 2))


def compare(name: str, other: str, measure: str, difference: Spread, unit: str = "points") -> str:
    """A sentence on which of two is higher, as the numbers have it."""
    count = len(difference.values)
    if not count:
        return f"{measure}: {name} and {other} have no seed in common."
    higher = sum(value > 0 for value in difference.values)
    sign = "+" if difference.mean >= 0 else "−"
    size = f"{sign}{abs(difference.mean):.{difference.digits}f}"
    if count == 1:
        return f"{measure}: {name} − {other} = {size} {unit} (one seed, so without a spread)."
    size += f" ± {difference.sd:.{difference.digits}f}"
    return f"{measure}: {name} − {other} = {size} {unit}; {name} is higher with {higher} of {count} seeds."


def ordering(difference: Spread, expected: float, interval: Interval | None = None) -> str:
    """Whether the sign of ``expected`` (the paper's difference) is that of ours, seed by seed; and whether the interval
    of ours over test videos, if there is one, holds 0."""
    count = len(difference.values)
    same, other = (sum(sign * value * expected > 0 for value in difference.values) for sign in (1, -1))
    if not count:
        return "nothing to compare"
    if not same and not other:
        return "no difference"
    if count == 1:
        words = "the same ordering as the paper's, with one seed" if same else "the other ordering, with one seed"
    elif same == count:
        words = f"the paper's ordering holds with all {count} seeds"
    elif other == count:
        words = f"reversed with all {count} seeds"
    else:
        words = f"the paper's ordering holds with {same} of {count} seeds"
    return f"{words}; the interval holds 0" if interval and interval.holds_0 else words
