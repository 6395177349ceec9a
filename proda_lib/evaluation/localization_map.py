"""Charades' localisation mAP from frame scores: every class at 25 points of every test video.

    score(t, c) = a_s(c) · s_c(t)

a_s(c) is a probability: a logit below 0 would turn the order of the frames round. s_c are the frame scores of the
question that holds c; between the N sampled frames s is linear in time, before the first and after the last it is
theirs. ``scaled`` takes s² / max s² in its place, the localisation output of tables 8 and 9, whose best frame is 1 in
every video. Points without an action stay in as negatives, and so do videos without labels. This is
:func:`proda_lib.evaluation.charades.localization_map` on graphs in place of a csv: same points, same AP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from proda_lib.evaluation.charades import NUM_POINTS, mean_average_precision
from proda_lib.graph import SceneGraph
from proda_lib.nn.readout import localization_score


def point_times(graph: SceneGraph) -> Float[np.ndarray, "25"]:
    """t_j = (j - 1)/25 · length of the video, in seconds."""
    return np.arange(NUM_POINTS) / NUM_POINTS * graph.duration


def between_frames(times: Float[np.ndarray, "N"], at: Float[np.ndarray, "P"]) -> Float[np.ndarray, "P N"]:
    """Weights that take values of the frames at ``times`` to ``at``, linearly in time; each row has the sum 1.

    Frames of the same time (a video with fewer frames than N repeats them) are averaged.
    """
    distinct, which = np.unique(times, return_inverse=True)
    shares = np.eye(len(distinct))[which].T
    shares /= shares.sum(1, keepdims=True)
    weights = [np.interp(at, distinct, one) for one in np.eye(len(distinct))]
    return np.stack(weights, axis=1) @ shares


def point_scores(
    graphs: Sequence[SceneGraph], a_s: Float[np.ndarray, "V C"], s: Float[np.ndarray, "V C N"], scaled: bool = False
) -> Float[np.ndarray, "V 25 C"]:
    """score(t, c) of every video, point and class.

    Args:
        graphs: the videos as a source gives them; s belongs to their N evenly spread frames.
        a_s: logits. ``s``: frame scores, 0..1.
    """
    if scaled:
        s = localization_score(torch.from_numpy(s)).numpy()
    times = [graph.sample_frames(s.shape[-1]).times for graph in graphs]
    weights = np.stack([between_frames(t, point_times(g)) for t, g in zip(times, graphs, strict=True)])
    probability = torch.sigmoid(torch.from_numpy(a_s).double()).numpy()
    return probability[:, None] * np.einsum("vpn,vcn->vpc", weights, s)


def point_map(graphs: Sequence[SceneGraph], scores: Float[np.ndarray, "V 25 C"]) -> float:
    """Localisation mAP in percent, classes without positives skipped."""
    truth = np.concatenate([graph.active(point_times(graph)) for graph in graphs])
    return 100 * mean_average_precision(scores.reshape(truth.shape), truth, empty="skip").map


def at_every_point(scores: Float[np.ndarray, "V C"]) -> Float[np.ndarray, "V 25 C"]:
    """Video scores as they are at each of the 25 points: the controls that do not localise."""
    return np.repeat(scores[:, None], NUM_POINTS, axis=1)
