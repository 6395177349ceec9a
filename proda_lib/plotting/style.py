"""The one style sheet of the book: legible in print, and for colour-blind readers."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Okabe and Ito's eight colours, in the order in which they are handed out.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, YELLOW = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, YELLOW)
#: What is asked for, and the rest: the two branches have the same colours on every page.
SPECIFIED, UNSPECIFIED = BLUE, ORANGE
TRUTH = GREEN
GREY, PALE = "#8A8A8A", "#E4E4E4"
#: Colour maps for amounts and for differences around zero. Both keep their order in grey print.
AMOUNT, DIFFERENCE = "cividis", "PuOr"

WIDTH = 7.2  #: inches, the text width of a page
ROW = 0.22  #: inches, one row of a timeline or heat map


def use() -> None:
    """Make this the style of all figures that follow."""
    plt.rcParams.update({
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.titleweight": "regular",
        "axes.labelsize": 9,
        "axes.axisbelow": True,
        "figure.constrained_layout.use": True,
        "figure.dpi": 130,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "font.family": "DejaVu Sans",  # comes with Matplotlib, so that every machine draws the same letters
        "font.size": 9,
        "grid.color": PALE,
        "image.cmap": AMOUNT,
        "image.interpolation": "nearest",
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
    })  # fmt: skip


def subplots(rows: int = 1, columns: int = 1, height: float = 2.6, **options) -> tuple[Figure, list[Axes]]:
    """A figure of the page's width in this style, and its axes row by row.

    The figure is not kept by pyplot, so a notebook shows it once: as the value of its cell.
    """
    use()
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **options)
    plt.close(figure)
    return figure, list(axes.flat)


def heat_map(ax: Axes, values, rows: list[str] | None = None, label: str = "", **options) -> None:
    """``values`` (rows, columns) as coloured cells with a colour bar; NaN is grey."""
    image = ax.imshow(values, aspect="auto", **options)
    ax.set_facecolor(PALE)
    ax.spines[:].set_visible(False)
    if rows is not None:
        ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    if label:
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02)
        bar.set_label(label)
        bar.outline.set_visible(False)


def readable(name: str) -> str:
    """A class name for people: "not_looking_at" → "not looking at", "cup/glass/bottle" → "cup"."""
    return name.split("/")[0].replace("_", " ")
