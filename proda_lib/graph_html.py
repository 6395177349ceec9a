"""How a SceneGraph looks in a notebook: its facts, one drawn frame, and what is there when. Plain SVG, no scripts."""

from __future__ import annotations

from html import escape

import numpy as np

from proda_lib.graph import SceneGraph

#: Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C510A", "#666666", "#B2DF8A", "#000000")
WIDTH, HEIGHT, ROW = 260, 180, 16


def graph_html(graph: SceneGraph) -> str:
    """HTML of a graph: facts, the frame with most nodes, presence of each slot and the segments over time."""
    frame = int(graph.present.sum(1).argmax())
    facts = (
        f"<b>{escape(graph.video)}</b>: {graph.duration:.1f} s, {graph.num_frames} frames, {graph.num_slots} slots, "
        f"{graph.num_edges} directed edges, {len(graph.labels)} labels"
        f"{', ' + escape(graph.vocabulary.scenes[graph.scene]) if graph.scene >= 0 else ''}"
    )
    drawing, times = _frame_svg(graph, frame), _time_svg(graph)
    return (
        f'<div style="font: 13px sans-serif; color: #222; background: #fff; padding: 6px">{facts}'
        f'<div style="display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start">{drawing}{times}</div></div>'
    )


def _name(graph: SceneGraph, slot: int) -> str:
    return escape(graph.vocabulary.objects[graph.classes[slot]])


def _colour(slot: int) -> str:
    return COLOURS[slot % len(COLOURS)]


def _frame_svg(graph: SceneGraph, frame: int) -> str:
    """Boxes and edges of one frame; relation names stand in the tooltips of the edges."""
    boxes = graph.boxes[frame] * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#f6f6f6" stroke="#bbb"/>']
    for edge in np.flatnonzero(graph.edge_present[frame]):
        sender, receiver = graph.edges[:, edge]
        if sender > receiver and ((graph.edges.T == [receiver, sender]).all(1)).any():
            continue  # the other direction is drawn
        (x1, y1), (x2, y2) = centres[sender], centres[receiver]
        held = graph.relations[frame, edge]
        names = ", ".join(r for r, on in zip(graph.vocabulary.relations, held, strict=True) if on)
        parts.append(
            f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="#555" '
            f'stroke-width="{1 + held.sum()}" stroke-opacity=".5"><title>{escape(names)}</title></line>'
        )
    for slot in np.flatnonzero(graph.present[frame]):
        x, y, right, bottom = boxes[slot]
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{right - x:.0f}" height="{bottom - y:.0f}" fill="none" '
            f'stroke="{_colour(slot)}" stroke-width="2"/>'
            f'<text x="{x + 3:.0f}" y="{y + 12:.0f}" font-size="11" fill="{_colour(slot)}">{_name(graph, slot)}</text>'
        )
    words = f"frame {frame}, {graph.times[frame]:.1f} s"
    caption = f'<text x="4" y="{HEIGHT - 5}" font-size="10" fill="#555">{words}</text>'
    return f'<svg width="{WIDTH}" height="{HEIGHT}" role="img">{"".join(parts)}{caption}</svg>'


def _time_svg(graph: SceneGraph) -> str:
    """One row per slot (a dot per frame in which it is present) and one per segment."""
    left, width = 170, 300
    scale = width / graph.duration
    rows = []
    for slot in range(graph.num_slots):
        y = ROW * slot + ROW // 2
        dots = "".join(
            f'<circle cx="{left + t * scale:.1f}" cy="{y}" r="2.5" fill="{_colour(slot)}"/>'
            for t in graph.times[graph.present[:, slot]]
        )
        rows.append(f'<text x="0" y="{y + 4}" font-size="11">{_name(graph, slot)}</text>{dots}')
    for k, (label, (start, end)) in enumerate(zip(graph.segment_labels, graph.segments, strict=True)):
        y = ROW * (graph.num_slots + k)
        rows.append(
            f'<text x="0" y="{y + 12}" font-size="11" fill="#555">{escape(graph.vocabulary.actions[label])}</text>'
            f'<rect x="{left + start * scale:.1f}" y="{y + 3}" width="{(end - start) * scale:.1f}" height="{ROW - 6}" '
            f'fill="#999"/>'
        )
    height = ROW * (graph.num_slots + len(graph.segments)) + 4
    return f'<svg width="{left + width + 6}" height="{height}" role="img">{"".join(rows)}</svg>'
