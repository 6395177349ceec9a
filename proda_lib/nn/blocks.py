"""The standard parts that the blocks of the paper are built from: MLP, feed-forward network, masked self-attention.

``nn.TransformerEncoderLayer`` is not used: it returns NaN for sequences in which everything is masked, and its mask
handling forbids the packed shapes that make absent nodes free.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear → GELU → ... → Linear over the sizes given: ``MLP(D, D, 1)`` has two linear layers."""

    def __init__(self, *sizes: int, dropout: float = 0.0):
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            layers += [nn.GELU(), nn.Dropout(dropout)] if i else []
            layers.append(nn.Linear(inputs, outputs))
        super().__init__(*layers)


class FFN(nn.Module):
    """Feed-forward sub-layer of the Transformer: LayerNorm(x + W2 GELU(W1 x)), hidden width 4D. (..., D) → (..., D)."""

    def __init__(self, width: int, dropout: float = 0.0):
        super().__init__()
        self.mlp = MLP(width, 4 * width, width, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        return self.norm(x + self.dropout(self.mlp(x)))


class SelfAttentionBlock(nn.Module):
    """One encoder block of figure 6, pre-norm: x + Attention(LN(x)), then x + W2 GELU(W1 LN(x)).

    Shapes: x (S, L, D) sequences, mask (S, L) of the elements that exist. Elements that do not exist are never
    attended to; each attends to itself so that its own (meaningless) output stays finite.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, 4 * width, width, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "S L D"], mask: Bool[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        S, L, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(S, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        allowed = mask[:, None, None, :] | torch.eye(L, dtype=torch.bool, device=x.device)
        attended = F.scaled_dot_product_attention(q, k, v, allowed, dropout_p=self.dropout if self.training else 0.0)
        x = x + self.drop(self.out(attended.transpose(1, 2).reshape(S, L, D)))
        return x + self.drop(self.mlp(self.norm2(x)))


class SelfAttentionEncoder(nn.Module):
    """``depth`` blocks of figure 6 and a final LayerNorm. (S, L, D), (S, L) → (S, L, D)."""

    def __init__(self, width: int, heads: int, depth: int, dropout: float = 0.0):
        super().__init__()
        self.blocks = nn.ModuleList(SelfAttentionBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "S L D"], mask: Bool[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
