"""Tables 4, 5, 12 and 13: variants of ProDA, before and after the second stage, with controls."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from proda_lib.evaluation.grid import Recorded, cell, difference_table
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.report import Key, Spread, Table, Text, bullets, compare, differences, paper_table

#: Column → key. a_t is the paper's protocol over both kinds of specification.
ANSWERS: dict[str, Key] = {
    "a_t": "paper/both/a_t",
    "a_t, before stage 2": "pretrain/both/a_t",
    "a_m": "a_m/map",
    "a_s by partition": "label_free/partition/a_s/map",
}
#: Paper's tables 12 and 13 name the stages.
STAGES = {"post-train": "a_t", "pre-train": "a_t, before stage 2"}


def quoted(tables: Sequence[str]) -> dict[str, dict[str, Spread]]:
    """The paper's numbers: column of ours → row → number."""
    found: dict[str, dict[str, Spread]] = {}
    for name in tables:
        for (row, column), value in paper_table(name).items():
            found.setdefault(STAGES.get(column, column), {})[row] = value
    return found


def ablation_table(found: Recorded, variants: Sequence[str], tables: Sequence[str]) -> Table:
    """paper | ours | controls, a line a variant.

    Args:
        variants: rows, as they are named in the paper's tables. ``tables``: names of the paper's tables.
    """
    paper, cells = quoted(tables), {}
    for label in ANSWERS:
        if label in paper:
            cells["paper", label] = [paper[label].get(row, Spread()) for row in variants]
    for label, key in ANSWERS.items():
        # The encoder alone has one answer, which is its a_m.
        keys = [(key, "a_t/map") if label == "a_m" and _alone(found, row) else key for row in variants]
        cells["ours", label] = [cell(found, row, k) for row, k in zip(variants, keys, strict=True)]
    controls = {"rule, a_t": "rule/both/a_t", "trained, a_t": "trained/both/a_t"}
    for label, key in controls.items():
        cells["prompt-only", label] = [cell(found, "prompt_only", key)] * len(variants)
    cells["no_prompt", "any answer"] = [cell(found, "no_prompt", "a_t/map")] * len(variants)
    frame = pd.DataFrame(cells, index=pd.Index(list(variants), name="variant"))
    return Table(frame, f"{found.note} {RULES} a_t: the paper's protocol, both kinds of specification. The controls do "
                 "not depend on the variant.")  # fmt: skip


def active_terms(found: Recorded, variants: Sequence[str]) -> Table:
    """How often a term of the loss was above its margin in stage 1: a term that is 0 changes nothing."""
    lines = {}
    for row in variants:
        traces = [c["trace"] for run in found.runs.get(row, []) for c in run.curves if c["stage"] == "pretrain"]
        lines[row] = {label: _share_above_0([v for t in traces for v in t.get(term, [])], bool(traces))
                      for term, label in (("dis", "disentanglement"), ("rec", "reconstruction"))}  # fmt: skip
    frame = pd.DataFrame(lines).T.rename_axis("variant")
    return Table(frame, "Stretches of 20 steps in which the term's mean was above 0, of all stretches of stage 1.")


def _share_above_0(losses: Sequence[float], was_run: bool) -> str:
    if not losses:
        return "not in the loss" if was_run else "not run"
    return f"{sum(loss > 0 for loss in losses)} of {len(losses)}"


def _alone(found: Recorded, row: str) -> bool:
    return any(run.recipe.model == "encoder_only" for run in found.runs.get(row, []))


def ablation_differences(found: Recorded, base: str, variants: Sequence[str], tables: Sequence[str]) -> Table:
    """The default minus each variant: paper, ours, ordering."""
    paper = {label: {row: value.mean for row, value in rows.items()} for label, rows in quoted(tables).items()}
    measures = {label: ANSWERS[label] for label in ANSWERS if label in paper}
    return difference_table(found, base, [row for row in variants if row != base], measures, paper)


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
