"""Localisation against plain loops in float64, and by hand where the answer is plain"""

import dataclasses

import numpy as np
import pytest

from proda_lib.evaluation.localization import (
    FrameScores,
    class_mean,
    class_precision,
    example_videos,
    found_segments,
    frame_iou,
    frame_scores,
    frame_spans,
    hit_rates,
    timed_labels,
)
from proda_lib.evaluation.localization_record import (
    among_absent,
    ask_about_labels,
    frame_scores_of,
)
from proda_lib.evaluation.protocols import ask_each_alone
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.plotting.localization import heat_bars
from proda_lib.training.recipe import make_recipe
from tests import reference
from tests.graphs import C, R, make_graph, make_graphs, randomize

FRAMES = 6
RECIPE = make_recipe("smoke", frames=FRAMES, spec_length=3)
CONFIG = ModelConfig(actions=C, objects=5, relations=R, frames=FRAMES, slots=5, width=8, heads=2, layers=1, depth=1,
                     candidates=3)  # fmt: skip


def random_scores(count: int = 12) -> list[FrameScores]:
    rng = np.random.default_rng(3)
    entries = []
    for seed in range(count):
        graph = make_graph(seed, segments=3).sample_frames(FRAMES)
        s = rng.random((len(graph.labels), FRAMES))
        entries.append(FrameScores(graph, graph.labels, s, rng.normal(size=len(s)).round(1)))
    return entries


# --- the twin: loops over rows and frames ---------------------------------------------------------------------------


def twin_hits(entries, theta: float | None, t: float) -> float:
    """theta None: every frame is marked."""
    hits: dict[int, list[bool]] = {}
    for entry in entries:
        graph = entry.graph
        for action, s in zip(entry.actions, entry.s, strict=True):
            both = either = 0
            own = [segment for label, segment in zip(graph.segment_labels, graph.segments, strict=True)
                   if label == action]  # fmt: skip
            for n in range(FRAMES):
                true = any(start <= graph.times[n] <= end for start, end in own)
                found = theta is None or s[n] ** 2 / max(v**2 for v in s) >= theta
                both += true and found
                either += true or found
            hits.setdefault(int(action), []).append(either > 0 and both / either > t)
    return 100 * sum(sum(rows) / len(rows) for rows in hits.values()) / len(hits)


def test_hit_rates_equal_their_twin():
    entries, thetas, ious = random_scores(), (0.2, 0.5, 0.7), (0.0, 0.2, 0.5)
    rates = hit_rates(entries, thetas, ious)
    for i, theta in enumerate(thetas):
        for j, t in enumerate(ious):
            assert rates.model[i, j] == pytest.approx(twin_hits(entries, theta, t), abs=1e-9)
    for j, t in enumerate(ious):
        assert rates.every_frame[j] == pytest.approx(twin_hits(entries, None, t), abs=1e-9)
    for i, theta in enumerate(thetas):
        every = [row.all() for entry in entries for row in entry.found(theta)]
        assert rates.all_found[i] == pytest.approx(100 * sum(every) / len(every))
    assert rates.rows == sum(len(entry.actions) for entry in entries)
    assert rates.unseen == sum(not row.any() for entry in entries for row in entry.true)


def test_ranked_hits_equal_their_twin():
    entries = random_scores(30)
    actions, logits = (np.concatenate([getattr(e, name) for e in entries]) for name in ("actions", "logits"))
    rates = hit_rates(entries, [0.5], [0.0, 0.2], ranked=True)
    found = [frame_iou(e.found(0.5), e.true) for e in entries]
    every = [frame_iou(np.ones_like(e.true), e.true) for e in entries]
    for j, t in enumerate((0.0, 0.2)):
        hits, all_hits = (np.concatenate(iou) > t for iou in (found, every))
        assert rates.model[0, j] == pytest.approx(reference.class_precision(hits, actions, logits), abs=1e-9)
        assert rates.every_frame[j] == pytest.approx(reference.class_precision(all_hits, actions, logits), abs=1e-9)
    assert (rates.model <= hit_rates(entries, [0.5], [0.0, 0.2]).model + 1e-9).all()


def test_ranked_by_hand():
    hit, actions = np.array([False, True, True, True]), np.array([0, 0, 0, 4])
    assert class_precision(hit, actions, np.array([3.0, 2, 1, 0])) == pytest.approx(100 * ((1 / 2 + 2 / 3) / 3 + 1) / 2)
    assert class_precision(hit, actions, np.array([0.0, 2, 1, 0])) == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_scores_equal_the_reference_model():
    model, graphs = randomize(ProDA(CONFIG), scale=0.3).double(), make_graphs()
    graphs = [dataclasses.replace(graph, boxes=graph.boxes.astype(np.float32)) for graph in graphs]
    found = frame_scores(model.float(), graphs, FRAMES)
    weights = reference.Weights.of(model)
    assert [entry.graph.video for entry in found] == [graph.video for graph in graphs]
    for entry, graph in zip(found, graphs, strict=True):
        assert (entry.actions == graph.labels).all() and entry.s.shape == (len(graph.labels), FRAMES)
        for action, s, logit in zip(entry.actions, entry.s, entry.logits, strict=True):
            expected = reference.proda(weights, CONFIG, graph.sample_frames(FRAMES), np.eye(C)[action])
            np.testing.assert_allclose(s, expected.a_s.s, atol=1e-5)
            np.testing.assert_allclose(logit, expected.a_s.logits[action], atol=1e-4)
        np.testing.assert_allclose(entry.score, entry.s**2 / (entry.s**2).max(1, keepdims=True), rtol=1e-6)


def test_videos_without_labels_are_not_asked():
    none = np.zeros(0, dtype=int)
    empty = dataclasses.replace(make_graph(5), segment_labels=none, segments=np.zeros((0, 2)), labels=None,
                                carriers=None)  # fmt: skip
    model = randomize(ProDA(CONFIG), scale=0.3).float()
    assert [entry.graph.video for entry in frame_scores(model, [empty, make_graph(1)], FRAMES)] == ["video-1"]


# --- by hand --------------------------------------------------------------------------------------------------------


def test_spans_cover_the_video_without_gaps():
    spans = frame_spans(np.array([1.0, 2.0, 4.0, 4.0]), 10.0)
    np.testing.assert_array_equal(spans, [[0, 1.5], [1.5, 3], [3, 4], [4, 10]])


def test_found_segments_join_neighbours():
    times = np.array([1.0, 2.0, 4.0, 8.0])
    found = found_segments(np.array([True, True, False, True]), times, 10.0)
    np.testing.assert_array_equal(found, [[0, 3], [6, 10]])
    assert found_segments(np.zeros(4, dtype=bool), times, 10.0).shape == (0, 2)
    assert (found_segments(np.ones(4, dtype=bool), times, 10.0) == [[0, 10]]).all()


def test_frame_iou():
    true = np.array([True, True, False, False])
    assert frame_iou(true, true) == 1 and frame_iou(~true, true) == 0
    assert frame_iou(np.ones(4, dtype=bool), true) == 0.5  # marking every frame: the true share
    assert frame_iou(np.zeros(4, dtype=bool), np.zeros(4, dtype=bool)) == 0


def test_threshold_and_hit_are_as_stated():
    graph = make_graph(2, frames=4, segments=1)
    graph = dataclasses.replace(graph, times=np.array([1.0, 2.0, 3.0, 4.0]), segments=np.array([[2.0, 3.0]]))
    s = np.sqrt([[0.5, 1.0, 0.7, 0.1]])
    entry = FrameScores(graph, graph.labels, s, np.zeros(1))
    np.testing.assert_array_equal(entry.true, [[False, True, True, False]])
    np.testing.assert_array_equal(entry.found(0.45), [[True, True, True, False]])
    np.testing.assert_array_equal(hit_rates([entry], [0.45], [0.5, 0.66, 0.67]).model, [[100, 100, 0]])
    np.testing.assert_array_equal(hit_rates([entry], [0.45], [0.49, 0.5]).every_frame, [100, 0])  # IoU 0.5 is not > 0.5


def test_class_mean_weighs_classes_not_rows():
    assert class_mean(np.array([True, True, True, False]), np.array([0, 0, 0, 4])) == 50


def test_examples_are_picked_by_number_of_labels():
    graphs = [make_graph(seed, segments=count) for seed, count in enumerate((1, 3, 5, 3))]
    wanted = len(graphs[1].labels)
    assert example_videos(graphs, [wanted])[0] is graphs[[len(g.labels) for g in graphs].index(wanted)]
    assert len({g.video for g in example_videos(graphs, [2, 2, 2, 2, 2])}) == 4


def test_figure_has_truth_and_found_segments():
    entry = random_scores(1)[0]
    figure = heat_bars(entry, 0.5)
    axes = figure.axes[0]
    assert len(axes.collections) == len(entry.actions) and axes.get_xlim() == (0, entry.graph.duration)
    true = sum((entry.graph.segment_labels == action).sum() for action in entry.actions)
    found = sum(len(found_segments(row, entry.graph.times, entry.graph.duration)) for row in entry.found(0.5))
    assert len(axes.patches) == true + found
    figure.canvas.draw()


# --- the questions of tables 8 and 9 --------------------------------------------------------------------------------


def test_each_label_among_absent_actions_drawn_once():
    graph = make_graph(3, segments=4)
    labels, hot = timed_labels(graph), graph.multi_hot()
    saps = among_absent(3, seed=0)(graph, labels)
    assert saps.sum(1).tolist() == [3] * len(labels)
    for label, sap in zip(labels, saps, strict=True):
        assert sap[label] and (sap & hot).sum() == 1
    np.testing.assert_array_equal(among_absent(3, seed=0)(graph, labels), saps)
    assert any((among_absent(3, seed)(graph, labels) != saps).any() for seed in range(1, 5))
    assert among_absent(C + 5, 0)(graph, labels).sum(1).tolist() == [1 + (~hot).sum()] * len(labels)  # all there are


def small_model() -> ProDA:
    return randomize(ProDA(CONFIG), scale=0.3).float()


def test_scan_answers_the_questions_about_single_labels():
    model, graphs = small_model(), make_graphs()
    scanned = ask_each_alone(model, graphs, FRAMES)
    for one, other in zip(frame_scores_of(scanned, graphs), frame_scores(model, graphs, FRAMES), strict=True):
        assert one.graph.video == other.graph.video and (one.actions == other.actions).all()
        np.testing.assert_allclose(one.s, other.s, atol=1e-6)
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)


def test_distractors_reach_the_model():
    model, graphs = small_model(), make_graphs()
    asked = ask_about_labels(model, graphs, RECIPE, None)
    weights = reference.Weights.of(model.double())
    entry, graph = asked["distractor"][2], graphs[2]
    sap = among_absent(3, RECIPE.seed)(graph, graph.labels)[1]
    graph = dataclasses.replace(graph.sample_frames(FRAMES), boxes=graph.sample_frames(FRAMES).boxes.astype(np.float32))
    expected = reference.proda(weights, CONFIG, graph, sap)
    np.testing.assert_allclose(entry.s[1], expected.a_s.s, atol=1e-5)
    np.testing.assert_allclose(entry.logits[1], expected.a_s.logits[entry.actions[1]], atol=1e-4)
    assert np.abs(entry.s - asked["non_distractor"][2].s).max() > 1e-4


def test_labels_without_a_segment_are_not_asked():
    graph = make_graph(2, segments=2)
    more = dataclasses.replace(graph, labels=np.arange(C))
    assert (timed_labels(more) == graph.labels).all()
    (entry,) = frame_scores(small_model(), [more], FRAMES)
    assert (entry.actions == graph.labels).all()
