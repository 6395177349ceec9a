"""The page on table 3: SimplePrompt and DPM, with and without test labels in the question, beside the controls."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd

from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.differences import compare, differences, ordering
from proda_lib.evaluation.layouts import ASKED, LABEL_FREE, RULES, UNKNOWN
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.report import Key, RunRows, frame_of, setting, spread, without_empty_lines


def _put_paper(frame: pd.DataFrame, name: str, lines: dict[str, str], columns: Sequence[str]) -> pd.DataFrame:
    """Columns ("paper", row of the paper's table) in front; ``lines``: line of the frame → column of that table."""
    quoted = paper_table(name)
    for place, column in enumerate(columns):
        cells = [quoted.get((column, lines.get(line, "")), Spread()) for line in frame.index]
        frame.insert(place, ("paper", column), cells)
    return frame


def asked(found: RunRows) -> Table:
    """Table 3 under the paper's protocol: the specification is built from the labels of the test video."""
    columns = {("ours", name): (found[name], "paper/") for name in ("SimplePrompt", "DPM")}
    columns |= {("prompt-only", kind): (found["prompt_only"], f"{kind}/") for kind in ("rule", "trained")}
    frame = frame_of({UNKNOWN: (), **ASKED}, columns, "answer, rows")
    frame = _put_paper(frame, "table03", {UNKNOWN: "a_t"}, ("SimplePrompt", "DPM"))
    note = f"{setting(found)} Ours: {RULES} a_s and a_u count no-action as a class unless a line says otherwise."
    return Table(frame, note)


def free(found: RunRows) -> Table:
    """Table 3 without test labels in the question, beside the same network without a prompt."""
    lines: dict[str, Key] = {label: (f"{key}/map", "a_t/map") for label, key in LABEL_FREE.items()}
    columns = {("ours", name): (found[name], "") for name in ("SimplePrompt", "DPM")}
    frame = frame_of({label: f"{key}/map" for label, key in LABEL_FREE.items()}, columns, "answer, protocol")
    for name, runs, key in (("no_prompt", found["no_prompt"], "a_t/map"),
                            ("frequency", found["prompt_only"], "frequency/map")):  # fmt: skip
        frame["control", name] = [spread(runs, key)] * len(lines)
    frame = without_empty_lines(frame, "ours")  # scan is left out of the small profiles
    frame = _put_paper(frame, "table03", {"a_m, no question": "a_m"}, ("SimplePrompt", "DPM"))
    return Table(frame, f"{setting(found)} Ours: {RULES} The controls give one score a video, whatever is asked.")


def findings(found: RunRows) -> Text:
    """Whether the paper's ordering holds here, and how the prompts compare with the control, in computed sentences."""
    quoted = paper_table("table03")
    sentences = []
    for measure, column, key in (
        ("a_t, paper's protocol, both kinds", "a_t", "paper/both/a_t"),
        ("a_m", "a_m", "a_m/map"),
    ):
        paper = quoted["DPM", column].mean - quoted["SimplePrompt", column].mean
        ours = differences(found["DPM"], found["SimplePrompt"], key)
        sentences.append(
            f"{compare('DPM', 'SimplePrompt', measure, ours)} Paper: {paper:+.2f}; {ordering(ours, paper)}."
        )
    for name, label in itertools.product(("SimplePrompt", "DPM"), ("a_t, both kinds", "a_t, non-distractor",
                                                                   "a_s, both kinds")):  # fmt: skip
        key = ASKED[label]
        against = differences(found[name], found["prompt_only"], f"paper/{key}", f"trained/{key}")
        sentences.append(compare(name, "the trained prompt-only control", label, against))
    for name in ("SimplePrompt", "DPM"):
        for label, key in (("a_s by partition", "label_free/partition/a_s/map"), ("a_m", "a_m/map")):
            against = differences(found[name], found["no_prompt"], key, "a_t/map")
            sentences.append(compare(name, "no_prompt", f"{label}, no test labels", against))
    return bullets(sentences)
