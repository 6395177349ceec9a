import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.models.config import ModelConfig
from proda_lib.nn.norm import make_norm
from proda_lib.nn.vgpnn import VGPNN, VGPNNLayer
from tests import reference
from tests.graphs import (
    C,
    R,
    check_gradients,
    dense_masks,
    double,
    make_full,
    randn,
    random_rows,
    randomize,
    unpack,
    unpack_edges,
)

SLOTS, FRAMES = 6, 5


def make_layer(norm: str = "vgnorm", message_norm: bool = False, depth: int = 2, width: int = 8) -> VGPNNLayer:
    norm = make_norm(norm, FRAMES, width, SLOTS)
    return randomize(VGPNNLayer(width, heads=2, depth=depth, norm=norm, dropout=0.1, message_norm=message_norm))


def check(found, w, nodes, edges, graphs, rows, twin) -> None:
    """``twin(nodes, mask, pairs, edge features, graph)`` of each graph, all dense, is what was found for its tokens.

    ``w`` is (Q',) or (layers, Q').
    """
    dense, masks, results = unpack(nodes, rows, SLOTS), dense_masks(rows, SLOTS), unpack(found, rows, SLOTS)
    features, weights = unpack_edges(edges[rows.edge], rows, 9), unpack_edges(w.movedim(-1, 0), rows, 9)
    for graph, video in enumerate(rows.video):
        pairs = graphs[video].edges
        E = pairs.shape[1]
        expected, expected_w = twin(dense[graph], masks[graph], pairs, features[graph][:, :E], graph)
        np.testing.assert_allclose(results[graph], expected, atol=1e-9)
        np.testing.assert_allclose(np.moveaxis(weights[graph][:, :E], (0, 1), (-2, -1)), expected_w, atol=1e-9)
    assert found.shape == nodes.shape and w.shape[-1] == len(rows.edge)


@pytest.mark.parametrize("message_norm", [False, True])
@pytest.mark.parametrize("norm", sorted(reference.NORMS))
def test_layer(norm, message_norm):
    graphs, batch, rows = random_rows((0, 1, 2, 1))
    module = make_layer(norm, message_norm)
    weights = reference.Weights.of(module)
    nodes, edges = randn(len(rows.node), 8), randn(batch.edges.shape[1], 8, seed=1)

    def twin(nodes, mask, pairs, features, graph):
        return reference.vgpnn_layer(weights, nodes, mask, pairs, features, 2, 2, norm, message_norm)

    found, w = module(nodes, edges, rows)
    check(found, w, nodes, edges, graphs, rows, twin)


@pytest.mark.parametrize("prompted", [False, True])
def test_vgpnn_adds_the_prompt_before_every_layer(prompted):
    config = ModelConfig(C, 5, R, frames=FRAMES, slots=SLOTS, width=8, heads=2, layers=3, depth=1)
    module = randomize(VGPNN(3, 8, 2, 1, "vgnorm", FRAMES, SLOTS, 0.1, False), scale=0.3)
    weights, (graphs, batch, rows) = reference.Weights.of(module), random_rows((2, 0))
    nodes, edges = randn(len(rows.node), 8), randn(batch.edges.shape[1], 8, seed=1)
    shift = randn(2, 8, seed=2) * prompted

    def twin(nodes, mask, pairs, features, graph):
        return reference.vgpnn(weights, nodes, mask, pairs, features, config, lambda x: x + shift[graph].numpy())

    prompt = (lambda x: x + shift[rows.graph]) if prompted else None
    found, w = module(nodes, edges, rows, prompt)
    assert w.shape == (3, len(rows.edge))
    check(found, w, nodes, edges, graphs, rows, twin)


def test_a_message_goes_from_sender_to_receiver():
    """With one edge 1 -> 2 and a norm that keeps nodes apart, only node 2 depends on node 1."""
    rows = double(collate([make_full(3, 3, [[1], [2]])])).rows([0])
    module, nodes = make_layer("layer"), randn(9, 8).requires_grad_()
    new, _ = module(nodes, randn(3, 8, seed=1), rows)
    for receiver, senders in [(0, [0]), (1, [1]), (2, [1, 2])]:
        (gradient,) = torch.autograd.grad(new[rows.slot == receiver].sum(), nodes, retain_graph=True)
        assert sorted(set(rows.slot[gradient.abs().sum(1) > 0].tolist())) == senders


def test_a_message_hears_of_other_frames_through_its_own_edge_only():
    """w of an edge in a frame depends on the ends of that edge in all frames, and on nothing else."""
    rows = double(collate([make_full(3, 3, [[1, 0], [2, 1]])])).rows([0])
    module, nodes = make_layer("layer"), randn(9, 8).requires_grad_()
    _, w = module(nodes, randn(6, 8, seed=1), rows)
    (gradient,) = torch.autograd.grad(w[(rows.edge_slot == 0) & (rows.edge_frame == 1)].sum(), nodes)
    assert torch.equal(gradient.abs().sum(1) > 0, rows.slot > 0)


@pytest.mark.parametrize("message_norm", [False, True])
def test_gradients(message_norm):
    _, batch, rows = random_rows((0, 1, 2))
    module = make_layer(message_norm=message_norm, depth=1, width=4)
    nodes, edges = randn(len(rows.node), 4), randn(batch.edges.shape[1], 4, seed=1)
    assert check_gradients(module, lambda nodes, edges: module(nodes, edges, rows), nodes, edges)


def test_message_norm_gradients_stay_finite_where_nothing_is_received():
    _, batch, rows = random_rows()
    module = make_layer(message_norm=True).float()
    assert len(rows.ends[1].unique()) < len(rows.node)
    nodes = randn(len(rows.node), 8).float()
    nodes[::3] = 0
    nodes.requires_grad_()
    module(nodes, randn(batch.edges.shape[1], 8).float(), rows)[0].sum().backward()
    assert nodes.grad.isfinite().all() and all(p.grad.isfinite().all() for p in module.parameters())
