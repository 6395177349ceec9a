"""Temporal localisation from frame scores (section 4.4, figures 3 and 8, tables 8 and 9). Nothing here trains on times.

The readout of a_s weighs frames by s, (N,) in 0..1. Its localisation output is s² / max s²
(:func:`proda_lib.nn.readout.localization_score`), and a frame counts as found if that is at least θ. A row is a
(video, label) pair and one question: the label alone (:func:`alone`, table 9), or the label among absent actions
(:func:`~proda_lib.evaluation.localization_record.among_absent`, table 8). Its truth are the sampled frames with
start <= t <= end of one of the label's segments.

    frame IoU = frames found and true / frames found or true;    a hit: IoU > t
    hit rate of a class = hits / rows of that class;             reported: mean over classes with a row (percent)
    ranked: rows of a class in descending order of a_s, AP = sum over hits of the precision there / rows of that class

The control marks every frame. Its IoU is the true share of the video, so its hit rate depends on the data alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from proda_lib.distributed import each_its_part
from proda_lib.evaluation.protocols import batches
from proda_lib.evaluation.scan import ask_in_chunks
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.nn.readout import localization_score
from proda_lib.specification import one_hot

#: θ and t of tables 8 and 9.
THRESHOLDS = (0.2, 0.5, 0.7)
#: For a video and some of its labels: the SAP of each label's question.
LabelQuestions = Callable[[SceneGraph, Int[np.ndarray, "S"]], Bool[np.ndarray, "S C"]]


@dataclass(frozen=True, eq=False)
class FrameScores:
    """Frame scores of one video, one question a row, about one action each.

    Attributes:
        graph: the video, with the N sampled frames that the model saw.
        actions: (S,) the action asked for in each row.
        s: (S, N) frame scores of a_s as the readout gives them.
        logits: (S,) a_s of the action asked for.
    """

    graph: SceneGraph
    actions: Int[np.ndarray, "S"]
    s: Float[np.ndarray, "S N"]
    logits: Float[np.ndarray, "S"]

    @property
    def score(self) -> Float[np.ndarray, "S N"]:
        """s² / max over frames of s²."""
        return localization_score(torch.from_numpy(self.s)).numpy()

    def found(self, theta: float) -> Bool[np.ndarray, "S N"]:
        """Frames whose localisation score is at least θ."""
        return self.score >= theta

    @property
    def true(self) -> Bool[np.ndarray, "S N"]:
        """Sampled frames in which the action goes on."""
        return self.graph.active()[:, self.actions].T


def timed_labels(graph: SceneGraph) -> Int[np.ndarray, "S"]:
    """The labels of a video of which a segment is known."""
    return np.intersect1d(graph.labels, graph.segment_labels)


def alone(graph: SceneGraph, actions: Int[np.ndarray, "S"]) -> Bool[np.ndarray, "S C"]:
    """Each action alone (table 9, non-distractor)."""
    return one_hot(actions, len(graph.vocabulary.actions))


@torch.no_grad()
def frame_scores(
    model: ProDA, graphs: Sequence[SceneGraph], frames: int, device="cpu", questions: LabelQuestions = alone
) -> list[FrameScores]:
    """Ask about each label of each video (those with a segment), through the SAP branch only. The questions use labels.

    Args:
        frames: N, evenly spread over the video.

    Returns:
        One entry per video that has such a label.
    """
    model.eval()
    timed = [graph for graph in graphs if len(timed_labels(graph))]
    found = each_its_part(timed, lambda part: _frame_scores(model, part, frames, device, questions))
    rows = [row for part in found for row in part]
    return [FrameScores(graph.sample_frames(frames), *row) for graph, row in zip(timed, rows, strict=True)]


def _frame_scores(
    model: ProDA, graphs: Sequence[SceneGraph], frames: int, device, questions: LabelQuestions
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    found = []
    for part, batch in batches(model, graphs, frames, device):
        actions = [timed_labels(graphs[i]) for i in part]
        saps = [questions(graphs[i], asked) for i, asked in zip(part, actions, strict=True)]
        row_video = np.repeat(np.arange(len(part)), [len(asked) for asked in actions])
        logits, s = ask_in_chunks(model, batch, model.encode(batch), np.concatenate(saps), row_video)
        own = logits.float().cpu().numpy()[np.arange(len(row_video)), np.concatenate(actions)]
        ends = np.cumsum([len(asked) for asked in actions])[:-1]
        found += zip(actions, np.split(s.float().cpu().numpy(), ends), np.split(own, ends), strict=True)
    return found


def frame_spans(times: Float[np.ndarray, "N"], duration: float) -> Float[np.ndarray, "N 2"]:
    """The part of the video that each sampled frame stands for: what is nearer to it than to another frame.

    A frame that was sampled again (a video with fewer frames than N) stands for nothing more.
    """
    borders = np.concatenate([[0.0], (times[:-1] + times[1:]) / 2, [duration]])
    return np.stack([borders[:-1], borders[1:]], axis=1)


def found_segments(
    found: Bool[np.ndarray, "N"], times: Float[np.ndarray, "N"], duration: float
) -> Float[np.ndarray, "F 2"]:
    """Found frames as time intervals (start, end) in seconds; neighbours are joined."""
    segments: list[list[float]] = []
    for on, (start, end) in zip(found, frame_spans(times, duration), strict=True):
        if not on or start == end:
            continue
        if segments and segments[-1][1] == start:
            segments[-1][1] = float(end)
        else:
            segments.append([float(start), float(end)])
    return np.array(segments).reshape(-1, 2)


def frame_iou(found: Bool[np.ndarray, "... N"], true: Bool[np.ndarray, "... N"]) -> Float[np.ndarray, "..."]:
    """Frames in both / frames in either, over the last axis; 0 where neither has a frame."""
    return (found & true).sum(-1) / np.maximum((found | true).sum(-1), 1)


@dataclass(frozen=True, eq=False)
class HitRates:
    """Percent, mean over classes.

    Attributes:
        model: (θ, t) hit rates. ``every_frame``: (t,) those of marking every frame, ranked by the same a_s.
        all_found: (θ,) percent of the rows in which the model marks every frame too.
        rows, classes: how many (video, label) pairs, and how many classes they have.
        unseen: rows whose action falls between the sampled frames: a miss for everyone.
    """

    model: Float[np.ndarray, "theta t"]
    every_frame: Float[np.ndarray, "t"]
    all_found: Float[np.ndarray, "theta"]
    rows: int
    classes: int
    unseen: int


def hit_rates(
    scores: Sequence[FrameScores], thetas: Sequence[float] = THRESHOLDS, ious: Sequence[float] = THRESHOLDS,
    ranked: bool = False,
) -> HitRates:  # fmt: skip
    """Hit rates for each θ and each IoU threshold t, with the control.

    ``ranked``: the average precision of the hits in each class instead, rows in descending order of a_s. It is the hit
    rate if all hits come first, and less the more misses a_s puts before them.
    """
    actions = np.concatenate([entry.actions for entry in scores])
    logits = np.concatenate([entry.logits for entry in scores])
    true = [entry.true for entry in scores]

    def rates(iou: Float[np.ndarray, "rows"]) -> list[float]:
        return [class_precision(iou > t, actions, logits) if ranked else class_mean(iou > t, actions) for t in ious]

    def iou(found: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([frame_iou(f, t) for f, t in zip(found, true, strict=True)])

    found = [[entry.found(theta) for entry in scores] for theta in thetas]
    return HitRates(
        model=np.array([rates(iou(masks)) for masks in found]),
        every_frame=np.array(rates(iou([np.ones_like(t) for t in true]))),
        all_found=np.array([100 * np.concatenate([mask.all(-1) for mask in masks]).mean() for masks in found]),
        rows=len(actions),
        classes=len(np.unique(actions)),
        unseen=int(sum((~t.any(-1)).sum() for t in true)),
    )


def class_mean(hit: Bool[np.ndarray, "rows"], actions: Int[np.ndarray, "rows"]) -> float:
    """Percent of hits in each class, averaged over the classes that have a row."""
    return 100 * float(np.mean([hit[actions == c].mean() for c in np.unique(actions)]))


def class_precision(
    hit: Bool[np.ndarray, "rows"], actions: Int[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"]
) -> float:
    """Percent: in each class, Σ over hits of the precision at their place / rows of the class; mean over classes.

    Every row is one action to find and one attempt to do so, so misses count as not found. Ties are broken by row, as
    in :func:`~proda_lib.evaluation.charades.average_precision`.
    """
    per_class = []
    for c in np.unique(actions):
        rows = np.flatnonzero(actions == c)
        ordered = hit[rows[np.argsort(-scores[rows], kind="stable")]]
        per_class.append((ordered * np.cumsum(ordered) / np.arange(1, len(rows) + 1)).mean())
    return 100 * float(np.mean(per_class))


def example_videos(graphs: Sequence[SceneGraph], label_counts: Sequence[int]) -> list[SceneGraph]:
    """The first video with each number of labels (or the nearest number there is): picked before any result is seen."""
    picked: list[SceneGraph] = []
    for count in label_counts:
        left = [graph for graph in graphs if len(graph.labels) and all(graph is not p for p in picked)]
        if left:
            picked.append(min(left, key=lambda graph: abs(len(graph.labels) - count)))
    return picked
