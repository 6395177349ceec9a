"""Scores of nodes and edges against their float64 twins: edge weights, node scores, gradients, attention."""

import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.evaluation import explain
from proda_lib.evaluation.token_scores import attention_received, prompted_scores, received, unprompted_scores
from proda_lib.models.config import ModelConfig
from proda_lib.models.controls import EncoderOnly
from proda_lib.models.proda import ProDA
from proda_lib.specification import one_hot
from tests import reference
from tests.graphs import C, R, add_empty_slots, double, make_full, make_graphs, randomize

FRAMES = 4
CONFIG = ModelConfig(actions=C, objects=5, relations=R, frames=FRAMES, slots=5, width=8, heads=2, layers=2, depth=1,
                     candidates=3)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return randomize(ProDA(CONFIG))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(1)
    return randomize(EncoderOnly(CONFIG))


def sampled():
    return [graph.sample_frames(FRAMES) for graph in make_graphs()]


def questions(model, graphs, actions, row_video):
    batch = double(collate(graphs))
    with torch.no_grad():
        encoded = model.encode(batch)
    return prompted_scores(model, batch, encoded, np.array(actions), np.array(row_video))


def test_prompted_scores_equal_their_twins(model):
    graphs, actions, row_video = sampled(), [1, 4, 1], [0, 2, 2]
    w = reference.Weights.of(model)
    for scores, action, video in zip(questions(model, graphs, actions, row_video), actions, row_video, strict=True):
        graph = graphs[video]
        answers = reference.proda(w, CONFIG, graph, np.eye(C)[action])
        for layer in (0, 1):
            twin = answers.w[layer].T[graph.edge_present.T]
            np.testing.assert_allclose(scores["edges"][f"w_{layer + 1}"], twin, atol=1e-6)
        answer = explain.look(model, graph, one_hot([action], C))[0]
        kept = graph.present.T
        np.testing.assert_allclose(scores["nodes"]["node_score"], answer.node_score[kept], atol=1e-5)
        np.testing.assert_allclose(scores["nodes"]["node_weight"], (answer.node_score * answer.s)[kept], atol=1e-5)
        for kind, exists in (("nodes", graph.present), ("edges", graph.edge_present)):
            places = np.argwhere(exists.T)[:, ::-1]  # (frame, slot or edge) in the order of the tokens
            for token in (0, -1):
                twin = reference.gradient_times_input(w, CONFIG, graph, action, kind, tuple(places[token]))
                assert scores[kind]["gradient_sum"][token] == pytest.approx(twin.sum(), rel=1e-4, abs=1e-6)
                assert scores[kind]["gradient_norm"][token] == pytest.approx(np.linalg.norm(twin), rel=1e-4)


def test_questions_do_not_mix_and_absent_slots_do_nothing(model):
    graphs = sampled()
    together = questions(model, graphs, [1, 2, 3, 4], [0, 0, 1, 2])
    wider = questions(model, [add_empty_slots(g, 2) for g in graphs], [1, 2, 3, 4], [0, 0, 1, 2])
    for i, (action, video) in enumerate(((1, 0), (2, 0), (3, 1), (4, 2))):
        alone = questions(model, [graphs[video]], [action], [0])[0]
        for kind in ("edges", "nodes"):
            for name, values in alone[kind].items():
                np.testing.assert_allclose(together[i][kind][name], values, atol=1e-6)
                np.testing.assert_allclose(wider[i][kind][name], values, atol=1e-6)


def test_attention_received_equals_its_twin(encoder):
    """One video whose slots are all there, so that sequences are whole."""
    graph = make_full(FRAMES, 3, ((0, 1, 0), (1, 0, 2)))
    batch = double(collate([graph]))
    block, seen = encoder.encoder.dual_ai.attention[0], []
    with explain.listening(block, lambda module, inputs, output: seen.append(inputs)):
        encoder.encoder(batch)
    x, sequences = seen[0]
    with torch.no_grad():
        found = sequences.spread(received(block, x, sequences)).numpy()
    laid, w = sequences.spread(x).detach().numpy(), reference.Weights.of(block)
    for sequence, values in zip(laid, found, strict=True):
        np.testing.assert_allclose(values, reference.attention_received(w, sequence, CONFIG.heads), atol=1e-9)
    np.testing.assert_allclose(found.mean(1), 1)


def test_uniform_attention_gives_every_node_the_same(encoder):
    flat = EncoderOnly(CONFIG).double().eval()
    flat.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for block in flat.encoder.dual_ai.attention:
            block.qkv.weight.zero_()
            block.qkv.bias.zero_()
    np.testing.assert_allclose(attention_received(flat, double(collate(sampled()))), 1)
    assert np.ptp(attention_received(encoder, double(collate(sampled()))).numpy()) > 0.01


def test_an_edge_has_the_score_of_its_object(encoder):
    graphs = sampled()
    for graph, scores in zip(graphs, unprompted_scores(encoder, double(collate(graphs))), strict=True):
        for name in ("attention", "node_weight"):
            laid = np.zeros(graph.present.T.shape)
            laid[graph.present.T] = scores["nodes"][name]
            of_edges = laid[graph.edges.max(0)][graph.edge_present.T]
            np.testing.assert_allclose(scores["edges"][name], of_edges)


def test_node_weights_of_the_encoder_equal_their_twin(encoder):
    """The readout's score of the node times that of its frame."""
    graphs, w = sampled(), reference.Weights.of(encoder)
    for graph, scores in zip(graphs, unprompted_scores(encoder, double(collate(graphs))), strict=True):
        nodes, _ = reference.video_encoder(w.part("encoder"), graph, CONFIG.heads, CONFIG.wiring)
        nodes = reference.ffn(w.part("readout.node_ffn"), nodes)
        node_score = reference.sigmoid(reference.mlp(w.part("readout.node_score"), nodes))
        twin = node_score[..., 0] * reference.encoder_only(w, CONFIG, graph).s[:, None]
        np.testing.assert_allclose(scores["nodes"]["node_weight"], twin.T[graph.present.T], atol=1e-6)
        assert np.ptp(twin) > 0.01
