"""Action Specifications (section 3.2, appendix C): which actions a prompt asks for.

A specification is a multi-hot vector over the C actions, the SAP; its complement is the UAP.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from proda_lib.errors import RecipeError


def specification_length(actions: int, wanted: int = 16) -> int:
    """K, the length of a distractor-injected SAP: ``wanted``, or max(2, C // 2) where that is smaller."""
    return min(wanted, max(2, actions // 2))


def video_rng(seed: int, epoch: int, video: str) -> np.random.Generator:
    """The random stream of one video in one epoch; depends on nothing else, so videos can be drawn in any order."""
    return np.random.default_rng([seed, epoch, zlib.crc32(video.encode())])


def sample_specifications(
    labels: Int[np.ndarray, "L"], actions: int, length: int, rng: np.random.Generator, absent_row: bool = False
) -> tuple[Bool[np.ndarray, "S C"], Bool[np.ndarray, "S"]]:
    """Draw the 2L + 1 SAPs of a video with L labels.

    The first L + 1 are distractor-injected: i = 0..L random present labels and K − i random absent ones; i is capped at
    K when L > K, and the length is min(K, i + C − L). The other L hold i = 1..L random present labels and nothing else.
    ``absent_row`` (released) adds one more SAP of a single absent label (when there is one).

    Args:
        labels: distinct labels of the video, each in 0..C−1.
        actions: C. ``length``: K.
        rng: source of randomness, see :func:`video_rng`.

    Returns:
        SAPs (S, C) and whether each is distractor-injected (S,).

    Raises:
        RecipeError: K outside 1..C.
    """
    if not 1 <= length <= actions:
        raise RecipeError(f"specification length K: found {length}, expected 1..{actions}")
    absent = np.setdiff1d(np.arange(actions), labels)
    L = len(labels)
    rows: list[np.ndarray] = []
    for wanted in range(L + 1):
        i = min(wanted, length)
        distractors = min(length - i, len(absent))
        rows.append(np.concatenate([rng.permutation(labels)[:i], rng.permutation(absent)[:distractors]]))
    rows += [rng.permutation(labels)[:i] for i in range(1, L + 1)]
    if absent_row and len(absent):
        rows.append(rng.permutation(absent)[:1])
    sap = np.zeros((len(rows), actions), dtype=bool)
    for row, chosen in zip(sap, rows, strict=True):
        row[chosen.astype(np.int64)] = True
    return sap, np.arange(len(rows)) <= L


def branch_targets(labels: Bool[Tensor, "S C"], multi_hot: Bool[Tensor, "S C"]) -> Bool[Tensor, "S C1"]:
    """Truth of a branch: the present labels inside its multi-hot; if there are none, "no-action" (index C)."""
    inside = labels & multi_hot
    return torch.cat([inside, ~inside.any(-1, keepdim=True)], dim=-1)


def partition(actions: int, length: int, rng: np.random.Generator) -> Bool[np.ndarray, "P C"]:
    """Split the C actions at random into ⌈C/K⌉ SAPs of K: the label-free main protocol.

    The last SAP has what is left, fewer than K unless K divides C; a short SAP is a question that training met with
    present actions only. Filled up with actions of other groups it changes little (``CHANGELOG.md`` has how much).
    """
    order = rng.permutation(actions)
    groups = np.zeros((-(-actions // length), actions), dtype=bool)
    groups[np.arange(actions) // length, order] = True
    return groups


def best_of(scores: Float[np.ndarray, "V C"], length: int) -> Int[np.ndarray, "V K"]:
    """The ``length`` best actions of each video, best first; of equal ones that with the lower number."""
    return (-scores).argsort(1, kind="stable")[:, :length]


def nested_best(scores: Float[np.ndarray, "V C"], length: int) -> Bool[np.ndarray, "V S C"]:
    """For each video the SAPs of its k best actions, k = 1, 2, 4, ... and last ``length``; each holds those before it.

    Raises:
        RecipeError: K outside 1..C.
    """
    if not 1 <= length <= scores.shape[1]:
        raise RecipeError(f"specification length K: found {length}, expected 1..{scores.shape[1]}")
    sizes = [*(2**i for i in range((length - 1).bit_length())), length]
    place = best_of(scores, scores.shape[1]).argsort(1)
    return place[:, None] < np.array(sizes)[:, None]


def one_hot(chosen: Sequence[int], actions: int) -> Bool[np.ndarray, "S C"]:
    """One SAP per chosen action, that action alone (protocol ``scan``, tables 8 and 9)."""
    return np.eye(actions, dtype=bool)[np.asarray(chosen, dtype=np.int64)]
