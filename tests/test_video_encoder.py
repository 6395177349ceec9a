import dataclasses

import numpy as np
import pytest
import torch

from proda_lib.batch import Sequences, collate
from proda_lib.errors import GraphError
from proda_lib.nn.stem import Stem, sinusoids
from proda_lib.nn.video_encoder import DualAI, VideoEncoder
from tests import reference
from tests.graphs import R, double, make_graph, make_graphs, randn, randomize

WIRINGS = pytest.mark.parametrize("wiring", ["figure5", "released"])
VISUAL = pytest.mark.parametrize("visual", [0, 3])


def make_encoder(visual: int, wiring: str) -> VideoEncoder:
    return randomize(VideoEncoder(5, R, visual, frames=6, width=8, heads=2, dropout=0.1, wiring=wiring))


@VISUAL
def test_stem(visual):
    graphs = make_graphs(visual)
    batch, module = double(collate(graphs)), randomize(Stem(5, visual, frames=6, width=8))
    nodes, whole, _ = module(batch)
    for b, graph in enumerate(graphs):
        expected_nodes, expected_whole = reference.stem(reference.Weights.of(module), graph)
        mine = batch.node_video == b
        expected = expected_nodes[batch.node_frame[mine], batch.node_slot[mine]]
        np.testing.assert_allclose(nodes[mine].detach(), expected, atol=1e-9)
        np.testing.assert_allclose(whole[batch.frame_index // 5 == b].detach(), expected_whole, atol=1e-9)
    assert len(nodes) == len(batch.node_slot) and len(whole) == sum(g.num_frames for g in graphs)


def test_stem_refuses_what_it_was_not_made_for():
    with pytest.raises(GraphError, match="features: found width 3, expected width 0"):
        Stem(5, 0, frames=6, width=8)(collate(make_graphs(visual=3)))
    with pytest.raises(GraphError, match="features: found width 0, expected width 3"):
        Stem(5, 3, frames=6, width=8)(collate(make_graphs()))
    with pytest.raises(GraphError, match="frames: found 5, expected at most 4"):
        Stem(5, 0, frames=4, width=8)(collate(make_graphs()))


def test_stem_refuses_boxes_with_features_but_frames_without():
    graph = dataclasses.replace(make_graph(visual=3), frame_features=None)
    with pytest.raises(GraphError, match="frame_features"):
        Stem(5, 3, frames=6, width=8)(collate([graph]))


@WIRINGS
def test_dual_ai(wiring):
    """Two videos of 4 and 2 tracks over 5 frames, their tracks mixed."""
    mask = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) < 0.6
    track, frame = mask.nonzero().T
    video, rank = torch.tensor([0, 1, 0, 0, 1, 0])[track], torch.tensor([2, 1, 0, 3, 0, 1])[track]
    spatial, temporal = Sequences.of((video * 5 + frame) * 4 + rank, 10, 4), Sequences.of(track * 5 + frame, 6, 5)
    module, x = randomize(DualAI(8, 2, wiring=wiring)), randn(len(track), 8)
    found, laid = temporal.spread(module(x, spatial, temporal).detach()), temporal.spread(x)
    for tracks in ([0, 2, 3, 5], [1, 4]):
        across, there = laid[tracks].transpose(0, 1).numpy(), mask[tracks].T
        expected = reference.dual_ai(reference.Weights.of(module), across, there.numpy(), 2, wiring)
        np.testing.assert_allclose(found[tracks].transpose(0, 1)[there], expected[there], atol=1e-9)


@WIRINGS
@VISUAL
def test_video_encoder(visual, wiring):
    graphs, module = make_graphs(visual), make_encoder(visual, wiring)
    batch = double(collate(graphs))
    encoded, edge_video = module(batch), batch.node_video[batch.edges[0]]
    for b, graph in enumerate(graphs):
        nodes, edges = reference.video_encoder(reference.Weights.of(module), graph, 2, wiring)
        mine = batch.node_video == b
        expected = nodes[batch.node_frame[mine], batch.node_slot[mine]]
        np.testing.assert_allclose(encoded.nodes[mine].detach(), expected, atol=1e-9)
        mine = edge_video == b
        expected = edges[batch.edge_frame[mine], batch.edge_slot[mine]]
        np.testing.assert_allclose(encoded.edges[mine].detach(), expected, atol=1e-9)
    assert encoded.nodes.shape == (len(batch.node_slot), 8) and encoded.edges.shape == (batch.edges.shape[1], 8)


def test_both_directions_of_a_pair_share_their_feature():
    graph = make_graph(slots=4, edges=12)
    shared = np.zeros_like(graph.relations)
    for e, (a, b) in enumerate(graph.edges.T):
        shared[:, e, 0] = ((a + b) % 2 == 0) & graph.edge_present[:, e]
    batch = double(collate([dataclasses.replace(graph, relations=shared)]))
    edges = make_encoder(0, "figure5")(batch).edges
    pairs = {tuple(pair): edges[e] for e, pair in enumerate(batch.edges.T.tolist())}
    assert len(pairs) == graph.edge_present.sum() > 0
    for a, b in pairs:
        torch.testing.assert_close(pairs[a, b], pairs[b, a], atol=1e-12, rtol=0)


def test_relations_enter_through_edges_only():
    batch, module = double(collate(make_graphs())), make_encoder(0, "figure5")
    other = dataclasses.replace(batch, relations=1 - batch.relations)
    assert torch.equal(module(batch).nodes, module(other).nodes)
    assert torch.equal(module(batch).links, module(other).links)
    assert not torch.allclose(module(batch).edges, module(other).edges)


@WIRINGS
def test_two_attentions_reach_every_node_over_one_other(wiring):
    """F_o of a node depends on nodes that share a frame or a track with a node of its frame or track, and no other."""
    graphs = make_graphs()
    batch, module = double(collate(graphs)), make_encoder(0, wiring)
    batch.boxes.requires_grad_()
    module(batch).nodes[0].sum().backward()
    exists = graphs[0].present

    def neighbours(cells):
        return exists & (cells.any(0, keepdims=True) | cells.any(1, keepdims=True))

    start = np.zeros_like(exists)
    start[batch.node_frame[0], batch.node_slot[0]] = True
    expected = neighbours(neighbours(start))
    assert 0 < expected.sum() < exists.sum()
    reached = batch.boxes.grad.abs().sum(-1) > 0
    assert not reached[batch.node_video > 0].any()
    found = np.zeros_like(exists)
    found[batch.node_frame[reached], batch.node_slot[reached]] = True
    np.testing.assert_array_equal(found, expected)


def test_temporal_position_starts_as_distinct_sinusoids():
    for frames, width in ((16, 64), (5, 7), (1, 4)):
        start = sinusoids(frames, width)
        assert start.shape == (frames, width) and start.abs().max() <= 1 and start.is_contiguous()
        apart = torch.cdist(start, start) + torch.eye(frames)
        assert apart.min() > 0.1
