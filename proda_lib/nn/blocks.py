"""The standard parts that the blocks of the paper are built from: MLP, feed-forward network, masked self-attention.

``nn.TransformerEncoderLayer`` is not used: it returns NaN for sequences in which everything is masked, and its mask
handling forbids the packed shapes that make absent nodes free.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear → GELU → ... → Linear over the sizes given: ``MLP(D, D, 1)`` has two linear layers."""

    def __init__(self, *sizes: int):
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            layers += [nn.GELU()] if i else []
            layers.append(nn.Linear(inputs, outputs))
        super().__init__(*layers)


class FFN(nn.Module):
    """Feed-forward sub-layer of the Transformer: LayerNorm(x + Dropout(W2 GELU(W1 x))), hidden width 4D.

    Shapes: (..., D) → (..., D).
    """

    def __init__(self, width: int, dropout: float = 0.0):
        super().__init__()
        self.mlp = MLP(width, 4 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        return self.norm(x + self.dropout(self.mlp(x)))


#: Queries, keys and values (S, N, 3, heads, d), mask (S, N) and dropout → attended values (S, N, heads, d).
Attend = Callable[[Tensor, Tensor, float], Tensor]


class SelfAttentionBlock(nn.Module):
    """One encoder block of figure 6, pre-norm: x + Attention(LN(x)), then x + W2 GELU(W1 LN(x)).

    Dropout falls on attention weights and on the output of each half, as in the Transformer. Which elements see each
    other is the business of ``attend`` (:func:`over_frames` by default): linear layers run on the tracks as they are.

    Shapes: x (S, N, D) tracks over N frames, mask (S, N) of the elements that exist → (S, N, D).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, 4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "S N D"], mask: Bool[Tensor, "S N"], attend: Attend | None = None
    ) -> Float[Tensor, "S N D"]:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        attended = (attend or over_frames)(qkv, mask, self.dropout if self.training else 0.0)
        x = x + self.drop(self.out(attended.flatten(-2)))
        return x + self.drop(self.mlp(self.norm2(x)))


def masked_attention(qkv: Float[Tensor, "S L 3 H d"], mask: Bool[Tensor, "S L"], dropout: float) -> Tensor:
    """Softmax attention over L. What does not exist is never attended to, but attends to itself and so stays finite."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    allowed = mask[:, None, None, :] | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return F.scaled_dot_product_attention(q, k, v, allowed, dropout_p=dropout).transpose(1, 2)


#: Temporal attention: each track attends over its own frames.
over_frames = masked_attention


def over_nodes(place: Int[Tensor, "S"], videos: int, nodes: int) -> Attend:
    """Spatial attention: each element attends over the tracks of its video in the same frame.

    ``place``: (S,) video · nodes + position of each track in its video; only here are tracks laid out densely.
    """

    def attend(qkv: Tensor, mask: Tensor, dropout: float) -> Tensor:
        N = mask.shape[1]

        def dense(values: Tensor) -> Tensor:  # (S, N, ...) → (videos · N, nodes, ...)
            laid = values.new_zeros(videos * nodes, *values.shape[1:]).index_copy(0, place, values)
            return laid.unflatten(0, (videos, nodes)).transpose(1, 2).flatten(0, 1)

        attended = masked_attention(dense(qkv), dense(mask), dropout)
        return attended.unflatten(0, (videos, N)).transpose(1, 2).flatten(0, 1).index_select(0, place)

    return attend


class SelfAttentionEncoder(nn.Module):
    """``depth`` temporal blocks of figure 6 and a final LayerNorm. (S, N, D), (S, N) → (S, N, D)."""

    def __init__(self, width: int, heads: int, depth: int, dropout: float = 0.0):
        super().__init__()
        self.blocks = nn.ModuleList(SelfAttentionBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "S N D"], mask: Bool[Tensor, "S N"]) -> Float[Tensor, "S N D"]:
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
