"""Pictures of measured speed. Records come from :mod:`proda_lib.evaluation.performance`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from proda_lib.evaluation.performance import Record
from proda_lib.graph import SceneGraph
from proda_lib.plotting import style
from proda_lib.plotting.style import BLACK, BLUE, GREY, ORANGE, PALE, SKY, VERMILION

#: Model → colour, marker, line and what it is called: no two differ by colour alone.
SIDES = {
    "ours": (BLUE, "o", "-", "library"),
    "fair": (ORANGE, "s", "--", "fair yardstick"),
    "reference": (VERMILION, "D", ":", "straightforward yardstick"),
}
AXES = {
    "frames": "frames N",
    "objects": "objects present in every frame",
    "slots": "slots M",
    "labels": "labels L (2L + 1 specifications)",
    "videos": "videos",
}


def nothing(text: str) -> Figure:
    """An empty figure that says why it is empty."""
    figure, (ax,) = style.subplots(height=0.8)
    ax.text(0.5, 0.5, text, ha="center", va="center")
    ax.set_axis_off()
    return figure


def packed(graphs: Sequence[SceneGraph], slots: int) -> Figure:
    """The padded places of a few videos, a row for each slot and a column for each frame, and which of them exist."""
    figure, axes = style.subplots(1, len(graphs), height=0.75 + 0.13 * slots, sharey=True)
    frames = max(g.num_frames for g in graphs)
    for ax, graph in zip(axes, graphs, strict=True):
        there = np.zeros((slots, frames))
        there[: graph.num_slots, : graph.num_frames] = graph.present.T
        ax.pcolormesh(there, cmap=ListedColormap([PALE, BLUE]), vmin=0, vmax=1, edgecolor="white", linewidth=0.5)
        ax.set(xlabel="frame", title=f"{int(there.sum())} of {there.size}", ylim=(slots, 0))
        ax.set_xticks([0.5, frames - 0.5], [1, frames])
        ax.set_yticks([0.5, slots - 0.5], ["person", slots])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel("slot")
    handles = [Patch(facecolor=BLUE, label="token"), Patch(facecolor=PALE, label="place without a node")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def ratios(records: Sequence[Record]) -> Figure:
    """Ratios as bars, left; shares of the machine's matrix products, right; a black stroke is the goal at D = 768."""
    kept = [(record, _names(record, False), _names(record, True)) for record in records]
    kept = [entry for entry in kept if entry[1] or entry[2]]
    if not kept:
        return nothing("no record with ratios yet")
    heights = [max(len(times), len(shares), 1) for _, times, shares in kept]
    figure, axes = style.subplots(len(kept), 2, height=0.6 * len(kept) + 0.5 + 0.42 * sum(heights),
                                  width_ratios=[1.6, 1], height_ratios=heights)  # fmt: skip
    for (record, times, shares), left, right in zip(kept, axes[::2], axes[1::2], strict=True):
        lines = max(len(times), len(shares), 1)
        _bars(left, record, times, lines, "yardstick / library")
        _bars(right, record, shares, lines, "share of matrix products")
        left.axvline(1, color=GREY, linewidth=0.8)
        left.set_title(record.title, loc="left")
    handles = [Patch(facecolor=BLUE, label="D = 768"), Patch(facecolor=SKY, hatch="////", edgecolor="white",
               label="D = 256"), Line2D([], [], color=BLACK, linewidth=2.2, label="goal at D = 768")]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _names(record: Record, shares: bool) -> list[str]:
    """Rows that have a ratio, without their width, in the table's order."""
    names = [name.split("@")[0] for name, row in record.rows.items() if "@" in name and row["ratio"] is not None]
    return [name for name in dict.fromkeys(names) if name.startswith("matmul_fraction") == shares]


def _bars(ax: Axes, record: Record, names: list[str], lines: int, xlabel: str) -> None:
    goals = {goal.row: goal for goal in record.goals if goal.column == "ratio"}
    most = 1.0
    for line, name in enumerate(names):
        for shift, width, options in ((-0.19, 768, {"color": BLUE}), (0.19, 256, {"color": SKY, "hatch": "////"})):
            row = record.rows.get(f"{name}@d{width}", {})
            if row.get("ratio") is None:
                continue
            ratio, end = row["ratio"], row["ratio"]
            if goal := goals.get(f"{name}@d{width}"):
                ax.plot([goal.value] * 2, [line + shift - 0.24, line + shift + 0.24], color=BLACK, linewidth=2.2)
                end = max(ratio, goal.value)  # the number stands behind bar and goal
            ax.barh(line + shift, ratio, 0.36, edgecolor="white", linewidth=0, **options)
            ax.text(end, line + shift, f" {ratio:.2f}", va="center", fontsize=7)
            most = max(most, end)
    ax.set(xlim=(0, 1.15 * most), ylim=(lines - 0.5, -0.5), xlabel=xlabel)
    labels = [name.removeprefix("train_").replace("matmul_fraction", "step").replace("_", " ") for name in names]
    ax.set_yticks(range(len(names)), [label.replace(" fair", " (fair)") for label in labels])
    ax.tick_params(axis="y", length=0)


def roofline(records: Sequence[Record]) -> Figure:
    """Achieved FLOP/s of a sparse training step over FLOPs per byte, below the machine's measured roofs.

    Filled: all products that are made. Hollow, below: those that what exists needs, each done once.
    """
    kept = [r for r in records if r.roofline and "matmul_gflop_per_s" in r.machine]
    if not kept:
        return nothing("no record with a roofline yet")
    figure, axes = style.subplots(1, len(kept), height=3.4)
    for ax, record in zip(axes, kept, strict=True):
        _roofs(ax, record)
        highest: dict[str, tuple[float, float]] = {}
        for point in record.roofline:
            kind, _, width = point["name"].partition("@d")
            colour, marker, *_ = SIDES[kind]
            x = point["flops"] / point["bytes"]
            made, useful = (point[name] / point["seconds"] / 1e9 for name in ("flops", "useful_flops"))
            ax.plot([x, x], [made, useful], color=colour, linewidth=0.9)
            ax.plot(x, useful, marker, color=colour, markerfacecolor="white", markersize=5)
            ax.plot(x, made, marker, color=colour, markersize=5)
            highest[width] = max(highest.get(width, (0.0, 0.0)), (made, x))
        for width, (made, x) in highest.items():
            ax.annotate(f"D = {width}", (x, made), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        ax.set(xlabel="FLOPs per byte", title=record.title)
        _plain_ticks(ax.xaxis)
    axes[0].set_ylabel("GFLOP/s")
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=name) for c, m, _, name in SIDES.values()]
    for name, face in (("made", GREY), ("useful", "white")):
        handles.append(Line2D([], [], color=GREY, marker="o", linestyle="", markerfacecolor=face, label=name))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, columnspacing=1.0, handletextpad=0.2)
    return figure


def _plain_ticks(axis: Axis) -> None:
    """1, 2, 5, 10 ... in figures on a logarithmic axis, however short it is."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _roofs(ax: Axes, record: Record) -> None:
    rate, copy = record.machine["matmul_gflop_per_s"], record.machine["copy_gb_per_s"]
    xs = [point["flops"] / point["bytes"] for point in record.roofline]
    ys = [point["useful_flops"] / point["seconds"] / 1e9 for point in record.roofline]
    low, high = min(*xs, rate / copy) / 3, max(*xs, rate / copy) * 3
    x = np.geomspace(low, high, 200)
    ax.loglog(x, np.minimum(rate, copy * x), color=BLACK, linewidth=1.4)
    ax.text(rate / copy, rate * 1.06, f"matrix product: {rate:.3g} GFLOP/s", ha="left", va="bottom", fontsize=7)
    ax.text(low * 1.1, copy * low, f"copy: {copy:.3g} GB/s", ha="left", va="top", fontsize=7)
    ax.set(xlim=(low, high), ylim=(min(*ys, copy * low) / 2.5, rate * 2))
    ax.grid(which="major")


def cost_curves(records: Sequence[Record]) -> Figure:
    """Seconds of a training step against one size of the batch at a time, both axes logarithmic.

    The panel of an axis without a point says that it was not measured.
    """
    kept = [record for record in records if record.curves]
    if not kept:
        return nothing("no record with cost curves yet")
    figure, axes = style.subplots(2 * len(kept), 3, height=0.3 + 3.6 * len(kept))
    for first, record in zip(range(0, len(axes), 6), kept, strict=True):
        own = axes[first : first + 6]
        own[0].set_title(record.title, loc="left")
        drawn = []
        for ax, axis in zip(own, AXES, strict=False):
            points = sorted((row for row in record.curves if row["axis"] == axis), key=lambda row: row["value"])
            ax.set_xlabel(AXES[axis])
            if not points:
                ax.text(0.5, 0.5, "not measured", ha="center", va="center", transform=ax.transAxes)
                ax.set(xticks=[], yticks=[])
                continue
            drawn.append(ax)
            values = [row["value"] for row in points]
            for kind, (colour, marker, line, _) in SIDES.items():
                ax.loglog(values, [row[kind] for row in points], marker, linestyle=line, color=colour, markersize=4)
            ax.xaxis.set_major_locator(FixedLocator(values))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(NullLocator())
            _plain_ticks(ax.yaxis)
            ax.grid(axis="y")
        limits = [limit for ax in drawn for limit in ax.get_ylim()]
        for ax in drawn:
            ax.set_ylim(min(limits), max(limits))
        for ax in own[:5:3]:
            ax.set_ylabel("seconds a step")
        own[5].set_axis_off()
        handles = [Line2D([], [], color=c, marker=m, linestyle=s, markersize=4, label=name)
                   for c, m, s, name in SIDES.values()]  # fmt: skip
        own[5].legend(handles=handles, loc="center")
    return figure
