"""Measured values as dots, one for each seed, so that a spread is seen and not only written."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from proda_lib.evaluation.cells import Spread
from proda_lib.evaluation.report import without_empty_lines
from proda_lib.plotting import style

MARKERS = "osD^vP"


def dots(frame: pd.DataFrame, columns: list[tuple[str, str]], xlabel: str = "mAP (%)") -> Figure:
    """A line for each row of a table that has a value, a colour and marker for each of ``columns``.

    Small dots are seeds, the bar is their mean.

    Args:
        frame: cells are :class:`Spread`, columns (group, name) as in ``report.frame_of``.
        columns: which of them to draw, in order.
    """
    frame = without_empty_lines(frame[columns])
    figure, (ax,) = style.subplots(height=0.9 + 0.34 * len(frame))
    step = 0.62 / max(len(columns), 1)
    handles = []
    for i, column in enumerate(columns):
        colour, marker = style.COLOURS[i], MARKERS[i % len(MARKERS)]
        for line, cell in enumerate(frame[column]):
            _cell(ax, cell, line + (i - (len(columns) - 1) / 2) * step, colour, marker, step)
        label = " ".join(part for part in column if part)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=4, linestyle="", label=label))
    ax.set(ylim=(len(frame) - 0.5, -0.5), xlabel=xlabel)
    ax.set_yticks(range(len(frame)), frame.index)
    ax.tick_params(axis="y", length=0)
    for line in range(1, len(frame)):
        ax.axhline(line - 0.5, color=style.PALE, linewidth=0.8)
    ax.grid(axis="x")
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(columns), 4))
    return figure


def panels(frame: pd.DataFrame, column: str) -> Figure:
    """One panel for each first index level of a table: dots for seeds, mean and spread written beside them.

    Without a line there is an empty figure that says so.
    """
    if frame.empty:
        figure, (ax,) = style.subplots(height=0.8)
        ax.text(0.5, 0.5, "no records are committed yet", ha="center", va="center")
        ax.set_axis_off()
        return figure
    groups = list(dict.fromkeys(frame.index.get_level_values(0)))
    sizes = [len(frame.loc[group]) for group in groups]
    figure, axes = style.subplots(len(groups), 1, height=0.9 + 0.34 * len(frame), sharex=True,
                                  gridspec_kw={"height_ratios": sizes})  # fmt: skip
    for ax, group, colour in zip(axes, groups, style.COLOURS, strict=False):
        part = frame.loc[group]
        for line, cell in enumerate(part[column]):
            _cell(ax, cell, line, colour, "o", 0.5)
            ax.text(1.01, line, str(cell), transform=ax.get_yaxis_transform(), va="center", fontsize=8)
        ax.set_title(group, loc="left")
        ax.set_ylim(len(part) - 0.5, -0.5)
        ax.set_yticks(range(len(part)), part.index)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    axes[-1].set(xlabel="mAP (%)", xlim=(0, 100))
    return figure


def _cell(ax, cell: Spread, height: float, colour: str, marker: str, step: float) -> None:
    if not cell.values:
        return
    ax.plot(cell.values, [height] * len(cell.values), marker, color=colour, markersize=4, alpha=0.75, linestyle="")
    ax.plot([cell.mean] * 2, [height - 0.42 * step, height + 0.42 * step], color=colour, linewidth=1.6)
