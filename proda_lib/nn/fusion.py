"""Fusion of the two disentangled graphs and reconstruction of the original one (eq. 6)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.nn.blocks import MLP


class Fusion(nn.Module):
    """F_t = δ F_u + (1 − δ) F_s with δ = sigmoid(Net2([F_u, F_s])), one δ per node.

    Net2 is a linear layer (``hidden=False``, paper) or an MLP 2D → D → D/2 → 1 (``hidden=True``, released).

    Shapes: F_u, F_s (P', D) → F_t (P', D), δ (P',).
    """

    def __init__(self, width: int, hidden: bool = False):
        super().__init__()
        self.delta = MLP(2 * width, width, width // 2, 1) if hidden else nn.Linear(2 * width, 1)

    def forward(
        self, unspecified: Float[Tensor, "Pr D"], specified: Float[Tensor, "Pr D"]
    ) -> tuple[Float[Tensor, "Pr D"], Float[Tensor, "Pr"]]:
        delta = torch.sigmoid(self.delta(torch.cat([unspecified, specified], -1)))
        return specified + delta * (unspecified - specified), delta[..., 0]


class Reconstruction(MLP):
    """F_r = Net1(F_t), a 3-layer MLP. (P', D) → (P', D)."""

    def __init__(self, width: int):
        super().__init__(width, width, width, width)
