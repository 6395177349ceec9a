"""Stem: boxes, classes and visual features become node features of width D."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.batch import SceneGraphBatch
from proda_lib.errors import GraphError
from proda_lib.nn.blocks import MLP


def sinusoids(frames: int, width: int) -> Float[Tensor, "N D"]:
    """Sines and cosines that go through 1 to N / 2 half-waves over the N frames; each has amplitude 1."""
    half_waves = torch.linspace(1.0, max(frames / 2, 1.0), -(-width // 2))
    angle = torch.pi * torch.linspace(0.0, 1.0, frames)[:, None] * half_waves
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :width].contiguous()


class Stem(nn.Module):
    """f = MLP([appearance, W_b box]) + temporal position, for every node and for the whole frame.

    Appearance is the visual adapter's output (visual → D). Without visual features a class embedding takes its place,
    and a learned token stands for the whole frame. The whole frame is one more node with box (0, 0, 1, 1). The position
    is learned, and starts as :func:`sinusoids`: from small noise, the order of the frames is hardly ever discovered.

    Shapes: batch of P node and F whole-frame tokens → nodes (P, D), whole frames (F, D), and the adapter's output
    (P, D) for ``graph_supervision``.
    """

    def __init__(self, objects: int, visual: int, frames: int, width: int):
        super().__init__()
        self.visual, self.frames = visual, frames
        if visual:
            self.adapter = MLP(visual, width, width)
        else:
            self.appearance = nn.Embedding(objects, width)
            self.whole_frame = nn.Parameter(torch.randn(width) * 0.02)
        self.box = nn.Linear(4, width)
        self.fuse = MLP(2 * width, width, width)
        self.position = nn.Parameter(sinusoids(frames, width))
        self.register_buffer("whole_box", torch.tensor([0.0, 0.0, 1.0, 1.0]), persistent=False)

    def forward(
        self, batch: SceneGraphBatch
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "F D"], Float[Tensor, "P D"]]:
        N = batch.frame_mask.shape[1]
        given = 0 if batch.features is None else batch.features.shape[-1]
        if given != self.visual:
            raise GraphError(batch.videos[0], "features", f"width {given}", f"width {self.visual}, as in the model")
        whole = 0 if batch.frame_features is None else batch.frame_features.shape[-1]
        if whole != self.visual:
            expected = f"width {self.visual}, as in the model"
            raise GraphError(batch.videos[0], "frame_features", f"width {whole}", expected)
        if N > self.frames:
            raise GraphError(batch.videos[0], "frames", N, f"at most {self.frames}; use SceneGraph.sample_frames")
        if self.visual:
            seen, whole = self.adapter(batch.features), self.adapter(batch.frame_features)
        else:
            seen = self.appearance(batch.classes)
            whole = self.whole_frame.expand(len(batch.frame_index), -1)
        nodes = self.fuse(torch.cat([seen, self.box(batch.boxes)], -1))
        whole = self.fuse(torch.cat([whole, self.box(self.whole_box).expand_as(whole)], -1))
        position = self.position.index_select(0, batch.node_frame), self.position.index_select(0, batch.frame_index % N)
        return nodes + position[0], whole + position[1], seen
