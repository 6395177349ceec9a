"""The tables of the results pages: which metric of which run stands where. The cells come from ``report.py``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from proda_lib.evaluation import cad120_controls
from proda_lib.evaluation.localization import THRESHOLDS, HitRates
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.report import (
    Gathered,
    Key,
    RunRows,
    Spread,
    Table,
    Text,
    bullets,
    compare,
    differences,
    frame_of,
    ordering,
    setting,
    spread,
    without_empty_lines,
)

#: Rules that hold for every table of mAP here.
RULES = "mAP in percent; classes without positives are skipped (empty = skip)."

#: Line of the paper's a_t: the text does not tell which specifications it averages.
UNKNOWN = "a_t, rows not stated"

#: What is asked for is built from the test labels. Keys stand after "paper/", "rule/" or "trained/".
ASKED: dict[str, Key] = {
    "a_t, both kinds": "both/a_t",
    "a_t, distractor-injected": "distractor/a_t",
    "a_t, non-distractor": "non_distractor/a_t",
    "a_s, both kinds": "both/a_s",
    "a_s, both kinds, no-action out": "both/a_s_actions",
    "a_s, distractor-injected": "distractor/a_s",
    "a_s, non-distractor": "non_distractor/a_s",
    "a_u, both kinds": "both/a_u",
    "a_u, both kinds, no-action out": "both/a_u_actions",
}

#: No test label is used. "none" is outside of what training shows.
LABEL_FREE: dict[str, str] = {
    "a_m, no question": "a_m",
    "a_s, partition": "label_free/partition/a_s",
    "a_t, partition": "label_free/partition/a_t",
    "a_s, self": "label_free/self/a_s",
    "a_t, self": "label_free/self/a_t",
    "a_s, scan": "label_free/scan/a_s",
    "a_s, none (out of distribution)": "label_free/none/a_s",
    "a_t, none (out of distribution)": "label_free/none/a_t",
}


def _put_paper(frame: pd.DataFrame, name: str, lines: dict[str, str], columns: Sequence[str]) -> pd.DataFrame:
    """Columns ("paper", row of the paper's table) in front; ``lines``: line of the frame → column of that table."""
    quoted = paper_table(name)
    for place, column in enumerate(columns):
        cells = [quoted.get((column, lines.get(line, "")), Spread()) for line in frame.index]
        frame.insert(place, ("paper", column), cells)
    return frame


def table03_asked(found: RunRows) -> Table:
    """Table 3 under the paper's protocol: the specification is built from the labels of the test video."""
    columns = {("ours", name): (found[name], "paper/") for name in ("SimplePrompt", "DPM")}
    columns |= {("prompt-only", kind): (found["prompt_only"], f"{kind}/") for kind in ("rule", "trained")}
    frame = frame_of({UNKNOWN: (), **ASKED}, columns, "answer, rows")
    frame = _put_paper(frame, "table03", {UNKNOWN: "a_t"}, ("SimplePrompt", "DPM"))
    note = f"{setting(found)} Ours: {RULES} a_s and a_u count no-action as a class unless a line says otherwise."
    return Table(frame, note)


def table03_free(found: RunRows) -> Table:
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


def table03_findings(found: RunRows) -> Text:
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


#: Controls of CAD-120: line → record, column group, and the fields for its columns.
CAD120_CONTROLS = {
    "cad120": {"object bag, logistic": ("object_bag", "without relations", ("value", "pooled"))},
    "cad120_clips": {
        "states at both ends of the release's tracks, logistic": ("states", "with relations", ("value",)),
        "the same states of our graphs, logistic": ("states_of_graphs", "with relations", ("value",)),
    },
}


def cad120_table(gathered: Gathered, dataset: str) -> Table:
    """Every answer with and without relations, above the controls that know no model.

    ``dataset`` "cad120": mAP of whole videos; "cad120_clips": mean average recall of clips.
    """
    found = gathered.runs
    clips = dataset == "cad120_clips"
    measures = ({"all 10 classes": "recall", "without null": "recall_without_null"} if clips
                else {"mean of folds": "map", "pooled": "map_pooled"})  # fmt: skip
    lines = {f"ProDA {label}": ("proda", key) for label, key in LABEL_FREE.items()}
    lines |= {"no_prompt": ("no_prompt", "a_t"), "class frequency": ("prompt_only", "frequency")}
    cells: dict[tuple[str, str], list[Spread]] = {}
    for group, suffix in (("with relations", ""), ("without relations", ", without relations")):
        for name, measure in measures.items():
            cells[group, name] = [
                spread(found.get(model if model == "prompt_only" else model + suffix, []), f"{key}/{measure}")
                for model, key in lines.values()
            ]
    controls = cad120_controls.recorded()
    for name, group, fields in CAD120_CONTROLS[dataset].values():
        known = [Spread((100 * getattr(controls[name], f),)) for f in fields] if name in controls else []
        for column, values in cells.items():
            place = list(measures).index(column[1])
            values.append(known[place] if column[0] == group and place < len(known) else Spread())
    frame = pd.DataFrame(cells, index=pd.Index([*lines, *CAD120_CONTROLS[dataset]], name="answer, protocol"))
    frame = without_empty_lines(frame)
    unit = f"{RULES} Mean of folds: mAP of each fold, averaged; pooled: the videos of all folds in one ranking."
    if clips:
        unit = ("Mean average recall in percent over the clips of all folds; without null: only clips of the other "
                "classes, and null is no answer.")  # fmt: skip
    return Table(frame, f"{gathered.source}. {setting(found)} {unit}")


def cad120_asked(gathered: Gathered) -> Table:
    """CAD-120 under the paper's protocol, beside the prompt-only controls."""
    found = gathered.runs
    columns = {("ProDA", "with relations"): (found.get("proda", []), "paper/"),
               ("ProDA", "without relations"): (found.get("proda, without relations", []), "paper/")}  # fmt: skip
    columns |= {("prompt-only", kind): (found.get("prompt_only", []), f"{kind}/") for kind in ("rule", "trained")}
    frame = without_empty_lines(frame_of(ASKED, columns, "answer, rows"))
    return Table(frame, f"{gathered.source}. {setting(found)} {RULES} Mean of folds.")


def cad120_published() -> Text:
    """A published value for the clips, with why ours are not comparable."""
    (((row, _), value),) = paper_table("laiar_table06").items()
    return Text(
        f"Published for these clips: {row} {value} mean average recall, from video without annotated relations. It is "
        "**not comparable** with the table above, whose models see annotated relations, classes and boxes, and no RGB."
    )


def cad120_findings(videos: Gathered, clips: Gathered) -> Text:
    """One sentence for each model and control: above or below, and by how much."""
    controls, sentences = cad120_controls.recorded(), []
    whole = {"no_prompt": "a_t/map", "proda": "label_free/partition/a_s/map"}
    short = {"no_prompt": "a_t/recall", "proda": "label_free/partition/a_s/recall"}
    plans = [
        (videos, whole, "object_bag", "the object bag", ("", ", without relations")),
        (clips, short, "states", "the states at both ends", ("",)),
    ]
    for gathered, keys, control, name, suffixes in plans:
        if control not in controls:
            continue
        level = 100 * controls[control].value
        for model, key in keys.items():
            for suffix in suffixes:
                if values := spread(gathered.runs.get(model + suffix, []), key).values:
                    title = ("ProDA, a_s by partition" if model == "proda" else model) + (suffix or ", with relations")
                    away = Spread(values).mean - level
                    word = "above" if away > 0 else "below"
                    sentences.append(
                        f"{title}: {Spread(values)}, {word} {name} ({level:.1f}) by {abs(away):.1f} points."
                    )
    return bullets(sentences or ["Nothing to compare: runs or controls are missing."])


def hit_rate_table(rates: Sequence[HitRates], note: str) -> Table:
    """Hit rates over seeds: paper | ours | marking every frame, for each θ (line) and IoU threshold t (column)."""
    quoted, cells = paper_table("table09"), {}
    for t in THRESHOLDS:
        cells["paper", f"t = {t:g}"] = [quoted[f"{theta:g}", f"{t:g}"] for theta in THRESHOLDS]
    for j, t in enumerate(THRESHOLDS):
        values = [[float(r.model[i, j]) for r in rates] for i in range(len(THRESHOLDS))]
        cells["ours", f"t = {t:g}"] = [Spread(tuple(v)) for v in values]
    for j, t in enumerate(THRESHOLDS):  # the control does not depend on the model, so all seeds agree
        cells["every frame", f"t = {t:g}"] = [Spread((float(rates[0].every_frame[j]),))] * len(THRESHOLDS)
    index = pd.Index([f"{theta:g}" for theta in THRESHOLDS], name="θ")
    first = rates[0]
    note = (f"{note} {first.rows} pairs of video and label, {first.classes} classes; hit rate in percent, mean over "
            f"classes. In {first.unseen} pairs no sampled frame lies inside the action: a miss for all.")  # fmt: skip
    return Table(pd.DataFrame(cells, index=index), note)


def hit_rate_finding(rates: Sequence[HitRates]) -> str:
    """In how many cells (θ, t) the model is above marking every frame, on the mean over seeds."""
    mean = np.mean([r.model for r in rates], axis=0)
    above = mean > rates[0].every_frame
    where = [f"(θ {THRESHOLDS[i]:g}, t {THRESHOLDS[j]:g})" for i, j in np.argwhere(above)]
    count = f"In {above.sum()} of {above.size} cells the frame scores are above marking every frame"
    all_found = np.mean([r.all_found for r in rates], axis=0)
    marked = ", ".join(f"{share:.0f} % at θ {theta:g}" for share, theta in zip(all_found, THRESHOLDS, strict=True))
    sentence = f"{count}: {', '.join(where)}." if where else f"{count}."
    return f"{sentence} The frame scores mark every frame themselves in {marked} of the pairs."
