"""The page on tables 6 and 7: a_s by number of labels, beside the paper's numbers and the prompt-only controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.papers import Quoted, paper_table
from proda_lib.evaluation.report import RunRows, setting, spread
from proda_lib.evaluation.robustness import KINDS

#: Column group → (row of the runs, name in the record's "robustness").
SOURCES = {
    "ours": ("DPM", "paper"),
    "prompt-only, rule": ("prompt_only", "rule"),
    "prompt-only, trained": ("prompt_only", "trained"),
}
TITLES = {"non_distractor": "non-distractor", "distractor": "distractor-injected"}
OVER_I = "± over i"
#: Below so many videos a line is named as one that says little.
FEW = 10


def cells(found: RunRows, group: str, kind: str) -> list[dict[str, dict[str, float]]]:
    """``[L][i]`` of a group, one entry a run; empty for a run that was scored before this measure was there."""
    row, name = SOURCES[group]
    return [run.metrics.get("robustness", {}).get(name, {}).get(kind, {}) for run in found[row]]


def label_counts(found: RunRows, kind: str) -> list[str]:
    """Every L that the runs have, in order; without runs, every L of the paper's table."""
    counts = {L for group in SOURCES for lines in cells(found, group, kind) for L in lines}
    return sorted(counts or {row for row, _ in paper_table(KINDS[kind])}, key=int)


def table(found: RunRows, kind: str) -> Table:
    """paper | ours | controls, a line for each L that is there: mean over i, and the deviation over i beside it."""
    paper, counts = paper_table(KINDS[kind]), label_counts(found, kind)
    quoted = [paper.get((L, "a_s"), Quoted()) for L in counts]
    columns: dict[tuple[str, str], list[Spread]] = {
        ("paper", "mean"): [*quoted],
        ("paper", OVER_I): [cell.deviation for cell in quoted],
    }
    for group in SOURCES:
        lines = cells(found, group, kind)
        for column, measure in (("mean", "mean"), (OVER_I, "sd")):
            columns[group, column] = [Spread(tuple(line[L][measure] for line in lines if L in line)) for L in counts]
    columns["test", "videos"] = [videos(found, L) for L in counts]
    frame = pd.DataFrame(columns, index=pd.Index(counts, name="L"))
    rule = "classes without positives are skipped (empty = skip), so no-action never counts"
    return Table(frame, f"{setting(found)} a_s, mAP in percent; {rule}. ± in a cell: over seeds.")


def videos(found: RunRows, L: str) -> Spread:
    """How many test videos have L labels."""
    return Spread(spread(found["DPM"][:1], f"robustness/paper/videos/{L}").values, digits=0)


def grid(found: RunRows, group: str, kind: str) -> Float[np.ndarray, "L L"]:
    """Cells (L, i) as an array, mean over seeds; NaN where there are no rows."""
    numbers = [str(n + 1) for n in range(int(label_counts(found, kind)[-1]))]
    lines = cells(found, group, kind)
    return np.array([[Spread(tuple(line[L][i] for line in lines if i in line.get(L, {}))).mean for i in numbers]
                     for L in numbers])  # fmt: skip


def grids(found: RunRows) -> dict[tuple[str, str], Float[np.ndarray, "L L"]]:
    """:func:`grid` of every kind and group, by (title, group)."""
    return {(title, group): grid(found, group, kind) for kind, title in TITLES.items() for group in SOURCES}


def differences(found: RunRows) -> dict[tuple[str, str], Float[np.ndarray, "L L"]]:
    """Ours − the trained control in every cell, by (title, what is subtracted)."""
    control = "prompt-only, trained"
    return {(title, f"ours − {control}"): grid(found, "ours", kind) - grid(found, control, kind)
            for kind, title in TITLES.items()}  # fmt: skip


def findings(found: RunRows) -> Text:
    """In how many cells ProDA is above each control, and what the controls reach, on the mean over seeds."""
    sentences = []
    for kind, title in TITLES.items():
        place = f"Table {int(KINDS[kind].removeprefix('table'))} ({title})"
        ours = grid(found, "ours", kind)
        for group in list(SOURCES)[1:]:
            control = grid(found, group, kind)
            both = np.isfinite(ours) & np.isfinite(control)
            if both.any():
                away, count = (ours - control)[both], both.sum()
                many = both & np.array([[videos(found, str(L + 1)).mean >= FEW] for L in range(len(ours))])
                thick = Spread(((ours - control)[many].mean(),), signed=True) if many.any() else None
                rest = f", {thick} where at least {FEW} videos have L labels" if thick else ""
                sentences.append(
                    f"{place}: ProDA is above the {group} control in {(away > 0).sum()} of {count} cells and equal in "
                    f"{(away == 0).sum()}; mean difference {Spread((away.mean(),), signed=True)} points"
                    f"{rest}."
                )
        rule = grid(found, "prompt-only, rule", kind)
        if np.isfinite(rule).any():
            values = rule[np.isfinite(rule)]
            sentences.append(
                f"{place}: the rule, which sees no video, has a mean of {values.mean():.1f} over its {len(values)} "
                f"cells, and 100.0 in {np.isclose(values, 100).sum()} of them."
            )
    few = [L for L in label_counts(found, "distractor") if videos(found, L).values and videos(found, L).mean < FEW]
    if few:
        listed = ", ".join(few)
        sentences.append(f"For L = {listed} there are fewer than {FEW} test videos each: these lines say little.")
    return bullets(sentences or ["Nothing to compare: these runs were scored before this measure was there."])
