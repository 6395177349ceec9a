"""The papers' own numbers, kept as data: ``results/paper/NAME.csv``, one row a cell."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass

from proda_lib.errors import DataError
from proda_lib.evaluation.cells import Spread
from proda_lib.paths import results_root

COLUMNS = ("table", "row", "column", "value", "spread", "unit")


@dataclass(frozen=True)
class Quoted(Spread):
    """A number as the paper prints it. ``deviation``: what stands after its ±, if anything does."""

    deviation: Spread = Spread()


def paper_table(name: str) -> dict[tuple[str, str], Quoted]:
    """Numbers of ``results/paper/NAME.csv`` by (row, column).

    Raises:
        DataError: the file is missing or malformed; the message names row and column.
    """
    path = results_root() / "paper" / f"{name}.csv"
    try:
        with open(path, newline="") as file:
            reader = csv.reader(file)
            header, rows = next(reader, []), list(reader)
    except OSError as error:
        raise DataError(path, "file", str(error), "a table of a paper") from error
    if tuple(header) != COLUMNS:
        raise DataError(path, "header", ",".join(header), ",".join(COLUMNS))
    found: dict[tuple[str, str], Quoted] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != len(COLUMNS):
            raise DataError(path, f"row {number}", f"{len(row)} fields", f"{len(COLUMNS)} fields")
        entry = dict(zip(COLUMNS, row, strict=True))
        place = entry["row"], entry["column"]
        if not all(entry[key] for key in ("table", "row", "column", "unit")):
            raise DataError(path, f"row {number}", "an empty field", "table, row, column and unit")
        if place in found:
            raise DataError(path, f"row {number}", f"{place} again", "each row and column once")
        try:
            value, spread = float(entry["value"]), tuple(float(text) for text in [entry["spread"]] if text)
        except ValueError as error:
            raise DataError(path, f"row {number}", str(error), "numbers as value and spread") from error
        if not all(map(math.isfinite, (value, *spread))):
            raise DataError(path, f"row {number}", entry, "finite numbers")
        digits = len(entry["value"].partition(".")[2])
        found[place] = Quoted((value,), digits, deviation=Spread(spread))
    return found
