"""VGNorm (eq. 3–4) and its three rivals of table 4, on packed node tracks with masks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.batch import GraphRows
from proda_lib.errors import GraphError, RecipeError


def _per_frame(rows: GraphRows) -> Float[Tensor, "G N"]:
    """Number of nodes that each graph has in each frame."""
    return rows.sum_nodes(rows.node_mask.float())


class VGNorm(nn.Module):
    """F* = γ (F − α μ_g) / σ + β with σ² = Σ_{j,d} (F − α μ_g)² / (M D − 1) per video and frame.

    μ in R^N is the mean per frame over videos, nodes and channels; μ_g ← α_m μ_g + (1 − α_m) μ with α_m = 0.9.
    α, β, γ in R^N start at 1, 0, 1. Absent nodes are left out of every sum. Eq. (4) is read literally: μ_g, updated
    first and detached, normalises in training too. The other reading is :class:`VGNormReleased`. 1e-12 is added to the
    variance, so that a frame whose nodes are all alike gives zeros, not NaN.

    Shapes: F (V', N', D) with N' <= N → same, zero where absent.
    """

    momentum = 0.9

    def __init__(self, frames: int, width: int):
        super().__init__()
        self.alpha, self.gamma = nn.Parameter(torch.ones(frames)), nn.Parameter(torch.ones(frames))
        self.beta = nn.Parameter(torch.zeros(frames))
        self.register_buffer("running_mean", torch.zeros(frames))

    @torch.no_grad()
    def _update(self, x: Tensor, rows: GraphRows) -> None:
        N, D = x.shape[1:]
        total = (x.sum(-1) * rows.node_mask).sum(0)
        count = rows.node_mask.sum(0) * D
        mean = (total / count.clamp(min=1)).to(self.running_mean.dtype)
        old = self.running_mean[:N]
        self.running_mean[:N] = torch.where(count > 0, self.momentum * old + (1 - self.momentum) * mean, old)

    def forward(self, x: Float[Tensor, "Vr N D"], rows: GraphRows) -> Float[Tensor, "Vr N D"]:
        N, D = x.shape[1:]
        if self.training:
            self._update(x, rows)
        alpha, beta, gamma = self.alpha[:N], self.beta[:N], self.gamma[:N]
        mask = rows.node_mask[..., None]
        mean = self.running_mean[:N].clone()  # a later forward updates it before this one's backward
        centred = (x - (alpha * mean)[:, None]) * mask
        squares = rows.sum_nodes(centred.square().sum(-1))
        variance = squares / (_per_frame(rows) * D - 1).clamp(min=1)
        scale = gamma * torch.rsqrt(variance + 1e-12)
        return (centred * scale.index_select(0, rows.graph)[..., None] + beta[:, None]) * mask


class VGNormReleased(nn.Module):
    """VGNorm as in the public code: person and objects apart, batch mean with gradient in training.

    For each of the two groups (slot 0; the other ``slots`` − 1): mean per frame over the batch in training, running
    mean in evaluation; σ² = Σ (F − α μ)² / (slots of the group + D − 1) + 1e-5. Absent slots count: they are zeros
    before the norm, so each adds nothing to the mean's sum, one node to its count, and D (α μ)² to σ's sum.
    """

    momentum, eps = 0.9, 1e-5

    def __init__(self, frames: int, width: int, slots: int):
        super().__init__()
        self.alpha, self.gamma = nn.Parameter(torch.ones(2, frames)), nn.Parameter(torch.ones(2, frames))
        self.beta = nn.Parameter(torch.zeros(2, frames))
        self.register_buffer("running_mean", torch.zeros(2, frames))
        self.num_slots = slots
        self.register_buffer("slots", torch.tensor([1.0, slots - 1.0]), persistent=False)

    def forward(self, x: Float[Tensor, "Vr N D"], rows: GraphRows) -> Float[Tensor, "Vr N D"]:
        if rows.max_nodes > self.num_slots:
            raise GraphError("batch", "slots", rows.max_nodes, f"at most {self.num_slots} slots, as in the model")
        N, D = x.shape[1:]
        mask = rows.node_mask[..., None]
        x = x * mask
        group = (rows.slot > 0).long()  # 0: person, 1: object
        cell = rows.graph * 2 + group

        def sums(values: Tensor) -> Tensor:
            """(V', N) → (G, 2, N)"""
            return values.new_zeros(len(rows) * 2, N).index_add(0, cell, values).view(len(rows), 2, N)

        if self.training:
            mean = sums(x.sum(-1)).sum(0) / (len(rows) * self.slots[:, None] * D)
            with torch.no_grad():
                kept = self.momentum * self.running_mean[:, :N]
                self.running_mean[:, :N] = kept + (1 - self.momentum) * mean
        else:
            mean = self.running_mean[:, :N]
        shift = self.alpha[:, :N] * mean
        centred = (x - shift.index_select(0, group)[..., None]) * mask
        absent = self.slots[:, None] - sums(rows.node_mask.to(x.dtype))
        squares = sums(centred.square().sum(-1)) + absent * D * shift.square()
        variance = squares / (self.slots[:, None] + D - 1)
        scale = (self.gamma[:, :N] * torch.rsqrt(variance + self.eps)).flatten(0, 1)
        return (centred * scale.index_select(0, cell)[..., None] + self.beta[:, :N][group][..., None]) * mask


class LayerNorm(nn.LayerNorm):
    """Over the channels of each node. (V', N, D) → (V', N, D), zero where absent."""

    def __init__(self, frames: int, width: int):
        super().__init__(width)

    def forward(self, x: Float[Tensor, "Vr N D"], rows: GraphRows) -> Float[Tensor, "Vr N D"]:
        return super().forward(x) * rows.node_mask[..., None]


class FrameBatchNorm(nn.Module):
    """BatchNorm with the frame axis as its channels: mean and variance per frame over videos, nodes and channels.

    ``nn.BatchNorm1d`` knows no masks, hence these lines; momentum 0.1 and eps 1e-5 are its defaults.
    """

    def __init__(self, frames: int, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(frames)), nn.Parameter(torch.zeros(frames))
        self.register_buffer("running_mean", torch.zeros(frames))
        self.register_buffer("running_var", torch.ones(frames))

    def forward(self, x: Float[Tensor, "Vr N D"], rows: GraphRows) -> Float[Tensor, "Vr N D"]:
        N, D = x.shape[1:]
        mask = rows.node_mask[..., None]
        mean, var = self.running_mean[:N], self.running_var[:N]
        if self.training:
            count = (rows.node_mask.sum(0) * D).clamp(min=1)
            batch_mean = (x * mask).sum((0, 2)) / count
            batch_var = ((x - batch_mean[:, None]).square() * mask).sum((0, 2)) / count
            with torch.no_grad():
                seen = rows.node_mask.any(0)
                unbiased = batch_var * count / (count - 1).clamp(min=1)
                self.running_mean[:N] = torch.where(seen, torch.lerp(mean, batch_mean.to(mean.dtype), 0.1), mean)
                self.running_var[:N] = torch.where(seen, torch.lerp(var, unbiased.to(var.dtype), 0.1), var)
            mean, var = batch_mean, batch_var
        scale = self.weight[:N] * torch.rsqrt(var + 1e-5)
        return ((x - mean[:, None]) * scale[:, None] + self.bias[:N, None]) * mask


class GraphNorm(nn.Module):
    """GraphNorm: γ (x − α mean) / sqrt(mean((x − α mean)²) + 1e-5) + β, per video and channel over all its nodes.

    The whole video is one graph, so its nodes are all (frame, slot) pairs that exist. α, β, γ in R^D.
    """

    def __init__(self, frames: int, width: int):
        super().__init__()
        self.alpha, self.gamma = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "Vr N D"], rows: GraphRows) -> Float[Tensor, "Vr N D"]:
        mask = rows.node_mask[..., None]
        count = _per_frame(rows).sum(1).clamp(min=1)[:, None]
        mean = rows.sum_nodes((x * mask).sum(1)) / count
        centred = (x - (self.alpha * mean).index_select(0, rows.graph)[:, None]) * mask
        variance = rows.sum_nodes(centred.square().sum(1)) / count
        scale = self.gamma * torch.rsqrt(variance + 1e-5)
        return (centred * scale.index_select(0, rows.graph)[:, None] + self.beta) * mask


def make_norm(name: str, frames: int, width: int, slots: int) -> nn.Module:
    """The norm of table 4 by name: vgnorm, vgnorm_released, layer, batch or graph."""
    if name == "vgnorm_released":
        return VGNormReleased(frames, width, slots)
    norms = {"vgnorm": VGNorm, "layer": LayerNorm, "batch": FrameBatchNorm, "graph": GraphNorm}
    if name not in norms:
        raise RecipeError(f"norm: found {name!r}, expected one of {sorted([*norms, 'vgnorm_released'])}")
    return norms[name](frames, width)
