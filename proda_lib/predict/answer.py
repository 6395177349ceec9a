"""Prediction: what a model answered about one video, as tables, as JSON and as a report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from proda_lib.datasets.own import own_bytes
from proda_lib.errors import DataError
from proda_lib.evaluation.explain import Answer
from proda_lib.evaluation.localization import found_segments
from proda_lib.features.film import Picture
from proda_lib.files import make_folder, write_atomically, write_text
from proda_lib.graph import SceneGraph
from proda_lib.nn.readout import localization_score
from proda_lib.plotting.graphs import slot_names

#: A frame is found if its s² / max s² is at least this, as in figure 3.
THETA = 0.7
#: An edge or a node is kept if its weight is at least this share of the largest one of the action in the video.
KEPT = 0.5


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The answer to A actions asked for in one video, of which the model saw N frames.

    Attributes:
        graph: the whole graph, in the model's vocabulary. ``seen``: its N frames that the model saw.
        asked: (A,) the actions.
        together: the answer to one question with all of them. ``alone``: one for each, asked for alone.
        pictures: N frames (H, W, 3), or None.
        theta: smallest s² / max s² of a found frame.
        detected: whether the graph was made by a detector.
        model: name of the model. ``about``: sentences on its weights. ``notes``: sentences on the input.
    """

    graph: SceneGraph
    seen: SceneGraph
    asked: Int[np.ndarray, "A"]
    together: Answer
    alone: list[Answer]
    pictures: Sequence[Picture] | None
    theta: float
    detected: bool
    model: str
    about: list[str]
    notes: list[str]

    @property
    def actions(self) -> list[str]:
        """Names of the actions asked for."""
        return [self.graph.vocabulary.actions[action] for action in self.asked]

    @property
    def scores(self) -> pd.DataFrame:
        """Probabilities of all actions: those asked for first, in the order asked, then the others by a_t.

        Columns: ``asked``; ``a_s`` of the question with all of them, and ``a_s_alone`` asked for alone (NaN for what
        was not asked for: there a_s is trained to be 0 and says nothing); ``a_t`` of that question; ``a_m`` without.
        """
        table = pd.DataFrame({"asked": self.together.sap, "a_s": self.together.a_s[:-1], "a_s_alone": np.nan,
                              "a_t": self.together.a_t, "a_m": self.together.a_m},
                             index=pd.Index(self.graph.vocabulary.actions, name="action"))  # fmt: skip
        table.loc[~table["asked"], "a_s"] = np.nan
        table.loc[self.actions, "a_s_alone"] = [a.a_s[c] for a, c in zip(self.alone, self.asked, strict=True)]
        others = table[~table["asked"]].sort_values("a_t", ascending=False, kind="stable")
        return pd.concat([table.loc[self.actions], others])

    @property
    def no_action(self) -> float:
        """a_s of "no-action" in the question with all actions: that none of them is in the video."""
        return float(self.together.a_s[-1])

    @property
    def frame_weights(self) -> pd.DataFrame:
        """(N, A) s² / max s² of each action, asked for alone, at each time in seconds."""
        index = pd.Index(self.seen.times, name="seconds")
        return pd.DataFrame(self.localization.T, index=index, columns=self.actions)

    @property
    def localization(self) -> Float[np.ndarray, "A N"]:
        """s² / max s², a row for each action."""
        return localization_score(torch.from_numpy(np.stack([answer.s for answer in self.alone]))).numpy()

    @property
    def found(self) -> Bool[np.ndarray, "A N"]:
        """Frames in which each action is found."""
        return self.localization >= self.theta

    @property
    def segments(self) -> dict[str, list[tuple[float, float]]]:
        """Found frames of each action as (start, end) in seconds."""
        spans = (found_segments(row, self.seen.times, self.seen.duration) for row in self.found)
        return {name: [tuple(span) for span in part.tolist()] for name, part in zip(self.actions, spans, strict=True)}

    @property
    def parsed(self) -> dict:
        """What is left of the graph for each action, asked for alone, as JSON can hold it.

        Nodes have their ``score`` in the readout of a_s, edges their ``w`` in each layer of the VGPNN. ``kept``: score,
        or w of the last layer, is at least :data:`KEPT` of its largest value for this action in the video.
        """
        return {
            "video": self.graph.video,
            "model": self.model,
            "kept": f"at least {KEPT:g} of the largest value of the action in the video",
            "actions": {name: self._parsed(*entry) for name, *entry in
                        zip(self.actions, self.asked, self.alone, self.localization, self.found, strict=True)},
        }  # fmt: skip

    def _parsed(self, action: int, answer: Answer, weights: np.ndarray, found: np.ndarray) -> dict:
        graph, names, frames = self.seen, slot_names(self.seen), []
        least_w, least_score = (KEPT * np.nanmax(x, initial=0.0) for x in (answer.w[-1], answer.node_score))
        for t in range(graph.num_frames):
            nodes = [{"slot": int(slot), "name": names[slot], "box": _round(graph.boxes[t, slot]),
                      "score": _round(answer.node_score[slot, t]),
                      "kept": bool(answer.node_score[slot, t] >= least_score)}
                     for slot in np.flatnonzero(graph.present[t])]  # fmt: skip
            edges = [{"from": int(graph.edges[0, e]), "to": int(graph.edges[1, e]),
                      "relations": [graph.vocabulary.relations[r] for r in np.flatnonzero(graph.relations[t, e])],
                      "w": _round(answer.w[:, e, t]), "kept": bool(answer.w[-1, e, t] >= least_w)}
                     for e in np.flatnonzero(graph.edge_present[t])]  # fmt: skip
            frames.append({"time": _round(graph.times[t]), "weight": _round(weights[t]), "found": bool(found[t]),
                           "nodes": nodes, "edges": edges})  # fmt: skip
        return {"a_s": _round(answer.a_s[action]), "frames": frames}

    def table(self) -> str:
        """The scores of the actions asked for, and the notes, as plain text."""
        table = self.scores.loc[self.actions].drop(columns="asked").to_string(float_format="{:.3f}".format)
        return "\n".join([table, "", *self.notes, *self.about])

    def html(self) -> str:
        """The report: one page that fetches nothing."""
        from proda_lib.predict.report import report_html  # it draws, which takes a second to import

        return report_html(self)

    def save_report(self, folder: str | os.PathLike) -> Path:
        """Write ``report.html``, ``scores.csv``, ``frame_weights.csv``, ``parsed.json`` and, if the graph was detected,
        ``graph.json``, to which relations can be added by hand for a second try. Returns the path of the report.

        Raises:
            DataError: the folder cannot be made or written; it has another ``graph.json``, perhaps changed by hand; or
                the model's answer is no finite number.
        """
        folder = Path(folder)
        try:
            parsed = json.dumps(self.parsed, indent=1, allow_nan=False) + "\n"
        except ValueError as error:
            raise DataError(folder, "parsed.json", error, "an answer in finite numbers; is the model sound?") from error
        make_folder(folder, "report")
        texts = {"scores.csv": self.scores.to_csv(float_format="%.6f"),
                 "frame_weights.csv": self.frame_weights.to_csv(float_format="%.6f"),
                 "parsed.json": parsed, "report.html": self.html()}  # fmt: skip
        if self.detected:
            _write_graph(self.graph, folder / "graph.json")
        for name, text in texts.items():
            write_text(folder / name, text)
        return folder / "report.html"

    def _repr_html_(self) -> str:
        return self.scores.loc[self.actions].drop(columns="asked").round(3)._repr_html_()

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.2f}" for name, value in self.scores.loc[self.actions, "a_s"].items())
        return f"Prediction({self.graph.video!r}, a_s: {scores})"


def _write_graph(graph: SceneGraph, path: Path) -> None:
    """Write the graph, unless another one is there, in which hours of work may be."""
    new = own_bytes(graph, path)
    if not path.exists():
        write_atomically(path, lambda partial: partial.write_bytes(new))
    elif path.read_bytes() != new:
        raise DataError(path, "graph", "another one, of another video or changed by hand", "none; give another --out")


def _round(value: np.ndarray | float) -> float | list[float]:
    return np.round(np.asarray(value, dtype=np.float64), 6).tolist()
