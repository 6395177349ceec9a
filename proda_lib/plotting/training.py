"""Pictures of losses and of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from proda_lib.plotting import style
from proda_lib.plotting.style import BLUE, COLOURS, GREY, VERMILION

STAGES = {"pretrain": "stage 1: everything", "posttrain": "stage 2: heads", "self": "stage 3: own questions"}


def margins(values: dict[str, Float[np.ndarray, "G"]], margin: dict[str, float]) -> Figure:
    """ReLU(x − m) for each loss, with the samples of a batch where they fall on it.

    Args:
        values: correlations or errors of the samples of a batch, by the name of the loss.
        margin: m of each loss.
    """
    figure, axes = style.subplots(1, len(values), height=2.5)
    for ax, (name, found) in zip(axes, values.items(), strict=True):
        m = margin[name]
        x = np.linspace(0, 1.05 * max(found.max(), 2 * m, 0.5), 400)
        ax.plot(x, x, color=GREY, linestyle="--", linewidth=1, label="m = 0")
        ax.plot(x, np.maximum(x - m, 0), color=BLUE, label=f"m = {m:g}")
        ax.axvspan(0, m, color=BLUE, alpha=0.08, linewidth=0)
        ax.plot(found, np.maximum(found - m, 0), "o", markersize=3.5, color=VERMILION, alpha=0.6,
                label=f"{len(found)} samples")  # fmt: skip
        ax.set(xlabel={"dis": r"$|\rho(F_u, F_s)|$", "rec": r"mean $(F_o - F_r)^2$"}.get(name, name), ylabel="loss")
        ax.set_title(f"L_{name}: {100 * np.mean(found <= m):.0f} % of the samples cost nothing".replace(
            f"L_{name}", rf"$L_{{{name}}}$"))  # fmt: skip
        ax.legend(loc="upper left")
    return figure


def margin_schedule(schedules: dict[str, Callable[[float], float]], epochs: int) -> Figure:
    """The margin over the epochs of a stage, for each preset. ``schedules``: margin against progress, 0 to 1."""
    figure, (ax,) = style.subplots(height=1.8)
    for i, (name, schedule) in enumerate(schedules.items()):
        progress = np.linspace(0, 1, 2 * epochs + 1)
        ax.plot(epochs * progress, [schedule(p) for p in progress], color=COLOURS[i], label=name)
    ax.set(xlabel="epochs of stage 1", ylabel="margin", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return figure


def by_fold(curves: Sequence[dict], stage: str) -> list[list[dict]]:
    """The epochs of a stage, a list a fold."""
    folds: dict[int, list[dict]] = {}
    for row in curves:
        if row["stage"] == stage:
            folds.setdefault(row.get("fold", 0), []).append(row)
    return list(folds.values())


def kept(curves: Sequence[dict], stage: str) -> list[dict]:
    """The epoch that each fold kept, its best: training takes the first of equal ones."""
    return [max(epochs, key=lambda row: row["score"]) for epochs in by_fold(curves, stage)]


def loss_terms(curves: Sequence[dict]) -> Figure:
    """Each loss term over stage 1 of the first fold, classification left and disentanglement right."""
    epochs, terms = _traces(by_fold(curves, "pretrain")[0])
    names = list(terms)
    groups = [[n for n in names if n.startswith("a_")], [n for n in names if not n.startswith("a_")]]
    groups = [g for g in groups if g]
    figure, axes = style.subplots(1, len(groups), height=2.3)
    for ax, group in zip(axes, groups, strict=True):
        for i, name in enumerate(group):
            ax.plot(epochs, terms[name], label=f"${_tex(name)}$", color=COLOURS[i])
        ax.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend()
    return figure


def two_stages(curves: Sequence[dict]) -> Figure:
    """Training loss (above) and validation mAP after each epoch (below), the stages one after the other.

    Of several folds each has its loss, and the mAP is their mean; each kept an epoch of its own.
    """
    figure, (loss, score) = style.subplots(2, 1, height=3.8, sharex=True)
    offset, colours, several = 0, {}, len({row.get("fold", 0) for row in curves}) > 1
    for stage in STAGES:
        rows = _mean_over_folds(curves, stage)
        if not rows:
            continue
        epochs = [offset + r["epoch"] for r in rows]
        for fold in by_fold(curves, stage):
            at, terms = _traces(fold)
            loss.plot(offset + at, sum(terms.values()), color="black", alpha=0.5 if several else None)
        for name in (n for n in rows[0] if n.startswith("val_")):
            colour = colours.setdefault(name, COLOURS[len(colours)])
            label = f"${_tex(name.removeprefix('val_'))}$" if name not in [
                line.get_gid() for line in score.get_lines()] else None  # fmt: skip
            score.plot(epochs, [r[name] for r in rows], "o-", markersize=3, color=colour, label=label, gid=name)
        for epoch in sorted({row["epoch"] for row in kept(curves, stage)}):
            for ax in (loss, score):
                ax.axvline(offset + epoch, color=GREY, linestyle=":", linewidth=1)
        if offset:
            for ax in (loss, score):
                ax.axvspan(offset, offset + len(rows), color=GREY, alpha=0.12, linewidth=0)
        loss.annotate(STAGES[stage], (offset, 1.02), xycoords=("data", "axes fraction"), fontsize=8)
        offset += len(rows)
    loss.set(ylabel="loss (sum of terms)", ylim=(0, None), xlim=(0, offset + 0.05))
    told = "above a line a fold, below their mean; dotted: what each fold kept"
    told = told if several else "dotted: the one that was kept"
    score.set(ylabel="validation mAP (%)", xlabel=f"epoch ({told})")
    score.xaxis.set_major_locator(MaxNLocator(integer=True))
    score.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.28))
    return figure


def schedule(rates: Sequence[tuple[str, Float[np.ndarray, "steps"]]], steps_per_epoch: int) -> Figure:
    """The learning rate over the steps of the stages, one after the other."""
    figure, (ax,) = style.subplots(height=1.7)
    start = 0
    for i, (name, values) in enumerate(rates):
        ax.plot((start + np.arange(len(values))) / steps_per_epoch, values, color=COLOURS[i], label=name)
        start += len(values)
    ax.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    ax.legend()
    return figure


def _tex(name: str) -> str:
    head, _, tail = name.partition("_")
    return f"{head}_{{{tail}}}" if tail else f"L_{{{name}}}"


def _traces(fold: Sequence[dict]) -> tuple[Float[np.ndarray, "X"], dict[str, Float[np.ndarray, "X"]]]:
    """Where in the stage (in epochs) a fold's loss terms were looked at, and the terms there."""
    found = {name: np.concatenate([row["trace"][name] for row in fold]) for name in fold[0]["trace"]}
    return found.pop("epoch"), found


def _mean_over_folds(curves: Sequence[dict], stage: str) -> list[dict]:
    """One row for each epoch of a stage; several folds are averaged."""
    rows = [row for row in curves if row["stage"] == stage]
    epochs = sorted({row["epoch"] for row in rows})
    numbers = [n for n in (rows[0] if rows else {}) if n not in ("fold", "stage", "trace")]
    return [{n: float(np.mean([r[n] for r in rows if r["epoch"] == e])) for n in numbers} for e in epochs]
