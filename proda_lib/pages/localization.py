"""The page on tables 8 and 9, and Charades' localisation mAP at 25 points, with their controls."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
import pandas as pd

from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.differences import compare, differences
from proda_lib.evaluation.localization import THRESHOLDS
from proda_lib.evaluation.papers import paper_table
from proda_lib.evaluation.report import RunRows, setting, spread
from proda_lib.training.runs import Run

#: Kind of question → (name of the paper's table, title).
KINDS = {"distractor": ("table08", "Table 8"), "non_distractor": ("table09", "Table 9")}
NAMES = tuple(f"{value:g}" for value in THRESHOLDS)
#: Lines (θ) and columns (t) of both tables; the mean over them is the margin.
MARGINS = (*NAMES, "mean")
CONTROL = "every frame"
#: Controls that keep less of s → key of their hits. The third keeps none of it.
LESS = {"any question": "any_question", "any video": "any_video"}
#: Line of the table of 25-point mAP → key after "localization/map/".
POINTS = {
    "a_s · s, partition": "partition/s",
    "a_s · s² / max s², partition": "partition/scaled",
    "a_s · s of any class, partition": "partition/any_class",
    "a_s · s of any video, partition": "partition/any_video",
    "a_s at every point, partition (no s)": "partition/without_s",
    "a_s · s, scan": "scan/s",
    "a_s · s² / max s², scan": "scan/scaled",
    "a_s · s of any class, scan": "scan/any_class",
    "a_s · s of any video, scan": "scan/any_video",
    "a_s at every point, scan (no s)": "scan/without_s",
}


def _paper(name: str, theta: str, t: str) -> Spread:
    """A cell of the paper's table; a margin is the mean of its cells. The corner of both margins is empty, as there."""
    if theta == t == "mean":
        return Spread()
    quoted = paper_table(name)
    lines, columns = (NAMES if place == "mean" else (place,) for place in (theta, t))
    cells = [quoted[line, column] for line in lines for column in columns]
    return Spread((statistics.fmean(cell.mean for cell in cells),), cells[0].digits)


def hit_table(found: RunRows, kind: str, measure: str = "hit") -> Table:
    """A line for each θ, a column for each IoU threshold t: paper | ours | marking every frame.

    Args:
        measure: "hit", the hit rate, or "ranked", the average precision of the hits by a_s.
    """
    runs, place = found["DPM"], f"localization/{kind}/{measure}"
    cells: dict[tuple[str, str], list[Spread]] = {}
    heads = {t: "mean" if t == "mean" else f"t = {t}" for t in MARGINS}
    if measure == "hit":
        cells |= {("paper", heads[t]): [_paper(KINDS[kind][0], theta, t) for theta in MARGINS] for t in MARGINS}
    cells |= {("ours", heads[t]): [spread(runs, f"{place}/{theta}/{t}") for theta in MARGINS] for t in MARGINS}
    every = {t: spread(runs[:1] if measure == "hit" else runs, f"{place}/every_frame/{t}") for t in MARGINS}
    cells |= {(CONTROL, heads[t]): [every[t]] * len(MARGINS) for t in MARGINS}
    quoted = " The paper's averages are recomputed from its cells." if measure == "hit" else ""
    note = f"{setting(found)} {_rows(runs, kind)}{quoted}"
    return Table(pd.DataFrame(cells, index=pd.Index(MARGINS, name="θ")), note)


def _rows(runs: Sequence[Run], kind: str) -> str:
    """How many pairs stand behind the table, or why there are none."""
    place = f"localization/{kind}/rows"
    counts = [spread(runs[:1], f"{place}/{name}").values for name in ("all", "classes", "unseen")]
    if not counts[0]:
        return left_out(runs)
    rows, classes, unseen = (f"{value[0]:.0f}" for value in counts)
    return (f"{rows} pairs of video and label, {classes} classes; percent, mean over classes. In {unseen} pairs no "
            "sampled frame lies inside the action: a miss for all.")  # fmt: skip


def left_out(runs: Sequence[Run]) -> str:
    """Why a record has no localisation, from the counts that it has in its place."""
    for run in runs:
        if counts := run.metrics.get("localization", {}).get("left_out"):
            return "Left out: " + ", ".join(f"{count:.0f} {what}" for what, count in counts.items()) + "."
    return "These runs were scored before this measure was there."


def margins(found: RunRows) -> pd.DataFrame:
    """Mean hit rate over t at each θ, ours and the controls, a line for each table and θ."""
    runs, lines = found["DPM"], {}
    for kind, (_, title) in KINDS.items():
        for theta in NAMES:
            place = f"localization/{kind}"
            lines[f"{title}, θ = {theta}"] = {
                ("ours", "frame scores"): spread(runs, f"{place}/hit/{theta}/mean"),
                **{("control", name): spread(runs, f"{place}/{key}/{theta}/mean") for name, key in LESS.items()},
                ("control", CONTROL): spread(runs[:1], f"{place}/hit/every_frame/mean"),
            }
    return pd.DataFrame.from_dict(lines, orient="index")


def margins_table(found: RunRows) -> Table:
    """:func:`margins` as a table, of the runs that have all controls."""
    found = {"DPM": scored(found["DPM"])}
    note = (
        "Hit rate in percent, mean over the three t. Any question: s averaged over the questions about the same video. "
        "Any video: s averaged over all questions about all videos, so the same frames are found in each."
    )
    return Table(margins(found).rename_axis("table, θ"), f"{setting(found)} {note}")


def scored(runs: Sequence[Run]) -> list[Run]:
    """The runs that were scored with the controls that keep less of s."""
    return [run for run in runs if "variation" in run.metrics.get("localization", {}).get("distractor", {})]


def point_table(found: RunRows) -> Table:
    """Localisation mAP at 25 points: with frame scores, and without them; the class frequencies at every point."""
    cells = {line: spread(found["DPM"], f"localization/map/{key}") for line, key in POINTS.items()}
    frequency = spread(found["prompt_only"], "localization/map/frequency/without_s")
    cells["class frequency at every point"] = Spread(frequency.values[:1])
    kept = {line: cell for line, cell in cells.items() if cell.values}
    if not kept:
        return Table(pd.DataFrame(), left_out(found["DPM"]))
    frame = pd.DataFrame({"mAP": list(kept.values())}, index=pd.Index(kept, name="score at a point"))
    folds = " of a fold, mean of the folds" if len(found["DPM"][0].record["videos"]) > 1 else ""
    note = f"mAP in percent over all points of all test videos{folds}, all classes"
    counts = {len(cell.values) for line, cell in kept.items() if line in POINTS}
    fewer = f" Some lines are of {min(counts)} of {max(counts)} seeds." if len(counts) > 1 else ""
    return Table(frame, f"{setting(found)} {note}; classes without positives are skipped (empty = skip).{fewer}")


def findings(found: RunRows) -> Text:
    """In how many cells the model is above the control, and what s adds to a_s at 25 points, from the records."""
    runs = found["DPM"]
    sentences = [*(sentence for kind in KINDS for sentence in hit_findings(runs, kind)), *variation_findings(runs)]
    for protocol in ("partition", "scan"):
        place = f"localization/map/{protocol}"
        for other, key in (("a_s alone", "without_s"), ("with those of any video", "any_video")):
            away = differences(runs, runs, f"{place}/s", f"{place}/{key}")
            if away.values:
                sentences.append(compare("with frame scores", other, f"25 points, {protocol}", away))
    return bullets(sentences or [left_out(runs)])


def variation_findings(runs: Sequence[Run]) -> list[str]:
    """What s varies with, and what hits remain without the question, and without the video."""
    sentences, all_of_them, runs = [], len(runs), scored(runs)
    some = f" ({len(runs)} of {all_of_them} seeds)" if len(runs) < all_of_them else ""
    for kind, (_, title) in KINDS.items():
        place = f"localization/{kind}"
        shares = {name: spread(runs, f"{place}/variation/{name}") for name in ("place", "video", "question")}
        if not all(share.values for share in shares.values()):
            continue
        hits = {name: spread(runs, f"{place}/{key}/mean/mean") for name, key in {"its own": "hit", **LESS}.items()}
        sentences.append(
            f"{title}{some}: how s varies over the frames is to {shares['place']} % a matter of the frame's place in "
            f"its video, to {shares['video']} % of the video, to {shares['question']} % of the question. Hits, mean "
            "over θ and t: " + ", ".join(f"{name} {hit}" for name, hit in hits.items()) + "."
        )
    return sentences


def hit_findings(runs: Sequence[Run], kind: str) -> list[str]:
    """In which cells of one table the frame scores beat marking every frame, and how often they mark every frame."""
    title, sentences = KINDS[kind][1], []
    for measure, label in (("hit", "hit rate"), ("ranked", "ranked by a_s")):
        place = f"localization/{kind}/{measure}"
        ours = np.array([[spread(runs, f"{place}/{theta}/{t}").mean for t in NAMES] for theta in NAMES])
        every = np.array([spread(runs, f"{place}/every_frame/{t}").mean for t in NAMES])
        if np.isfinite(ours).all():
            where = [f"(θ {NAMES[i]}, t {NAMES[j]})" for i, j in np.argwhere(ours > every)]
            listed = f": {', '.join(where)}" if where else ""
            sentences.append(f"{title}, {label}: in {len(where)} of {ours.size} cells the frame scores are above "
                             f"marking every frame{listed}.")  # fmt: skip
    marked = {theta: spread(runs, f"localization/{kind}/all_found/{theta}") for theta in NAMES}
    if all(cell.values for cell in marked.values()):
        listed = ", ".join(f"{cell.mean:.0f} % at θ {theta}" for theta, cell in marked.items())
        sentences.append(f"{title}: the frame scores mark every frame themselves in {listed} of the pairs.")
    return sentences
