"""Beyond the paper: one setting at a time, with the controls beside it."""

from __future__ import annotations

import pandas as pd

from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.report import Spread, Table
from proda_lib.pages.ablations import ANSWERS


def sweep_table(found: Recorded) -> Table:
    """A line a value; the first value of each sweep is the default's. The control changes with the input only."""
    lines, index = [], []
    for row in found.runs:
        if row.startswith("no_prompt, "):
            continue
        control = cell(found, f"no_prompt, {row}", "a_t/map") if f"no_prompt, {row}" in found.runs else Spread()
        lines.append([*(cell(found, row, key) for key in ANSWERS.values()), control])
        index.append(tuple(row.split(": ")))
    columns = pd.MultiIndex.from_tuples([("ProDA", label) for label in ANSWERS] + [("control", "no_prompt")])
    frame = pd.DataFrame(lines, columns=columns, index=pd.MultiIndex.from_tuples(index))
    return Table(frame, f"{found.note} {RULES} a_t: the paper's protocol, both kinds of specification.")
