"""Beyond the paper: one setting at a time, with the controls beside it."""

from __future__ import annotations

import pandas as pd

from proda_lib.evaluation.cells import Spread, Table
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.report import Key
from proda_lib.pages.ablations import ANSWERS


def sweep_table(found: Recorded) -> Table:
    """A line a value; the first value of each sweep is the default's. A control is there where it changes: without a
    prompt with the input, prompt-only with the questions."""
    controls: dict[tuple[str, str], tuple[str, Key]] = {
        ("control", "no_prompt"): ("no_prompt", "a_t/map"),
        ("control", "prompt-only, a_t"): ("prompt_only", "trained/both/a_t"),
    }
    lines, index = [], []
    for row in found.runs:
        if row.startswith(("no_prompt, ", "prompt_only, ")):
            continue
        beside = [cell(found, f"{model}, {row}", key) if f"{model}, {row}" in found.runs else Spread()
                  for model, key in controls.values()]  # fmt: skip
        lines.append([*(cell(found, row, key) for key in ANSWERS.values()), *beside])
        index.append(tuple(row.split(": ")))
    columns = pd.MultiIndex.from_tuples([*(("ProDA", label) for label in ANSWERS), *controls])
    frame = pd.DataFrame(lines, columns=columns, index=pd.MultiIndex.from_tuples(index))
    return Table(frame, f"{found.note} {RULES} a_t and a_u: the paper's protocol, both kinds of specification.")
