"""Tables 4, 5, 12 and 13: variants of ProDA, before and after the second stage, with controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from proda_lib.evaluation import paired
from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.differences import compare, differences
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.report import Key, spread
from proda_lib.evaluation.tables import Rows

#: Column → key. a_t and a_u are the paper's protocol over both kinds of specification. The encoder alone and
#: ``no_prompt`` have one answer, which stands beside a_m.
ANSWERS: dict[str, Key] = {
    "a_t": "paper/both/a_t",
    "a_t, stage 1": "pretrain/both/a_t",
    "a_m": ("a_m/map", "a_t/map"),
    "a_s by partition": "label_free/partition/a_s/map",
    "a_u": "paper/both/a_u",
}
#: Lines of the controls → row of the table, and what stands for the columns that they have.
CONTROLS: dict[str, tuple[str, dict[str, Key]]] = {
    "prompt only, rule": (
        "prompt_only",
        {"a_t": "rule/both/a_t", "a_t, stage 1": "rule/both/a_t", "a_u": "rule/both/a_u"},
    ),
    "prompt only, trained": (
        "prompt_only",
        {"a_t": "trained/both/a_t", "a_t, stage 1": "trained/both/a_t", "a_u": "trained/both/a_u"},
    ),
    "no_prompt": ("no_prompt", {"a_m": "a_t/map", "a_s by partition": "a_t/map"}),
}
#: Paper's tables 12 and 13 name the stages.
STAGES = {"post-train": "a_t", "pre-train": "a_t, stage 1"}


def quoted(tables: Sequence[str]) -> dict[str, dict[str, Spread]]:
    """The paper's numbers: column of ours → row → number."""
    found: dict[str, dict[str, Spread]] = {}
    for name in tables:
        for (row, column), value in paper_table(name).items():
            found.setdefault(STAGES.get(column, column), {})[row] = value
    return found


def ablation_table(found: Recorded, variants: Sequence[str], tables: Sequence[str]) -> Table:
    """paper | ours, a line a variant, then a line a control.

    Args:
        variants: rows, as they are named in the paper's tables. ``tables``: names of the paper's tables.
    """
    paper, cells = quoted(tables), {}
    lines = [*variants, *CONTROLS]
    for label in ANSWERS:
        if label in paper:
            cells["paper", label] = [paper[label].get(line, Spread()) for line in lines]
    for label, key in ANSWERS.items():
        ours = [cell(found, row, key) for row in variants]
        for row, keys in CONTROLS.values():
            ours.append(cell(found, row, keys[label]) if label in keys else Spread())
        cells["ours", label] = ours
    frame = pd.DataFrame(cells, index=pd.Index(lines, name="variant"))
    note = (
        f"{found.note} {RULES} a_t and a_u: the paper's protocol, both kinds of specification, no-action counts in a_u."
    )
    return Table(
        frame, f"{note} The last lines are controls: a question without a video, and a video without a question."
    )


def active_terms(found: Recorded, variants: Sequence[str]) -> Table:
    """How large a term of the loss was in stage 1, above its margin: a term that is 0 changes nothing."""
    lines = {}
    for row in variants:
        epochs = [c for run in found.runs.get(row, []) for c in run.curves if c["stage"] == "pretrain"]
        means = {term: _mean_and_share(epochs, term) for term in ("dis", "rec", "a_u")}
        blank = "not in the loss" if epochs else "not run"
        lines[row] = {
            "disentanglement": "{:.4f} ({:.1%})".format(*means["dis"]) if means["dis"] else blank,
            "reconstruction": "{:.4f} ({:.1%})".format(*means["rec"]) if means["rec"] else blank,
            "BCE of a_u, for scale": "{:.3f}".format(*means["a_u"]) if means["a_u"] else blank,
        }
    frame = pd.DataFrame(lines).T.rename_axis("variant")
    note = (
        "Mean over the steps of stage 1; in brackets the share of steps that lie in a stretch (of at most 20 steps, "
        "noted as one mean) in which the term was above 0 at all. Every epoch counts the same."
    )
    return Table(frame, note)


def _mean_and_share(epochs: Sequence[dict], term: str) -> tuple[float, float] | None:
    """Mean of a term over the steps of these epochs, and the share of steps in stretches in which it was above 0.

    A trace says of each stretch where in the epochs it ends, and so which share of its epoch's steps it holds.
    """
    epochs = [c for c in epochs if term in c["trace"]]
    if not epochs:
        return None
    values = np.concatenate([c["trace"][term] for c in epochs])
    steps = np.concatenate([np.diff(c["trace"]["epoch"], prepend=c["epoch"] - 1) for c in epochs])
    return np.average(values, weights=steps), np.average(values > 0, weights=steps)


def _alone(found: Recorded, row: str) -> bool:
    return any(run.recipe.model == "encoder_only" for run in found.runs.get(row, []))


def ablation_differences(found: Recorded, table: Callable[..., Rows], tables: Sequence[str]) -> Table:
    """This variant minus that one, for the pairs of the table: paper, ours, interval, ordering."""
    paper = {label: {row: value.mean for row, value in rows.items()} for label, rows in quoted(tables).items()}
    before = "a_t, stage 1"
    stage_1 = {before: ANSWERS[before]} if before in paper else {}
    keys = {"a_t": paired.KEYS["a_t"], **stage_1, **paired.KEYS}
    return paired.difference_table(found, paired.PAIRS[table], paper, keys)


def seed_findings(found: Recorded, row: str) -> Text:
    """The answers of each seed of a row, one by one."""
    return bullets(
        f"{row}, seed {run.recipe.seed}: "
        + ", ".join(f"{label} {spread([run], ANSWERS[label])}" for label in ("a_t", "a_m", "a_s by partition"))
        + "."
        for run in found.runs.get(row, ())
    )


def ablation_findings(found: Recorded, base: str, variants: Sequence[str]) -> Text:
    """How each variant's a_t stands to the trained prompt-only control, and the default's label-free answers."""
    sentences = [
        compare(row, "the trained prompt-only control", "a_t, both kinds",
                differences(found.runs[row], found.runs["prompt_only"], "paper/both/a_t", "trained/both/a_t"))
        for row in variants
        if found.runs.get(row) and not _alone(found, row)
    ]  # fmt: skip
    if found.runs.get(base) and found.runs.get("no_prompt"):
        for label in ("a_s by partition", "a_m"):
            away = differences(found.runs[base], found.runs["no_prompt"], ANSWERS[label], "a_t/map")
            sentences.append(compare(base, "no_prompt", f"{label}, no test labels", away))
    return bullets(sentences or ["Nothing was run yet."])
