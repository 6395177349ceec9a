"""Pictures of scene graphs: frames with boxes and edges, and what holds when."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from proda_lib.evaluation.localization import found_segments
from proda_lib.graph import SceneGraph
from proda_lib.plotting import style
from proda_lib.plotting.style import COLOURS, GREY, PALE, TRUTH, readable


def colour_of(slot: int) -> str:
    """The colour of a slot, the same in every picture of a graph."""
    return COLOURS[slot % (len(COLOURS) - 1)]  # yellow is too pale for lines


def slot_names(graph: SceneGraph) -> list[str]:
    """A readable name for each slot; a class that occurs twice is numbered."""
    names = [readable(graph.vocabulary.objects[c]) for c in graph.classes]
    return [f"{n} {names[:i].count(n) + 1}" if names.count(n) > 1 else n for i, n in enumerate(names)]


def edge_names(graph: SceneGraph) -> list[str]:
    """ "person → cup" for each directed edge."""
    names = slot_names(graph)
    return [f"{names[sender]} → {names[receiver]}" for sender, receiver in graph.edges.T]


def draw_frame(
    ax: Axes, graph: SceneGraph, frame: int, strength: Float[np.ndarray, "E"] | None = None, colour: str = "#444444",
    names: bool = True,
) -> None:  # fmt: skip
    """Boxes and edges of one frame.

    Args:
        strength: in 0..1, how strongly to draw each directed edge; by default all the same, without direction.
    """
    centres = (graph.boxes[frame, :, :2] + graph.boxes[frame, :, 2:]) / 2
    for edge in np.flatnonzero(graph.edge_present[frame]):
        sender, receiver = graph.edges[:, edge]
        if strength is None:
            ax.plot(*centres[[sender, receiver]].T, color=colour, alpha=0.35, linewidth=1)
        else:
            value = float(strength[edge])
            arrow = FancyArrowPatch(
                centres[sender], centres[receiver], connectionstyle="arc3,rad=0.12", arrowstyle="-|>",
                mutation_scale=4 + 5 * value, linewidth=0.4 + 2.2 * value, color=colour, alpha=0.08 + 0.92 * value,
                shrinkA=2, shrinkB=2,
            )  # fmt: skip
            ax.add_patch(arrow)
    for slot in np.flatnonzero(graph.present[frame]):
        (x1, y1, x2, y2), paint = graph.boxes[frame, slot], colour_of(slot)
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=paint, linewidth=1.1))
        if names:
            ax.text(x1 + 0.01, y1 + 0.01, slot_names(graph)[slot], color=paint, fontsize=6.5, va="top", clip_on=True,
                    bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.4, "linewidth": 0})  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect=0.75)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(PALE)


def frames(graph: SceneGraph, count: int = 4) -> Figure:
    """``count`` evenly spread frames side by side."""
    figure, axes = style.subplots(1, count, height=1.75)
    for ax, frame in zip(axes, np.linspace(0, graph.num_frames - 1, count).round().astype(int), strict=True):
        draw_frame(ax, graph, frame)
        ax.set_title(f"frame {frame}, {graph.times[frame]:.1f} s")
    return figure


def timeline(graph: SceneGraph) -> Figure:
    """When each slot is there (dots), and when each action goes on (bars)."""
    names = slot_names(graph)
    rows = graph.num_slots + len(graph.segments)
    figure, (ax,) = style.subplots(height=0.7 + style.ROW * rows)
    for slot in range(graph.num_slots):
        seen = graph.times[graph.present[:, slot]]
        ax.plot(seen, np.full(len(seen), slot), "o", markersize=2.5, color=colour_of(slot))
    action_bars(ax, graph, graph.num_slots)
    ax.set_yticks(range(rows), [*names, *(readable(graph.vocabulary.actions[a]) for a in graph.segment_labels)])
    ax.set(xlim=(0, graph.duration), ylim=(rows - 0.5, -0.5), xlabel="seconds")
    ax.axhline(graph.num_slots - 0.5, color=GREY, linewidth=0.6)
    return figure


def action_bars(ax: Axes, graph: SceneGraph, first_row: int) -> None:
    """The true segments, one row each, in the colour of truth."""
    for row, (start, end) in enumerate(graph.segments, first_row):
        ax.barh(row, end - start, left=start, height=0.6, color=TRUTH)


def relations_over_time(graph: SceneGraph, pairs: Sequence[tuple[int, int]]) -> Figure:
    """For each pair of slots: the relations of its edge over time, a row each, and the actions that it carries."""
    names = slot_names(graph)
    parts = []
    for pair in pairs:
        edge = int(np.flatnonzero((graph.edges.T == pair).all(1))[0])
        shown = np.flatnonzero(graph.relations[:, edge].any(0)).tolist()
        carried = [] if graph.carriers is None else np.flatnonzero(graph.carriers[:, edge].any(0)).tolist()
        parts.append((edge, shown, carried))
    heights = [len(shown) + len(carried) for _, shown, carried in parts]
    figure, axes = style.subplots(len(parts), 1, height=0.8 + sum(0.3 + style.ROW * h for h in heights), sharex=True,
                                  height_ratios=heights)  # fmt: skip
    for ax, pair, (edge, shown, carried) in zip(axes, pairs, parts, strict=True):
        for row, relation in enumerate(shown):
            for start, end in found_segments(graph.relations[:, edge, relation], graph.times, graph.duration):
                ax.barh(row, end - start, left=start, height=0.7, color=colour_of(pair[1]))
        for row, k in enumerate(carried, len(shown)):
            start, end = graph.segments[k]
            ax.barh(row, end - start, left=start, height=0.5, color=TRUTH)
        labels = [readable(graph.vocabulary.relations[r]) for r in shown]
        labels += [readable(graph.vocabulary.actions[graph.segment_labels[k]]) for k in carried]
        ax.set_yticks(range(len(labels)), labels)
        for text in ax.get_yticklabels()[len(shown) :]:
            text.set_color(TRUTH)
            text.set_fontweight("bold")
        ax.set(xlim=(0, graph.duration), ylim=(len(labels) - 0.5, -0.5))
        ax.set_title(f"{names[pair[0]]} and {names[pair[1]]}", loc="left")
    axes[-1].set_xlabel("seconds")
    return figure


def busiest_pairs(graph: SceneGraph, count: int = 3) -> list[tuple[int, int]]:
    """The pairs of slots whose relations change most often; of the two directions, the one from the lower slot."""
    changes = np.abs(np.diff(graph.relations.astype(int), axis=0)).sum((0, 2))
    forward = np.flatnonzero(graph.edges[0] < graph.edges[1])
    best = forward[np.argsort(-changes[forward], kind="stable")][:count]
    return [tuple(graph.edges[:, edge].tolist()) for edge in best]


def carriers(graph: SceneGraph, segment: int) -> Figure:
    """The ground truth of parsing: four frames from before to after a segment, and the edges that carry its action."""
    start, end = graph.segments[segment]
    before, after = 0.15 * graph.duration, 0.1 * graph.duration
    wanted = np.linspace(max(0.0, start - before), min(graph.duration, end + after), 4)
    figure, axes = style.subplots(1, len(wanted), height=1.9)
    for ax, frame in zip(axes, np.abs(graph.times - wanted[:, None]).argmin(1), strict=True):
        draw_frame(ax, graph, frame, 0.05 + 0.95 * graph.carriers[frame, :, segment], TRUTH)
        inside = "during" if start <= graph.times[frame] <= end else "outside"
        ax.set_title(f"{graph.times[frame]:.1f} s ({inside})")
    figure.suptitle(readable(graph.vocabulary.actions[graph.segment_labels[segment]]), fontsize=9)
    return figure


def sampling(annotated: int, chosen: dict[str, Sequence[int]]) -> Figure:
    """Which of the annotated frames each way of sampling takes; a frame taken more than once is marked higher."""
    figure, (ax,) = style.subplots(height=0.6 + 0.42 * len(chosen))
    for row, taken in enumerate(chosen.values()):
        ax.plot(range(annotated), [row] * annotated, "|", color=PALE, markersize=8)
        for frame, times in zip(*np.unique(taken, return_counts=True), strict=True):
            ax.plot([frame] * times, row - 0.16 * np.arange(times), "o", markersize=3.5, color=COLOURS[row])
    ax.set_yticks(range(len(chosen)), list(chosen))
    ax.set(ylim=(len(chosen) - 0.6, -0.6), xlabel="annotated frame")
    return figure
