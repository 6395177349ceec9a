import dataclasses

import numpy as np
import pytest
import torch

from proda_lib.batch import collate
from proda_lib.errors import GraphError
from tests.graphs import add_empty_slots, make_graph, make_graphs, random_rows


@pytest.mark.parametrize("keep_absent", [False, True])
@pytest.mark.parametrize("visual", [0, 3])
def test_every_track_of_a_batch_is_a_slot_of_its_video(visual, keep_absent):
    graphs = make_graphs(visual)
    batch = collate(graphs, keep_absent)
    N = max(g.num_frames for g in graphs)
    assert batch.node_mask.shape[1] == N and len(batch) == 3 and batch.videos == ("video-1", "video-2", "video-3")
    track = 0
    for b, g in enumerate(graphs):
        slots = [j for j in range(g.num_slots) if keep_absent or g.present[:, j].any()]
        assert batch.node_counts[b] == len(slots)
        for rank, j in enumerate(slots):
            T = g.num_frames
            assert (batch.node_video[track], batch.node_slot[track], batch.node_rank[track]) == (b, j, rank)
            assert batch.classes[track] == g.classes[j]
            np.testing.assert_array_equal(batch.node_mask[track, :T], g.present[:, j])
            np.testing.assert_array_equal(batch.boxes[track, :T], g.boxes[:, j].astype(np.float32))
            assert not batch.node_mask[track, T:].any() and not batch.boxes[track, T:].any()
            if visual:
                np.testing.assert_array_equal(batch.features[track, :T], g.features[:, j])
                assert not batch.features[track, T:].any()
            track += 1
        assert batch.frame_mask[b].tolist() == [True] * g.num_frames + [False] * (N - g.num_frames)
        np.testing.assert_array_equal(batch.labels[b], g.multi_hot())
    assert track == len(batch.node_slot)


@pytest.mark.parametrize("keep_absent", [False, True])
def test_every_edge_track_joins_the_tracks_of_its_slots(keep_absent):
    graphs = make_graphs()
    batch = collate(graphs, keep_absent)
    track = 0
    for b, g in enumerate(graphs):
        kept = [e for e in range(g.num_edges) if keep_absent or g.edge_present[:, e].any()]
        assert batch.edge_counts[b] == len(kept)
        for e in kept:
            ends = batch.edges[:, track]
            assert batch.edge_slot[track] == e
            assert batch.node_video[ends].tolist() == [b, b]
            np.testing.assert_array_equal(batch.node_slot[ends], g.edges[:, e])
            np.testing.assert_array_equal(batch.edge_mask[track, : g.num_frames], g.edge_present[:, e])
            np.testing.assert_array_equal(batch.relations[track, : g.num_frames], g.relations[:, e])
            assert not batch.edge_mask[track, g.num_frames :].any()
            track += 1
    assert track == batch.edges.shape[1]


def test_slots_and_edges_that_never_appear_cost_nothing():
    graph = make_graph()
    small, large = collate([graph]), collate([add_empty_slots(graph, 6)])
    for f in dataclasses.fields(small):
        value, other = getattr(small, f.name), getattr(large, f.name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, f.name


def test_floats_are_single_precision():
    graph = make_graph(visual=3)
    graph = dataclasses.replace(graph, features=graph.features.astype(np.float64),
                                frame_features=graph.frame_features.astype(np.float16))  # fmt: skip
    batch = collate([graph])
    for name in ("boxes", "relations", "labels", "features", "frame_features"):
        assert getattr(batch, name).dtype == torch.float32, name


def test_graphs_that_do_not_fit_together_are_refused():
    plain, visual = make_graph(0), make_graph(1, visual=3)
    with pytest.raises(GraphError, match="^video-1: features"):
        collate([plain, visual])
    with pytest.raises(GraphError, match="^video-1: frame_features"):
        collate([dataclasses.replace(make_graph(0, visual=3), frame_features=None), visual])
    other = dataclasses.replace(plain.vocabulary, name="other")
    with pytest.raises(GraphError, match="^video-0: vocabulary: found other, expected 'test'"):
        collate([make_graph(1), dataclasses.replace(plain, vocabulary=other)])


def test_visual_features_of_another_width_are_refused():
    with pytest.raises(GraphError, match="^video-2: features"):
        collate([make_graph(1, visual=3), make_graph(2, visual=4)])


def test_to_moves_every_tensor():
    batch = collate(make_graphs(visual=3)).to("meta")
    tensors = [v for f in dataclasses.fields(batch) if isinstance(v := getattr(batch, f.name), torch.Tensor)]
    assert len(tensors) == 14 and all(tensor.device.type == "meta" for tensor in tensors)


@pytest.mark.parametrize("row_video", [(0, 1, 2), (2, 0, 0, 1, 2), (1,)])
def test_rows_copy_videos(row_video):
    batch = collate(make_graphs())
    rows = batch.rows(row_video)
    assert len(rows) == len(row_video) and rows.video.tolist() == list(row_video)
    node = edge = 0
    for graph, video in enumerate(row_video):
        of_video = (batch.node_video == video).nonzero()[:, 0]
        first = node
        for track in of_video.tolist():
            assert (rows.node[node], rows.graph[node]) == (track, graph)
            assert (rows.slot[node], rows.rank[node]) == (batch.node_slot[track], batch.node_rank[track])
            assert torch.equal(rows.node_mask[node], batch.node_mask[track])
            node += 1
        for track in (batch.node_video[batch.edges[0]] == video).nonzero()[:, 0].tolist():
            assert rows.edge[edge] == track
            assert torch.equal(rows.edge_mask[edge], batch.edge_mask[track])
            assert torch.equal(rows.node[rows.ends[:, edge]], batch.edges[:, track])
            assert ((rows.ends[:, edge] >= first) & (rows.ends[:, edge] < node)).all()
            edge += 1
    assert (node, edge) == (len(rows.node), len(rows.edge))
    assert rows.rank.max() < rows.max_nodes


def test_sum_nodes():
    _, _, rows = random_rows((2, 0, 2))
    values = torch.rand(len(rows.node), 2, 3)
    for graph, total in enumerate(rows.sum_nodes(values)):
        torch.testing.assert_close(total, sum(v for v, g in zip(values, rows.graph, strict=True) if g == graph))
