"""a_s in every cell (L, i): L labels of the video, i of them asked for."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from proda_lib.plotting import style


def cells(
    grids: dict[tuple[str, str], Float[np.ndarray, "L L"]], label: str = "a_s, mAP (%)", difference: bool = False
) -> Figure:
    """Heat maps by (title of the column, title of the row), L = 1, 2, ... downwards and i = 1, 2, ... to the right.

    Cells that are NaN (i > L, or no rows) are hatched. All panels share one scale: 0 to 100, or with ``difference`` as
    far below zero as above it.
    """
    columns, rows = (list(dict.fromkeys(place[part] for place in grids)) for part in (0, 1))
    largest = max((np.nanmax(np.abs(g)) for g in grids.values() if np.isfinite(g).any()), default=1.0)
    scale = {"vmin": -largest, "vmax": largest, "cmap": style.DIFFERENCE} if difference else {"vmin": 0, "vmax": 100}
    figure, axes = style.subplots(len(rows), len(columns), height=0.4 + 2.1 * len(rows), sharex=True, sharey=True)
    for ax, (row, column) in zip(axes, [(r, c) for r in rows for c in columns], strict=True):
        values = grids[column, row]
        style.heat_map(ax, values, **scale)
        # The middle of the scale of differences is nearly the grey of absent cells.
        ax.patch.set(facecolor="white", edgecolor=style.GREY, hatch="//////", linewidth=0)
        ax.set_title(f"{column}: {row}", loc="left")
        ticks = range(0, len(values), 3)
        ax.set_xticks(ticks, [tick + 1 for tick in ticks])
        ax.set_yticks(ticks, [tick + 1 for tick in ticks])
        if not np.isfinite(values).any():
            ax.text(0.5, 0.5, "no records", transform=ax.transAxes, ha="center", va="center")
    figure.supxlabel("present labels in the SAP, i", fontsize=9)
    figure.supylabel("labels of the video, L", fontsize=9)
    bar = figure.colorbar(axes[0].images[0], ax=axes, fraction=0.03, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)
    return figure
