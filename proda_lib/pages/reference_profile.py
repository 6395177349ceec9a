"""How the profile "reference" was fixed: every setting that was tried, and the spread of the one that was taken."""

from __future__ import annotations

import math
from statistics import fmean

import pandas as pd
from matplotlib.figure import Figure

from proda_lib.evaluation.cells import Spread, Table
from proda_lib.evaluation.grid import Recorded
from proda_lib.evaluation.report import DATASETS
from proda_lib.evaluation.tables import by_page
from proda_lib.files import read_json
from proda_lib.paths import results_root
from proda_lib.plotting import style
from proda_lib.plotting.training import by_fold, kept
from proda_lib.training import runs
from proda_lib.training.recipe import Recipe

BEYOND = {
    "data/world": "controls of the simulator",
    "results/transfer": "transfer",
    "results/sweeps": "sweeps",
}  # pages that are neither a table or figure of the paper nor part of the audit
SETTINGS = ("width", "train_videos", "batch_videos", "specs_per_video", "pretrain_lr", "feature_scale")


def tries() -> list[dict]:
    """``results/profiles.json``: name, model, settings, steps, losses; validation mAP where an epoch was finished.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = results_root() / "profiles.json"
    return read_json(path, lambda content: [{**entry} for entry in content["tries"]], "JSON with the list of tries")


def tried_table() -> Table:
    """A line a try: its settings, how far it went, and the loss of a_t there."""
    lines = []
    for entry in tries():
        settings = entry["settings"]
        other = ", ".join(f"{k} = {v}" for k, v in settings.items() if k not in SETTINGS)
        pairs = entry["steps"][-1] * settings["batch_videos"] * settings["specs_per_video"]
        validation = entry.get("validation", {}).get("val_a_t")
        lines.append([entry["model"], *(str(settings[k]) for k in SETTINGS), other or "–", entry["steps"][-1],
                      str(pairs) if entry["model"] == "proda" else "–", f"{entry['losses']['a_t'][-1]:.3f}",
                      "–" if validation is None else f"{validation:.1f}"])  # fmt: skip
    columns = ["model", *SETTINGS, "other", "steps", "pairs", "loss of a_t", "val a_t"]
    frame = pd.DataFrame(lines, columns=columns, index=pd.Index([e["name"] for e in tries()], name="try"))
    note = "Stage 1, seed 0, one thread. The tries were stopped as soon as their course was clear, but for those with a"
    return Table(frame, f"{note} validation mAP.")


def tried_curves() -> Figure:
    """Loss of a_t against (video, specification) pairs, a line a try of ProDA."""
    figure, (ax,) = style.subplots(height=3.4)
    entries = [entry for entry in tries() if entry["model"] == "proda"]
    for i, entry in enumerate(entries):
        each = entry["settings"]["batch_videos"] * entry["settings"]["specs_per_video"]
        pairs = [step * each / 1000 for step in entry["steps"]]
        inside = entry["settings"]["feature_scale"] < 1
        label = (
            f"{entry['name']}, {entry['settings']['batch_videos']} videos a step, lr {entry['settings']['pretrain_lr']}"
        )
        ax.plot(pairs, entry["losses"]["a_t"], marker="os^Dv"[i % 5], markersize=3, label=label,
                color=style.VERMILION if inside else style.GREY if entry["settings"].get("rec", True) else style.BLUE,
                linestyle=["-", "--", ":", "-."][i % 4])  # fmt: skip
    ax.set(xlabel="thousand (video, specification) pairs", ylabel="loss of $a_t$", xscale="log")
    ax.grid(axis="both")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    return figure


def _kind(recipe: Recipe) -> tuple[str, str, str]:
    """Runs of one kind cost about the same: model, whether all questions are scanned, training videos or data set."""
    videos = f"{recipe.train_videos:,}" if recipe.dataset == "world" else DATASETS[recipe.dataset]
    return recipe.model, "with scan" if recipe.model == "proda" and recipe.scan else "", videos


def _seconds() -> tuple[pd.DataFrame, str]:
    """A line a recipe of the grid: the page that needs it first, its kind, seconds of its record and those planned.

    A run without a record is taken to be as long as the median of its kind (NaN if none has a record). Also the note.
    """
    first: dict[Recipe, str] = {}
    for page, recipes in by_page().items():
        for recipe in recipes:
            first.setdefault(recipe, page)
    frame = pd.DataFrame([
        {"page": page, "kind": " ".join(filter(None, (*_kind(recipe)[:2], f"({_kind(recipe)[2]})"))),
         "recorded": run.record["seconds"] if (run := runs.committed(recipe)) else math.nan}
        for recipe, page in first.items()])  # fmt: skip
    frame["planned"] = frame["recorded"].fillna(frame.groupby("kind")["recorded"].transform("median"))
    rest = " Kinds without a record are left out." if frame["planned"].isna().any() else ""
    return frame, f"Missing runs as long as their like.{rest}"


def cost_by_page(cores: int = 2) -> Table:
    """What each page's runs cost; a run that several pages show counts for the first.

    Two runs side by side, one thread each, on ``cores`` cores; a record's seconds are those of its own day.
    """
    frame, note = _seconds()
    found = frame.groupby("page", sort=False).agg(
        runs=("planned", "size"), recorded=("recorded", "count"), hours=("planned", "sum")
    )
    found["hours"] /= 3600 * cores
    tables = found["hours"][[page not in BEYOND for page in found.index]].sum()
    found["hours"] = found["hours"].map("{:.1f}".format)
    found = found.rename(columns={"hours": f"hours on {cores} cores"})
    total = frame["planned"].sum() / 3600 / cores
    needed = f"On {cores} cores {tables:.1f} hours for the paper's tables and figures and the audit"
    return Table(found, f"{needed}, {total:.1f} in all, with {', '.join(BEYOND.values())}. {note}")


def cost_by_kind() -> Table:
    """What one run of each kind costs, on one core; a line a kind of run."""
    frame, _ = _seconds()
    found = frame.groupby("kind").agg(
        runs=("planned", "size"), recorded=("recorded", "count"), minutes=("recorded", "median")
    )
    found["minutes"] = (found["minutes"] / 60).map("{:.1f}".format)
    found.index.name = "model (videos)"
    return Table(found.rename(columns={"minutes": "minutes each"}), "Median over the records, one core each.")


def validation_table(found: Recorded, row: str) -> Table:
    """The default recipe's best epoch on held-out training videos (of several folds: mean of theirs), over seeds."""
    lines = {}
    for stage, names in (("pretrain", ("a_s", "a_u", "a_t")), ("posttrain", ("a_t", "a_m"))):
        for name in names:
            best = [kept(run.curves, stage) for run in found.runs.get(row, [])]
            values = [fmean(epoch[f"val_{name}"] for epoch in folds) for folds in best]
            lines[f"{name}, after {stage}"] = Spread(tuple(values), blank="not run")
    frame = pd.DataFrame({"validation mAP": list(lines.values())}, index=pd.Index(list(lines), name="answer"))
    return Table(frame, f"{found.note} Paper's protocol on 10 % of the training videos, held out.")


def learning_curves(found: Recorded, row: str) -> Figure:
    """Losses of both stages against the epoch, a line a seed and fold."""
    figure, axes = style.subplots(1, 2, height=2.8)
    for ax, stage, names in zip(axes, ("pretrain", "posttrain"), (("a_s", "a_u", "a_t"), ("a_t", "a_m")), strict=True):
        for name, colour in zip(names, style.COLOURS, strict=False):
            lines = [epochs for run in found.runs.get(row, []) for epochs in by_fold(run.curves, stage)]
            for i, epochs in enumerate(lines):
                x, y = ([value for c in epochs for value in c["trace"][key]] for key in ("epoch", name))
                ax.plot(x, y, color=colour, linewidth=1, label=name if not i else None)
        ax.set(title={"pretrain": "stage 1", "posttrain": "stage 2"}[stage], xlabel="epoch", ylabel="loss")
        ax.grid(axis="y")
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
    return figure
