"""``python -m benchmarks [--quick] [--json FILE] [--device cpu|cuda] [--only NAME]``: library against yardsticks.

Both sides are timed in one process, in turn. ``ratio`` is reference / ours (for matmul_fraction: ours / reference), so
larger is better in every row; the spread is the interquartile range over the median, the larger one of the two sides.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cases import FULL, NAMES, QUICK, WIDTHS, Row, scan_rows, step_rows
from benchmarks.measure import describe


def table(rows: list[Row], machine: dict[str, object]) -> Table:
    """All rows, for a terminal."""

    def number(value: float | None, form: str = ".3g") -> str:
        return "–" if value is None else format(value, form)

    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    shown = Table(title=f"{where}, torch {machine['torch']}", caption="ratio: larger is better")
    for title in ("name", "reference", "ours", "unit", "ratio", "spread", "repeats", "note"):
        figures = title in ("reference", "ours", "ratio", "spread", "repeats")
        shown.add_column(title, justify="right" if figures else "left", no_wrap=title != "note")
    for row in rows:
        ratio = number(row.ratio, ".2f")
        shown.add_row(row.name, number(row.reference), number(row.ours), row.unit, ratio, number(row.spread, ".0%"),
                      " / ".join(map(str, row.repeats)), row.note)  # fmt: skip
    return shown


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description="The library against its yardsticks.")
    parser.add_argument("--quick", action="store_true", help="few repeats; under three minutes on two cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write machine and rows to FILE")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", metavar="NAME", default="*", help="a row, with or without @d768; * and ? match")
    given = parser.parse_args()
    wanted = {name for name in NAMES if fnmatch(name, given.only) or fnmatch(name.split("@")[0], given.only)}
    if not wanted:
        parser.error(f"--only: found {given.only!r}, expected one of {', '.join(NAMES)}")
    console, plan, start = Console(), QUICK if given.quick else FULL, time.perf_counter()
    if not console.is_terminal:
        console.width = 160  # a file has no edge to wrap at
    machine, rows = describe(given.device), []
    for width in WIDTHS:
        for measure in (step_rows, scan_rows):
            with console.status(f"D = {width}: {measure.__name__.split('_')[0]}"):
                rows += measure(width, plan, given.device, wanted)
    console.print(table(rows, machine))
    console.print(f"{time.perf_counter() - start:.0f} s")
    if given.json:
        written = {"machine": machine, "rows": [dataclasses.asdict(row) for row in rows]}
        given.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
