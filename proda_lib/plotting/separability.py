"""Figure 4: action features in their t-SNE planes, a few classes in colour and the rest in grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from proda_lib.evaluation.separability import Separability
from proda_lib.plotting import style

#: More classes than these could not be told apart; each has a colour and a marker of its own.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def planes(found: dict[str, tuple[Separability, Separability]], actions: Sequence[str], classes: int = 7) -> Figure:
    """One row a set of videos, left each prompt on its own video, right the control.

    Args:
        found: name of the set → model and control. The ``classes`` most frequent of the last set are coloured, the same
            in every panel.
        actions: names of the classes.
    """
    figure, axes = style.subplots(len(found), 2, height=0.7 + 2.75 * len(found))
    last = list(found.values())[-1][0].features.actions
    shown = frequent(last, min(classes, len(MARKERS)))
    for row, (name, pair) in enumerate(found.items()):
        for ax, title, entry in zip(axes[2 * row :], ("own video", "another video (control)"), pair, strict=False):
            _plane(ax, entry, shown)
            ax.set_title(f"{name}: prompt on its {title}" if title == "own video" else f"{name}: prompt on {title}")
    handles = [_mark(i, linestyle="", label=style.readable(actions[c])) for i, c in enumerate(shown)]
    rest = Line2D([], [], marker=".", color=style.GREY, linestyle="", label="the other classes")
    figure.legend(handles=[*handles, rest], loc="outside lower center", ncols=4)
    return figure


def frequent(actions: np.ndarray, count: int) -> list[int]:
    """The classes with most features, most frequent first; ties in the order of the vocabulary."""
    classes, counts = np.unique(actions, return_counts=True)
    return classes[np.argsort(-counts, kind="stable")][:count].tolist()


def _plane(ax, entry: Separability, shown: Sequence[int]) -> None:
    rest = ~np.isin(entry.features.actions, shown)
    ax.plot(*entry.plane[rest].T, ".", color=style.GREY, alpha=0.7, markersize=2.6, markeredgewidth=0)
    for i, action in enumerate(shown):
        mark = _mark(i)
        ax.plot(*entry.plane[entry.features.actions == action].T, marker=mark.get_marker(), color=mark.get_color(),
                linestyle="", markersize=4, markeredgecolor="white", markeredgewidth=0.4)  # fmt: skip
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(style.PALE)


def _mark(i: int, **options) -> Line2D:
    return Line2D([], [], marker=MARKERS[i], color=style.COLOURS[i], markersize=5, **options)
