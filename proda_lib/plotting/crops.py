"""Pictures of what an image encoder is given: a frame with its boxes, and beside it what was cut out, in order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from proda_lib.features.clip import pictures_of
from proda_lib.features.film import Picture
from proda_lib.graph import SceneGraph
from proda_lib.plotting import style
from proda_lib.plotting.graphs import colour_of, draw_frame, slot_names

FRAME = 2.4  #: width of the frame in a row; a crop's is 1
ROW = 1.35  #: inches, height of a row


def drawn(graph: SceneGraph, frame: int, width: int = 640) -> Picture:
    """A frame of a graph as pixels, (3/4 width, width, 3) uint8: a picture for videos that have none."""
    figure = Figure(figsize=(4, 3), dpi=width / 4, layout="none")
    canvas = FigureCanvasAgg(figure)
    draw_frame(figure.add_axes((0, 0, 1, 1)), graph, frame)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def encoded(graph: SceneGraph, frames: Sequence[Picture], shown: Sequence[int]) -> Figure:
    """A row for each frame in ``shown``: the frame with its boxes, then its crops in the order of slots.

    They are the pictures of :func:`~proda_lib.features.clip.pictures_of`, told apart by their number alone. The dotted
    square is what is left of a picture when the encoder has taken its middle.

    Args:
        frames: the pictures of all frames of the graph.

    Raises:
        DataError: not as many pictures as the graph has frames.
    """
    given = iter(pictures_of(graph, frames))
    rows = [list(islice(given, 1 + int(there.sum()))) for there in graph.present]
    crops = max(len(rows[t]) for t in shown) - 1
    figure, axes = style.subplots(len(shown), 1 + crops, height=ROW * len(shown), width_ratios=[FRAME] + [1] * crops)
    names = slot_names(graph)
    for t, row in zip(shown, np.reshape(axes, (len(shown), -1)), strict=True):
        whole, *parts = rows[t]
        _draw(row[0], whole, f"{graph.times[t]:.1f} s", style.BLACK)
        slots = np.flatnonzero(graph.present[t])
        for number, slot, part in zip(range(1, 1 + len(parts)), slots, parts, strict=True):
            _draw(row[number], part, f"{number}: {names[slot]}", colour_of(slot))
            x1, y1, x2, y2 = graph.boxes[t, slot] * np.tile(whole.shape[1::-1], 2)
            row[0].add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour_of(slot)))
            row[0].text(x2, y1, number, color="white", fontsize=6, ha="right", va="top",
                        bbox={"facecolor": colour_of(slot), "pad": 0.6, "linewidth": 0})  # fmt: skip
        for ax in row[1 + len(parts) :]:
            ax.remove()
    return figure


def _draw(ax: Axes, picture: Picture, title: str, colour: str) -> None:
    height, width = picture.shape[:2]
    side = min(height, width)
    ax.imshow(picture, interpolation="antialiased", extent=(0, width, height, 0))
    ax.add_patch(Rectangle(((width - side) / 2, (height - side) / 2), side, side, fill=False, edgecolor=colour,
                           linestyle=":", linewidth=0.8))  # fmt: skip
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(colour)
    ax.set_title(title, fontsize=6.5)
