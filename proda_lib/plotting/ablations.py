"""Variants and sweeps: three answers side by side, one dot a seed, with the level of their control."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.report import Key
from proda_lib.plotting import style

#: Panel → its key, and the control that stands beside it: (row, key, name).
PANELS: dict[str, tuple[Key, tuple[str, Key, str]]] = {
    "$a_t$, question from test labels": ("paper/both/a_t", ("prompt_only", "trained/both/a_t", "prompt only, trained")),
    "$a_s$ by partition, label-free": ("label_free/partition/a_s/map", ("no_prompt", "a_t/map", "no_prompt")),
    "$a_m$, no question": (("a_m/map", "a_t/map"), ("no_prompt", "a_t/map", "no_prompt")),
}


def variant_dots(found: Recorded, variants: list[str]) -> Figure:
    """A panel an answer, a line a variant: dots are seeds, the bar their mean, the dashed line the control's mean."""
    figure, axes = style.subplots(1, len(PANELS), height=1.1 + 0.3 * len(variants), sharey=True)
    for ax, colour, (title, (key, (row, control, _))) in zip(axes, style.COLOURS, PANELS.items(), strict=False):
        level = cell(found, row, control)
        if level.values:
            ax.axvline(level.mean, color=style.GREY, linestyle="--", linewidth=1.2)
        for line, variant in enumerate(variants):
            values = cell(found, variant, key)
            if values.values:
                ax.plot(values.values, [line] * len(values.values), "o", color=colour, markersize=4, alpha=0.75)
                ax.plot([values.mean] * 2, [line - 0.25, line + 0.25], color=colour, linewidth=1.6)
        ax.set_title(title, loc="left", fontsize=8)
        ax.set(xlabel="mAP (%)", ylim=(len(variants) - 0.5, -0.5))
        ax.set_yticks(range(len(variants)), variants)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    dashed = Line2D([], [], color=style.GREY, linestyle="--", label="control: prompt only, trained (left); no_prompt")
    figure.legend(handles=[dashed], loc="outside lower center")
    return figure


def sweep_panels(found: Recorded) -> Figure:
    """A panel a sweep: three answers against the values, in rising order."""
    sweeps: dict[str, list[str]] = {}
    for label, value in (row.split(": ") for row in found.runs if not row.startswith(("no_prompt, ", "prompt_only, "))):
        sweeps.setdefault(label, []).append(value)
    columns = 2
    figure, axes = style.subplots(-(-len(sweeps) // columns), columns, height=1.9 * -(-len(sweeps) // columns) + 0.5)
    keys = {title: key for title, (key, _) in PANELS.items()} | {"no_prompt": "a_t/map"}
    for ax, (label, values) in zip(axes, sweeps.items(), strict=False):
        values = sorted(values, key=_place)
        for (title, key), colour, marker in zip(keys.items(), style.COLOURS, "osD^", strict=False):
            prefix = "no_prompt, " if title == "no_prompt" else ""
            cells = [cell(found, f"{prefix}{label}: {value}", key) for value in values]
            x = [i for i, c in enumerate(cells) if c.values]
            mean = np.array([cells[i].mean for i in x])
            sd = np.array([cells[i].sd if len(cells[i].values) > 1 else 0.0 for i in x])
            ax.plot(x, mean, marker=marker, markersize=4, color=colour, label=title)
            ax.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
        ax.set_title(label, loc="left")
        ax.set_xticks(range(len(values)), values)
        ax.set(xlim=(-0.3, len(values) - 0.7), ylabel="mAP (%)")
        ax.grid(axis="y")
    for ax in axes[len(sweeps) :]:
        ax.set_axis_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _place(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, value
