"""SceneGraphBatch: videos of any size as flat tensors, and GraphRows: the same videos repeated once per question.

Slots and edges of all videos stand one after another (no padding to the largest video), so a slot that never appears
and an edge that never exists cost nothing. Frames keep an axis of length N with masks.
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
class SceneGraphBatch:
    """B videos with V node tracks and E edge tracks in all, over N frames.

    Attributes:
        videos: names of the videos.
        node_video: (V,) video of each node track; tracks of a video are neighbours, in slot order.
        node_slot: (V,) slot of each node track in its :class:`SceneGraph`.
        node_rank: (V,) position of the track among those of its video.
        classes: (V,) object class.
        boxes: (V, N, 4) x1, y1, x2, y2 in 0..1, zeros where absent.
        node_mask: (V, N) whether the node is there.
        edges: (2, E) sender and receiver as indices of node tracks.
        edge_slot: (E,) edge in its :class:`SceneGraph`.
        relations: (E, N, R) multi-hot, 0. or 1.
        edge_mask: (E, N) whether both ends are there.
        frame_mask: (B, N) which frames are frames of the video (others pad shorter videos).
        features: (V, N, F) or None; ``frame_features``: (B, N, F) or None.
        labels: (B, C) multi-hot actions, 0. or 1.
        node_counts, edge_counts: tracks of each video, on the host, so that laying out rows asks no device.
    """

    videos: tuple[str, ...]
    node_video: Int[Tensor, "V"]
    node_slot: Int[Tensor, "V"]
    node_rank: Int[Tensor, "V"]
    classes: Int[Tensor, "V"]
    boxes: Float[Tensor, "V N 4"]
    node_mask: Bool[Tensor, "V N"]
    edges: Int[Tensor, "2 E"]
    edge_slot: Int[Tensor, "E"]
    relations: Float[Tensor, "E N R"]
    edge_mask: Bool[Tensor, "E N"]
    frame_mask: Bool[Tensor, "B N"]
    features: Float[Tensor, "V N F"] | None
    frame_features: Float[Tensor, "B N F"] | None
    labels: Float[Tensor, "B C"]
    node_counts: tuple[int, ...]
    edge_counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.videos)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SceneGraphBatch:
        """The same batch on another device."""
        return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def rows(self, row_video: Sequence[int]) -> GraphRows:
        """Lay out one copy of a video per row. ``row_video``: (G,) video of each row, on the host."""
        row_video = np.asarray(row_video, dtype=np.int64)
        node, graph = _repeat(np.asarray(self.node_counts), row_video)
        edge, edge_graph = _repeat(np.asarray(self.edge_counts), row_video)
        first_node = np.cumsum([0, *self.node_counts])[row_video]
        shift = np.cumsum([0, *np.asarray(self.node_counts)[row_video]])[:-1] - first_node
        device = self.edges.device
        node, graph, edge, shift, video = (
            torch.from_numpy(a).to(device, non_blocking=True) for a in (node, graph, edge, shift[edge_graph], row_video)
        )
        return GraphRows(
            video=video,
            node=node,
            graph=graph,
            edge=edge,
            ends=self.edges.index_select(1, edge) + shift,
            rank=self.node_rank.index_select(0, node),
            slot=self.node_slot.index_select(0, node),
            node_mask=self.node_mask.index_select(0, node),
            edge_mask=self.edge_mask.index_select(0, edge),
            max_nodes=max(self.node_counts, default=0),
        )


@dataclass(eq=False)
class GraphRows:
    """G graphs, each a copy of a video of the batch, with V' node tracks and E' edge tracks in all.

    Attributes:
        video: (G,) video of each graph.
        node: (V',) node track of the batch that each node copies; ``edge``: (E',) likewise.
        graph: (V',) graph that each node belongs to.
        ends: (2, E') sender and receiver as indices into the V' nodes.
        rank: (V',) position of the node in its graph, below ``max_nodes``; ``slot``: (V',) its slot in the scene graph.
        node_mask: (V', N); ``edge_mask``: (E', N).
    """

    video: Int[Tensor, "G"]
    node: Int[Tensor, "Vr"]
    graph: Int[Tensor, "Vr"]
    edge: Int[Tensor, "Er"]
    ends: Int[Tensor, "2 Er"]
    rank: Int[Tensor, "Vr"]
    slot: Int[Tensor, "Vr"]
    node_mask: Bool[Tensor, "Vr N"]
    edge_mask: Bool[Tensor, "Er N"]
    max_nodes: int

    def __len__(self) -> int:
        return len(self.video)

    def sum_nodes(self, values: Tensor) -> Tensor:
        """Sum values (V', ...) over the nodes of each graph: (G, ...)."""
        return values.new_zeros(len(self), *values.shape[1:]).index_add(0, self.graph, values)


def _repeat(counts: np.ndarray, row_video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For rows that copy videos of ``counts`` items: the item copied and the row of every copy."""
    lengths = counts[row_video]
    row = np.repeat(np.arange(len(row_video)), lengths)
    position = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first = np.cumsum(np.concatenate([[0], counts]))[row_video]
    return first[row] + position, row


def _map_tensors(batch, function):
    changed = {f.name: function(v) for f in dataclasses.fields(batch)
               if isinstance(v := getattr(batch, f.name), Tensor)}  # fmt: skip
    return dataclasses.replace(batch, **changed)


def collate(graphs: Sequence[SceneGraph], keep_absent: bool = False) -> SceneGraphBatch:
    """Stack graphs; N is the largest number of frames, shorter videos get masked frames at the end.

    Args:
        graphs: videos of one vocabulary, all with visual features or all without.
        keep_absent: keep slots and edges that appear in no frame (they change no result; by default they are dropped).

    Raises:
        GraphError: the graphs do not fit together.
    """
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
    N = max(graph.num_frames for graph in graphs)
    slots = [np.arange(g.num_slots) if keep_absent else np.flatnonzero(g.present.any(0)) for g in graphs]
    links = [np.arange(g.num_edges) if keep_absent else np.flatnonzero(g.edge_present.any(0)) for g in graphs]
    node_counts, edge_counts = [len(s) for s in slots], [len(e) for e in links]
    offsets = np.cumsum([0, *node_counts])

    def tracks(arrays: list[np.ndarray]) -> Tensor:
        """(T, X, ...) per video → (sum of X, N, ...), padded in time."""
        out = np.zeros((sum(a.shape[1] for a in arrays), N, *arrays[0].shape[2:]), dtype=arrays[0].dtype)
        start = 0
        for a in arrays:
            out[start : start + a.shape[1], : a.shape[0]] = a.swapaxes(0, 1)
            start += a.shape[1]
        return torch.from_numpy(out)

    def frames(arrays: list[np.ndarray]) -> Tensor:
        return tracks([a[:, None] for a in arrays])

    ends = []
    for g, kept, edge, offset in zip(graphs, slots, links, offsets[:-1], strict=True):
        place = np.zeros(g.num_slots, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        ends.append(place[g.edges[:, edge]] + offset)
    visual = first.features is not None
    whole = first.frame_features is not None
    return SceneGraphBatch(
        videos=tuple(g.video for g in graphs),
        node_video=torch.from_numpy(np.repeat(np.arange(len(graphs)), node_counts)),
        node_slot=torch.from_numpy(np.concatenate(slots)),
        node_rank=torch.from_numpy(np.concatenate([np.arange(n) for n in node_counts])),
        classes=torch.from_numpy(np.concatenate([g.classes[s] for g, s in zip(graphs, slots, strict=True)])),
        boxes=tracks([g.boxes[:, s].astype(np.float32) for g, s in zip(graphs, slots, strict=True)]),
        node_mask=tracks([g.present[:, s] for g, s in zip(graphs, slots, strict=True)]),
        edges=torch.from_numpy(np.concatenate(ends, axis=1)),
        edge_slot=torch.from_numpy(np.concatenate(links)),
        relations=tracks([g.relations[:, e].astype(np.float32) for g, e in zip(graphs, links, strict=True)]),
        edge_mask=tracks([g.edge_present[:, e] for g, e in zip(graphs, links, strict=True)]),
        frame_mask=frames([np.ones(g.num_frames, dtype=bool) for g in graphs]),
        features=tracks([g.features[:, s].astype(np.float32) for g, s in zip(graphs, slots, strict=True)])
        if visual
        else None,
        frame_features=frames([g.frame_features.astype(np.float32) for g in graphs]) if whole else None,
        labels=torch.from_numpy(np.stack([g.multi_hot() for g in graphs]).astype(np.float32)),
        node_counts=tuple(node_counts),
        edge_counts=tuple(edge_counts),
    )
