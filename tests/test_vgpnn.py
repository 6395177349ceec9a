import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.models.config import ModelConfig
from proda_lib.nn.norm import make_norm
from proda_lib.nn.vgpnn import VGPNN, VGPNNLayer
from tests import reference
from tests.graphs import C, R, check_gradients, double, make_graph, randn, random_rows, randomize

SLOTS, FRAMES = 6, 5


def make_layer(norm: str = "vgnorm", message_norm: bool = False, depth: int = 2, width: int = 8) -> VGPNNLayer:
    norm = make_norm(norm, FRAMES, width, SLOTS)
    return randomize(VGPNNLayer(width, heads=2, depth=depth, norm=norm, dropout=0.1, message_norm=message_norm))


def expected_results(rows, batch, nodes, edges, twin):
    """Run a dense twin for every graph: yields its tracks, edge tracks, and its results on them (tracks first)."""
    for graph, video in enumerate(rows.video):
        tracks = (rows.graph == graph).nonzero()[:, 0]
        edge_tracks = (rows.graph[rows.ends[0]] == graph).nonzero()[:, 0]
        slots, T = rows.slot[tracks].numpy(), nodes.shape[1]
        dense, mask = np.zeros((T, SLOTS, nodes.shape[2])), np.zeros((T, SLOTS), bool)
        dense[:, slots] = nodes[tracks].detach().transpose(0, 1)
        mask[:, slots] = rows.node_mask[tracks].T
        pairs = rows.slot[rows.ends[:, edge_tracks]].numpy()
        features = edges[rows.edge[edge_tracks]].transpose(0, 1).numpy()
        assert (batch.node_video[batch.edges[0, rows.edge[edge_tracks]]] == video).all()
        new, w = twin(dense, mask, pairs, features, graph)
        yield tracks, edge_tracks, new.swapaxes(0, 1)[slots], np.moveaxis(w, -1, -2)


@pytest.mark.parametrize("message_norm", [False, True])
@pytest.mark.parametrize("norm", sorted(reference.NORMS))
def test_layer(norm, message_norm):
    _, batch, rows = random_rows((0, 1, 2, 1))
    module = make_layer(norm, message_norm)
    weights = reference.Weights.of(module)
    nodes, edges = randn(len(rows.node), 5, 8), randn(batch.edges.shape[1], 5, 8, seed=1)

    def twin(nodes, mask, pairs, features, graph):
        return reference.vgpnn_layer(weights, nodes, mask, pairs, features, 2, 2, norm, message_norm)

    found, w = module(nodes, edges, rows)
    for tracks, edge_tracks, new, weight in expected_results(rows, batch, nodes, edges, twin):
        np.testing.assert_allclose(found[tracks].detach(), new, atol=1e-9)
        np.testing.assert_allclose(w[edge_tracks].detach(), weight, atol=1e-9)


@pytest.mark.parametrize("prompted", [False, True])
def test_vgpnn_adds_the_prompt_before_every_layer(prompted):
    config = ModelConfig(C, 5, R, frames=FRAMES, slots=SLOTS, width=8, heads=2, layers=3, depth=1)
    module = randomize(VGPNN(3, 8, 2, 1, "vgnorm", FRAMES, SLOTS, 0.1, False), scale=0.3)
    weights, (_, batch, rows) = reference.Weights.of(module), random_rows((2, 0))
    nodes, edges = randn(len(rows.node), 5, 8), randn(batch.edges.shape[1], 5, 8, seed=1)
    shift = randn(2, 8, seed=2) * prompted

    def twin(nodes, mask, pairs, features, graph):
        return reference.vgpnn(weights, nodes, mask, pairs, features, config, lambda x: x + shift[graph].numpy())

    prompt = (lambda x: x + shift[rows.graph][:, None]) if prompted else None
    found, w = module(nodes, edges, rows, prompt)
    assert w.shape == (3, len(rows.edge), 5)
    for tracks, edge_tracks, new, weight in expected_results(rows, batch, nodes, edges, twin):
        np.testing.assert_allclose(found[tracks].detach(), new, atol=1e-9)
        np.testing.assert_allclose(w[:, edge_tracks].detach(), weight, atol=1e-9)


def test_weights_are_zero_on_absent_edges_and_between_zero_and_one_elsewhere():
    _, batch, rows = random_rows()
    _, w = make_layer()(randn(len(rows.node), 5, 8), randn(batch.edges.shape[1], 5, 8), rows)
    assert torch.equal(w > 0, rows.edge_mask) and (w < 1).all()


def test_absent_nodes_send_and_receive_nothing():
    _, batch, rows = random_rows()
    module, edges = make_layer(), randn(batch.edges.shape[1], 5, 8, seed=1)
    nodes = randn(len(rows.node), 5, 8)
    found, _ = module(nodes, edges, rows)
    other, _ = module(torch.where(rows.node_mask[..., None], nodes, 9.0), edges, rows)
    assert not found[~rows.node_mask].any()
    torch.testing.assert_close(found, other, atol=1e-12, rtol=0)


def test_a_message_goes_from_sender_to_receiver():
    """With one edge 1 -> 2 and a norm that keeps nodes apart, only node 2 depends on node 1."""
    graph = make_graph(frames=3, slots=3, edges=0)
    ones = np.ones((3, 3), dtype=bool)
    boxes = np.tile([0.1, 0.1, 0.9, 0.9], (3, 3, 1))
    graph = type(graph)(**{**graph.__dict__, "present": ones, "boxes": boxes, "edges": np.array([[1], [2]]),
                           "relations": np.zeros((3, 1, R), bool), "carriers": None})  # fmt: skip
    rows = double(collate([graph])).rows([0])
    module, nodes = make_layer("layer"), randn(3, 3, 8).requires_grad_()
    new, _ = module(nodes, randn(1, 3, 8, seed=1), rows)
    for receiver, senders in [(0, [0]), (1, [1]), (2, [1, 2])]:
        (gradient,) = torch.autograd.grad(new[receiver].sum(), nodes, retain_graph=True)
        assert (gradient.abs().sum((1, 2)) > 0).nonzero()[:, 0].tolist() == senders


@pytest.mark.parametrize("message_norm", [False, True])
def test_gradients(message_norm):
    _, batch, rows = random_rows((0, 1, 2))
    module = make_layer(message_norm=message_norm, depth=1, width=4)
    nodes, edges = randn(len(rows.node), 5, 4), randn(batch.edges.shape[1], 5, 4, seed=1)
    assert check_gradients(module, lambda nodes, edges: module(nodes, edges, rows), nodes, edges)


def test_message_norm_gradients_stay_finite_where_nothing_is_received():
    _, batch, rows = random_rows()
    module = make_layer(message_norm=True).float()
    nodes = (randn(len(rows.node), 5, 8).float() * rows.node_mask[..., None]).requires_grad_()
    module(nodes, randn(batch.edges.shape[1], 5, 8).float(), rows)[0].sum().backward()
    assert nodes.grad.isfinite().all() and all(p.grad.isfinite().all() for p in module.parameters())
