"""Pictures of what the blocks of ProDA do with a video. Arrays come from :mod:`proda_lib.evaluation.explain`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from proda_lib.evaluation.explain import Answer
from proda_lib.evaluation.localization import frame_spans
from proda_lib.graph import SceneGraph
from proda_lib.plotting import style
from proda_lib.plotting.graphs import draw_frame, edge_names, slot_names
from proda_lib.plotting.style import (
    AMOUNT,
    COLOURS,
    DIFFERENCE,
    GREY,
    SPECIFIED,
    TRUTH,
    heat_map,
    readable,
)


def nan_mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean over what is there; NaN, and no warning, where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=axis)


def alpha(graph: SceneGraph, answers: Sequence[Answer], titles: Sequence[str]) -> Figure:
    """α before the VGPNN of each slot (mean over its frames) and candidate: under two prompts, and their difference."""
    first, second = (nan_mean(answer.alpha[0], axis=1) for answer in answers)  # (M, T)
    figure, axes = style.subplots(1, 3, height=1.1 + style.ROW * graph.num_slots, sharey=True)
    columns = range(1, first.shape[1] + 1)
    for ax, values, title in zip(axes, (first, second), titles, strict=False):
        heat_map(ax, values, slot_names(graph), vmin=0, vmax=1, cmap=AMOUNT, label="" if ax is axes[0] else r"$\alpha$")
        ax.set_title(title)
    largest = max(np.nanmax(np.abs(second - first)), 1e-6)
    heat_map(axes[2], second - first, vmin=-largest, vmax=largest, cmap=DIFFERENCE, label="difference")
    axes[2].set_title("second − first")
    for ax in axes:
        ax.set_xticks(range(first.shape[1]), columns)
        ax.set_xlabel("candidate t")
    return figure


def changes(values: dict[str, Float[np.ndarray, "P"]], ylabel: str) -> Figure:
    """Bars, grouped by place (before the VGPNN, before layer 1, 2, ...): one bar for each thing that was changed."""
    figure, (ax,) = style.subplots(height=2.2)
    places = len(next(iter(values.values())))
    width = 0.8 / len(values)
    for i, (name, heights) in enumerate(values.items()):
        ax.bar(np.arange(places) + (i - (len(values) - 1) / 2) * width, heights, 0.92 * width, label=name,
               color=COLOURS[i])  # fmt: skip
    ax.set_xticks(range(places), ["before the VGPNN", *(f"before layer {i}" for i in range(1, places))])
    ax.set_ylabel(ylabel)
    ax.legend()
    return figure


def parsing(graph: SceneGraph, answers: Sequence[Answer], actions: Sequence[int]) -> Figure:
    """For each action, a row: its true carrier edges in a frame of its segment, then w of each layer there."""
    layers = len(answers[0].w)
    columns = layers + (graph.carriers is not None)
    figure, axes = style.subplots(len(answers), columns, height=0.35 + 1.75 * len(answers))
    for row, (answer, action) in enumerate(zip(answers, actions, strict=True)):
        own = axes[row * columns : (row + 1) * columns]
        frame = busiest_frame(graph, action)
        own[0].set_ylabel(f"{readable(graph.vocabulary.actions[action])}\n{graph.times[frame]:.1f} s", fontsize=8)
        pictures = [(f"w, layer {layer}", w[:, frame], SPECIFIED) for layer, w in enumerate(answer.w, 1)]
        if graph.carriers is not None:
            carried = graph.carriers[frame][:, graph.segment_labels == action].any(-1)
            pictures.insert(0, ("truth", carried.astype(float), TRUTH))
        for ax, (title, strength, colour) in zip(own, pictures, strict=True):
            draw_frame(ax, graph, frame, np.nan_to_num(strength), colour, names=title in ("truth", "w, layer 1"))
            ax.set_title(title if row == 0 else "")
    return figure


def busiest_frame(graph: SceneGraph, action: int) -> int:
    """Of the frames in which an action goes on, the one with most slots present."""
    on = graph.active()[:, action]
    return int(np.where(on, graph.present.sum(1), -1).argmax())


def weights_over_time(graph: SceneGraph, answers: Sequence[Answer], actions: Sequence[int]) -> Figure:
    """w of the last layer of each edge and frame for each action asked for; dots mark the edges that truly carry it."""
    names = edge_names(graph)
    figure, axes = style.subplots(1, len(answers), height=1.0 + 0.18 * graph.num_edges, sharey=True)
    for ax, answer, action in zip(axes, answers, actions, strict=True):
        heat_map(ax, answer.w[-1], names, vmin=0, vmax=1, label="w" if ax is axes[-1] else "")
        if graph.carriers is not None:
            carried = graph.carriers[..., graph.segment_labels == action].any(-1)  # (N, E)
            frame, edge = np.nonzero(carried)
            ax.plot(frame, edge, "o", markersize=2.6, color="white", markeredgecolor="black", markeredgewidth=0.5)
        ax.set_title(readable(graph.vocabulary.actions[action]))
        ax.set_xlabel("frame")
        ax.tick_params(axis="y", labelsize=7)
    return figure


def readout(graph: SceneGraph, answers: Sequence[Answer], actions: Sequence[int]) -> Figure:
    """Node weights, frame weights s and fusion weights δ of each answer, above the true time of its action."""
    figure, axes = style.subplots(3, len(answers), height=1.6 + 2 * 0.16 * graph.num_slots + 1.0, sharey="row",
                                  height_ratios=[graph.num_slots, 5, graph.num_slots])  # fmt: skip
    names, frames, n = slot_names(graph), np.arange(graph.num_frames), len(answers)
    for column, (answer, action) in enumerate(zip(answers, actions, strict=True)):
        nodes, line, fusion = axes[column::n]
        last = column == n - 1
        heat_map(nodes, answer.node_score, names, vmin=0, vmax=1, label="node weight" if last else "")
        nodes.set_title(f"asked for: {readable(graph.vocabulary.actions[action])}")
        on = graph.active()[:, action]
        line.bar(frames, on * 1.0, 1.0, color=TRUTH, alpha=0.3, label="truth")
        line.plot(frames, answer.s, "o-", markersize=3, color=SPECIFIED, label="s")
        line.set(ylim=(0, 1.02), xlim=(-0.5, graph.num_frames - 0.5))
        heat_map(fusion, answer.delta, names, vmin=0, vmax=1, cmap=DIFFERENCE, label=r"$\delta$" if last else "")
        fusion.set_xlabel("frame")
    axes[n].set_ylabel("frame weight")
    axes[2 * n - 1].legend(loc="upper right", ncols=2)
    return figure


def localisation(graph: SceneGraph, actions: Sequence[int], scores: Sequence[Float[np.ndarray, "N"]]) -> Figure:
    """Frame scores as a heat bar for each action asked for, with its true segments below."""
    figure, axes = style.subplots(len(actions), 1, height=0.45 + 0.48 * len(actions), sharex=True)
    edges = np.append(frame_spans(graph.times, graph.duration)[:, 0], graph.duration)
    for ax, action, score in zip(axes, actions, scores, strict=True):
        mesh = ax.pcolormesh(edges, [0, 1], score[None], vmin=0, vmax=1, cmap=AMOUNT)
        for start, end in graph.segments[graph.segment_labels == action]:
            ax.barh(-0.3, end - start, left=start, height=0.35, color=TRUTH)
        ax.set_yticks([0.3], [readable(graph.vocabulary.actions[action])])
        ax.set_ylim(-0.55, 1)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[-1].set_xlabel("seconds (green: true segments)")
    figure.colorbar(mesh, ax=axes, fraction=0.03, label="score")
    return figure


def attention(graph: SceneGraph, spatial: Float[np.ndarray, "N X X"], temporal: Float[np.ndarray, "X N N"]) -> Figure:
    """Who listens to whom in a frame (mean over frames), and the first slot's attention between frames."""
    names = [*slot_names(graph), "whole frame"]
    mean = nan_mean(spatial, axis=0)
    figure, (left, right) = style.subplots(1, 2, height=1.2 + 0.27 * len(names))
    heat_map(left, np.where(np.isnan(mean), np.nan, mean), names, vmin=0, label="attention")
    left.set_xticks(range(len(names)), names, rotation=60, ha="right")
    left.set(title="spatial: between the nodes of a frame", ylabel="listens", xlabel="to")
    heat_map(right, temporal[0], vmin=0, label="attention")
    right.set(title=f"temporal: between the frames of “{names[0]}”", ylabel="frame listens", xlabel="to frame")
    return figure


def influence(graph: SceneGraph, values: Float[np.ndarray, "M M"]) -> Figure:
    """What hiding one slot changes in the features of the others."""
    names = slot_names(graph)
    figure, (ax,) = style.subplots(height=1.2 + 0.25 * len(names))
    heat_map(ax, values, names, vmin=0, label=r"$\|\Delta F_o\|\, /\, \|F_o\|$")
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right")
    ax.set(ylabel="hidden", xlabel="changed")
    return figure


def norms(statistics: dict[str, tuple[Float[np.ndarray, "G N"], Float[np.ndarray, "G N"]]]) -> Figure:
    """Mean (above) and spread (below) per frame, a line for each video, before and after each norm."""
    figure, axes = style.subplots(2, len(statistics), height=3.4, sharex=True)
    n = len(statistics)
    limits = []
    for row in (0, 1):  # all norms on one scale, so that their columns can be compared
        after = np.concatenate([s[row].ravel() for name, s in statistics.items() if name != "before"])
        low, high = (np.nanmin(after), np.nanmax(after)) if row == 0 else (0.0, np.nanmax(after))
        room = 0.08 * (high - low) + 1e-3
        limits.append((low - room * (row == 0), high + room))
    for column, (name, parts) in enumerate(statistics.items()):
        for row, values in enumerate(parts):
            ax = axes[row * n + column]
            for g, line in enumerate(values):
                ax.plot(line, color=COLOURS[g % 7], linewidth=1)
            if name != "before":
                ax.set_ylim(limits[row])
            ax.grid(axis="y")
        axes[column].set_title(name)
        axes[n + column].set_xlabel("frame")
    axes[0].set_ylabel("mean of a frame")
    axes[n].set_ylabel("spread of a frame")
    return figure


def per_frame(parameters: dict[str, Float[np.ndarray, "N"]]) -> Figure:
    """One small panel for each parameter that has a value per frame."""
    figure, axes = style.subplots(1, len(parameters), height=1.7, sharex=True)
    for ax, (name, values) in zip(axes, parameters.items(), strict=True):
        ax.plot(values, "o-", markersize=2.5)
        ax.axhline({"β": 0.0, "μ_g": 0.0}.get(name, 1.0), color=GREY, linewidth=0.8, linestyle="--")
        ax.set(title=name.replace("μ_g", r"$\mu_g$"), xlabel="frame")
    return figure
