"""Protocols: the paper's reads the test labels, the label-free ones cannot; prompt-only controls see no video."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.datasets.charades import read_charades, read_classes
from proda_lib.datasets.world import VOCABULARY, WorldConfig, make_videos
from proda_lib.evaluation import prompt_only, protocols
from proda_lib.models.proda import ProDA
from proda_lib.specification import best_of, nested_best
from proda_lib.training import runs
from proda_lib.training.outcome import Scores, mean_recall, score, summarise, video_metrics
from proda_lib.training.recipe import make_recipe
from tests import reference

RECIPE = make_recipe("smoke")
C = len(VOCABULARY.actions)


@pytest.fixture(scope="module")
def graphs():
    return make_videos(WorldConfig(), "test", 5)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ProDA(RECIPE.model_config(VOCABULARY)).eval()


def relabelled(graphs):
    """The same videos with the labels of other videos."""
    moved = [*graphs[1:], graphs[0]]
    return [dataclasses.replace(g, labels=other.labels) for g, other in zip(graphs, moved, strict=True)]


def test_label_free_protocols_do_not_depend_on_labels(model, graphs):
    recipe = dataclasses.replace(RECIPE, scan=True)
    found = protocols.label_free(model, graphs, recipe)
    again = protocols.label_free(model, relabelled(graphs), recipe)
    assert set(found) == {"partition/0", "partition/1", "partition/2", "self", "none", "scan"}
    for name, answers in found.items():
        assert answers.a_s.shape == (len(graphs), C) and answers.s.shape == (len(graphs), C, recipe.frames)
        assert (answers.a_t is None) == (name == "scan")
        for field in ("a_s", "a_t", "s"):
            np.testing.assert_array_equal(getattr(answers, field), getattr(again[name], field))


def test_paper_protocol_depends_on_labels(model, graphs):
    one, other = (protocols.paper_protocol(model, g, RECIPE) for g in (graphs, relabelled(graphs)))
    assert one.sap.shape != other.sap.shape or (one.sap != other.sap).any()
    assert len(one.sap) == sum(2 * len(g.labels) + 1 for g in graphs)
    np.testing.assert_allclose(one.a_m, other.a_m, atol=1e-6)


def test_paper_protocol_scores_are_the_models(model, graphs):
    found = protocols.paper_protocol(model, graphs, RECIPE)
    row = 20
    batch = collate([graphs[found.video[row]].sample_frames(RECIPE.frames)])
    with torch.no_grad():
        out = model(batch, torch.from_numpy(found.sap[[row]]), [0])
    np.testing.assert_allclose(found.a_t[row], out.a_t.logits[0], atol=1e-5)
    np.testing.assert_allclose(found.a_u[row], out.a_u.logits[0], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_summary_is_that_of_a_plain_loop(seed):
    rng, rows, actions = np.random.default_rng(seed), 60, 6
    labels = rng.random((rows, actions)) < [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]  # the last class has no positives
    labels[:4] = False  # videos without a label
    sap, distractor = rng.random((rows, actions)) < 0.4, rng.random(rows) < 0.5
    a_s, a_u = rng.standard_normal((2, rows, actions + 1))
    a_t = rng.standard_normal((rows, actions))
    found = protocols.PaperProtocol(np.arange(rows), sap, distractor, labels, a_s, a_u, a_t, a_t).summary()
    kinds = {"both": distractor | True, "distractor": distractor, "non_distractor": ~distractor}
    assert found.keys() == kinds.keys()
    for kind, chosen in kinds.items():
        assert found[kind].keys() == {"a_t", "a_s", "a_s_actions", "a_u", "a_u_actions"}
        assert found[kind] == pytest.approx(reference.paper_summary(a_s, a_u, a_t, sap, labels, chosen)), kind


def test_partition_gives_each_class_the_score_of_its_own_group(model, graphs):
    questions = protocols.partition_questions(C, 16, seed=1)
    found = protocols.ask(model, graphs[:2], questions, RECIPE.frames)
    groups = questions(np.zeros((1, C)))[1]
    batch = collate([graphs[1].sample_frames(RECIPE.frames)])
    with torch.no_grad():
        alone = model.ask(batch, model.encode(batch), torch.from_numpy(groups), [0] * len(groups))
    for group, row, s in zip(groups, alone.logits.numpy(), alone.s.numpy(), strict=True):
        np.testing.assert_allclose(found.a_s[1, group], row[:-1][group], atol=1e-5)
        np.testing.assert_allclose(found.s[1, group], np.tile(s, (group.sum(), 1)), atol=1e-6)


def test_scan_asks_for_each_action_alone(model, graphs):
    found = protocols.ask_each_alone(model, graphs[:2], RECIPE.frames)
    one_by_one = protocols.partition_questions(C, 1, seed=0)
    same = protocols.ask(model, graphs[:2], one_by_one, RECIPE.frames)
    np.testing.assert_allclose(found.a_s, same.a_s, atol=1e-5)
    np.testing.assert_allclose(found.s, same.s, atol=1e-6)


def test_every_video_is_encoded_once_however_often_it_is_asked(model, graphs, monkeypatch):
    encoded, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda batch: (encoded.extend(batch.videos), encode(batch))[1])
    monkeypatch.setattr(protocols, "ROWS_AT_ONCE", 4)
    for ask in (lambda: protocols.paper_protocol(model, graphs, RECIPE),
                lambda: protocols.label_free(model, graphs, dataclasses.replace(RECIPE, scan=False)),
                lambda: protocols.ask_each_alone(model, graphs, RECIPE.frames)):  # fmt: skip
        encoded.clear()
        ask()
        assert encoded == [graph.video for graph in graphs]


def test_questions_of_a_video_may_be_split_over_chunks(model, graphs, monkeypatch):
    questions = protocols.partition_questions(C, 16, seed=1)
    whole = protocols.ask(model, graphs[:3], questions, RECIPE.frames)
    monkeypatch.setattr(protocols, "ROWS_AT_ONCE", 4)
    parts = protocols.ask(model, graphs[:3], questions, RECIPE.frames)
    for field in ("a_s", "a_t", "s"):
        np.testing.assert_allclose(getattr(parts, field), getattr(whole, field), atol=1e-5)


def test_self_asks_for_the_best_of_a_m_and_leaves_the_rest_last(model, graphs):
    found = protocols.ask(model, graphs, protocols.self_questions(16), RECIPE.frames)
    a_m = protocols.paper_protocol(model, graphs, RECIPE).a_m
    for row, s, best in zip(found.a_s, found.s, a_m, strict=True):
        assert set(np.flatnonzero(np.isfinite(row))) == set(np.argsort(-best)[:16]) == set(np.flatnonzero(s.any(1)))


def test_the_best_actions_are_the_same_everywhere():
    """Also of equal scores, for the questions of ``self``, of the two-step scan and of training."""
    scores = np.random.default_rng(0).integers(4, size=(50, C)).astype(np.float32)
    best = protocols.best_actions(torch.from_numpy(scores), 16).numpy()
    expected = np.zeros_like(best)
    np.put_along_axis(expected, best_of(scores, 16), True, axis=1)
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(best, nested_best(scores, 16)[:, -1])


def test_prompt_only_scores_depend_on_the_specification_only(graphs):
    twins = [dataclasses.replace(g, video=graphs[0].video, labels=graphs[0].labels) for g in graphs]
    found = prompt_only.trained_prompt_only_scores(graphs, twins, RECIPE, epochs=1)
    rows = len(found.sap) // len(graphs)
    assert (found.sap[:rows] == found.sap[rows : 2 * rows]).all()
    np.testing.assert_array_equal(found.a_t[:rows], found.a_t[rows : 2 * rows])


def test_an_empty_question_has_no_answer_from_the_rule(graphs):
    """The UAP of a SAP with every action, which a video with every action has."""
    every = dataclasses.replace(graphs[0], labels=np.arange(C))
    found = prompt_only.frequency_rule_scores(graphs, [every], RECIPE)
    empty = found.sap.all(1)
    assert empty.any() and not found.a_u[empty].any()
    assert np.isfinite(found.a_s).all() and np.isfinite(found.a_u).all() and np.isfinite(found.a_t).all()


def test_frequency_rule_on_the_charades_labels(shared_data):
    """What the rule reached when the audit first measured it: 61.3 and 19.1 for a_t, 100 and 28.1 for a_s, no video."""
    folder = shared_data / "charades"
    names = read_classes(folder / "Charades_v1_classes.txt")
    with pytest.warns(UserWarning):
        videos = {part: read_charades(folder / f"Charades_v1_{part}.csv", names) for part in ("train", "test")}

    def stand_in(video):  # what the rule looks at: a name, labels, and how many actions there are
        hot = np.isin(np.arange(len(names)), video.labels)
        vocabulary = SimpleNamespace(actions=names)
        labels = np.asarray(video.labels)
        return SimpleNamespace(video=video.id, labels=labels, multi_hot=lambda: hot, vocabulary=vocabulary)

    train, test = ([stand_in(v) for v in part.values() if 1 <= len(v.labels) <= 16] for part in videos.values())
    found = prompt_only.frequency_rule_scores(train, test, make_recipe("paper")).summary()
    assert found["non_distractor"]["a_s"] == pytest.approx(100.0, abs=0.05)
    assert found["non_distractor"]["a_t"] == pytest.approx(61.3, abs=0.7)
    assert found["distractor"]["a_s_actions"] == pytest.approx(28.1, abs=0.7)
    assert found["distractor"]["a_t"] == pytest.approx(19.1, abs=0.7)
    assert found["both"]["a_t"] == pytest.approx(45.8, abs=0.7)
    labelled = [g for g in test if len(g.labels)]
    assert protocols.recognition(prompt_only.class_frequency(train, test), labelled) == pytest.approx(6.0, abs=0.15)


def test_summaries_average_partitions_and_folds(graphs):
    rng = np.random.default_rng(0)
    names = [f"partition/{i}/a_s" for i in range(3)]
    folds = [SimpleNamespace(test=graphs[:3]), SimpleNamespace(test=graphs[3:])]
    scores = [Scores({n: rng.random((k, C)) for n in names} | {"a_m": rng.random((k, C))}) for k in (3, 2)]
    metrics, kept = summarise(RECIPE, folds, scores)
    each = [video_metrics(RECIPE, kept[n], [f.test for f in folds])["map"] for n in names]
    assert metrics["label_free"]["partition"]["a_s"]["map"] == pytest.approx(np.mean(each))
    by_fold = [protocols.recognition(s.video["a_m"], f.test) for s, f in zip(scores, folds, strict=True)]
    assert metrics["a_m"]["map"] == pytest.approx(np.mean(by_fold))
    assert metrics["a_m"]["map_pooled"] == pytest.approx(protocols.recognition(kept["a_m"], graphs))


def test_folds_are_ranked_one_by_one_and_hits_are_counted_together(model, graphs):
    recipe, model = dataclasses.replace(RECIPE, scan=True), copy.deepcopy(model).double()  # no order hangs on rounding
    whole, *folds = (SimpleNamespace(test=part) for part in (graphs[:3], graphs[:2], graphs[2:3]))
    scores = [score(model, recipe, split, "cpu") for split in (whole, *folds)]
    at_once, *alone = (
        runs.flatten(summarise(recipe, [s], [found])[0]) for s, found in zip((whole, *folds), scores, strict=True)
    )
    found = runs.flatten(summarise(recipe, folds, scores[1:])[0])
    ranked = [f"localization/distractor/ranked/{line}/0.5" for line in ("0.5", "every_frame")]
    for name in ("paper/both/a_t", "paper/distractor/a_s", "localization/map/scan/s", *ranked):
        assert found[name] == pytest.approx(np.mean([fold[name] for fold in alone]), abs=1e-6)
    hits = [name for name in at_once if name.startswith("localization/distractor/hit")]
    assert "localization/distractor/hit/0.5/0.7" in hits
    for name in hits:
        assert found[name] == pytest.approx(at_once[name], abs=1e-6)


def test_a_video_without_actions_does_not_count_in_a_t(graphs):
    recipe = dataclasses.replace(RECIPE, model="prompt_only")
    rows = prompt_only.frequency_rule_scores(graphs, graphs, recipe)
    none = dataclasses.replace(graphs[0], video="nothing", labels=graphs[0].labels[:0],
                               segments=graphs[0].segments[:0], segment_labels=graphs[0].segment_labels[:0],
                               carriers=None)  # fmt: skip
    more = prompt_only.frequency_rule_scores(graphs, [none, *graphs], recipe)
    assert more.summary()["both"]["a_t"] == pytest.approx(rows.summary()["both"]["a_t"], abs=1e-9)
    assert len(more.sap) == len(rows.sap) + 1


def test_single_questions_are_taken_from_the_scan(model, graphs):
    split = SimpleNamespace(test=graphs[:2])
    with_scan, without = (score(model, dataclasses.replace(RECIPE, scan=scan), split, "cpu") for scan in (True, False))
    assert set(with_scan.frames) == set(without.frames) | {"scan"}
    for kind in ("distractor", "non_distractor"):
        for one, other in zip(with_scan.asked[kind], without.asked[kind], strict=True):
            np.testing.assert_allclose(one.s, other.s, atol=1e-6)


def test_prompt_only_runs_have_the_controls(graphs):
    split = SimpleNamespace(train=graphs, test=graphs)
    recipe = dataclasses.replace(RECIPE, model="prompt_only")
    rows = {"rule": prompt_only.frequency_rule_scores(graphs, graphs, recipe)}
    metrics, _ = summarise(recipe, [split], [Scores({"frequency": prompt_only.class_frequency(graphs, graphs)}, rows)])
    assert metrics["robustness"]["rule"]["non_distractor"] and set(metrics["robustness"]) == {"rule"}
    assert set(metrics["localization"]["map"]) == {"frequency"}


def test_clips_have_no_localisation(model, graphs):
    clips = [dataclasses.replace(g, segments=np.array([[0.0, g.duration]] * len(g.segments))) for g in graphs[:2]]
    split = SimpleNamespace(test=clips)
    found = score(model, RECIPE, split, "cpu")
    assert not found.asked
    metrics, _ = summarise(RECIPE, [split], [found])
    assert set(metrics["localization"]) == {"left_out"} and metrics["robustness"]["paper"]["distractor"]


def test_mean_recall_averages_over_classes():
    assert mean_recall(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 2])) == pytest.approx(100 * (2 / 3 + 1) / 2)
