"""The standard parts that the blocks of the paper are built from: MLP, feed-forward network, self-attention on tokens.

``nn.TransformerEncoderLayer`` is not used: it computes every linear layer on padded sequences, and here only attention
itself is padded.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from proda_lib.batch import Sequences


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


class SelfAttentionBlock(nn.Module):
    """One encoder block of figure 6, pre-norm: x + Attention(LN(x)), then x + W2 GELU(W1 LN(x)).

    Dropout falls on attention weights and on the output of each half, as in the Transformer. Which tokens see each
    other is said by ``sequences``; linear layers run on the tokens as they are.

    Shapes: P tokens (P, D) → (P, D).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, 4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "P D"], sequences: Sequences) -> Float[Tensor, "P D"]:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        attended = attention(qkv, sequences, self.dropout if self.training else 0.0)
        x = x + self.drop(self.out(attended.flatten(-2)))
        return x + self.drop(self.mlp(self.norm2(x)))


def attention(qkv: Float[Tensor, "P 3 H d"], sequences: Sequences, dropout: float) -> Float[Tensor, "P H d"]:
    """Softmax attention within each sequence, over the tokens that exist."""
    q, k, v = sequences.spread(qkv).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v, sequences.visible, dropout_p=dropout)
    return sequences.collect(attended.transpose(1, 2))


class SelfAttentionEncoder(nn.Module):
    """``depth`` blocks of figure 6 and a final LayerNorm. (P, D) → (P, D).

    ``recompute``: in training, each block keeps its input only and runs again in the backward pass.
    """

    def __init__(self, width: int, heads: int, depth: int, dropout: float = 0.0, recompute: bool = False):
        super().__init__()
        self.recompute = recompute
        self.blocks = nn.ModuleList(SelfAttentionBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "P D"], sequences: Sequences) -> Float[Tensor, "P D"]:
        for block in self.blocks:
            if self.recompute and self.training:
                x = checkpoint(block, x, sequences, use_reentrant=False)
            else:
                x = block(x, sequences)
        return self.norm(x)
