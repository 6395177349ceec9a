"""Figure 4: distances against plain loops, and a control that really shows other videos."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.errors import DataError
from proda_lib.evaluation.separability import (
    action_features,
    other_videos,
    separability,
    separation,
    tsne,
)
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.pages.separability import distance_table, findings, paper_distances
from proda_lib.plotting.separability import frequent, planes
from proda_lib.specification import one_hot
from tests import reference
from tests.graphs import VOCABULARY, C, R, add_empty_slots, make_graph, randomize

FRAMES = 5
CONFIG = ModelConfig(actions=C, objects=5, relations=R, frames=FRAMES, slots=5, width=8, heads=2, layers=1, depth=1,
                     candidates=3)  # fmt: skip
GRAPHS = [make_graph(seed, segments=3) for seed in range(20)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return randomize(ProDA(CONFIG)).float()


def test_distances_equal_their_twin():
    rng = np.random.default_rng(0)
    points, classes = rng.normal(size=(30, 3)) + 100, rng.integers(4, size=30)
    found, twin = separation(points, classes), reference.class_distances(points, classes)
    for ours, (mean, sd, pairs) in ((found.intra, twin["intra"]), (found.inter, twin["inter"])):
        assert (ours.mean, ours.sd) == (pytest.approx(mean, rel=1e-9), pytest.approx(sd, rel=1e-9))
        assert ours.pairs == pairs
    assert found.ratio == pytest.approx(twin["inter"][0] / twin["intra"][0])


def test_distances_by_hand():
    found = separation(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), np.array([1, 1, 2]))
    assert (found.intra.mean, found.intra.pairs, str(found.intra)) == (5, 1, "5.00")
    assert math.isnan(found.intra.sd) and (found.inter.mean, found.inter.pairs) == (2.5, 2)
    alone = separation(np.zeros((2, 2)), np.array([1, 2]))
    assert math.isnan(alone.intra.mean) and str(alone.intra) == "–"


def test_features_are_those_of_the_readout(model):
    found = action_features(model, GRAPHS, FRAMES)
    assert found.present.all() and (found.shown == found.video).all()
    assert found.actions.tolist() == np.concatenate([graph.labels for graph in GRAPHS]).tolist()
    for row in (0, 5, len(found.actions) - 1):
        batch = collate([GRAPHS[found.video[row]].sample_frames(FRAMES)])
        sap = torch.from_numpy(one_hot(found.actions[[row]], C))
        with torch.no_grad():
            expected = model(batch, sap, [0]).a_s.feature[0]
        np.testing.assert_allclose(found.feature[row], expected, atol=1e-5)


def test_absent_slots_change_no_feature(model):
    wider = action_features(model, [add_empty_slots(graph, 2) for graph in GRAPHS[:4]], FRAMES)
    np.testing.assert_allclose(wider.feature, action_features(model, GRAPHS[:4], FRAMES).feature, atol=1e-5)


def test_the_control_shows_other_videos(model):
    found = action_features(model, GRAPHS, FRAMES, shuffle=0)
    assert (found.shown != found.video).all()
    has = [action in GRAPHS[v].labels for action, v in zip(found.actions, found.shown, strict=True)]
    assert found.present.tolist() == has and 0 < sum(has) < len(has)
    for row in (0, len(found.actions) // 2):
        shown = GRAPHS[found.shown[row]]
        sap = torch.from_numpy(one_hot(found.actions[[row]], C))
        with torch.no_grad():
            answer = model(collate([shown.sample_frames(FRAMES)]), sap, [0])
        np.testing.assert_allclose(found.feature[row], answer.a_s.feature[0], atol=1e-5)
    again = action_features(model, GRAPHS, FRAMES, shuffle=0)
    np.testing.assert_array_equal(found.shown, again.shown)


def test_every_other_video_is_as_likely():
    drawn = other_videos(np.full(30000, 2), 4, np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.02)


def test_too_few_videos(model):
    none = dataclasses.replace(make_graph(1, segments=0), labels=None)
    with pytest.raises(DataError, match="with a label"):
        action_features(model, [none], FRAMES)
    with pytest.raises(DataError, match="two videos"):
        action_features(model, GRAPHS[:1], FRAMES, shuffle=0)


def test_tsne_keeps_clusters_and_repeats():
    rng = np.random.default_rng(1)
    classes = np.repeat([0, 1], 25)
    features = rng.normal(size=(50, 6)) + 20 * classes[:, None]
    plane = tsne(features, seed=3)
    np.testing.assert_array_equal(plane, tsne(features, seed=3))
    assert separation(plane, classes).ratio > 2


def test_page(model):
    found = {name: separability(model, GRAPHS, FRAMES) for name in ("training set", "test set")}
    table = distance_table(found, "No runs.")
    paper = paper_distances()
    for name in found:
        cell = table.frame.loc[(f"{name}, t-SNE plane", "intra-class"), ("paper", "Charades")]
        assert cell == paper[name, "intra-class"] and "±" in str(cell)
        own = table.frame.loc[(f"{name}, feature space", "inter-class"), ("ours", "own video")]
        assert own == found[name][0].in_features.inter
    sentences = findings(found)
    assert f"{found['test set'][1].in_features.ratio:.2f}" in sentences and sentences.count("- ") == 5
    figure = planes(found, VOCABULARY.actions, classes=3)
    coloured = frequent(found["test set"][0].features.actions, 3)
    assert len(figure.axes) == 4
    for ax, entry in zip(figure.axes, [entry for pair in found.values() for entry in pair], strict=True):
        grey, *marks = ax.get_lines()
        assert len(grey.get_xdata()) == (~np.isin(entry.features.actions, coloured)).sum()
        for action, line in zip(coloured, marks, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), entry.plane[entry.features.actions == action, 0])
