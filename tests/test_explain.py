"""What is shown of a model is what it computes."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.datasets import world
from proda_lib.errors import DataError
from proda_lib.evaluation import explain
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.specification import one_hot
from tests.graphs import unpack, unpack_edges

VOCABULARY = world.VOCABULARY


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = ModelConfig(len(VOCABULARY.actions), len(VOCABULARY.objects), len(VOCABULARY.relations), width=16, heads=1,
                         layers=2, depth=1, candidates=3)  # fmt: skip
    return ProDA(config).eval()


@pytest.fixture(scope="module")
def graph():
    return world.make_video(world.WorldConfig(), 1).sample_frames(16)


@torch.no_grad()
def test_look_agrees_with_the_model(model, graph):
    saps = one_hot(graph.labels[:2], len(VOCABULARY.actions))
    answers = explain.look(model, graph, saps)
    batch = collate([graph])
    out = model(batch, torch.from_numpy(saps), [0, 0])
    for row, answer in enumerate(answers):
        np.testing.assert_allclose(answer.a_s, torch.sigmoid(out.a_s.logits[row]), atol=1e-5)
        np.testing.assert_allclose(answer.s, out.a_s.s[row], atol=1e-5)
        assert answer.alpha.shape == (3, graph.num_slots, 16, 3) and answer.w.shape == (2, graph.num_edges, 16)
        np.testing.assert_array_equal(np.isnan(answer.w), np.tile(~graph.edge_present.T, (2, 1, 1)))
        w = unpack_edges(out.w.T, out.rows, graph.num_edges)[row].T
        np.testing.assert_allclose(np.nan_to_num(answer.w), w, atol=1e-5)
        np.testing.assert_array_equal(np.isnan(answer.node_score), ~graph.present.T)
        delta = unpack(out.delta, out.rows, graph.num_slots)[row].T
        np.testing.assert_allclose(np.nan_to_num(answer.delta), delta, atol=1e-5)
    encoded, rows = model.encode(batch), batch.rows([0, 0])
    given = model.prompts[0].candidates(torch.from_numpy(saps).float())
    alpha = model.prompts[0].weights(encoded.nodes[rows.node], given, rows)
    for answer, expected in zip(answers, unpack(alpha, rows, graph.num_slots), strict=True):
        np.testing.assert_allclose(np.nan_to_num(answer.alpha[0]), expected.swapaxes(0, 1), atol=1e-5)
    assert not model.prompts[0]._forward_hooks and not model.readout_s.node_score._forward_hooks


@torch.no_grad()
def test_many_specifications_are_asked_in_parts_of_a_video_encoded_once(model, graph, monkeypatch):
    saps = one_hot([3, 7, 1], len(VOCABULARY.actions))
    whole, encoded, encode = explain.look(model, graph, saps), [], model.encode
    monkeypatch.setattr(explain, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(model, "encode", lambda batch: (encoded.append(batch), encode(batch))[1])
    parts = explain.look(model, graph, saps)
    assert len(encoded) == 1 and len(parts) == 3
    for one, other in zip(parts, whole, strict=True):
        for field in dataclasses.fields(explain.Answer):
            np.testing.assert_allclose(getattr(one, field.name), getattr(other, field.name), atol=1e-5)
    batch = collate([graph])
    a_m = torch.sigmoid(model.unprompted(batch, encode(batch)).logits)[0]
    for answer in whole:
        np.testing.assert_allclose(answer.a_m, a_m, atol=1e-6)


@torch.no_grad()
def test_attention_is_what_the_block_does(model, graph):
    spatial, temporal = explain.attention(model, graph)
    X, N, batch = graph.num_slots + 1, graph.num_frames, collate([graph])
    assert spatial.shape == (N, X, X) and temporal.shape == (X, N, N)
    slot = torch.cat([batch.node_slot, torch.full((N,), X - 1)])
    frame = torch.cat([batch.node_frame, torch.arange(N)])
    for block, weights, place in zip(model.encoder.dual_ai.attention[:2], (spatial, temporal),
                                     ((frame, slot), (slot, frame)), strict=True):  # fmt: skip
        there = np.zeros(weights.shape[:2], dtype=bool)
        there[place] = True
        np.testing.assert_array_equal(np.isnan(weights), np.tile(~there[..., None], weights.shape[2]))
        weights = np.nan_to_num(weights)
        np.testing.assert_allclose(weights.sum(-1), there, atol=1e-5)
        seen = {}
        with explain.listening(block.qkv, lambda m, i, o, seen=seen: seen.update(qkv=o)), \
             explain.listening(block.out, lambda m, i, o, seen=seen: seen.update(attended=i[0])):  # fmt: skip
            model.encode(batch)
        value = np.zeros((*there.shape, 16), dtype=np.float32)
        value[place] = seen["qkv"].unflatten(-1, (3, -1))[:, 2]
        np.testing.assert_allclose((weights @ value)[place], seen["attended"], atol=1e-5)


def test_hiding_a_slot(model, graph):
    hidden = explain.without_slot(graph, 1)
    assert not hidden.present[:, 1].any() and hidden.edge_present[:, graph.edges[0] > 1].any()
    change = explain.influence(model, graph)
    assert np.isnan(np.diag(change)).all()
    before, after = (encoded_nodes(model, shown) for shown in (graph, hidden))  # (N, M, D), NaN where nobody is
    moved = np.linalg.norm(after - before, axis=-1) / np.linalg.norm(before, axis=-1)
    others = np.arange(graph.num_slots) != 1
    np.testing.assert_allclose(change[1][others], np.nanmean(moved[:, others], axis=0), rtol=1e-4)
    assert (change[1][others] > 0).all()


@torch.no_grad()
def encoded_nodes(model, graph):
    batch = collate([graph])
    laid = np.full((graph.num_frames, graph.num_slots, 16), np.nan)
    laid[batch.node_frame, batch.node_slot] = model.encode(batch).nodes
    return laid


def test_a_model_in_double_precision_is_shown_as_it_is(model, graph):
    """Saved so by a run with ``precision="64-true"``."""
    precise, saps = copy.deepcopy(model).double(), one_hot(graph.labels[:1], len(VOCABULARY.actions))
    one, other = explain.look(model, graph, saps)[0], explain.look(precise, graph, saps)[0]
    np.testing.assert_allclose(other.a_s, one.a_s, atol=1e-5)
    np.testing.assert_allclose(explain.influence(precise, graph), explain.influence(model, graph), atol=1e-4)
    for precisely, roughly in zip(explain.attention(precise, graph), explain.attention(model, graph), strict=True):
        np.testing.assert_allclose(precisely, roughly, atol=1e-5)


#: w of edges that carry the action asked for, only another, or none: in one layer the asked one counts, in one not.
CARRIED = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0]])


def by_carriers(graph, saps, counts) -> list[SimpleNamespace]:
    """Answers whose w is :data:`CARRIED`; how many edges are of which group is added to ``counts``."""
    answers = []
    for sap in saps:
        (asked,) = np.flatnonzero(sap)  # each label alone
        w = np.full((2, graph.num_edges, graph.num_frames), np.nan)
        for frame, edge in np.argwhere(graph.edge_present):
            carried = set(graph.segment_labels[graph.carriers[frame, edge]])
            group = 0 if asked in carried else 1 if carried else 2
            w[:, edge, frame] = CARRIED[:, group]
            counts[group] += 1
        answers.append(SimpleNamespace(sap=sap, w=w))
    return answers


def test_carrier_weights_tell_what_each_edge_carries(monkeypatch):
    """A prompt that finds the carriers, and one that finds those of the other actions: numbers known beforehand."""
    counts, asked = np.zeros(3, dtype=int), []

    def look(model, graph, saps, device):
        asked.append((graph.video, graph.num_frames, np.flatnonzero(saps.any(0)).tolist()))
        return by_carriers(graph, saps, counts)

    monkeypatch.setattr(explain, "look", look)
    graphs = world.make_videos(world.WorldConfig(), "test", 3)
    unknown = dataclasses.replace(graphs[0], video="unknown", carriers=None)
    first, second = explain.carrier_weights(None, [unknown, *graphs], 16)
    assert asked == [(graph.video, 16, graph.labels.tolist()) for graph in graphs]
    own, other, none = counts.tolist()
    assert min(own, other, none) > 0
    means = {"w_asked": 1.0, "w_other": 0.5, "w_none": 0.0}
    assert first == {"layer": 1, **means, "auc": 1.0, "other_auc": 1.0, "edges": own + other + none}
    means = {"w_asked": 0.5, "w_other": 1.0, "w_none": 0.0}
    auc = pytest.approx(none / (other + none), abs=1e-12)  # above those that carry none, below the others
    assert second == {"layer": 2, **means, "auc": auc, "other_auc": 0.0, "edges": own + other + none}


def test_carrier_weights_of_a_model(model, graph):
    rows = explain.carrier_weights(model, [graph], 16)
    assert [row["layer"] for row in rows] == [1, 2] and np.isfinite([list(row.values()) for row in rows]).all()
    for graphs in ([], [dataclasses.replace(graph, carriers=None)]):
        with pytest.raises(DataError, match="carriers"):
            explain.carrier_weights(model, graphs, 16)


def test_norms_do_to_a_frame_what_they_say(model):
    graphs = [g.sample_frames(16) for g in world.make_videos(world.WorldConfig(), "test", 3)]
    batch = collate(graphs)
    x, rows = explain.before_norm(model, batch, batch.labels.bool())
    found = {name: explain.frame_statistics(v, rows) for name, v in explain.compare_norms(x, rows, 10).items()}
    np.testing.assert_allclose(found["LayerNorm"][0], 0, atol=1e-5)
    second_moment = found["VGNorm"][0] ** 2 + found["VGNorm"][1] ** 2
    np.testing.assert_allclose(second_moment, 1, atol=0.05)  # around αμ_g, which is near the mean
    assert set(found) == {"before", "VGNorm", "LayerNorm", "BatchNorm", "GraphNorm"}
