"""The explorer as one HTML page without a server: template, style and script are put together with the data."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from proda_lib.errors import RecipeError
from proda_lib.evaluation.cells import Text
from proda_lib.evaluation.report import about
from proda_lib.explorer.precompute import precompute
from proda_lib.files import write_text
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.plotting import style
from proda_lib.training.runs import Run

#: Height of the frame in a notebook until the page has measured itself.
HEIGHT = 1060


@dataclass(frozen=True, eq=False)
class Explorer:
    """An interactive page. A notebook shows it; :meth:`save` writes it to a file that works by itself.

    Attributes:
        data: what :func:`~proda_lib.explorer.precompute.precompute` gives.
        choice: what is shown first: ``video``, ``actions`` (places among the offered), ``distractors``, ``frame``.
        controls: False hides the controls for video and actions (they are elsewhere); the frame stays free to choose.
    """

    data: dict
    choice: dict | None = None
    controls: bool = True

    def html(self) -> str:
        """The whole page. Nothing in it is fetched from anywhere."""
        heat = [to_hex(colour) for colour in matplotlib.colormaps[style.AMOUNT].resampled(64).colors]
        colours = {"slots": style.COLOURS[:-1], "heat": heat}  # yellow is too pale for lines
        data = {**self.data, "colours": colours, "choice": self.choice or {}, "controls": self.controls}
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        palette = {"asked": style.SPECIFIED, "fused": style.VERMILION, "truth": style.TRUTH, "grey": style.GREY,
                   "pale": style.PALE}  # fmt: skip
        variables = "".join(f"--{name}: {colour}; " for name, colour in palette.items())
        page = _template("page.html")
        for mark, content in (
            ("@PALETTE@", variables),
            ("@STYLE@", _template("page.css")),
            ("@SCRIPT@", "\n".join((_template("page.js"), _template("drawing.js"), "start();"))),
            ("@DATA@", text.replace("<", "\\u003c")),  # so that no name can end the script element
        ):
            page = page.replace(mark, content)
        return page

    def save(self, path: str | os.PathLike) -> Path:
        """Write the page to a file, which can be opened, sent or put on a web server."""
        write_text(Path(path), self.html())
        return Path(path)

    def _repr_html_(self) -> str:
        page = self.html().replace("&", "&amp;").replace("'", "&#39;")
        return (f"<iframe title='Explorer: ask a trained model about a video' srcdoc='{page}' "
                f"style='width: 100%; height: {HEIGHT}px; border: 0' loading='lazy'></iframe>")  # fmt: skip

    def __repr__(self) -> str:
        return f"Explorer({len(self.data['videos'])} videos, {len(self.html()) / 1e6:.2f} MB)"


def _template(name: str) -> str:
    return (files("proda_lib.explorer") / name).read_text(encoding="utf-8").strip()


def explorer(run: Run, graphs: Sequence[SceneGraph], device: str = "cpu", **options) -> Explorer:
    """The explorer of a finished run of ProDA on some videos; ``options`` as in ``precompute``.

    Raises:
        CheckpointError: only the run's record is at hand. RecipeError: its model is not ProDA.
    """
    recipe = run.recipe
    model = run.model(device=device)
    if not isinstance(model, ProDA):
        raise RecipeError(f"explorer: run {run.name}: found model {recipe.model!r}, expected 'proda'")
    sizes = {"frames": recipe.frames, "spec_length": recipe.spec_length}
    return Explorer(precompute(model, graphs, device, about=about(run), **(sizes | options)))


def finding(data: dict) -> Text:
    """How often a_s is at least 0.5 for an action asked for, over all choices of a page: computed, as a sentence."""
    says: dict[tuple[bool, bool], list[bool]] = {(fill, there): [] for fill in (False, True) for there in (True, False)}
    for entry in data["videos"]:
        places = np.arange(len(entry["actions"]))
        for number, answer in entry["answers"].items():
            for place in places[(int(number) >> places) & 1 == 1]:
                key = int(number) >> len(places) == 1, entry["present"][place]
                says[key].append(answer["a_s"][place] >= 0.5)
    rate = {key: f"{100 * np.mean(values):.0f} %" if values else "–" for key, values in says.items()}
    return Text(
        "Over all choices on this page, the model says *present* ($a_s$ at least 0.5) to "
        f"{rate[False, True]} of the present and {rate[False, False]} of the absent actions in short questions, "
        f"and to {rate[True, True]} and {rate[True, False]} in those filled up with absent actions."
    )
