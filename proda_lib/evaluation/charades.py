"""Charades' official mean average precision, for video-level classification and for localisation at 25 time points.

Per class, with rows in descending order of score (ties in row order) and P positives:

    AP = (1 / P) * sum over positives of precision at that row
    mAP = mean of AP over classes,    wAP = sum(AP * P) / sum(P)

A class without positives has AP = 0/0 = NaN, and so have then mAP and wAP: that is ``empty="nan"``, the official rule.
``empty="skip"`` averages over the other classes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from proda_lib.datasets.charades import CharadesRow, read_rows
from proda_lib.errors import DataError

NUM_CLASSES = 157
NUM_POINTS = 25


@dataclass(frozen=True, eq=False)
class MeanAveragePrecision:
    """Result of an evaluation, as fractions (0..1).

    Attributes:
        map: mean of the average precisions over classes.
        wap: their mean weighted by each class's number of positives.
        per_class: (C,) average precision of each class, NaN for a class without positives.
        positives: (C,) number of positive rows of each class.
        empty: what became of classes without positives in the means, "nan" or "skip".
    """

    map: float
    wap: float
    per_class: Float[np.ndarray, "C"]
    positives: Int[np.ndarray, "C"]
    empty: str


def average_precision(scores: Float[np.ndarray, "rows C"], truth: Bool[np.ndarray, "rows C"]) -> Float[np.ndarray, "C"]:
    """Average precision of each column: the mean over positives of the precision at their place in the ranking.

    scikit-learn's groups equal scores into one threshold; the official code ranks them by row, and so does this.

    Args:
        scores: (rows, C) the higher, the surer; infinities are allowed.
        truth: (rows, C) 1 or True for positives.

    Returns:
        (C,) float64, NaN for a column without positives.

    Raises:
        DataError: the shapes differ or are not two-dimensional, a score is NaN or a truth neither 0 nor 1.
    """
    scores, truth = _checked(scores, truth)
    # NumPy sorts in ascending order only, and a reversed stable sort would break ties by the last row.
    order = np.argsort(-scores, axis=0, kind="stable")
    hits = np.take_along_axis(truth, order, axis=0)
    precision = np.cumsum(hits, axis=0) / np.arange(1, len(hits) + 1)[:, None]
    with np.errstate(invalid="ignore"):  # 0 / 0 for a class without positives
        return np.sum(precision, axis=0, where=hits) / hits.sum(axis=0)


def mean_average_precision(scores: Float[np.ndarray, "rows C"], truth: Bool[np.ndarray, "rows C"],
                           empty: str = "nan") -> MeanAveragePrecision:  # fmt: skip
    """:func:`average_precision` of each column and its two means.

    Args:
        scores: (rows, C) the higher, the surer.
        truth: (rows, C) 1 or True for positives.
        empty: "nan" lets a class without positives make the means NaN, "skip" leaves it out of them. With no positives
            at all both means are NaN either way.

    Raises:
        DataError: as :func:`average_precision`, or ``empty`` is neither.
    """
    if empty not in ("nan", "skip"):
        raise DataError("mean_average_precision", "empty", repr(empty), '"nan" or "skip"')
    per_class = average_precision(scores, truth)
    positives = np.asarray(truth).astype(bool).sum(axis=0)
    used = np.ones(len(per_class), dtype=bool) if empty == "nan" else positives > 0
    if not used.any() or not positives.any():
        mean = weighted = float("nan")
    else:
        mean = float(per_class[used].mean())
        weighted = float((per_class * positives)[used].sum() / positives.sum())
    return MeanAveragePrecision(mean, weighted, per_class, positives, empty)


def classification_map(scores: Float[np.ndarray, "videos 157"], annotations: str | os.PathLike,
                       empty: str = "nan") -> MeanAveragePrecision:  # fmt: skip
    """Charades' video-level evaluation; the values of the official ``Charades_v1_classify.m``.

    Videos without actions do not count: the official code never finds their predictions, so they rank last.

    Args:
        scores: (videos, 157), row i for the i-th video of the csv.
        annotations: path of the csv (``Charades_v1_test.csv``).
        empty: see :func:`mean_average_precision`.

    Raises:
        DataError: the csv is broken, or ``scores`` has another shape or holds NaN.
    """
    rows = _rows(annotations)
    scores = _shaped(scores, (len(rows), NUM_CLASSES), annotations)
    truth = np.zeros(scores.shape, dtype=bool)
    for i, row in enumerate(rows):
        truth[i, row.actions] = True
    labelled = truth.any(axis=1, keepdims=True)
    return mean_average_precision(np.where(labelled, scores, -np.inf), truth, empty)


def localization_truth(annotations: str | os.PathLike) -> Bool[np.ndarray, "videos 25 157"]:
    """Which actions go on at the 25 points t_j = (j - 1)/25 * length of each video: those with start <= t_j <= end.

    The intervals count as the csv writes them, neither clipped nor dropped.
    """
    rows = _rows(annotations)
    truth = np.zeros((len(rows), NUM_POINTS, NUM_CLASSES), dtype=bool)
    for video, row in zip(truth, rows, strict=True):
        times = np.arange(NUM_POINTS) / NUM_POINTS * row.length
        for action, (start, end) in zip(row.actions, row.intervals, strict=True):
            video[(start <= times) & (times <= end), action] = True
    return truth


def localization_map(scores: Float[np.ndarray, "videos 25 157"], annotations: str | os.PathLike,
                     empty: str = "nan") -> MeanAveragePrecision:  # fmt: skip
    """Charades' localisation evaluation over all (video, point) rows; the values of ``Charades_v1_localize.m``.

    Points at which nothing goes on stay in as negatives, those of videos without actions included.

    Args:
        scores: (videos, 25, 157), row i for the i-th video of the csv, times as in :func:`localization_truth`.
        annotations: path of the csv (``Charades_v1_test.csv``).
        empty: see :func:`mean_average_precision`.

    Raises:
        DataError: the csv is broken, or ``scores`` has another shape or holds NaN.
    """
    truth = localization_truth(annotations)
    scores = _shaped(scores, truth.shape, annotations)
    return mean_average_precision(scores.reshape(-1, NUM_CLASSES), truth.reshape(-1, NUM_CLASSES), empty)


def _rows(annotations: str | os.PathLike) -> list[CharadesRow]:
    return list(read_rows(annotations, NUM_CLASSES, columns=("id", "actions", "length")))


def _shaped(scores: np.ndarray, shape: tuple[int, ...], annotations: str | os.PathLike) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != shape:
        raise DataError("scores", "shape", scores.shape, f"{shape}, for the {shape[0]} rows of {annotations}")
    _refuse("scores", scores, np.isnan(scores), "a number")  # before the reshape, so that the message names the place
    return scores


def _checked(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(truth)
    if scores.ndim != 2 or truth.shape != scores.shape:
        raise DataError("scores", "shape", f"{scores.shape} with truth {truth.shape}", "two arrays of (rows, classes)")
    _refuse("scores", scores, np.isnan(scores), "a number")
    _refuse("truth", truth, (truth != 0) & (truth != 1), "0 or 1")
    return scores, truth.astype(bool)


def _refuse(name: str, values: np.ndarray, bad: np.ndarray, expected: str) -> None:
    if bad.any():
        place = np.argwhere(bad)[0].tolist()
        raise DataError(name, f"{name}{place}", values[tuple(place)], f"{expected} ({bad.sum()} values are bad)")
