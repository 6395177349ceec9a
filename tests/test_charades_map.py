"""Charades' mean average precision: official values, ties, empty classes, and the definition row by row."""

import json

import numpy as np
import pytest

from proda_lib.errors import DataError
from proda_lib.evaluation.charades import (
    average_precision,
    classification_map,
    localization_map,
    localization_truth,
    mean_average_precision,
)


def slow_average_precision(scores, truth):
    """AP of one class, row by row: walk down the ranking and add up the precision at each positive."""
    rank = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    found, total = 0, 0.0
    for place, i in enumerate(rank, 1):
        if truth[i]:
            found += 1
            total += found / place
    return total / found if found else float("nan")


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_average_precision_equals_its_definition(decimals):
    rng = np.random.default_rng(decimals)
    scores, truth = rng.normal(size=(60, 20)).round(decimals), rng.random((60, 20)) < rng.random(20) / 2
    truth[:, 3] = False
    expected = [slow_average_precision(s, t) for s, t in zip(scores.T, truth.T, strict=True)]
    np.testing.assert_allclose(average_precision(scores, truth), expected, rtol=1e-13)
    np.testing.assert_allclose(average_precision(scores, truth.astype(int)), expected, rtol=1e-13)


def test_ties_are_broken_by_row():
    truth = np.array([[1, 0], [0, 1]])
    np.testing.assert_array_equal(average_precision(np.zeros((2, 2)), truth), [1.0, 0.5])


def test_empty_classes():
    scores, truth = np.array([[2.0, 1, 0], [1, 2, 0]]), np.array([[1, 1, 0], [1, 0, 0]])
    nan = mean_average_precision(scores, truth)
    assert np.isnan(nan.map) and np.isnan(nan.wap) and nan.empty == "nan"
    skip = mean_average_precision(scores, truth, empty="skip")
    np.testing.assert_array_equal(skip.per_class, [1, 0.5, np.nan])
    np.testing.assert_array_equal(skip.positives, [2, 1, 0])
    assert skip.map == 0.75 and skip.wap == pytest.approx(2.5 / 3) and skip.empty == "skip"
    nothing = mean_average_precision(scores, np.zeros((2, 3)), empty="skip")
    assert np.isnan(nothing.map) and np.isnan(nothing.wap)


@pytest.mark.parametrize(("scores", "truth", "message"), [
    (np.zeros((2, 3)), np.zeros((2, 2)), r"shape: found \(2, 3\) with truth \(2, 2\)"),
    (np.zeros(3), np.zeros(3), "shape"),
    (np.array([[0.0], [np.nan]]), np.ones((2, 1)), r"scores\[1, 0\]: found nan"),
    (np.zeros((2, 1)), np.array([[0], [2]]), r"truth\[1, 0\]: found 2"),
])  # fmt: skip
def test_bad_arrays_are_refused(scores, truth, message):
    with pytest.raises(DataError, match=message):
        mean_average_precision(scores, truth)


CSV = """id,actions,length
AAAAA,c000 0.00 2.50;c001 1.00 1.05,5.00
BBBBB,,4.00
CCCCC,c001 3.00 9.00;c001 0.00 0.00,5.0
"""


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "three.csv"
    path.write_text(CSV)
    return path


def test_points_of_localization(annotations):
    """t_j = 0, 0.2, 0.4, ...; both ends count; nothing is clipped or dropped."""
    truth = localization_truth(annotations)
    assert truth.shape == (3, 25, 157) and not truth[1].any() and not truth[..., 2:].any()
    assert np.flatnonzero(truth[0, :, 0]).tolist() == list(range(13))
    assert np.flatnonzero(truth[0, :, 1]).tolist() == [5]  # 1.0 alone lies in 1.00..1.05
    assert np.flatnonzero(truth[2, :, 1]).tolist() == [0, *range(15, 25)]


def test_classification_leaves_out_videos_without_actions(annotations):
    scores = np.zeros((3, 157))
    scores[:, 1] = 0.5, 1.0, 0.7  # the video without actions would come first
    result = classification_map(scores, annotations, empty="skip")
    assert result.per_class[:2].tolist() == [1.0, 1.0] and result.map == 1
    assert np.isnan(classification_map(scores, annotations).map)


def test_localization_keeps_unlabelled_points_as_negatives(annotations):
    scores = localization_truth(annotations).astype(np.float32)
    assert localization_map(scores, annotations, empty="skip").map == 1
    scores[1] = 2
    result = localization_map(scores, annotations, empty="skip")
    positives = np.arange(1, 14)
    assert result.per_class[0] == pytest.approx(np.mean(positives / (25 + positives)))


def test_bad_arguments_are_refused(annotations, tmp_path):
    with pytest.raises(DataError, match=r"\(3, 158\), expected \(3, 157\)"):
        classification_map(np.zeros((3, 158)), annotations)
    with pytest.raises(DataError, match=r"\(2, 25, 157\), expected \(3, 25, 157\)"):
        localization_map(np.zeros((2, 25, 157)), annotations)
    scores = np.zeros((3, 25, 157))
    scores[1, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"scores\[1, 2, 3\]"):
        localization_map(scores, annotations)
    scores = np.zeros((3, 157))
    scores[1, 4] = np.nan  # in a video that does not count
    with pytest.raises(DataError, match=r"scores\[1, 4\]"):
        classification_map(scores, annotations)
    for evaluate, shape in ((classification_map, (3, 157)), (localization_map, (3, 25, 157))):
        with pytest.raises(DataError, match=r"""found 'zero', expected "nan" or "skip\""""):
            evaluate(np.zeros(shape), annotations, empty="zero")
        with pytest.raises(DataError, match=r"absent\.csv"):
            evaluate(np.zeros(shape), tmp_path / "absent.csv")


@pytest.mark.parametrize("name", [
    "classification seed=0 round=0", "classification seed=1 round=1",
    "localization seed=0 round=0", "localization seed=1 round=1",
])  # fmt: skip
def test_official_values(shared_data, name):
    expected = json.loads((shared_data / "charades" / "official_map.json").read_text())["values"][name]
    task, seed, rounding = name.split()
    shape = (1863, 157) if task == "classification" else (1863, 25, 157)
    scores = np.random.default_rng(int(seed.removeprefix("seed="))).random(shape)
    if rounding == "round=1":
        scores = scores.round(1)
    evaluate = classification_map if task == "classification" else localization_map
    result = evaluate(scores, shared_data / "charades" / "Charades_v1_test.csv")
    found = {"mAP": result.map, "wAP": result.wap, "ap0": result.per_class[0], "ap156": result.per_class[156],
             "nan": np.isnan(result.per_class).sum()}  # fmt: skip
    assert found == pytest.approx(expected, rel=0, abs=1e-9)
