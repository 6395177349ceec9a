import dataclasses

import numpy as np
import pytest
import torch

from proda_lib.batch import Sequences, collate
from proda_lib.errors import GraphError
from proda_lib.graph import SceneGraph
from tests.graphs import add_empty_slots, make_graph, make_graphs, random_rows

LONELY = [make_graph(4, edges=0), make_graph(5, absent=(0, 1, 2, 3)), make_graph(6, frames=2, slots=3, edges=6)]
VIDEOS = pytest.mark.parametrize("graphs", [make_graphs(), make_graphs(3), LONELY], ids=["boxes", "visual", "lonely"])


def node_places(graphs: list[SceneGraph]) -> list[tuple[int, int, int]]:
    """(video, slot, frame) of every node that exists, in the order in which a batch has them."""
    return [(b, j, i) for b, g in enumerate(graphs) for j in range(g.num_slots) for i in range(g.num_frames)
            if g.present[i, j]]  # fmt: skip


def edge_places(graphs: list[SceneGraph]) -> list[tuple[int, int, int]]:
    """(video, edge, frame) likewise."""
    return [(b, e, i) for b, g in enumerate(graphs) for e in range(g.num_edges) for i in range(g.num_frames)
            if g.present[i, g.edges[0, e]] and g.present[i, g.edges[1, e]]]  # fmt: skip


def frame_places(graphs: list[SceneGraph]) -> list[tuple[int, int]]:
    return [(b, i) for b, g in enumerate(graphs) for i in range(g.num_frames)]


def columns(places: list[tuple[int, ...]], width: int = 3) -> list[list[int]]:
    return np.array(places, dtype=int).reshape(-1, width).T.tolist()


def check_sequences(sequences: Sequences, keys: list) -> None:
    """Tokens share a sequence if and only if they have the same key; each stands alone in its place."""
    place = sequences.place.tolist()
    assert len(place) == len(set(place)) == len(keys) == sequences.mask.sum()
    assert sequences.mask.flatten()[sequences.place].all()
    found = [p // sequences.mask.shape[1] for p in place]
    assert len(set(zip(found, keys, strict=True))) == len(set(found)) == len(set(keys))


@VIDEOS
def test_every_node_token_is_a_slot_in_a_frame_in_which_it_exists(graphs):
    batch, places = collate(graphs), node_places(graphs)
    assert len(batch) == 3 and batch.videos == tuple(g.video for g in graphs)
    assert [batch.node_video.tolist(), batch.node_slot.tolist(), batch.node_frame.tolist()] == columns(places)
    assert batch.node_counts == tuple(int(g.present.sum()) for g in graphs)
    assert batch.max_nodes == max(g.present.any(0).sum() for g in graphs)
    assert batch.classes.tolist() == [graphs[b].classes[j] for b, j, _ in places]
    boxes = [graphs[b].boxes[i, j].astype(np.float32) for b, j, i in places]
    np.testing.assert_array_equal(batch.boxes, boxes)
    if graphs[0].features is None:
        assert batch.features is None
    else:
        np.testing.assert_array_equal(batch.features, [graphs[b].features[i, j] for b, j, i in places])


@VIDEOS
def test_every_frame_of_a_video_has_a_whole_frame_token(graphs):
    batch, places = collate(graphs), frame_places(graphs)
    N = max(g.num_frames for g in graphs)
    assert batch.frame_index.tolist() == [b * N + i for b, i in places]
    for b, g in enumerate(graphs):
        assert batch.frame_mask[b].tolist() == [True] * g.num_frames + [False] * (N - g.num_frames)
        np.testing.assert_array_equal(batch.labels[b], g.multi_hot())
    if graphs[0].features is None:
        assert batch.frame_features is None
    else:
        np.testing.assert_array_equal(batch.frame_features, [graphs[b].frame_features[i] for b, i in places])


@VIDEOS
def test_every_edge_token_joins_two_node_tokens_of_one_frame(graphs):
    batch, places, nodes = collate(graphs), edge_places(graphs), node_places(graphs)
    ends = [[nodes.index((b, graphs[b].edges[end, e], i)) for b, e, i in places] for end in (0, 1)]
    assert batch.edges.shape == (2, len(places)) and batch.edges.tolist() == ends
    assert [batch.edge_slot.tolist(), batch.edge_frame.tolist()] == columns(places)[1:]
    assert batch.edge_counts == tuple(sum(b == video for b, _, _ in places) for video in range(3))
    assert batch.edge_whole.tolist() == [frame_places(graphs).index((b, i)) for b, _, i in places]
    assert batch.relations.shape == (len(places), 3)
    for found, (b, e, i) in zip(batch.relations, places, strict=True):
        np.testing.assert_array_equal(found, graphs[b].relations[i, e])


@VIDEOS
def test_edge_tracks_number_the_edges_of_a_video_that_ever_exist(graphs):
    batch, places = collate(graphs), edge_places(graphs)
    ever = [sorted({e for b, e, _ in places if b == video}) for video in range(3)]
    assert batch.track_counts == tuple(len(edges) for edges in ever)
    assert batch.edge_track.tolist() == [ever[b].index(e) for b, e, _ in places]


@VIDEOS
def test_who_attends_to_whom(graphs):
    """Over the frames of a track, the whole frame's being one; over the nodes of a frame, the whole frame being one."""
    batch, nodes, frames = collate(graphs), node_places(graphs), frame_places(graphs)
    check_sequences(batch.over_frames, [(b, j) for b, j, _ in nodes] + [(b, "whole") for b, _ in frames])
    check_sequences(batch.over_nodes, [(b, i) for b, _, i in nodes] + frames)
    assert batch.over_frames.mask.shape[1] == batch.frame_mask.shape[1]
    assert batch.over_nodes.mask.shape[1] == batch.max_nodes + 1


def test_tokens_of_a_track_stand_in_the_order_of_their_frames():
    graphs = make_graphs()
    batch = collate(graphs)
    frames = torch.tensor([i for *_, i in node_places(graphs)] + [i for _, i in frame_places(graphs)])
    assert torch.equal(batch.over_frames.place % batch.frame_mask.shape[1], frames)


def test_spread_and_collect_are_inverse():
    sequences = Sequences.of(torch.tensor([4, 0, 5, 7]), 3, 3)
    assert sequences.mask.tolist() == [[True, False, False], [False, True, True], [False, True, False]]
    tokens = torch.arange(1.0, 9).view(4, 2)
    laid = sequences.spread(tokens)
    assert laid[..., 0].tolist() == [[3, 0, 0], [0, 1, 5], [0, 7, 0]] and laid.shape == (3, 3, 2)
    assert torch.equal(sequences.collect(laid), tokens)
    for found in (sequences.spread(tokens[:, 0]), sequences.spread(tokens[:, :, None])):  # any shape after the first
        torch.testing.assert_close(found.reshape(3, 3, -1)[..., 0], laid[..., 0])
    assert torch.equal(sequences.spread(sequences.collect(laid + 1)) > 0, sequences.mask[..., None].expand(3, 3, 2))


@pytest.mark.parametrize("visual", [0, 3])
def test_slots_and_edges_that_never_appear_cost_nothing(visual):
    graphs = make_graphs(visual)
    small = collate(graphs)
    large = collate([add_empty_slots(graph, extra) for graph, extra in zip(graphs, (6, 1, 3), strict=True)])
    same(small, large)
    same(small.rows((2, 0, 0)), large.rows((2, 0, 0)))


def same(one, other) -> None:
    """Every field of two dataclasses, also of those that they hold."""
    for f in dataclasses.fields(one):
        value, wanted = getattr(one, f.name), getattr(other, f.name)
        if dataclasses.is_dataclass(value):
            same(value, wanted)
        else:
            assert torch.equal(value, wanted) if isinstance(value, torch.Tensor) else value == wanted, f.name


def test_frames_in_which_nobody_is_there_have_a_whole_frame_and_nothing_else():
    graph = make_graph(visual=3)

    def pad(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.zeros((2, *array.shape[1:]), array.dtype)])

    names = ("boxes", "present", "relations", "features", "frame_features", "carriers")
    longer = dataclasses.replace(graph, times=np.concatenate([graph.times, [9.99, 9.995]]),
                                 **{name: pad(getattr(graph, name)) for name in names})  # fmt: skip
    small, large = collate([graph]), collate([longer])
    for name in ("node_frame", "node_slot", "classes", "boxes", "features", "edges", "edge_whole", "edge_frame",
                 "edge_slot", "edge_track", "relations"):  # fmt: skip
        assert torch.equal(getattr(small, name), getattr(large, name)), name
    assert large.frame_index.tolist() == list(range(7)) and large.rows([0]).node_count[0, 5:].tolist() == [0, 0]


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


def tensors(value) -> list[torch.Tensor]:
    """All tensors in a dataclass, also in those that it holds."""
    fields = [getattr(value, f.name) for f in dataclasses.fields(value)]
    nested = [tensor for field in fields if dataclasses.is_dataclass(field) for tensor in tensors(field)]
    return [field for field in fields if isinstance(field, torch.Tensor)] + nested


def test_to_moves_every_tensor():
    batch = collate(make_graphs(visual=3))
    moved = batch.to("meta")
    assert len(tensors(moved)) == 20 and all(tensor.device.type == "meta" for tensor in tensors(moved))
    assert moved.videos == batch.videos and moved.node_counts == batch.node_counts
    assert all(tensor.device.type == "meta" for tensor in tensors(moved.rows((2, 0))))


@VIDEOS
@pytest.mark.parametrize("row_video", [(0, 1, 2), (2, 0, 0, 1, 2), (1,)])
def test_rows_copy_videos(graphs, row_video):
    batch = collate(graphs)
    rows, N = batch.rows(row_video), batch.frame_mask.shape[1]
    assert len(rows) == len(row_video) and rows.video.tolist() == list(row_video)
    assert (rows.frames, rows.max_nodes) == (N, batch.max_nodes)
    nodes, edges = node_places(graphs), edge_places(graphs)
    copies = [(g, *place) for g, video in enumerate(row_video) for place in nodes if place[0] == video]
    assert rows.node.tolist() == [nodes.index(tuple(place)) for _, *place in copies]
    graph, _, slot, frame = columns(copies, 4)
    assert [rows.graph.tolist(), rows.slot.tolist(), rows.frame.tolist()] == [graph, slot, frame]
    assert rows.cell.tolist() == [g * N + i for g, i in zip(graph, frame, strict=True)]
    check_sequences(rows.by_graph, graph)
    assert rows.by_graph.mask.shape[0] == len(row_video)

    links = [(g, *place) for g, video in enumerate(row_video) for place in edges if place[0] == video]
    assert rows.edge.tolist() == [edges.index(tuple(place)) for _, *place in links]
    graph, _, edge, frame = columns(links, 4)
    assert [rows.edge_graph.tolist(), rows.edge_slot.tolist(), rows.edge_frame.tolist()] == [graph, edge, frame]
    ends = [[copies.index((g, b, graphs[b].edges[end, e], i)) for g, b, e, i in links] for end in (0, 1)]
    assert rows.ends.shape == (2, len(links)) and rows.ends.tolist() == ends
    check_sequences(rows.over_frames, list(zip(graph, edge, strict=True)))
    assert torch.equal(rows.over_frames.place % N, rows.edge_frame)
    assert rows.over_frames.mask.shape == (sum(batch.track_counts[video] for video in row_video), N)

    expected = np.zeros((len(row_video), N))
    for g, video in enumerate(row_video):
        expected[g, : graphs[video].num_frames] = graphs[video].present.sum(1)
    np.testing.assert_array_equal(rows.node_count, expected)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_repeated_rows_are_the_rows_of_repeated_videos(times):
    batch, row_video = collate(make_graphs()), [2, 0, 0, 1]
    same(batch.rows(row_video).repeat(times), batch.rows(row_video * times))


def test_sums_over_nodes_and_graphs():
    _, _, rows = random_rows((2, 0, 2))
    values = torch.rand(len(rows.node), 2, 3)
    of_frame, of_graph = torch.zeros(3, 5, 2, 3), torch.zeros(3, 2, 3)
    for value, graph, frame in zip(values, rows.graph, rows.frame, strict=True):
        of_frame[graph, frame] += value
        of_graph[graph] += value
    torch.testing.assert_close(rows.sum_nodes(values), of_frame)
    torch.testing.assert_close(rows.sum_graphs(values), of_graph)
