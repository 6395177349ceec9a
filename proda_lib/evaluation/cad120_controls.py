"""Two controls for CAD-120 that know no model: what do object classes alone, or annotated states alone, already give?

Both are logistic regression as scikit-learn has it (L2, C = 1) with balanced class weights, trained and tested by the
release's four leave-one-subject-out folds. Nothing is tuned.

- :func:`object_bag_map`: which object classes a video has, and how many of each → its actions. Mean over folds of the
  mean average precision over the 9 actions without "null". Scores of different folds come from different classifiers
  and are not ranked together.
- :func:`state_recall`: relations and attributes in the first and the last sixth of a clip → its one action. Mean over
  the 10 actions of the recall over all clips; each clip is predicted once, by the fold that holds it out.

What was measured is in ``results/cad120_controls.json``. Other plain choices (number or mere presence of a class,
standardised or not, weights balanced or not, another C) move both by a few points; ranking all folds together lowers
the first a lot. The second needs the release's tracks, which go on where an object has no box (a bowl in the closed
microwave); of the graphs, where such an edge does not exist, the same control makes less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from proda_lib.datasets import cad120
from proda_lib.datasets.cad120 import NULL, subject_of
from proda_lib.datasets.cad120_files import ACTIONS, OBJECTS, VOCABULARY, read_videos
from proda_lib.datasets.registry import data_version, installed
from proda_lib.errors import DataError
from proda_lib.evaluation.charades import average_precision
from proda_lib.files import read_json, write_json
from proda_lib.graph import SceneGraph
from proda_lib.paths import results_root

Folds = list[tuple[tuple[str, ...], tuple[str, ...]]]
PART = 6  #: the states are those of the first and last 1/PART of a clip, at least one frame each


@dataclass(frozen=True)
class ControlResult:
    """What a control reaches, as fractions (0..1).

    Attributes:
        value: the number to quote, see the module's docstring.
        pooled: the measure over all test rows at once.
        folds: the measure in each fold, actions without a test row left out.
        per_class: the measure of each action, aggregated as ``value`` is.
        rows: how many videos or clips were used.
    """

    value: float
    pooled: float
    folds: tuple[float, ...]
    per_class: dict[str, float]
    rows: int


@dataclass(frozen=True)
class ClipState:
    """One clip for :func:`state_recall`: its subject, its action, and how long each state holds at either end."""

    subject: str
    action: int
    state: dict[str, float]


@threadpool_limits.wrap(limits=1)  # so small that threads only wait for each other: 10 times slower on a busy machine
def object_bag_map(graphs: list[SceneGraph], folds: Folds) -> ControlResult:
    """Video-level mean average precision of a bag of object classes; videos without actions are not ranked.

    As everywhere: "null" is no action. Those videos are trained on, as the networks train on them.

    Args:
        graphs: whole videos, from ``read_cad120``.
        folds: from ``cad120.folds``.
    """
    graphs = [graph for graph in graphs if len(graph.labels)]
    bags = np.array([np.bincount(graph.classes, minlength=len(OBJECTS)) for graph in graphs], dtype=np.float64)
    truth = np.delete(np.array([graph.multi_hot() for graph in graphs]), NULL, axis=1)
    scores, per_fold, ranked = np.zeros(truth.shape), [], truth.any(1)
    for train, test in _masks([subject_of(graph) for graph in graphs], folds):
        for c in range(truth.shape[1]):
            positive = truth[train, c]
            if positive.all() or not positive.any():
                scores[test, c] = positive[0]
            else:
                scores[test, c] = _classifier().fit(bags[train], positive).decision_function(bags[test])
        per_fold.append(average_precision(scores[test & ranked], truth[test & ranked]))
    return _result(average_precision(scores[ranked], truth[ranked]), per_fold, int(ranked.sum()), "folds")


@threadpool_limits.wrap(limits=1)
def state_recall(clips: list[ClipState], folds: Folds) -> ControlResult:
    """Mean average recall over the 10 actions, from the states at both ends of each clip.

    Args:
        clips: from :func:`track_states` (the release's tracks) or :func:`graph_states` (what a model sees).
        folds: from ``cad120.folds``.
    """
    features = DictVectorizer(sparse=False).fit_transform([clip.state for clip in clips])
    truth = np.array([clip.action for clip in clips])
    predicted, per_fold = np.full(len(clips), -1), []
    for train, test in _masks([clip.subject for clip in clips], folds):
        predicted[test] = _classifier().fit(features[train], truth[train]).predict(features[test])
        per_fold.append(_recall(predicted[test], truth[test]))
    return _result(_recall(predicted, truth), per_fold, len(clips), "pooled")


def measure() -> dict[str, ControlResult]:
    """All controls on the installed release: "object_bag", "states" (of the tracks), "states_of_graphs".

    Takes about half a minute.

    Raises:
        DataError: CAD-120 is not installed; the message says how to get it.
    """
    root = installed("cad120", "annotations")
    graphs, folds = cad120.read_cad120(root), cad120.folds(root)
    clips = cad120.clips([graph for graph in graphs if len(graph.labels)])
    return {
        "object_bag": object_bag_map(graphs, folds),
        "states": state_recall(track_states(root), folds),
        "states_of_graphs": state_recall(graph_states(clips), folds),
    }


def record_path() -> Path:
    """Where the committed values of :func:`measure` lie."""
    return results_root() / "cad120_controls.json"


def commit_record() -> Path:
    """Measure, and write the values to :func:`record_path` (``make refresh``; nothing else calls this)."""
    content = {"data": data_version("cad120"), "controls": {k: dataclasses.asdict(v) for k, v in measure().items()}}
    record_path().parent.mkdir(parents=True, exist_ok=True)
    write_json(record_path(), content)
    return record_path()


def recorded() -> dict[str, ControlResult]:
    """The committed values of :func:`measure`.

    Raises:
        DataError: the record is missing, damaged, or of another release than the one that is known.
    """
    expected = "a record written by commit_record (`python workflow/commit_records.py`)"

    def check(content: dict) -> tuple[str, dict[str, ControlResult]]:
        return content["data"], {name: ControlResult(**{**value, "folds": tuple(value["folds"])})
                                 for name, value in content["controls"].items()}  # fmt: skip

    data, controls = read_json(record_path(), check, expected)
    if data != data_version("cad120"):
        raise DataError(record_path(), "data", data, f"{data_version('cad120')}: {expected}")
    return controls


def track_states(root: str | Path) -> list[ClipState]:
    """The 551 clips with the states of the release's own tracks, objects without a box included."""
    out = []
    for video in read_videos(root):
        names = [[_state_name(video.classes[pair], state) for state in VOCABULARY.relations] for pair in video.pairs]
        holds: dict[str, np.ndarray] = {}
        for pair, track in zip(names, video.states.T, strict=True):
            for state in np.unique(track):
                holds[pair[state]] = holds.get(pair[state], False) | (track == state)
        for first, last, action in video.clips.tolist():
            part = {name: on[first - 1 : last] for name, on in holds.items()}
            out.append(ClipState(subject_of(video), action, _ends(part)))
    return out


def graph_states(clips: Iterable[SceneGraph]) -> list[ClipState]:
    """The same of clip graphs (``cad120.clips``): only what their relations hold."""
    out = []
    for clip in clips:
        holds: dict[str, np.ndarray] = {}
        for (sender, receiver), relations in zip(clip.edges.T, clip.relations.transpose(1, 2, 0), strict=True):
            if sender < receiver:  # both directions say the same
                for state in np.flatnonzero(relations.any(-1)):
                    name = _state_name(clip.classes[[sender, receiver]], clip.vocabulary.relations[state])
                    holds[name] = holds.get(name, False) | relations[state]
        out.append(ClipState(subject_of(clip), int(clip.labels[0]), _ends(holds)))
    return out


def _state_name(classes: np.ndarray, state: str) -> str:
    """For example "microwave containing bowl": classes, not single objects."""
    first, second = (OBJECTS[c] for c in sorted(classes.tolist()))
    return f"{first} {state} {second}"


def _ends(holds: dict[str, Bool[np.ndarray, "T"]]) -> dict[str, float]:
    """The fraction of the frames of either end in which each state holds; states that never hold are left out."""
    out = {}
    for name, on in holds.items():
        part = max(1, round(len(on) / PART))
        out[f"first: {name}"] = float(on[:part].mean())
        out[f"last: {name}"] = float(on[-part:].mean())
    return out


def _classifier() -> LogisticRegression:
    return LogisticRegression(C=1.0, class_weight="balanced", max_iter=5000)


def _masks(subjects: list[str], folds: Folds) -> Iterable[tuple[Bool[np.ndarray, "rows"], Bool[np.ndarray, "rows"]]]:
    for train, test in folds:
        yield np.isin(subjects, train), np.isin(subjects, test)


def _recall(predicted: np.ndarray, truth: np.ndarray) -> Float[np.ndarray, "C"]:
    """(C,) recall of each action, NaN for one that is not there."""
    rows = [predicted[truth == c] == c for c in range(len(ACTIONS))]
    return np.array([row.mean() if len(row) else np.nan for row in rows])


def _result(pooled: np.ndarray, per_fold: list[np.ndarray], rows: int, quoted: str) -> ControlResult:
    fold_means = tuple(float(np.nanmean(fold)) for fold in per_fold)
    per_class = pooled if quoted == "pooled" else np.nanmean(per_fold, axis=0)
    return ControlResult(
        value=float(np.mean(fold_means)) if quoted == "folds" else float(np.nanmean(pooled)),
        pooled=float(np.nanmean(pooled)),
        folds=fold_means,
        per_class={name: float(value) for name, value in zip(ACTIONS, per_class, strict=False)},
        rows=rows,
    )
