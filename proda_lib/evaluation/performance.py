"""Measured speed: the records that ``python -m benchmarks --json`` writes, the goals, and tables of both.

A record is one machine: ``results/benchmarks/NAME.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from proda_lib.evaluation.cells import Table, Text, bullets
from proda_lib.files import read_json
from proda_lib.paths import results_root

COMMAND = "python -m benchmarks --json results/benchmarks/NAME.json"


@dataclass(frozen=True)
class Goal:
    """What was wanted of a row: ``column`` ("ratio" or "ours") at least ``value``, or at most."""

    row: str
    value: float
    column: str = "ratio"
    at_least: bool = True

    def __str__(self) -> str:
        return f"{self.column} {'≥' if self.at_least else '≤'} {self.value:g}"

    def verdict(self, row: dict | None) -> str:
        """What was found, and whether it is what was wanted."""
        found = row and row[self.column]
        if found is None:
            return "not measured" + (f" ({row['note']})" if row and row.get("note") else "")
        met = found >= self.value if self.at_least else found <= self.value
        return f"{found:.3g}, {'reached' if met else '**missed**'}"


#: On two cores, single precision; and on a GPU of the H100's class, where two_stage_training is the paper's training on
#: a data set of Action Genome's size, in seconds.
GOALS: dict[str, tuple[Goal, ...]] = {
    "cpu": (
        Goal("train_step_sparse@d768", 3),
        Goal("train_step_dense@d768", 1.3),
        Goal("peak_memory@d768", 3),
        Goal("scan@d768", 6),
        Goal("matmul_fraction@d768", 0.65),
        Goal("train_step_bf16@d768", 1.4),
        Goal("data_loading", 1),
        Goal("import_proda_lib", 2.5, "ours", at_least=False),
        Goal("cli_help", 1, "ours", at_least=False),
    ),
    "cuda": (
        Goal("train_step_sparse@d768", 6),
        Goal("matmul_fraction_bf16@d768", 0.4),
        Goal("scan@d768", 0.02, "ours", at_least=False),
        Goal("two_stage_training", 1800, "ours", at_least=False),
        Goal("data_loading", 1),
    ),
}


@dataclass(frozen=True)
class Record:
    """What was measured on one machine; see ``benchmarks/`` for the entries of each part."""

    name: str
    machine: dict
    rows: dict[str, dict]
    roofline: list[dict]
    curves: list[dict]

    @property
    def title(self) -> str:
        """The machine, in short."""
        threads = self.machine["threads"]
        return self.machine.get("gpu") or f"{self.machine['cpu']}, {threads} thread{'s' * (threads > 1)}"

    @property
    def goals(self) -> tuple[Goal, ...]:
        return GOALS[self.machine["device"]]

    @property
    def later(self) -> dict[str, list[str]]:
        """Commit → what was measured again there, after the rest (``--only``)."""
        parts = [*self.rows.items(), *(("roofline", point) for point in self.roofline)]
        parts += [("curves", point) for point in self.curves]
        found: dict[str, dict[str, None]] = {}
        for name, part in parts:
            if "commit" in part:
                found.setdefault(str(part["commit"]), {})[name] = None
        return {commit: list(names) for commit, names in found.items()}

    @classmethod
    def read(cls, path: Path) -> Record:
        """Raises :class:`~proda_lib.errors.DataError` if the file is not a record."""

        def check(found: dict) -> Record:
            rows = {row["name"]: row for row in found["rows"]}
            record = cls(path.stem, found["machine"], rows, found.get("roofline", []), found.get("curves", []))
            _ = record.title, record.goals  # names that pages need
            return record

        return read_json(path, check, f"what {COMMAND} writes")


def records() -> list[Record]:
    """All records, those of processors first."""
    found = [Record.read(path) for path in sorted((results_root() / "benchmarks").glob("*.json"))]
    return sorted(found, key=lambda record: record.machine["device"] != "cpu")


def state(found: Sequence[Record]) -> Text:
    """Which machines were measured, at which commits, and which kind was not."""
    sentences = []
    for record in found:
        machine = record.machine
        day = machine.get("date", "on an unknown day")
        told = [f"PyTorch {machine['torch']}", machine["system"], f"measured {day}"]
        told += [f"commit {machine['commit']}"] if machine.get("commit") else []
        for commit, names in record.later.items():
            count = sum(name in record.rows for name in names)
            parts = [f"{count} of {len(record.rows)} rows"] * bool(count) + [n for n in names if n not in record.rows]
            told.append(f"but at commit {commit}: {' and '.join(parts)}")
        sentences.append(f"`{record.name}`: {record.title}; {', '.join(told)}.")
    for device, kind in (("cpu", "a processor"), ("cuda", "a GPU")):
        if all(record.machine["device"] != device for record in found):
            option = " --device cuda" if device == "cuda" else ""
            sentences.append(f"**No record of {kind} is committed**, so there is no number from one on this page. "
                             f"`{COMMAND}{option}` makes one.")  # fmt: skip
    return bullets(sentences)


def table(found: Sequence[Record]) -> Table:
    """Every measured row of every record."""
    lines = {}
    for record in found:
        goals = {goal.row: goal for goal in record.goals}
        for name, row in record.rows.items():
            repeats = " / ".join(map(str, row["repeats"])) or "–"
            once = row["spread"] is None or 1 in row["repeats"]
            spread = "–" if once else f"{row['spread']:.0%}"
            lines[f"{record.name}: {name}" if len(found) > 1 else name] = {
                "reference": _figures(row["reference"]), "ours": _figures(row["ours"]), "unit": row["unit"],
                "ratio": _figures(row["ratio"]), "goal": str(goals.get(name, "–")), "spread": spread,
                "repeats": repeats,
            }  # fmt: skip
    if not lines:
        return Table(pd.DataFrame(), "Nothing is measured yet.")
    note = ("Ratio: larger is better. Spread: interquartile range over median, the larger one of the two sides, or – "
            "where one of them was measured once. Repeats: how often the reference / the library was measured; a row "
            "with one number, the library.")  # fmt: skip
    frame = pd.DataFrame.from_dict(lines, orient="index")
    frame.index.name = "row"
    return Table(frame, note)


def _figures(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def verdicts(found: Sequence[Record]) -> Text:
    """For each goal, what was found; misses, and goals for a kind of machine that has no record, are named as such."""
    lines = [f"{record.name}, `{goal.row}`: wanted {goal}, found {goal.verdict(record.rows.get(goal.row))}."
             for record in found for goal in record.goals]  # fmt: skip
    for device, kind in (("cpu", "CPU"), ("cuda", "GPU")):
        if all(record.machine["device"] != device for record in found):
            lines += [f"{kind}, `{goal.row}`: wanted {goal}, not measured (no {kind})." for goal in GOALS[device]]
    return bullets(lines)


def slower(found: Sequence[Record]) -> Text:
    """Every row, and every point of the cost curves, in which the library is behind what it is compared with.

    Shares of the machine's matrix products are left out: they are below 1 by what they are.
    """
    lines = []
    for record in found:
        for name, row in record.rows.items():
            if row["ratio"] is not None and row["ratio"] < 1 and not name.startswith("matmul_fraction"):
                note = f" ({row['note']})" if row.get("note") else ""
                lines.append(f"{record.name}, `{name}`: {row['ratio']:.3g}{note}.")
        for point in record.curves:
            for side, kind in (("fair", "fair"), ("reference", "straightforward")):
                if (ratio := point[side] / point["ours"]) < 1:
                    place = f"cost curve of {point['axis']}, at {point['value']}"
                    lines.append(f"{record.name}, {place}: {ratio:.3g} of the {kind} yardstick.")
    if not lines:
        return Text("No measured ratio is below 1." if found else "Nothing is measured yet.")
    return Text(f"The library is behind what it is compared with here (reference / library):\n\n{bullets(lines)}")


def bounds(found: Sequence[Record]) -> Table:
    """What a step's time is made of: what its products, and its bytes, would take alone at the machine's own rates."""
    lines = {}
    for record in found:
        rate, copy = record.machine.get("matmul_gflop_per_s"), record.machine["copy_gb_per_s"]
        for point in record.roofline if rate else ():
            seconds = point["seconds"]
            lines[f"{record.name}: {point['name']}" if len(found) > 1 else point["name"]] = {
                "GFLOP": f"{point['flops'] / 1e9:.3g}",
                "useful": f"{point['useful_flops'] / point['flops']:.0%}",
                "GB": f"{point['bytes'] / 1e9:.3g}",
                "seconds": f"{seconds:.3g}",
                "products alone": f"{point['flops'] / 1e9 / rate / seconds:.0%}",
                "bytes alone": f"{point['bytes'] / 1e9 / copy / seconds:.0%}",
            }
    if not lines:
        return Table(pd.DataFrame(), "No record has a roofline yet.")
    frame = pd.DataFrame.from_dict(lines, orient="index")
    frame.index.name = "training step"
    return Table(frame, "Useful: share of the products that what exists needs, each done once. Products, bytes alone: "
                 "the time at the rate of a matrix product, of a copy, as a share of the step; caches can bring "
                 "the bytes above 100 %.")  # fmt: skip
