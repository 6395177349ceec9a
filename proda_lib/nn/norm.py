"""VGNorm (eq. 3–4) and its three rivals of table 4, on node tokens.

Statistics of a batch are those of the whole batch, also when several processes hold a part of it each. They are taken
in single precision at least, whatever the precision of the features.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.batch import GraphRows
from proda_lib.distributed import all_count, all_sum
from proda_lib.errors import GraphError, RecipeError


def _for_sums(x: Tensor) -> Tensor:
    """At least single precision: in bfloat16, as of autocast, a sum of a few hundred numbers is off by percents."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class VGNorm(nn.Module):
    """F* = γ (F − α μ_g) / σ + β with σ² = Σ_{j,d} (F − α μ_g)² / (M D − 1) per video and frame.

    μ in R^N is the mean per frame over videos, nodes and channels; μ_g ← α_m μ_g + (1 − α_m) μ with α_m = 0.9.
    α, β, γ in R^N start at 1, 0, 1; the text states neither these nor α_m. Absent nodes are in no sum. Eq. (4) is read
    literally: μ_g, updated first and detached, normalises in training too. The other reading is
    :class:`VGNormReleased`. 1e-12 is added to the variance, so that a frame whose nodes are all alike gives zeros, not
    NaN.

    Shapes: F (P', D), in at most N frames → same.
    """

    momentum = 0.9

    def __init__(self, frames: int, width: int):
        super().__init__()
        self.alpha, self.gamma = nn.Parameter(torch.ones(frames)), nn.Parameter(torch.ones(frames))
        self.beta = nn.Parameter(torch.zeros(frames))
        self.register_buffer("running_mean", torch.zeros(frames))

    @torch.no_grad()
    def _update(self, x: Tensor, rows: GraphRows) -> None:
        N, D = rows.frames, x.shape[1]
        sums = torch.stack([rows.sum_nodes(x.sum(-1)).sum(0), rows.node_count.sum(0).to(x.dtype) * D])
        total, count = all_sum(sums)
        mean = (total / count.clamp(min=1)).to(self.running_mean.dtype)
        old = self.running_mean[:N]
        self.running_mean[:N] = torch.where(count > 0, self.momentum * old + (1 - self.momentum) * mean, old)

    def forward(self, x: Float[Tensor, "Pr D"], rows: GraphRows) -> Float[Tensor, "Pr D"]:
        x = _for_sums(x)
        if self.training:
            self._update(x, rows)
        # A later forward updates the running mean before this one's backward: the product is a copy.
        shift = self.alpha * self.running_mean.clone()
        centred = x - shift.index_select(0, rows.frame)[:, None]
        squares = rows.sum_nodes(centred.square().sum(-1))
        variance = squares / (rows.node_count * x.shape[1] - 1).clamp(min=1)
        scale = self.gamma[: rows.frames] * torch.rsqrt(variance + 1e-12)
        beta = self.beta.index_select(0, rows.frame)
        return centred * scale.flatten().index_select(0, rows.cell)[:, None] + beta[:, None]


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

    def forward(self, x: Float[Tensor, "Pr D"], rows: GraphRows) -> Float[Tensor, "Pr D"]:
        if rows.max_nodes > self.num_slots:
            raise GraphError("batch", "slots", rows.max_nodes, f"at most {self.num_slots} slots, as in the model")
        x, N, D = _for_sums(x), rows.frames, x.shape[1]
        group = (rows.slot > 0).long()  # 0: person, 1: object
        cell = (rows.graph * 2 + group) * N + rows.frame

        def sums(values: Tensor) -> Tensor:
            """(P',) → (G, 2, N)"""
            return values.new_zeros(len(rows) * 2 * N).index_add(0, cell, values).view(len(rows), 2, N)

        if self.training:
            graphs = all_count(len(rows), x)
            mean = all_sum(sums(x.sum(-1)).sum(0)) / (graphs * self.slots[:, None] * D)
            with torch.no_grad():
                kept = self.momentum * self.running_mean[:, :N]
                self.running_mean[:, :N] = kept + (1 - self.momentum) * mean
        else:
            mean = self.running_mean[:, :N]
        shift = self.alpha[:, :N] * mean
        place = group * N + rows.frame
        centred = x - shift.flatten().index_select(0, place)[:, None]
        absent = self.slots[:, None] - sums(torch.ones_like(x[:, 0]))
        squares = sums(centred.square().sum(-1)) + absent * D * shift.square()
        variance = squares / (self.slots[:, None] + D - 1)
        scale = (self.gamma[:, :N] * torch.rsqrt(variance + self.eps)).flatten()
        beta = self.beta[:, :N].flatten().index_select(0, place)
        return centred * scale.index_select(0, cell)[:, None] + beta[:, None]


class LayerNorm(nn.LayerNorm):
    """Over the channels of each node. (P', D) → (P', D)."""

    def __init__(self, frames: int, width: int):
        super().__init__(width)

    def forward(self, x: Float[Tensor, "Pr D"], rows: GraphRows) -> Float[Tensor, "Pr D"]:
        return super().forward(x)


class FrameBatchNorm(nn.Module):
    """BatchNorm with the frame axis as its channels: mean and variance per frame over videos, nodes and channels.

    ``nn.BatchNorm1d`` wants as many nodes in every frame, hence these lines; momentum 0.1, eps 1e-5 as there.
    """

    def __init__(self, frames: int, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(frames)), nn.Parameter(torch.zeros(frames))
        self.register_buffer("running_mean", torch.zeros(frames))
        self.register_buffer("running_var", torch.ones(frames))

    def forward(self, x: Float[Tensor, "Pr D"], rows: GraphRows) -> Float[Tensor, "Pr D"]:
        x, N, D, frame = _for_sums(x), rows.frames, x.shape[1], rows.frame
        mean, var = self.running_mean[:N], self.running_var[:N]
        if self.training:
            nodes = all_sum(rows.node_count.sum(0))
            count = (nodes * D).clamp(min=1)
            batch_mean = all_sum(rows.sum_nodes(x.sum(-1)).sum(0)) / count
            centred = x - batch_mean.index_select(0, frame)[:, None]
            batch_var = all_sum(rows.sum_nodes(centred.square().sum(-1)).sum(0)) / count
            with torch.no_grad():
                unbiased = batch_var * count / (count - 1).clamp(min=1)
                self.running_mean[:N] = torch.where(nodes > 0, torch.lerp(mean, batch_mean.to(mean.dtype), 0.1), mean)
                self.running_var[:N] = torch.where(nodes > 0, torch.lerp(var, unbiased.to(var.dtype), 0.1), var)
            mean, var = batch_mean, batch_var
        scale = self.weight[:N] * torch.rsqrt(var + 1e-5)
        mean, scale, bias = (v.index_select(0, frame)[:, None] for v in (mean, scale, self.bias))
        return (x - mean) * scale + bias


class GraphNorm(nn.Module):
    """GraphNorm: γ (x − α mean) / sqrt(mean((x − α mean)²) + 1e-5) + β, per video and channel over all its nodes.

    The whole video is one graph, so its nodes are all (frame, slot) pairs that exist. α, β, γ in R^D.
    """

    def __init__(self, frames: int, width: int):
        super().__init__()
        self.alpha, self.gamma = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "Pr D"], rows: GraphRows) -> Float[Tensor, "Pr D"]:
        x, count = _for_sums(x), rows.node_count.sum(1).clamp(min=1)[:, None]
        mean = rows.sum_graphs(x) / count
        centred = x - (self.alpha * mean).index_select(0, rows.graph)
        variance = rows.sum_graphs(centred.square()) / count
        scale = self.gamma * torch.rsqrt(variance + 1e-5)
        return centred * scale.index_select(0, rows.graph) + self.beta


#: Every norm that a model may have; none of their parameters has weight decay.
NORMS = (nn.LayerNorm, VGNorm, VGNormReleased, FrameBatchNorm, GraphNorm)


def make_norm(name: str, frames: int, width: int, slots: int) -> nn.Module:
    """The norm of table 4 by name: vgnorm, vgnorm_released, layer, batch or graph."""
    if name == "vgnorm_released":
        return VGNormReleased(frames, width, slots)
    norms = {"vgnorm": VGNorm, "layer": LayerNorm, "batch": FrameBatchNorm, "graph": GraphNorm}
    if name not in norms:
        raise RecipeError(f"norm: found {name!r}, expected one of {sorted([*norms, 'vgnorm_released'])}")
    return norms[name](frames, width)
