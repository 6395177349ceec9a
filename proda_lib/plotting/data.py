"""Pictures of data sets and of Action Specifications."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from proda_lib.datasets.world_actions import Action
from proda_lib.graph import SceneGraph
from proda_lib.plotting import style
from proda_lib.plotting.style import BLUE, COLOURS, GREY, PALE, SPECIFIED, UNSPECIFIED, VERMILION, readable


def label_spread(graphs: Sequence[SceneGraph], expected: Sequence[int], expected_name: str) -> Figure:
    """How many labels a video has: the videos at hand beside ``expected`` counts for 1, 2, ... labels."""
    numbers = np.arange(1, len(expected) + 1)
    found = np.bincount([len(g.labels) for g in graphs], minlength=len(expected) + 1)[1 : len(expected) + 1]
    figure, (ax,) = style.subplots(height=2.2)
    ax.bar(numbers - 0.2, 100 * found / found.sum(), 0.4, color=BLUE, label=f"{len(graphs)} videos")
    ax.bar(numbers + 0.2, 100 * np.array(expected) / sum(expected), 0.4, color=GREY, label=expected_name)
    ax.set(xlabel="labels of a video", ylabel="% of videos", xticks=numbers)
    ax.legend()
    return figure


def programs(actions: Sequence[Action], relations: Sequence[str]) -> Figure:
    """The orders of three relations that mean each action: a row for each order, time from left to right."""
    rows = [(action.name, word) for action in actions for word in action.words]
    kit = sorted({relation for _, word in rows for relation in word}, key=rows[0][1].index)
    figure, (ax,) = style.subplots(height=0.3 + 0.3 * len(rows))
    for row, (_, word) in enumerate(rows):
        for phase, relation in enumerate(word):
            ax.barh(row, 0.96, left=phase, height=0.8, color=COLOURS[kit.index(relation)], alpha=0.85)
            ax.text(phase + 0.48, row, readable(relations[relation]), ha="center", va="center", color="white")
    ax.set_yticks(range(len(rows)), [readable(name) for name, _ in rows])
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 3), xticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def coverage(graphs: Sequence[SceneGraph], expected: float, expected_name: str) -> Figure:
    """Which part of its video an action covers."""
    shares = np.concatenate([(g.segments[:, 1] - g.segments[:, 0]) / g.duration for g in graphs])
    figure, (ax,) = style.subplots(height=2.0)
    ax.hist(100 * shares, bins=np.arange(0, 101, 4), color=BLUE)
    ax.axvline(100 * shares.mean(), color=VERMILION, label=f"mean {100 * shares.mean():.1f} %")
    ax.axvline(100 * expected, color="black", linestyle="--", label=f"{expected_name} {100 * expected:.1f} %")
    ax.set(xlabel="% of the video that a segment covers", ylabel="segments")
    ax.legend()
    return figure


def counts(columns: dict[str, dict[str, int]]) -> Figure:
    """One panel of horizontal bars for each entry: name → {class: how often}, the most frequent first."""
    rows = max(len(c) for c in columns.values())
    figure, axes = style.subplots(1, len(columns), height=0.6 + 0.19 * rows)
    for ax, (title, values) in zip(axes, columns.items(), strict=True):
        ordered = sorted(values.items(), key=lambda item: -item[1])
        ax.barh(range(len(ordered)), [v for _, v in ordered], color=BLUE)
        ax.set_yticks(range(len(ordered)), [readable(name) for name, _ in ordered])
        ax.set(ylim=(len(ordered) - 0.4, -0.6))
        ax.set_title(title, loc="left")
    return figure


def specifications(
    saps: Bool[np.ndarray, "S C"], labels: Bool[np.ndarray, "C"], rows: Sequence[str],
    actions: Sequence[str] | None = None,
) -> Figure:  # fmt: skip
    """Specifications as rows over all actions: asked for (coloured by truth) or not.

    Args:
        rows: a name for each specification.
        actions: names of the columns; left out where they are many.
    """
    cells = saps * 2 + labels[None]  # 0 absent, not asked; 1 present, not asked; 2 distractor; 3 present and asked
    colours = [PALE, UNSPECIFIED, "#9CC9E3", SPECIFIED]
    names = ["UAP: absent", "UAP: present", "SAP: absent (distractor)", "SAP: present"]
    figure, (ax,) = style.subplots(height=0.75 + 0.19 * len(saps) + (1.0 if actions is not None else 0.25))
    ax.imshow(cells, aspect="auto", cmap=ListedColormap(colours), vmin=-0.5, vmax=3.5)
    ax.set_yticks(range(len(saps)), rows)
    ax.set_yticks(np.arange(len(saps) - 1) + 0.5, minor=True)
    ax.grid(axis="y", which="minor", color="white", linewidth=1.5)
    if actions is not None:
        ax.set_xticks(range(len(actions)), [readable(a) for a in actions], rotation=60, ha="right")
        ax.set_xticks(np.arange(len(actions) - 1) + 0.5, minor=True)
        ax.grid(axis="x", which="minor", color="white", linewidth=1.5)
    else:
        ax.set_xlabel("action")
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    used = [i for i in (3, 2, 1, 0) if (cells == i).any()]
    figure.legend(handles=[Patch(color=colours[i], label=names[i]) for i in used], ncols=len(used),
                  loc="outside upper center")  # fmt: skip
    return figure
