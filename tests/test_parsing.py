"""Figures 9 to 11: truth and average precision by loops, a perfect and a blind ranking, and what is drawn."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from matplotlib.image import imsave
from sklearn.metrics import average_precision_score

from proda_lib.datasets import world
from proda_lib.errors import DataError
from proda_lib.evaluation import explain, parsing, protocols
from proda_lib.models.config import ModelConfig
from proda_lib.models.controls import EncoderOnly
from proda_lib.models.proda import ProDA
from proda_lib.pages import parsing as page
from proda_lib.plotting.parsing import each_action, over_time
from proda_lib.specification import one_hot
from tests import reference
from tests.graphs import C, R, make_graph, make_graphs

FRAMES = 4
CONFIG = ModelConfig(actions=C, objects=5, relations=R, frames=FRAMES, slots=5, width=8, heads=2, layers=2, depth=1,
                     candidates=3)  # fmt: skip


# --- truth and average precision ------------------------------------------------------------------------------------


def test_carrying_by_loops():
    for graph in make_graphs():
        for action in graph.labels:
            edges, nodes = parsing.carrying(graph, action)
            for t in range(graph.num_frames):
                ends = set()
                for e, (a, b) in enumerate(graph.edges.T):
                    segments = np.flatnonzero(graph.segment_labels == action)
                    own = any(graph.carriers[t, e, k] for k in segments)
                    assert edges[t, e] == own
                    ends |= {a, b} if own else set()
                assert set(np.flatnonzero(nodes[t])) == ends


def test_tally_equals_its_twin():
    rng, tally, expected = np.random.default_rng(2), parsing.Tally(), {}
    for graph in make_graphs():
        for action in graph.labels:
            edges, nodes = parsing.carrying(graph, action)
            scores = {"edges": {"x": rng.integers(4, size=graph.edge_present.sum()) / 4.0},  # with ties
                      "nodes": {"x": rng.integers(4, size=graph.present.sum()) / 4.0}}  # fmt: skip
            tally.add(graph, action, scores)
            if not edges.any():
                continue
            laid = np.zeros((graph.num_slots, graph.num_frames))
            laid[graph.present.T] = scores["nodes"]["x"]
            cells = [(t, m) for t in range(graph.num_frames) for m in range(graph.num_slots) if graph.present[t, m]]
            for kind, kept in (("nodes", cells), ("objects", [c for c in cells if c[1] > 0])):
                truth, values = np.array([nodes[c] for c in kept]), np.array([laid[c[::-1]] for c in kept])
                expected.setdefault(kind, []).append(reference.average_precision(truth, values))
                expected.setdefault(f"{kind}/base", []).append(truth.mean())
    found = tally.summary()
    assert found["questions"] == len(expected["nodes"]) > 0
    for kind in ("nodes", "objects"):
        assert found[kind]["x"] == pytest.approx(100 * np.mean(expected[kind]), rel=1e-9)
        assert found[kind]["base_rate"] == pytest.approx(100 * np.mean(expected[f"{kind}/base"]), rel=1e-9)


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(4)
    for levels in (2, 5, 10_000):
        truth, scores = rng.random(60) < 0.2, rng.integers(levels, size=60) / levels
        ours = parsing.average_precision(truth, scores)
        assert ours == pytest.approx(average_precision_score(truth, scores), rel=1e-12)
        assert ours == pytest.approx(reference.average_precision(truth, scores), rel=1e-12)
    assert np.isnan(parsing.average_precision(truth & False, scores))


def test_perfect_and_blind_rankings():
    tally = parsing.Tally()
    for graph in world.make_videos(world.WorldConfig(), "test", 8):
        for action in graph.labels:
            edges, nodes = parsing.carrying(graph, action)
            perfect = {"edges": edges.T[graph.edge_present.T] * 1.0, "nodes": nodes.T[graph.present.T] * 1.0}
            tally.add(graph, action, {kind: {"perfect": v, "blind": v * 0} for kind, v in perfect.items()})
    found = tally.summary()
    for kind in ("edges", "nodes", "objects"):
        assert found[kind]["perfect"] == pytest.approx(100)
        assert found[kind]["blind"] == pytest.approx(found[kind]["base_rate"]) and found[kind]["base_rate"] < 60


def _edges(graph, action):
    return {
        e
        for k in np.flatnonzero(graph.segment_labels == action)
        for e in np.flatnonzero(graph.carriers[:, :, k].any(0))
    }


def test_other_actions_are_never_the_action_itself():
    graph = make_graphs()[2]
    assert len(graph.labels) > 1
    for label, other in zip(graph.labels, parsing.other_actions(graph), strict=True):
        assert other != label
        apart = [a for a in graph.labels if not (_edges(graph, a) & _edges(graph, label))]
        assert other in apart if apart else other not in graph.labels
    single = make_graph(2, segments=1)
    assert len(single.labels) == 1 and parsing.other_actions(single)[0] not in single.labels


# --- summaries, page, figures ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def summaries():
    graphs = world.make_videos(world.WorldConfig(), "test", 6)
    sizes = {name: len(getattr(world.VOCABULARY, name)) for name in ("actions", "objects", "relations")}
    config = dataclasses.replace(CONFIG, **sizes, frames=8, slots=10)
    torch.manual_seed(0)
    model, encoder = ProDA(config), EncoderOnly(config)
    found = parsing.parsing_summary(model, graphs, 8, videos=5), parsing.attention_summary(encoder, graphs, 8, videos=5)
    return model, graphs, *found


def test_summaries_are_plain_and_untrained_models_are_near_the_base_rate(summaries):
    _, graphs, proda, encoder = summaries
    for found in (proda, encoder):
        assert json.loads(json.dumps(found)) == found and found["videos"] == 5
        assert found["questions"] + found["unseen"] == sum(len(g.labels) for g in graphs[:5])
        for kind in ("edges", "nodes", "objects"):
            for name, value in found[kind].items():
                assert found[kind]["base_rate"] - 20 < value <= 75, name
    assert proda["edges"]["base_rate"] == encoder["edges"]["base_rate"]
    measures = {"w_1", "w_2", "gradient_sum", "gradient_norm"}
    assert set(proda["edges"]) - {"base_rate"} == measures == set(proda["other"]["edges"])


@pytest.mark.parametrize("summary, kind", [(parsing.parsing_summary, ProDA), (parsing.attention_summary, EncoderOnly)])
def test_each_process_counts_its_part(summaries, monkeypatch, summary, kind):
    """As two processes would, one video in a batch; what a part is asked for is as picklable as a message must be."""
    proda, graphs, *_ = summaries
    torch.manual_seed(0)
    model, asked = kind(proda.config), []
    monkeypatch.setattr(protocols, "VIDEOS_AT_ONCE", 1)
    whole = summary(model, graphs, 8, videos=3)

    def halves(known, count):
        asked.extend([known[:1], known[1:]])
        return [pickle.loads(pickle.dumps(count(part))) for part in asked]

    monkeypatch.setattr(parsing, "each_its_part", halves)
    assert summary(model, graphs, 8, videos=3) == whole and [len(part) for part in asked] == [1, 2]


def test_graphs_without_carriers_are_refused(summaries):
    with pytest.raises(DataError, match="carriers"):
        parsing.parsing_summary(summaries[0], [dataclasses.replace(make_graphs()[0], carriers=None)], FRAMES)


def test_page_shows_what_was_measured(summaries):
    _, _, proda, encoder = summaries
    frame = page.precision_table([proda], [encoder], "").frame
    assert frame.loc["ProDA: w, layer 2", ("edges", "asked")].values == (proda["edges"]["w_2"],)
    change = proda["objects"]["node_score"] - proda["other"]["objects"]["node_score"]
    assert frame.loc["ProDA: node score", ("objects", "− another asked")].values == (change,)
    assert frame.loc["encoder only: attention", ("nodes", "asked")].values == (encoder["nodes"]["attention"],)
    sentences = page.findings([proda], [encoder])
    assert f"{proda['edges']['w_1']:.1f}" in sentences and sentences.count("- ") >= 3


def test_figures(summaries):
    model, graphs, *_ = summaries
    graph = graphs[0].sample_frames(8)
    answers = explain.look(model, graph, one_hot(graph.labels[:2], len(graph.vocabulary.actions)))
    actions = graph.labels[: len(answers)].tolist()
    assert len(each_action(graph, answers, actions).axes) == 4 * len(answers)  # full graph, two layers, readout
    images = [np.full((6, 8, 3), 0.5)] * 8
    figure = over_time(graph, answers[0], page.action_to_show(graph), count=3, images=images)
    assert len(figure.axes) == 1 + 3 * 4 and sum(len(ax.images) for ax in figure.axes) == 12


def test_without_action_genome_nothing_real_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_DATA", str(tmp_path))
    assert "not installed" in page.real_frames("smoke", 0)


def test_real_frames_are_found_by_their_number(tmp_path):
    graph = dataclasses.replace(make_graphs()[1], video="ABCDE", times=np.array([0.5, 1.0, 4.1]))
    with open(tmp_path / "star_video_fps", "wb") as file:
        pickle.dump({"ABCDE.mp4": 10.0}, file)
    folder = tmp_path / "frames/ABCDE.mp4"
    folder.mkdir(parents=True)
    for shade, number in enumerate((5, 10)):
        imsave(folder / f"{number:06d}.png", np.full((2, 3, 3), 0.2 * shade))
    with pytest.raises(DataError, match="000041.png"):
        page.action_genome_images(graph, tmp_path)
    imsave(folder / "000041.png", np.full((2, 3, 3), 0.8))
    shades = [image[0, 0, 0] for image in page.action_genome_images(graph, tmp_path)]
    np.testing.assert_allclose(shades, [0, 0.2, 0.8], atol=0.01)
