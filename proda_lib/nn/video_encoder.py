"""Video encoder (appendix A, figure 5): Dual-AI with added spatial-spatial and temporal-temporal branches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.batch import SceneGraphBatch, Sequences
from proda_lib.nn.blocks import FFN, MLP, SelfAttentionBlock
from proda_lib.nn.stem import Stem


class DualAI(nn.Module):
    """Two streams of spatial (over the nodes of a frame) and temporal (over the frames of a node) attention.

    The paper draws the streams and their two added branches but gives no formula. With S and T the two kinds of block,
    each its own weights, and x the input:

    ``figure5``: s1 = S(x), t1 = T(x); spatial-first stream s2 = MLP(T(s1) + S(s1) + s1), temporal-first stream
    t2 = MLP(S(t1) + T(t1) + t1). The end, GELU(W (s2 + t2)), gets a LayerNorm, as streams of pre-norm blocks usually
    do: without it, what all nodes have in common grows in training until it drowns the class embedding added next.

    ``released`` (the public code): both streams start at x. Layer 1: a = S(t), b = T(s); s ← MLP(a + b + s),
    t ← MLP(b + a + t). A two-layer MLP per stream, then layer 2 does the same again. It ends in GELU(W (s + t)).

    Shapes: tokens (P, D); ``spatial`` and ``temporal`` say which of them share a frame and a track → (P, D).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, wiring: str = "figure5"):
        super().__init__()
        self.wiring = wiring
        attention = 6 if wiring == "figure5" else 4
        self.attention = nn.ModuleList(SelfAttentionBlock(width, heads, dropout) for _ in range(attention))
        self.mlps = nn.ModuleList(MLP(width, width, width) for _ in range(2 if wiring == "figure5" else 6))
        norm = nn.LayerNorm(width) if wiring == "figure5" else nn.Identity()
        self.fuse = nn.Sequential(nn.Linear(width, width), nn.GELU(), norm)

    def forward(self, x: Float[Tensor, "P D"], spatial: Sequences, temporal: Sequences) -> Float[Tensor, "P D"]:
        def S(index: int, x: Tensor) -> Tensor:
            return self.attention[index](x, spatial)

        def T(index: int, x: Tensor) -> Tensor:
            return self.attention[index](x, temporal)

        if self.wiring == "figure5":
            s, t = S(0, x), T(1, x)
            s, t = self.mlps[0](T(2, s) + S(3, s) + s), self.mlps[1](S(4, t) + T(5, t) + t)
        else:
            s = t = x
            for layer in range(2):
                if layer:
                    s, t = self.mlps[4](s), self.mlps[5](t)
                exchanged = S(2 * layer, t) + T(2 * layer + 1, s)
                s, t = self.mlps[2 * layer](exchanged + s), self.mlps[2 * layer + 1](exchanged + t)
        return self.fuse(s + t)


@dataclass(eq=False)
class EncodedVideos:
    """What every prompt starts from; computed once per video.

    Attributes:
        nodes: (P, D) F_o.
        edges: (Q, D) edge features with relation embedding.
        adapted: (P, D) the adapter's output; ``links``: (Q, D) edge features without relation embedding. Both are read
            by ``graph_supervision`` only.
    """

    nodes: Float[Tensor, "P D"]
    edges: Float[Tensor, "Q D"]
    adapted: Float[Tensor, "P D"]
    links: Float[Tensor, "Q D"]


class VideoEncoder(nn.Module):
    """Stem, Dual-AI, F_o and edge features.

    F_o = FFN(DualAI(stem) + class embedding): the input of a_m and the target of the reconstruction.
    e = MLP([subject, whole frame, object]) + W_r r: computed once, before any prompt. The subject of an edge is its end
    with the lower slot, so that both directions of a pair share the feature. Relations r (multi-hot) enter only here,
    so a_m never sees them. ``released`` supervises relations from e; here the part without W_r r is supervised, since
    the other would copy its own input. The first layer of the MLP is applied to nodes and whole frames, which are
    fewer than edges, and the results are added per edge.
    """

    def __init__(
        self, objects: int, relations: int, visual: int, frames: int, width: int, heads: int, dropout: float,
        wiring: str, feature_scale: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        self.stem = Stem(objects, visual, frames, width)
        self.dual_ai = DualAI(width, heads, dropout, wiring)
        self.classes = nn.Embedding(objects, width)
        self.ffn = FFN(width, dropout)
        nn.init.constant_(self.ffn.norm.weight, feature_scale)  # see ModelConfig
        self.edge = MLP(3 * width, width, width)
        self.relation = nn.Linear(relations, width, bias=False)
        nn.init.normal_(self.relation.weight)  # W_r r is a sum of embeddings, so it starts as nn.Embedding does

    def encode_nodes(
        self, batch: SceneGraphBatch
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "F D"], Float[Tensor, "P D"]]:
        """F_o (P, D), the whole frames after Dual-AI (F, D), and the adapter's output (P, D); no edge features."""
        nodes, whole, adapted = self.stem(batch)
        encoded = self.dual_ai(torch.cat([nodes, whole]), batch.over_nodes, batch.over_frames)
        nodes, whole = encoded.split([len(nodes), len(whole)])
        return self.ffn(nodes + self.classes(batch.classes)), whole, adapted

    def forward(self, batch: SceneGraphBatch) -> EncodedVideos:
        nodes, whole, adapted = self.encode_nodes(batch)
        first, activation, last = self.edge
        of_subject, of_frame, of_object = first.weight.chunk(3, dim=1)
        hidden = (
            F.linear(nodes, of_subject).index_select(0, batch.edges.amin(0))
            + F.linear(whole, of_frame, first.bias).index_select(0, batch.edge_whole)
            + F.linear(nodes, of_object).index_select(0, batch.edges.amax(0))
        )
        links = last(activation(hidden))
        return EncodedVideos(nodes, links + self.relation(batch.relations), adapted, links)
