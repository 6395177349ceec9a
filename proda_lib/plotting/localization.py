"""Figure 3 (and 8): frame weights of several questions about one video, with true and found segments."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from proda_lib.evaluation.localization import FrameScores, found_segments, frame_iou, frame_spans
from proda_lib.plotting import style


def heat_bars(scores: FrameScores, theta: float = 0.7) -> Figure:
    """One block for each action asked for: true segments above, s² / max s² as a heat bar, found segments below.

    Each sampled frame colours the part of the video that is nearest to it. Truth is outlined and hatched, what was
    found is filled, so that neither needs its colour to be told apart. The frame IoU stands at the right.
    """
    graph, count = scores.graph, len(scores.actions)
    figure, (ax,) = style.subplots(height=0.9 + 0.46 * count)
    spans, found = frame_spans(graph.times, graph.duration), scores.found(theta)
    shade = Normalize(0, 1)
    for row, (action, values, marks, truth) in enumerate(
        zip(scores.actions, scores.score, found, scores.true, strict=True)
    ):
        cells = [Rectangle((a, row - 0.16), b - a, 0.32, linewidth=0) for a, b in spans]
        heat = ax.add_collection(_collection(cells, values, shade))
        for start, end in graph.segments[graph.segment_labels == action]:
            ax.add_patch(Rectangle((start, row - 0.36), end - start, 0.15, facecolor=style.PALE, edgecolor=style.BLACK,
                                   linewidth=0.7, hatch="////"))  # fmt: skip
        for start, end in found_segments(marks, graph.times, graph.duration):
            ax.add_patch(Rectangle((start, row + 0.21), end - start, 0.13, facecolor=style.VERMILION, linewidth=0))
        overlap = f"{frame_iou(marks, truth):.2f}"
        ax.text(1.01, row, overlap, transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    names = [style.readable(graph.vocabulary.actions[action]) for action in scores.actions]
    ax.set(xlim=(0, graph.duration), ylim=(count - 0.45, -0.6), xlabel="seconds", title=graph.video)
    ax.set_yticks(range(count), names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.text(1.01, -0.6, "IoU", transform=ax.get_yaxis_transform(), va="bottom", fontsize=8)
    bar = figure.colorbar(heat, ax=ax, fraction=0.025, pad=0.09, aspect=12)
    bar.set_label("s² / max s²", fontsize=8)
    bar.outline.set_visible(False)
    handles = [
        Patch(facecolor=style.PALE, edgecolor=style.BLACK, linewidth=0.7, hatch="////", label="true"),
        Patch(facecolor=style.VERMILION, label=f"found, score ≥ {theta:g}"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _collection(cells: list[Rectangle], values: np.ndarray, shade: Normalize) -> PatchCollection:
    collection = PatchCollection(cells, cmap=style.AMOUNT, norm=shade, match_original=False, linewidth=0)
    collection.set_array(values)
    collection.set_antialiased(False)
    return collection
