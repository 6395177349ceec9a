"""Readout (section 3.3) and classification head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.batch import GraphRows
from proda_lib.nn.blocks import FFN, MLP


@dataclass(eq=False)
class ReadoutOutput:
    """``logits`` (G, classes), frame scores ``s`` (G, N) in 0..1 and ``feature`` (G, D) before the last layer."""

    logits: Float[Tensor, "G classes"]
    s: Float[Tensor, "G N"]
    feature: Float[Tensor, "G D"]


#: Probability that every class starts with.
PRIOR = 0.05


class Readout(nn.Module):
    """FFN → node score → Σ over nodes → FFN → frame score s → Σ over frames → FFN → linear.

    Scores are sigmoids of MLPs and the weighted sums are not divided by their weights, as the text has it. Frames
    that the video does not have weigh nothing. ``s`` is returned as it is; :func:`localization_score` squares and
    scales it.

    The last layer's bias starts at the log-odds of :data:`PRIOR`, since most actions are absent from most videos: from
    0, the first epoch is spent on learning just that.

    Shapes: nodes (P', D) → see :class:`ReadoutOutput`.
    """

    def __init__(self, width: int, classes: int, dropout: float = 0.0):
        super().__init__()
        hidden = max(width // 4, 1)
        self.node_ffn, self.node_score = FFN(width, dropout), MLP(width, hidden, 1)
        self.frame_ffn, self.frame_score = FFN(width, dropout), MLP(width, hidden, 1)
        self.video_ffn, self.classifier = FFN(width, dropout), nn.Linear(width, classes)
        nn.init.constant_(self.classifier.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, nodes: Float[Tensor, "Pr D"], rows: GraphRows, frame_mask: Tensor) -> ReadoutOutput:
        """``frame_mask``: (B, N) of the batch that the rows copy."""
        nodes = self.node_ffn(nodes)
        frames = self.frame_ffn(rows.sum_nodes(torch.sigmoid(self.node_score(nodes)) * nodes))
        s = torch.sigmoid(self.frame_score(frames))[..., 0] * frame_mask.index_select(0, rows.video)
        feature = self.video_ffn((s[..., None] * frames).sum(1))
        return ReadoutOutput(self.classifier(feature), s, feature)


def localization_score(s: Float[Tensor, "G N"]) -> Float[Tensor, "G N"]:
    """s² / max over frames of s²: the frame score where it is used to localise (figures 3 and 8, tables 8 and 9)."""
    squared = s.square()
    return squared / squared.amax(-1, keepdim=True).clamp(min=torch.finfo(s.dtype).tiny)
