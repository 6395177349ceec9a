"""The page on CAD-120: whole videos and clips, with and without relations, beside controls that know no model."""

from __future__ import annotations

import pandas as pd

from proda_lib.evaluation import cad120_controls
from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.grid import Recorded
from proda_lib.evaluation.layouts import ASKED, LABEL_FREE, RULES
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.report import frame_of, spread, without_empty_lines

#: Controls of CAD-120: line → record, column group, and the fields for its columns.
CONTROLS = {
    "cad120": {"object bag, logistic": ("object_bag", "without relations", ("value", "pooled"))},
    "cad120_clips": {
        "states at both ends of the release's tracks, logistic": ("states", "with relations", ("value",)),
        "the same states of our graphs, logistic": ("states_of_graphs", "with relations", ("value",)),
    },
}


def table(recorded: Recorded, dataset: str) -> Table:
    """Every answer with and without relations, above the controls that know no model.

    ``dataset`` "cad120": mAP of whole videos; "cad120_clips": mean average recall of clips.
    """
    found = recorded.runs
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
    for name, group, fields in CONTROLS[dataset].values():
        known = [Spread((100 * getattr(controls[name], f),)) for f in fields] if name in controls else []
        for column, values in cells.items():
            place = list(measures).index(column[1])
            values.append(known[place] if column[0] == group and place < len(known) else Spread())
    frame = pd.DataFrame(cells, index=pd.Index([*lines, *CONTROLS[dataset]], name="answer, protocol"))
    frame = without_empty_lines(frame)
    unit = f"{RULES} Mean of folds: mAP of each fold, averaged; pooled: the videos of all folds in one ranking."
    if clips:
        unit = ("Mean average recall in percent over the clips of all folds; without null: only clips of the other "
                "classes, and null is no answer.")  # fmt: skip
    return Table(frame, f"{recorded.note} {unit}")


def asked(recorded: Recorded) -> Table:
    """CAD-120 under the paper's protocol, beside the prompt-only controls."""
    found = recorded.runs
    columns = {("ProDA", "with relations"): (found.get("proda", []), "paper/"),
               ("ProDA", "without relations"): (found.get("proda, without relations", []), "paper/")}  # fmt: skip
    columns |= {("prompt-only", kind): (found.get("prompt_only", []), f"{kind}/") for kind in ("rule", "trained")}
    frame = without_empty_lines(frame_of(ASKED, columns, "answer, rows"))
    return Table(frame, f"{recorded.note} {RULES} Mean of folds.")


def published() -> Text:
    """A published value for the clips, with why ours are not comparable."""
    (((row, _), value),) = paper_table("laiar_table06").items()
    return Text(
        f"Published for these clips: {row} {value} mean average recall, from video without annotated relations. It is "
        "**not comparable** with the table above, whose models see annotated relations, classes and boxes, and no RGB."
    )


def findings(videos: Recorded, clips: Recorded) -> Text:
    """One sentence for each model and control: above or below, and by how much."""
    controls, sentences = cad120_controls.recorded(), []
    whole = {"no_prompt": "a_t/map", "proda": "label_free/partition/a_s/map"}
    short = {"no_prompt": "a_t/recall", "proda": "label_free/partition/a_s/recall"}
    plans = [
        (videos, whole, "object_bag", "the object bag", ("", ", without relations")),
        (clips, short, "states", "the states at both ends", ("",)),
    ]
    for recorded, keys, control, name, suffixes in plans:
        if control not in controls:
            continue
        level = 100 * controls[control].value
        for model, key in keys.items():
            for suffix in suffixes:
                if values := spread(recorded.runs.get(model + suffix, []), key).values:
                    title = ("ProDA, a_s by partition" if model == "proda" else model) + (suffix or ", with relations")
                    away = Spread(values).mean - level
                    word = "above" if away > 0 else "below"
                    sentences.append(
                        f"{title}: {Spread(values)}, {word} {name} ({level:.1f}) by {abs(away):.1f} points."
                    )
    return bullets(sentences or ["Nothing to compare: runs or controls are missing."])
