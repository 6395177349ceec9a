"""Useful floating-point operations of a training step: matrix products of what exists, each done once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proda_lib.graph import SceneGraph
from proda_lib.models.config import ModelConfig


@dataclass(frozen=True)
class Counts:
    """How much there is in the videos of a batch.

    Attributes:
        videos, frames, nodes, edges: videos; existing frames, (frame, node) and (frame, directed edge) pairs in all.
        spatial: pairs (query, key) of spatial attention, whole frames among them. ``temporal``: of temporal attention.
        edge_pairs: of the attention over the frames of each edge.
    """

    videos: int
    frames: int
    nodes: int
    edges: int
    spatial: int
    temporal: int
    edge_pairs: int

    @classmethod
    def of(cls, graphs: Sequence[SceneGraph]) -> Counts:
        def total(function) -> int:
            return int(sum(np.sum(function(g)) for g in graphs))

        return cls(
            videos=len(graphs),
            frames=total(lambda g: g.num_frames),
            nodes=total(lambda g: g.present),
            edges=total(lambda g: g.edge_present),
            spatial=total(lambda g: (1 + g.present.sum(1)) ** 2),
            temporal=total(lambda g: g.num_frames**2 + (g.present.sum(0) ** 2).sum()),
            edge_pairs=total(lambda g: g.edge_present.sum(0) ** 2),
        )


def forward_flops(config: ModelConfig, counts: Counts, specifications: int, split: bool = True) -> dict[str, int]:
    """Forward operations of the ``paper`` model by part, with a_s, a_u and a_t, without a_m.

    A product of (n, i) and (i, o) is 2 n i o; only matrix products count. The encoder runs once per video, what a
    prompt alone decides once per specification and branch. ``split=True`` counts a linear layer on a concatenation as
    the sum over its parts, each once per node, per edge of a row, or per edge of a video, and the last layer of
    messages once per receiving node: the least known work. ``split=False`` counts both layers per edge, as written.

    Args:
        specifications: S of each video.
    """
    D, C, T, layers = config.width, config.actions, config.candidates, config.layers
    square = 2 * D * D  # one token through one D × D layer
    block, ffn = 12 * square, 8 * square
    rows = 2 * specifications  # copies of each video in the VGPNN: two branches
    nodes, edges, tokens = rows * counts.nodes, rows * counts.edges, counts.nodes + counts.frames
    adapter = 2 * config.visual * D + square if config.visual else 0
    dual_ai = tokens * (6 * block + 4 * square + square) + 3 * 4 * D * (counts.spatial + counts.temporal)
    encoder = tokens * (adapter + 2 * 4 * D + 3 * square) + dual_ai + counts.nodes * ffn
    encoder += counts.edges * (4 * square + 2 * config.relations * D)
    if config.prompt == "simple":
        prompts = rows * counts.videos * 2 * C * D
    else:
        per_node = (1 + layers) * 4 * D * T  # W_w f and Σ α_t q_t
        prompts = rows * counts.videos * (2 * C * D + 2 * C * T * D + 2 * D * T) + nodes * per_node
    if split:
        links = nodes * 2 * square + counts.edges * square + edges * square
        messages = nodes * 2 * square + edges * square
    else:
        links, messages = edges * 4 * square, edges * 3 * square
    transformers = edges * config.depth * block + rows * counts.edge_pairs * config.depth * 4 * D
    score = 2 * D * (D // 4) + 2 * (D // 4)

    def readout(classes: int) -> int:
        """For all rows of one branch."""
        per_token = ffn + score
        return specifications * (counts.nodes * per_token + counts.frames * per_token
                                 + counts.videos * (ffn + 2 * D * classes))  # fmt: skip

    return {
        "encoder": encoder,
        "prompts": prompts,
        "branch ffn": nodes * ffn,
        "links": layers * links,
        "transformers": layers * transformers,
        "messages": layers * (messages + edges * 2 * D),
        "node updates": layers * nodes * 2 * square,
        "fusion and reconstruction": nodes // 2 * (4 * D + 3 * square),
        "readouts": 2 * readout(C + 1) + readout(C),
    }


def training_flops(config: ModelConfig, graphs: Sequence[SceneGraph], specifications: int) -> int:
    """A step is three forwards: the backward pass multiplies twice for each product (inputs and weights).

    The optimiser, element-wise work, recomputation, and a_m (which stage 1 does not train) do not count.
    """
    return 3 * sum(forward_flops(config, Counts.of(graphs), specifications).values())
