"""Figure 4: are the features of different actions apart, and is it the video or the prompt that keeps them apart?

For each video with L labels there are L action features: the video is asked for each of its labels alone (SAP = that
one label), and the feature is what the readout of a_s feeds to its last layer. With d_ij = ‖x_i − x_j‖₂ and class c_i,
over all pairs i < j (the paper does not define its distances; its "±" is taken for the standard deviation over pairs)::

    intra-class = mean ± sd of d_ij with c_i = c_j,    inter-class = mean ± sd of d_ij with c_i ≠ c_j

Distances are taken in the 2-D plane of t-SNE, as in the paper, and in feature space. A t-SNE plane has no unit, and
two planes are not comparable; the ratio inter / intra has none to begin with.

The control asks the same prompts of *other videos*, drawn at random. The class of a feature is that of its prompt, so
clusters that come from the prompt alone are there in the control too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances_chunked

from proda_lib.errors import DataError
from proda_lib.evaluation.protocols import ROWS_AT_ONCE, batches
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.specification import one_hot

#: Videos of a set at most: t-SNE and the number of pairs grow faster than their number.
VIDEOS = 300


@dataclass(frozen=True, eq=False)
class ActionFeatures:
    """S features, one for each (video, label).

    Attributes:
        actions: (S,) the one action asked for: the class of the feature.
        video: (S,) index of the video whose label that is. ``shown``: (S,) index of the video that the model saw.
        present: (S,) whether the action is a label of the video shown. feature: (S, D) of the a_s readout.
    """

    actions: Int[np.ndarray, "S"]
    video: Int[np.ndarray, "S"]
    shown: Int[np.ndarray, "S"]
    present: Bool[np.ndarray, "S"]
    feature: Float[np.ndarray, "S D"]


@dataclass(frozen=True)
class Distance:
    """Mean and standard deviation (divisor pairs − 1) of a distance over pairs; NaN where there are too few."""

    mean: float
    sd: float
    pairs: int

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        return f"{self.mean:.2f}" if math.isnan(self.sd) else f"{self.mean:.2f} ± {self.sd:.2f}"


@dataclass(frozen=True)
class Separation:
    """Distances within and between classes."""

    intra: Distance
    inter: Distance

    @property
    def ratio(self) -> float:
        """Mean inter-class distance / mean intra-class distance."""
        return self.inter.mean / self.intra.mean


@dataclass(frozen=True, eq=False)
class Separability:
    """One panel of figure 4: the features, their t-SNE plane (S, 2), and how separate the classes are in both."""

    features: ActionFeatures
    plane: Float[np.ndarray, "S 2"]
    in_plane: Separation
    in_features: Separation


@torch.no_grad()
def action_features(
    model: ProDA, graphs: Sequence[SceneGraph], frames: int, device="cpu", shuffle: int | None = None
) -> ActionFeatures:
    """The feature of each (video, label), from the question for that label alone. The questions use the labels.

    Args:
        frames: N, evenly spread over the video.
        shuffle: the control: each question goes to another video, drawn with this seed. None: to its own.

    Raises:
        DataError: no video has a label, or there is only one and ``shuffle`` asks for another.
    """
    model.eval()
    sampled = [graph.sample_frames(frames) for graph in graphs if len(graph.labels)]
    if len(sampled) < 1 + (shuffle is not None):
        wanted = "a video with a label" if shuffle is None else "two videos with a label, to swap questions"
        raise DataError("action_features", "graphs", f"{len(sampled)} with a label", wanted)
    actions = np.concatenate([graph.labels for graph in sampled])
    video = np.repeat(np.arange(len(sampled)), [len(graph.labels) for graph in sampled])
    shown = video if shuffle is None else other_videos(video, len(sampled), np.random.default_rng([shuffle, 4]))
    present = np.stack([graph.multi_hot() for graph in sampled])[shown, actions]
    feature = np.empty((len(actions), model.config.width), dtype=np.float32)
    for part, batch in batches(model, sampled, frames, device):
        encoded = model.encode(batch)
        questions = np.flatnonzero((shown >= part.start) & (shown < part.stop))
        for start in range(0, len(questions), ROWS_AT_ONCE):
            rows = questions[start : start + ROWS_AT_ONCE]
            sap = torch.from_numpy(one_hot(actions[rows], model.config.actions)).to(device)
            feature[rows] = model.ask(batch, encoded, sap, shown[rows] - part.start).feature.float().cpu().numpy()
    return ActionFeatures(actions, video, shown, present, feature)


def other_videos(video: Int[np.ndarray, "S"], count: int, rng: np.random.Generator) -> Int[np.ndarray, "S"]:
    """For each entry a random video of ``count`` that is not its own; each of the others is as likely."""
    return (video + rng.integers(1, count, size=len(video))) % count


def separation(points: Float[np.ndarray, "S d"], classes: Int[np.ndarray, "S"]) -> Separation:
    """Distances over all pairs of points, in chunks; float64."""
    points = np.asarray(points, dtype=np.float64)
    sums = np.zeros((2, 3))  # intra and inter: pairs, Σ d, Σ d²
    first = 0
    for chunk in pairwise_distances_chunked(points - points.mean(0)):
        rows = np.arange(first, first + len(chunk))
        later = rows[:, None] < np.arange(len(points))
        same = classes[rows, None] == classes
        for total, chosen in zip(sums, (later & same, later & ~same), strict=True):
            d = chunk[chosen]
            total += len(d), d.sum(), np.square(d).sum()
        first += len(chunk)
    return Separation(*(_distance(int(pairs), total, squares) for pairs, total, squares in sums))


def _distance(pairs: int, total: float, squares: float) -> Distance:
    if not pairs:
        return Distance(math.nan, math.nan, 0)
    mean = total / pairs
    sd = math.sqrt(max(squares - pairs * mean**2, 0.0) / (pairs - 1)) if pairs > 1 else math.nan
    return Distance(float(mean), sd, pairs)


def tsne(feature: Float[np.ndarray, "S D"], seed: int = 0) -> Float[np.ndarray, "S 2"]:
    """scikit-learn's t-SNE in two dimensions, perplexity 30 (a third of the points where that is less), from a PCA.

    Features go in as they are. The same features and seed give the same plane on the same machine.
    """
    perplexity = min(30.0, (len(feature) - 1) / 3)
    return TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(feature)


def separability(
    model: ProDA, graphs: Sequence[SceneGraph], frames: int, device="cpu", seed: int = 0
) -> tuple[Separability, Separability]:
    """Figure 4 for one set of videos (the first :data:`VIDEOS`): each prompt on its own video, and the control."""
    found = []
    for shuffle in (None, seed):
        features = action_features(model, graphs[:VIDEOS], frames, device, shuffle)
        plane = tsne(features.feature, seed)
        found.append(Separability(features, plane, separation(plane, features.actions),
                                  separation(features.feature, features.actions)))  # fmt: skip
    return found[0], found[1]
