"""What the questions give away: controls by kind of row and by number of labels, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from proda_lib.plotting import style

#: Marker and colour of the two controls, and of what the paper reports.
LOOK = {"rule": ("o", style.ORANGE), "trained": ("s", style.BLUE), "paper": ("D", style.BLACK)}


def controls_by_rows(frame: pd.DataFrame, datasets: Sequence[str], quoted: dict[str, float]) -> Figure:
    """A panel for each data set, a line for each kind of row: dots are seeds, the bar is their mean.

    Args:
        frame: cells are ``cells.Spread``, columns (data set, control).
        quoted: label → a number of the paper, drawn as a vertical line beside a_t in the first panel.
    """
    figure, axes = style.subplots(1, len(datasets), height=1.2 + 0.34 * len(frame), sharex=True, sharey=True)
    for ax, dataset in zip(axes, datasets, strict=True):
        for shift, control in ((-0.17, "rule"), (0.17, "trained")):
            marker, colour = LOOK[control]
            for line, cell in enumerate(frame[dataset, control]):
                heights = [line + shift] * len(cell.values)
                ax.plot(cell.values, heights, marker, color=colour, markersize=4, alpha=0.75)
                if cell.values:
                    ax.plot([cell.mean] * 2, [line + shift - 0.15, line + shift + 0.15], color=colour)
        ax.set_title(dataset, loc="left")
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
        for line in range(1, len(frame)):
            ax.axhline(line - 0.5, color=style.PALE, linewidth=0.8)
        if not any(cell.values for control in ("rule", "trained") for cell in frame[dataset, control]):
            ax.text(0.5, 0.5, "no records", transform=ax.transAxes, ha="center", va="center")
    axes[0].set(ylim=(len(frame) - 0.5, -0.5), xlim=(0, 105))
    axes[0].set_yticks(range(len(frame)), frame.index)
    axes[len(axes) // 2].set_xlabel("mAP (%)")
    handles = []
    for control in ("rule", "trained"):
        marker, colour = LOOK[control]
        handles.append(Line2D([], [], marker=marker, color=colour, linestyle="", label=f"prompt only, {control}"))
    lines = [line for line, name in enumerate(frame.index) if name.startswith("a_t")]  # what the numbers compare with
    span = min(lines) - 0.5, max(lines) + 0.5
    for (label, value), dashes in zip(quoted.items(), ("--", ":"), strict=False):
        axes[0].plot([value] * 2, span, color=style.BLACK, linestyle=dashes, linewidth=1.1)
        handles.append(Line2D([], [], color=style.BLACK, linestyle=dashes, linewidth=1.1, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def by_label_count(lines: dict[str, dict[str, Float[np.ndarray, "L"]]]) -> Figure:
    """a_s over the number of labels L = 1, 2, ...: a panel for each kind, a line for the paper and each control.

    Args:
        lines: title of the panel → ("paper", "rule" or "trained" → values).
    """
    figure, axes = style.subplots(1, len(lines), height=2.9, sharex=True, sharey=True)
    for ax, (title, found) in zip(axes, lines.items(), strict=True):
        for name, values in found.items():
            marker, colour = LOOK[name]
            label = "ProDA, paper" if name == "paper" else f"prompt only, {name}"
            hollow = {"markersize": 7, "markerfacecolor": "none"} if name == "paper" else {"markersize": 4}
            ax.plot(np.arange(1, len(values) + 1), values, color=colour, marker=marker, label=label, **hollow)
        ax.set_title(title, loc="left")
        ax.set_xlabel("labels of the video, L")
        ax.grid(axis="y")
    axes[0].set(ylim=(0, 105), ylabel="a_s, mAP (%)")
    axes[0].set_xticks([1, 4, 8, 12, 16])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
