"""The pictures of a report: frames with boxes, frame weights over time, and what is left of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from proda_lib.evaluation.explain import Answer
from proda_lib.evaluation.localization import frame_spans
from proda_lib.features.film import Picture
from proda_lib.graph import SceneGraph
from proda_lib.plotting import style
from proda_lib.plotting.graphs import draw_frame
from proda_lib.plotting.parsing import draw_graph
from proda_lib.predict.answer import Prediction

#: Height over width of a frame without a picture, as elsewhere in the book.
SHAPE = 0.75
#: Frames drawn with their boxes, and for the graph of each action.
BOXES, PARSED = 6, 3


def spread(graph: SceneGraph, count: int) -> list[int]:
    """Up to ``count`` different frames, evenly spread."""
    different = np.flatnonzero(np.diff(graph.times, prepend=-1.0) > 0)
    return different[np.unique(np.linspace(0, len(different) - 1, count).round().astype(int))].tolist()


def shape_of(answer: Prediction) -> float:
    return SHAPE if answer.pictures is None else answer.pictures[0].shape[0] / answer.pictures[0].shape[1]


def boxes(answer: Prediction) -> Figure:
    """Evenly spread frames with the boxes and edges that the model was given."""
    graph, shown, shape = answer.seen, spread(answer.seen, BOXES), shape_of(answer)
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = style.subplots(rows, columns, height=rows * (style.WIDTH / columns * shape + 0.28))
    for ax in axes[len(shown) :]:
        ax.remove()
    for ax, frame in zip(axes, shown, strict=False):
        _picture(ax, answer.pictures, frame)
        draw_frame(ax, graph, frame)
        _finish(ax, shape, f"{graph.times[frame]:.1f} s")
    return figure


def frame_weights(answer: Prediction) -> Figure:
    """A row for each action asked for: s² / max s² as a heat bar, found segments below, true ones (if any) above."""
    graph, count = answer.seen, len(answer.asked)
    figure, (ax,) = style.subplots(height=0.95 + 0.5 * count)
    shade = ScalarMappable(Normalize(0, 1), style.AMOUNT)
    truth = np.isin(answer.asked, graph.segment_labels).any()
    spans = frame_spans(graph.times, graph.duration)
    for row, (action, values) in enumerate(zip(answer.asked, answer.localization, strict=True)):
        for (start, end), value in zip(spans, values, strict=True):
            ax.add_patch(Rectangle((start, row - 0.16), end - start, 0.32, color=shade.to_rgba(value), linewidth=0))
        for start, end in graph.segments[graph.segment_labels == action]:
            ax.add_patch(Rectangle((start, row - 0.36), end - start, 0.15, facecolor=style.PALE, edgecolor=style.BLACK,
                                   linewidth=0.7, hatch="////"))  # fmt: skip
        for start, end in answer.segments[graph.vocabulary.actions[action]]:
            ax.add_patch(Rectangle((start, row + 0.21), end - start, 0.13, facecolor=style.VERMILION, linewidth=0))
    ax.set(xlim=(0, graph.duration), ylim=(count - 0.45, -0.6), xlabel="seconds")
    ax.set_yticks(range(count), [style.readable(name) for name in answer.actions])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    bar = figure.colorbar(shade, ax=ax, fraction=0.025, pad=0.02, aspect=12)
    bar.set_label("s² / max s²", fontsize=8)
    bar.outline.set_visible(False)
    handles = [Patch(facecolor=style.VERMILION, label=f"found, at least {answer.theta:g}")]
    if truth:
        handles.append(Patch(facecolor=style.PALE, edgecolor=style.BLACK, linewidth=0.7, hatch="////", label="true"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def parsed(answer: Prediction, place: int) -> Figure:
    """What is left of the graph for one action: edges by w of the last layer, boxes by node score."""
    graph, own, shape = answer.seen, answer.alone[place], shape_of(answer)
    shown = strongest(answer, own)
    figure, axes = style.subplots(1, len(shown), height=style.WIDTH / len(shown) * shape + 0.35)
    w, score = (np.nan_to_num(x) / max(float(np.nanmax(x, initial=0.0)), 1e-6) for x in (own.w[-1], own.node_score))
    for ax, frame in zip(axes, shown, strict=True):
        _picture(ax, answer.pictures, frame)
        draw_graph(ax, graph, frame, w[:, frame], score[:, frame], image=answer.pictures and answer.pictures[frame],
                   names=True)  # fmt: skip
        _finish(ax, shape, f"{graph.times[frame]:.1f} s, s²/max {answer.localization[place][frame]:.2f}")
    return figure


def strongest(answer: Prediction, own: Answer) -> list[int]:
    """The frames with the largest weights, in order of time; of a frame that was sampled again, one."""
    best = np.argsort(-own.s, kind="stable")
    _, first = np.unique(answer.seen.times[best], return_index=True)
    return sorted(best[np.sort(first)[:PARSED]].tolist())


def _picture(ax: Axes, pictures: Sequence[Picture] | None, frame: int) -> None:
    if pictures is not None:
        ax.imshow(pictures[frame], extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")


def _finish(ax: Axes, shape: float, title: str) -> None:
    """Title and shape; over a picture, lines have a white border and names are black, so that both can be seen."""
    ax.set_aspect(shape)
    ax.set_title(title, fontsize=8)
    if ax.images:
        for drawn in (*ax.patches, *ax.lines):
            drawn.set_path_effects([withStroke(linewidth=drawn.get_linewidth() + 1.6, foreground="white")])
        for line in ax.lines:
            line.set_alpha(0.8)
        for text in ax.texts:
            text.set_color(style.BLACK)
