"""Boxes over real frames of a video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from proda_lib.plotting.graphs import colour_of


def draw_boxes(
    ax: Axes, picture: UInt8[np.ndarray, "H W 3"], boxes: Float[np.ndarray, "n 4"], names: Sequence[str] = (),
    slots: Sequence[int] | None = None,
) -> None:  # fmt: skip
    """A frame with boxes (x1, y1, x2, y2 as fractions) and their names; the axes then go from 0 to 1.

    Args:
        names: one for each box, or none at all.
        slots: of each box in its graph, so that an object keeps its colour in every picture; by default 0, 1, 2, ...

    Raises:
        ValueError: not as many names or slots as boxes.
    """
    slots = range(len(boxes)) if slots is None else slots
    ax.imshow(picture, extent=(0, 1, 1, 0), aspect=picture.shape[0] / picture.shape[1], interpolation="antialiased")
    halo = [patheffects.withStroke(linewidth=3.2, foreground="white")]  # a line is seen on any picture
    for (x1, y1, x2, y2), name, slot in zip(boxes, names or [""] * len(boxes), slots, strict=True):
        paint = colour_of(slot)
        ax.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=paint, linewidth=1.6, path_effects=halo)
        )
        if name:
            above = y1 > 0.1  # there a name hides nothing of a small box
            ax.text(x1, y1 - 0.02 if above else y1 + 0.02, name, color=paint, fontsize=7, clip_on=True,
                    va="bottom" if above else "top",
                    bbox={"facecolor": "white", "alpha": 0.85, "pad": 0.8, "linewidth": 0})  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
