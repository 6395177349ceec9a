"""SceneGraphBatch: what exists in a few videos, as flat tokens, and GraphRows: the same videos once per question.

A *token* is one node (or edge, or whole frame) in one frame in which it exists. Tokens of all videos stand one after
another: video by video, in it slot by slot (edge by edge), in it frame by frame. Nothing is padded, so what does not
exist costs nothing and cannot change a result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from proda_lib.errors import GraphError
from proda_lib.graph import SceneGraph


@dataclass(eq=False)
class Sequences:
    """Which tokens attend to each other: P tokens, each in its place in one of S sequences of at most L tokens.

    Attributes:
        place: (P,) sequence · L + position.
        mask: (S, L) where a token stands. Only attention itself is computed on this padded layout.
    """

    place: Int[Tensor, "P"]
    mask: Bool[Tensor, "S L"]

    @classmethod
    def of(cls, place: Int[Tensor, "P"], sequences: int, length: int) -> Sequences:
        mask = torch.zeros(sequences * length, dtype=torch.bool, device=place.device).index_fill(0, place, True)
        return cls(place, mask.view(sequences, length))

    @property
    def visible(self) -> Bool[Tensor, "S 1 L L"]:
        """Which places each place may attend to: those with a token. The same for every head.

        An empty place attends to itself: nothing reads it, but a softmax over nothing would be NaN.
        """
        return self.mask[:, None, None, :] | torch.eye(self.mask.shape[1], dtype=torch.bool, device=self.mask.device)

    def spread(self, tokens: Float[Tensor, "P *rest"]) -> Float[Tensor, "S L *rest"]:
        """Tokens in their places, zeros elsewhere."""
        laid = tokens.new_zeros(self.mask.numel(), *tokens.shape[1:]).index_copy(0, self.place, tokens)
        return laid.unflatten(0, self.mask.shape)

    def collect(self, laid: Float[Tensor, "S L *rest"]) -> Float[Tensor, "P *rest"]:
        """The inverse of :meth:`spread`."""
        return laid.flatten(0, 1).index_select(0, self.place)


@dataclass(eq=False)
class SceneGraphBatch:
    """B videos with P node tokens, Q edge tokens and F whole-frame tokens in all, of at most N frames each.

    Attributes:
        videos: names of the videos.
        node_video, node_frame, node_slot: (P,) video, frame and slot (in its :class:`SceneGraph`) of each node token.
        classes: (P,) object class. ``boxes``: (P, 4) x1, y1, x2, y2 in 0..1. ``features``: (P, visual) or None.
        frame_mask: (B, N) which frames are frames of the video (others pad shorter videos).
        frame_index: (F,) video · N + frame of each whole frame. ``frame_features``: (F, visual) or None.
        edges: (2, Q) sender and receiver as indices of node tokens, both of the same frame.
        edge_whole: (Q,) index of the whole-frame token. ``edge_frame``, ``edge_slot``: (Q,) frame, and edge in its
            :class:`SceneGraph`. ``edge_track``: (Q,) number of the edge among those of its video that ever exist.
        relations: (Q, R) multi-hot, 0. or 1.
        over_frames: tokens of nodes, then of whole frames: each attends over the frames of its own track.
        over_nodes: the same tokens: each attends over the nodes of its video and the whole frame, in one frame.
        labels: (B, C) multi-hot actions, 0. or 1.
        node_counts, edge_counts, track_counts: node tokens, edge tokens and edges of each video, on the host, so that
            laying out rows asks no device. ``max_nodes``: the most nodes that a video has over all its frames.
    """

    videos: tuple[str, ...]
    node_video: Int[Tensor, "P"]
    node_frame: Int[Tensor, "P"]
    node_slot: Int[Tensor, "P"]
    classes: Int[Tensor, "P"]
    boxes: Float[Tensor, "P 4"]
    features: Float[Tensor, "P visual"] | None
    frame_mask: Bool[Tensor, "B N"]
    frame_index: Int[Tensor, "F"]
    frame_features: Float[Tensor, "F visual"] | None
    edges: Int[Tensor, "2 Q"]
    edge_whole: Int[Tensor, "Q"]
    edge_frame: Int[Tensor, "Q"]
    edge_slot: Int[Tensor, "Q"]
    edge_track: Int[Tensor, "Q"]
    relations: Float[Tensor, "Q R"]
    over_frames: Sequences
    over_nodes: Sequences
    labels: Float[Tensor, "B C"]
    node_counts: tuple[int, ...]
    edge_counts: tuple[int, ...]
    track_counts: tuple[int, ...]
    max_nodes: int

    def __len__(self) -> int:
        return len(self.videos)

    def to(
        self, device: torch.device | str, non_blocking: bool = False, dtype: torch.dtype | None = None
    ) -> SceneGraphBatch:
        """The same batch on another device; ``dtype``: of its floating tensors."""

        def move(tensor: Tensor) -> Tensor:
            kept = dtype is None or not tensor.is_floating_point()
            return tensor.to(device, tensor.dtype if kept else dtype, non_blocking=non_blocking)

        return map_tensors(self, move)

    def rows(self, row_video: Sequence[int]) -> GraphRows:
        """Lay out one copy of a video per row. ``row_video``: (G,) video of each row, on the host."""
        row_video = np.asarray(row_video, dtype=np.int64)
        node, graph, rank, node_shift = _repeat(np.asarray(self.node_counts), row_video)
        edge, edge_graph, _, _ = _repeat(np.asarray(self.edge_counts), row_video)
        tracks = np.asarray(self.track_counts)[row_video]
        first_track = np.cumsum(tracks) - tracks
        device, N = self.edges.device, self.frame_mask.shape[1]
        node, graph, rank, edge, edge_graph, shift, first, video = (
            torch.from_numpy(a).to(device, non_blocking=True)
            for a in (node, graph, rank, edge, edge_graph, node_shift[edge_graph], first_track[edge_graph], row_video)
        )
        frame, edge_frame = self.node_frame.index_select(0, node), self.edge_frame.index_select(0, edge)
        track = first + self.edge_track.index_select(0, edge)
        return GraphRows(
            video=video,
            node=node,
            graph=graph,
            frame=frame,
            cell=graph * N + frame,
            slot=self.node_slot.index_select(0, node),
            by_graph=Sequences.of(graph * max(self.node_counts) + rank, len(row_video), max(self.node_counts)),
            edge=edge,
            edge_graph=edge_graph,
            edge_frame=edge_frame,
            edge_slot=self.edge_slot.index_select(0, edge),
            ends=self.edges.index_select(1, edge) + shift,
            over_frames=Sequences.of(track * N + edge_frame, int(tracks.sum()), N),
            frames=N,
            max_nodes=self.max_nodes,
        )


@dataclass(eq=False)
class GraphRows:
    """G graphs, each a copy of a video of the batch, with P' node tokens and Q' edge tokens in all.

    Attributes:
        video: (G,) video of each graph.
        node: (P',) node token of the batch that each one copies; ``graph``, ``frame``, ``slot``: (P',) graph, frame,
            slot in the scene graph. ``cell``: (P',) graph · N + frame.
        by_graph: the node tokens, one sequence per graph.
        edge: (Q',) edge token of the batch that each one copies; ``edge_graph``, ``edge_frame``, ``edge_slot``: (Q',).
        ends: (2, Q') sender and receiver as indices of the P' node tokens.
        over_frames: the edge tokens, one sequence per edge and graph, over its frames.
        frames: N. ``max_nodes``: the most nodes that a video of the batch has over all its frames.
    """

    video: Int[Tensor, "G"]
    node: Int[Tensor, "Pr"]
    graph: Int[Tensor, "Pr"]
    frame: Int[Tensor, "Pr"]
    cell: Int[Tensor, "Pr"]
    slot: Int[Tensor, "Pr"]
    by_graph: Sequences
    edge: Int[Tensor, "Qr"]
    edge_graph: Int[Tensor, "Qr"]
    edge_frame: Int[Tensor, "Qr"]
    edge_slot: Int[Tensor, "Qr"]
    ends: Int[Tensor, "2 Qr"]
    over_frames: Sequences
    frames: int
    max_nodes: int

    def __len__(self) -> int:
        return len(self.video)

    def repeat(self, times: int) -> GraphRows:
        """The same G graphs several times over, one copy after the other, laid out without the host."""
        if times == 1:
            return self
        G, P = len(self), len(self.node)

        def shifted(values: Tensor, step: int) -> Tensor:
            return torch.cat([values + copy * step for copy in range(times)], -1)

        def again(sequences: Sequences) -> Sequences:
            return Sequences(shifted(sequences.place, sequences.mask.numel()), sequences.mask.repeat(times, 1))

        return GraphRows(
            video=self.video.repeat(times),
            node=self.node.repeat(times),
            graph=shifted(self.graph, G),
            frame=self.frame.repeat(times),
            cell=shifted(self.cell, G * self.frames),
            slot=self.slot.repeat(times),
            by_graph=again(self.by_graph),
            edge=self.edge.repeat(times),
            edge_graph=shifted(self.edge_graph, G),
            edge_frame=self.edge_frame.repeat(times),
            edge_slot=self.edge_slot.repeat(times),
            ends=shifted(self.ends, P),
            over_frames=again(self.over_frames),
            frames=self.frames,
            max_nodes=self.max_nodes,
        )

    def sum_nodes(self, values: Tensor) -> Tensor:
        """Sum values (P', ...) over the nodes of each graph and frame: (G, N, ...)."""
        summed = values.new_zeros(len(self) * self.frames, *values.shape[1:]).index_add(0, self.cell, values)
        return summed.unflatten(0, (len(self), self.frames))

    def sum_graphs(self, values: Tensor) -> Tensor:
        """Sum values (P', ...) over all node tokens of each graph: (G, ...)."""
        return values.new_zeros(len(self), *values.shape[1:]).index_add(0, self.graph, values)

    @property
    def node_count(self) -> Float[Tensor, "G N"]:
        """How many nodes each graph has in each frame."""
        return self.sum_nodes(torch.ones_like(self.cell, dtype=torch.float32))


def _repeat(counts: np.ndarray, row_video: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For rows that copy videos of ``counts`` tokens each.

    Returns:
        For every copy: the token copied, its row, its position in the row; for every row: what to add to the number of
        a token of the batch to get that of its copy.
    """
    lengths = counts[row_video]
    row = np.repeat(np.arange(len(row_video)), lengths)
    start = np.cumsum(lengths) - lengths
    position = np.arange(len(row)) - start[row]
    first = (np.cumsum(counts) - counts)[row_video]
    return first[row] + position, row, position, start - first


def map_tensors(value, function):
    """``function`` of every tensor in a dataclass, also in those it holds."""
    changed = {}
    for f in dataclasses.fields(value):
        item = getattr(value, f.name)
        if isinstance(item, Tensor):
            changed[f.name] = function(item)
        elif dataclasses.is_dataclass(item):
            changed[f.name] = map_tensors(item, function)
    return dataclasses.replace(value, **changed)


def collate_for(
    model: torch.nn.Module, graphs: Sequence[SceneGraph], device: torch.device | str = "cpu"
) -> SceneGraphBatch:
    """:func:`collate`, on a device and in the precision of a model's weights."""
    return collate(graphs).to(device, dtype=next(model.parameters()).dtype)


def collate(graphs: Sequence[SceneGraph]) -> SceneGraphBatch:
    """Gather the tokens of graphs of one vocabulary, all with visual features or all without; N is the largest T.

    Raises:
        GraphError: the graphs do not fit together.
    """
    _check(graphs)
    first, B, N = graphs[0], len(graphs), max(g.num_frames for g in graphs)
    nodes = [np.nonzero(g.present.T) for g in graphs]  # (slots, frames) of the tokens, slot by slot
    links = [np.nonzero(g.edge_present.T) for g in graphs]
    node_counts, edge_counts = [len(s) for s, _ in nodes], [len(e) for e, _ in links]
    ranks = [np.unique(s, return_inverse=True)[1] for s, _ in nodes]
    tracks = [np.unique(e, return_inverse=True)[1] for e, _ in links]
    most = 1 + max((int(r.max()) + 1 for r in ranks if len(r)), default=0)
    lengths = np.array([g.num_frames for g in graphs])
    frame_start = np.cumsum(lengths) - lengths

    ends, start = [], 0
    for g, (slot, frame), (edge, at) in zip(graphs, nodes, links, strict=True):
        token = np.zeros((g.num_slots, g.num_frames), dtype=np.int64)
        token[slot, frame] = start + np.arange(len(slot))
        ends.append(token[g.edges[:, edge], at])
        start += len(slot)

    node_video, node_frame = np.repeat(np.arange(B), node_counts), np.concatenate([t for _, t in nodes])
    edge_video, edge_frame = np.repeat(np.arange(B), edge_counts), np.concatenate([t for _, t in links])
    frame_video = np.repeat(np.arange(B), lengths)
    frame_index = frame_video * N + np.concatenate([np.arange(n) for n in lengths])
    # Whole frames are one more track of each video, and stand first in each frame.
    rank = np.concatenate(ranks) + 1
    track_place = np.concatenate([(node_video * most + rank) * N + node_frame,
                                  frame_video * most * N + frame_index % N])  # fmt: skip
    frame_place = np.concatenate([(node_video * N + node_frame) * most + rank, frame_index * most])

    def of_nodes(name: str) -> Tensor:
        values = [np.asarray(getattr(g, name))[t, s] for g, (s, t) in zip(graphs, nodes, strict=True)]
        return _floats(np.concatenate(values))

    whole = first.frame_features is not None
    frame_mask = np.arange(N) < lengths[:, None]
    return SceneGraphBatch(
        videos=tuple(g.video for g in graphs),
        node_video=torch.from_numpy(node_video),
        node_frame=torch.from_numpy(node_frame),
        node_slot=torch.from_numpy(np.concatenate([s for s, _ in nodes])),
        classes=torch.from_numpy(np.concatenate([g.classes[s] for g, (s, _) in zip(graphs, nodes, strict=True)])),
        boxes=of_nodes("boxes"),
        features=None if first.features is None else of_nodes("features"),
        frame_mask=torch.from_numpy(frame_mask),
        frame_index=torch.from_numpy(frame_index),
        frame_features=_floats(np.concatenate([g.frame_features for g in graphs])) if whole else None,
        edges=torch.from_numpy(np.concatenate(ends, axis=1)),
        edge_whole=torch.from_numpy(frame_start[edge_video] + edge_frame),
        edge_frame=torch.from_numpy(edge_frame),
        edge_slot=torch.from_numpy(np.concatenate([e for e, _ in links])),
        edge_track=torch.from_numpy(np.concatenate(tracks)),
        relations=_floats(np.concatenate([g.relations[t, e] for g, (e, t) in zip(graphs, links, strict=True)])),
        over_frames=Sequences.of(torch.from_numpy(track_place), B * most, N),
        over_nodes=Sequences.of(torch.from_numpy(frame_place), B * N, most),
        labels=_floats(np.stack([g.multi_hot() for g in graphs])),
        node_counts=tuple(node_counts),
        edge_counts=tuple(edge_counts),
        track_counts=tuple(int(t.max()) + 1 if len(t) else 0 for t in tracks),
        max_nodes=most - 1,
    )


def _floats(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _check(graphs: Sequence[SceneGraph]) -> None:
    first = graphs[0]
    for graph in graphs:
        if graph.vocabulary != first.vocabulary:
            raise GraphError(graph.video, "vocabulary", graph.vocabulary.name, f"{first.vocabulary.name!r} for all")
        for name in ("features", "frame_features"):
            if (getattr(graph, name) is None) != (getattr(first, name) is None):
                raise GraphError(graph.video, name, "a mixture", "visual features in all graphs of a batch or in none")
            widths = [getattr(g, name).shape[-1] for g in (graph, first) if getattr(g, name) is not None]
            if len(set(widths)) > 1:
                raise GraphError(graph.video, name, f"width {widths[0]}", f"width {widths[1]}, as in {first.video}")
