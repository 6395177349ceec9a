"""Where things are kept: the project folder, the data sets, the run store and the committed results."""

from __future__ import annotations

import os
from pathlib import Path

#: The file that a packed store (:mod:`proda_lib.datasets.store`) is known by. It stands here because Arrow, which the
#: store needs, takes a while to load.
ABOUT = "about.json"


def project_root() -> Path:
    """The project's folder.

    ``$PRODA_ROOT``; or the nearest folder upwards that holds the project; or the checkout that this library is
    installed from (``pip install -e .``), so that a notebook runs from anywhere; or the working directory.
    """
    if given := os.environ.get("PRODA_ROOT"):
        return Path(given)
    here = Path.cwd()
    candidates = (here, *here.parents, Path(__file__).resolve().parents[1])
    return next((f for f in candidates if (f / "_toc.yml").is_file() and (f / "proda_lib").is_dir()), here)


def data_root() -> Path:
    """``$PRODA_DATA`` or ``data/`` in the project."""
    return Path(os.environ.get("PRODA_DATA") or project_root() / "data")


def runs_root() -> Path:
    """The run store: ``$PRODA_RUNS`` or ``runs/`` in the project."""
    return Path(os.environ.get("PRODA_RUNS") or project_root() / "runs")


def results_root() -> Path:
    """Committed records: ``results/`` in the project."""
    return project_root() / "results"
