"""Beyond the paper: one setting at a time, with the controls beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from proda_lib.evaluation.grid import Recorded, cell, read
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.report import Spread, Table
from proda_lib.evaluation.tables import sweeps
from proda_lib.pages.ablations import ANSWERS


def sweep_runs(profile: str, seeds: Sequence[int] = (0,), dataset: str = "world") -> dict[str, Recorded]:
    """Runs of every sweep, by its label; of profile "reference" where this profile has none."""
    found = {label: read(rows) for label, rows in sweeps(profile, seeds, dataset).items()}
    source = f"Profile {profile}, read, not computed on this page."
    if profile != "reference" and not any(any(f.runs.values()) for f in found.values()):
        found = {label: read(rows) for label, rows in sweeps("reference", seeds, dataset).items()}
        source = f"No run of profile {profile} is there: these are the committed records of profile reference."
    return {label: Recorded(f.runs, f.missing, source) for label, f in found.items()}


def sweep_table(found: dict[str, Recorded]) -> Table:
    """A line a value; the first value of each sweep is the default's. The control changes with the input only."""
    lines, index = [], []
    for label, runs in found.items():
        for row in runs.runs:
            if row.startswith("no_prompt, "):
                continue
            control = cell(runs, f"no_prompt, {row}", "a_t/map") if f"no_prompt, {row}" in runs.runs else Spread()
            lines.append([*(cell(runs, row, key) for key in ANSWERS.values()), control])
            index.append((label, row))
    columns = pd.MultiIndex.from_tuples([("ProDA", label) for label in ANSWERS] + [("control", "no_prompt")])
    frame = pd.DataFrame(lines, columns=columns, index=pd.MultiIndex.from_tuples(index))
    missing = sum(sum(map(len, f.missing.values())) for f in found.values())
    rest = f" {missing} runs were not run yet." if missing else ""
    notes = next(iter(found.values())).source if found else ""
    return Table(frame, f"{notes}{rest} {RULES} a_t: the paper's protocol, both kinds of specification.")


def merged(found: dict[str, Recorded]) -> Recorded:
    """All sweeps as one, for the list of commands."""
    runs = {f"{label}: {row}": group for label, one in found.items() for row, group in one.runs.items()}
    missing = {f"{label}: {row}": group for label, one in found.items() for row, group in one.missing.items()}
    return Recorded(runs, missing)
