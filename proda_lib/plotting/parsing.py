"""Figures 9 to 11: a graph, and what remains of it for an action asked for, layer by layer. Boxes in an empty frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from proda_lib.evaluation.explain import Answer
from proda_lib.evaluation.localization import frame_spans
from proda_lib.evaluation.parsing import carrying
from proda_lib.graph import SceneGraph
from proda_lib.nn.readout import localization_score
from proda_lib.plotting import style
from proda_lib.plotting.blocks import busiest_frame
from proda_lib.plotting.graphs import slot_names
from proda_lib.plotting.style import BLACK, GREY, PALE, SPECIFIED, TRUTH, readable


def draw_graph(
    ax: Axes, graph: SceneGraph, frame: int, w: Float[np.ndarray, "E"], node_score: Float[np.ndarray, "M"],
    action: int | None = None, image: np.ndarray | None = None, names: bool = False,
) -> None:  # fmt: skip
    """Boxes and directed edges of one frame, each as strong as its score in 0..1. An edge with NaN is not drawn.

    Without a picture behind it, the view is cut to the boxes of the frame.

    Args:
        action: what truly carries this action is underlaid, broad and pale. None: nothing is.
        image: (height, width, 3) picture behind the graph. ``names``: write the names of the slots.
    """
    if image is not None:
        ax.imshow(image, extent=(0, 1, 1, 0), aspect="auto")
    (left, top), side = (0, 0), 1.0
    if image is None and graph.present[frame].any():
        corners = graph.boxes[frame, graph.present[frame]].reshape(-1, 2)
        side = np.ptp(corners, axis=0).max() + 0.06
        left, top = (corners.min(0) + corners.max(0) - side) / 2
    known = action is not None and graph.carriers is not None
    edges, nodes = carrying(graph, action) if known else (np.zeros_like(graph.edge_present), graph.present & False)
    centres = (graph.boxes[frame, :, :2] + graph.boxes[frame, :, 2:]) / 2
    for edge in np.flatnonzero(graph.edge_present[frame]):
        sender, receiver = graph.edges[:, edge]
        bend = {"connectionstyle": "arc3,rad=0.14", "shrinkA": 1, "shrinkB": 1}
        if edges[frame, edge]:
            ax.add_patch(FancyArrowPatch(centres[sender], centres[receiver], arrowstyle="-", linewidth=5.5,
                                         color=TRUTH, alpha=0.35, **bend))  # fmt: skip
        if not np.isnan(value := float(w[edge])):
            ax.add_patch(FancyArrowPatch(centres[sender], centres[receiver], arrowstyle="-|>", color=SPECIFIED,
                                         mutation_scale=4 + 4 * value, linewidth=0.3 + 2 * value,
                                         alpha=0.12 + 0.88 * value, **bend))  # fmt: skip
    for slot in np.flatnonzero(graph.present[frame]):
        (x1, y1, x2, y2), value = graph.boxes[frame, slot], float(node_score[slot])
        if nodes[frame, slot]:
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=TRUTH, linewidth=5.5, alpha=0.35))
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=BLACK, linewidth=0.4 + 2 * value,
                               alpha=0.2 + 0.8 * value))  # fmt: skip
        if names:
            inside = x1 < left + 0.7 * side
            ax.text(x1 + 0.01 if inside else x2 - 0.01, y1 + 0.01, slot_names(graph)[slot], fontsize=6, va="top",
                    ha="left" if inside else "right", clip_on=True,
                    bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.4, "linewidth": 0})  # fmt: skip
    ax.set(xlim=(left, left + side), ylim=(top + side, top), xticks=[], yticks=[], aspect=0.75)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(GREY)


def steps(answer: Answer) -> list[tuple[str, Float[np.ndarray, "E N"], Float[np.ndarray, "M N"]]]:
    """What is drawn, from the full graph to what is read out: title, strength of edges, strength of nodes.

    Only the order of w within a layer is compared, so w is divided by its largest value there, which the title names.
    """
    largest = [float(np.nanmax(w, initial=1e-6)) for w in answer.w]
    names = [f"layer {layer}\nw ≤ {most:.2f}" for layer, most in enumerate(largest, 1)]
    edges = [np.ones_like(answer.w[0]), *(w / most for w, most in zip(answer.w, largest, strict=True)),
             np.full_like(answer.w[0], np.nan)]  # fmt: skip
    score = np.nan_to_num(answer.node_score)
    nodes = [np.ones_like(score), *[np.full_like(score, 0.35)] * len(names), score]
    return list(zip(["full graph", *names, "readout"], edges, nodes, strict=True))


def each_action(graph: SceneGraph, answers: Sequence[Answer], actions: Sequence[int]) -> Figure:
    """One row an action, each in a frame of its segment; columns as in :func:`steps`."""
    columns = len(steps(answers[0]))
    figure, axes = style.subplots(len(answers), columns, height=0.75 + 1.45 * len(answers))
    for row, (answer, action) in enumerate(zip(answers, actions, strict=True)):
        frame = busiest_frame(graph, action)
        own = axes[row * columns : (row + 1) * columns]
        own[0].set_ylabel(f"{readable(graph.vocabulary.actions[action])}\n{graph.times[frame]:.1f} s", fontsize=8)
        for column, (ax, (title, w, nodes)) in enumerate(zip(own, steps(answer), strict=True)):
            draw_graph(ax, graph, frame, w[:, frame], nodes[:, frame], action, names=column == 0)
            ax.set_title(title if row == 0 else title.partition("\n")[2])  # the largest w is each row's own
    _legend(figure)
    return figure


def over_time(
    graph: SceneGraph, answer: Answer, action: int, count: int = 5, images: Sequence[np.ndarray] | None = None
) -> Figure:
    """One action through the video: its localisation above, then a row for each of :func:`steps`, frames side by side.

    Args:
        count: how many of the sampled frames, evenly spread. images: a picture for each of the N sampled frames.
    """
    shown, parts = np.linspace(0, graph.num_frames - 1, count).round().astype(int), steps(answer)
    figure, axes = style.subplots(1 + len(parts), count, height=1.3 + 1.15 * len(parts),
                                  height_ratios=[0.42, *[1] * len(parts)])  # fmt: skip
    bar = figure.add_subplot(axes[0].get_gridspec()[0, :])
    for ax in axes[:count]:
        ax.remove()
    _localisation(bar, graph, answer, action, shown)
    for row, (title, w, nodes) in enumerate(parts):
        own = axes[(row + 1) * count : (row + 2) * count]
        for ax, frame in zip(own, shown, strict=True):
            image = None if images is None else images[frame]
            draw_graph(ax, graph, frame, w[:, frame], nodes[:, frame], action, image, names=row == 0)
            ax.set_title(f"{graph.times[frame]:.1f} s" if row == 0 else "")
        own[0].set_ylabel(title)
    _legend(figure)
    return figure


def _localisation(ax: Axes, graph: SceneGraph, answer: Answer, action: int, shown: Sequence[int]) -> None:
    """True segments above the frame scores s² / max s², and marks at the frames that are drawn."""
    score = localization_score(torch.from_numpy(answer.s)[None])[0].numpy()
    shade = ScalarMappable(Normalize(0, 1), style.AMOUNT)
    for (start, end), value in zip(frame_spans(graph.times, graph.duration), score, strict=True):
        ax.add_patch(Rectangle((start, 0), end - start, 1, color=shade.to_rgba(value), linewidth=0))
    for start, end in graph.segments[graph.segment_labels == action]:
        ax.add_patch(Rectangle((start, 1.15), end - start, 0.6, facecolor=PALE, edgecolor=BLACK, linewidth=0.7,
                               hatch="////"))  # fmt: skip
    ax.plot(graph.times[shown], [-0.25] * len(shown), "^", color=BLACK, markersize=4)
    ax.set(xlim=(0, graph.duration), ylim=(-0.6, 1.9), yticks=[0.5, 1.45], yticklabels=["s² / max s²", "true"])
    ax.set_title(f"{readable(graph.vocabulary.actions[action])}, a_s {answer.a_s[action]:.2f}, seconds", loc="left")
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=SPECIFIED, linewidth=2.2, label="edge, as strong as w / largest w"),
        Patch(facecolor="none", edgecolor=BLACK, linewidth=1.6, label="box, as strong as its node score"),
        Line2D([], [], color=TRUTH, linewidth=6, alpha=0.35, label="truly carries the action"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
