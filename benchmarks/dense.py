"""Batches as they are usually laid out: every video padded to the same slots, edges and frames, with masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from proda_lib.graph import SceneGraph


@dataclass(eq=False)
class DenseBatch:
    """B videos over N frames with M slots and E directed edges each, whether they exist or not.

    Attributes:
        classes: (B, M). ``boxes``: (B, N, M, 4). ``mask``: (B, N, M), which nodes exist.
        edges: (B, 2, E) sender and receiver slots, 0 and 0 where the list is padded.
        relations: (B, N, E, R) multi-hot. ``edge_mask``: (B, N, E), false for padding.
        frame_mask: (B, N). ``labels``: (B, C) multi-hot.
        features: (B, N, M, F) or None; ``frame_features``: (B, N, F) or None.
    """

    classes: Int[Tensor, "B M"]
    boxes: Float[Tensor, "B N M 4"]
    mask: Bool[Tensor, "B N M"]
    edges: Int[Tensor, "B 2 E"]
    relations: Float[Tensor, "B N E R"]
    edge_mask: Bool[Tensor, "B N E"]
    frame_mask: Bool[Tensor, "B N"]
    labels: Float[Tensor, "B C"]
    features: Float[Tensor, "B N M F"] | None = None
    frame_features: Float[Tensor, "B N F"] | None = None

    @classmethod
    def of(cls, graphs: Sequence[SceneGraph], slots: int) -> DenseBatch:
        """Pad ``graphs`` to ``slots`` slots and to the largest number of frames and edges among them."""
        frames, edges = max(g.num_frames for g in graphs), max(g.num_edges for g in graphs)

        def pad(arrays: list[np.ndarray], *lengths: int) -> Tensor:
            """Zeros behind the leading axes of each array, up to ``lengths``; floats in single precision."""
            kind = np.float32 if arrays[0].dtype.kind == "f" else arrays[0].dtype
            out = np.zeros((len(arrays), *lengths, *arrays[0].shape[len(lengths) :]), kind)
            for place, array in zip(out, arrays, strict=True):
                place[tuple(slice(n) for n in array.shape[: len(lengths)])] = array
            return torch.from_numpy(out)

        optional = {}
        if graphs[0].features is not None:
            optional["features"] = pad([g.features for g in graphs], frames, slots)
            optional["frame_features"] = pad([g.frame_features for g in graphs], frames)
        return cls(
            classes=pad([g.classes for g in graphs], slots),
            boxes=pad([g.boxes for g in graphs], frames, slots),
            mask=pad([g.present for g in graphs], frames, slots),
            edges=pad([g.edges for g in graphs], 2, edges),
            relations=pad([g.relations.astype(np.float32) for g in graphs], frames, edges),
            edge_mask=pad([g.edge_present for g in graphs], frames, edges),
            frame_mask=pad([np.ones(g.num_frames, dtype=bool) for g in graphs], frames),
            labels=pad([g.multi_hot().astype(np.float32) for g in graphs], len(graphs[0].vocabulary.actions)),
            **optional,
        )

    def take(self, videos: Int[Tensor, "G"]) -> DenseBatch:
        """A copy of the given videos, one for each row."""
        return self._map(lambda tensor: tensor.index_select(0, videos))

    def to(self, target: torch.device | str | torch.dtype) -> DenseBatch:
        """On another device, or with floats of another precision."""
        kept = isinstance(target, torch.dtype)
        return self._map(lambda tensor: tensor if kept and not tensor.is_floating_point() else tensor.to(target))

    def _map(self, function) -> DenseBatch:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return DenseBatch(**{name: None if value is None else function(value) for name, value in given.items()})
