"""Figures 9 to 11 as a number: does what a model keeps of a graph carry the action asked for?

SSG-World knows which edges carry each action (``SceneGraph.carriers``). A question is one (video, label): that action
asked for alone. It ranks everything of one kind that exists in the sampled frames:

    edges     every (edge, frame); true: the edge carries the action there
    nodes     every (node, frame); true: the node is an end of an edge that does
    objects   the same without slot 0: the person is an end of every edge, so it tells when and not where

A ranking is worth its average precision, AP = Σ over distinct scores (R_n − R_{n−1}) P_n with recall R and precision P,
tied scores taken together. Reported: the mean over questions, in percent. The base rate is the mean
share of true entries, which is about what a random ranking reaches. Questions whose action falls between the sampled
frames have nothing to find and are left out.

All of it asks for labels of the video. Nothing here is trained on carriers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from proda_lib.distributed import each_its_part
from proda_lib.errors import DataError
from proda_lib.evaluation.protocols import batches
from proda_lib.evaluation.scan import MEMORY, rows_within
from proda_lib.evaluation.token_scores import TokenScores, prompted_scores, unprompted_scores
from proda_lib.graph import SceneGraph
from proda_lib.models.controls import EncoderOnly
from proda_lib.models.proda import ProDA
from proda_lib.specification import video_rng

#: Test videos that are looked at: the first ones, for cost.
VIDEOS = 100


def parsing_summary(
    model: ProDA, graphs: Sequence[SceneGraph], frames: int, device="cpu", videos: int = VIDEOS
) -> dict:
    """How well ProDA's edge weights, node scores and gradients find what carries the action asked for.

    Measures: ``w_1``, ``w_2``, ... edge weights of eq. (10), layer by layer; ``node_score`` of the a_s readout;
    ``node_weight``, node score · frame score s; ``gradient_sum`` and ``gradient_norm`` over the channels of
    :func:`~proda_lib.evaluation.token_scores.gradient_times_input`. Those under ``other`` are the control: the same
    questions, scored by what the model does when *another* action is asked for (:func:`other_actions`). What the
    prompt contributes is the difference.

    Args:
        frames: N, evenly spread. ``videos``: how many of the first ``graphs`` to use.

    Returns:
        {"videos", "questions", "unseen": counts, "edges", "nodes", "objects": {"base_rate" and each measure: percent},
        "other": {"edges", ...: {each measure: percent}}}; plain numbers, for a run's record.

    Raises:
        DataError: no graph has a label and ``carriers``.
    """
    model.eval()

    def count(known: Sequence[SceneGraph]) -> Tally:
        tally = Tally()
        for places, batch in batches(model, known, frames, device):
            part = [known[i] for i in places]
            with torch.no_grad():
                encoded = model.encode(batch)
            actions, row_video = _questions(part)
            others = np.concatenate([other_actions(graph) for graph in part])
            step = rows_within(MEMORY // 4, model.config, batch)  # with gradients, activations are kept
            for start in range(0, len(actions), step):
                rows = slice(start, start + step)
                asked = prompted_scores(model, batch, encoded, actions[rows], row_video[rows])
                other = prompted_scores(model, batch, encoded, others[rows], row_video[rows])
                for video, action, *scores in zip(row_video[rows], actions[rows], asked, other, strict=True):
                    tally.add(part[video], action, *scores)
        return tally

    return Tally.joined(each_its_part(_known(graphs[:videos], frames), count)).summary()


def attention_summary(
    model: EncoderOnly, graphs: Sequence[SceneGraph], frames: int, device="cpu", videos: int = VIDEOS
) -> dict:
    """The same for a model without prompt and without parsing: where does its attention lie?

    Measures: ``attention``, see :func:`~proda_lib.evaluation.token_scores.attention_received`; ``node_weight``, node
    score · frame score s of its readout. An edge has the score of its object, the end with the higher slot. One ranking
    serves all labels of a video.

    Returns:
        As :func:`parsing_summary`, without "other".
    """
    model.eval()

    def count(known: Sequence[SceneGraph]) -> Tally:
        tally = Tally()
        for places, batch in batches(model, known, frames, device):
            part = [known[i] for i in places]
            scores = unprompted_scores(model, batch)
            for action, video in zip(*_questions(part), strict=True):
                tally.add(part[video], action, scores[video])
        return tally

    return Tally.joined(each_its_part(_known(graphs[:videos], frames), count)).summary()


def _known(graphs: Sequence[SceneGraph], frames: int) -> list[SceneGraph]:
    known = [g.sample_frames(frames) for g in graphs if g.carriers is not None and len(g.labels)]
    if not known:
        raise DataError("parsing", "carriers", "no graph with carriers and a label", "graphs of SSG-World")
    return known


def _questions(part: Sequence[SceneGraph]) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "R"]]:
    """Action and video (in the part) of each question: one a label."""
    return (np.concatenate([graph.labels for graph in part]),
            np.repeat(np.arange(len(part)), [len(graph.labels) for graph in part]))  # fmt: skip


def other_actions(graph: SceneGraph) -> Int[np.ndarray, "L"]:
    """For each label of a video a random other one, no edge of which carries it; if there is none, an absent action.

    Two actions on one object happen on the same edges, so that asking for either would parse the same.
    """
    rng, absent = video_rng(0, 0, graph.video), np.flatnonzero(~graph.multi_hot())
    carried = graph.carriers.any(0)  # (E, K)
    edges = np.stack([carried[:, graph.segment_labels == label].any(1) for label in graph.labels]).astype(int)
    apart = edges @ edges.T == 0  # of an action that no frame shows, every other one
    np.fill_diagonal(apart, False)
    others = [graph.labels[row] if row.any() else absent for row in apart]
    return np.array([rng.choice(found) for found in others])


def carrying(graph: SceneGraph, action: int) -> tuple[Bool[np.ndarray, "T E"], Bool[np.ndarray, "T M"]]:
    """Which edges carry an action in each frame, and which nodes are an end of one that does."""
    edges = graph.carriers[..., graph.segment_labels == action].any(-1)
    nodes = np.zeros_like(graph.present)
    frame, edge = np.nonzero(edges)
    nodes[frame, graph.edges[0, edge]] = nodes[frame, graph.edges[1, edge]] = True
    return edges, nodes


def average_precision(truth: Bool[np.ndarray, "X"], scores: Float[np.ndarray, "X"]) -> float:
    """AP of one ranking, as the module has it; NaN without a true entry.

    scikit-learn's function gives the same, but checks its arguments for longer than the models of a page take.
    """
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(truth[order]), scores[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # last entry of each score
    hits = hits[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / hits[-1]) if hits[-1] else float("nan")


class Tally:
    """Average precision of every measure, question by question, and its mean."""

    def __init__(self):
        self.found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self.videos: set[str] = set()
        self.questions = self.unseen = 0

    @classmethod
    def joined(cls, parts: Sequence[Tally]) -> Tally:
        """One tally of the questions of all parts, in their order."""
        whole = cls()
        for part in parts:
            for key, values in part.found.items():
                whole.found[key] += values
            whole.videos |= part.videos
            whole.questions += part.questions
            whole.unseen += part.unseen
        return whole

    def add(self, graph: SceneGraph, action: int, asked: TokenScores, other: TokenScores | None = None) -> None:
        """One question, its scores, and those of the control if there is one."""
        self.videos.add(graph.video)
        edges, nodes = carrying(graph, action)
        if not edges.any():
            self.unseen += 1
            return
        self.questions += 1
        for control, scores in (("", asked), ("other", other)):
            if scores is not None:
                self._add(control, "edges", edges, graph.edge_present, scores["edges"])
                self._add(control, "nodes", nodes, graph.present, scores["nodes"])
                objects = graph.present.copy()
                objects[:, 0] = False
                kept = objects.T[graph.present.T]  # in the order of the tokens
                self._add(control, "objects", nodes, objects, {k: v[kept] for k, v in scores["nodes"].items()})

    def _add(self, control: str, kind: str, truth: np.ndarray, exists: np.ndarray, scores: dict) -> None:
        true = truth.T[exists.T]  # tokens stand slot by slot (edge by edge), in it frame by frame
        if not control:
            self.found[control, kind, "base_rate"].append(true.mean())
        for measure, values in scores.items():
            self.found[control, kind, measure].append(average_precision(true, values))

    def summary(self) -> dict:
        """Means over questions, in percent."""
        result: dict = {"videos": len(self.videos), "questions": self.questions, "unseen": self.unseen}
        for (control, kind, measure), values in self.found.items():
            place = result.setdefault(control, {}) if control else result
            place.setdefault(kind, {})[measure] = 100 * float(np.mean(values))
        return result
