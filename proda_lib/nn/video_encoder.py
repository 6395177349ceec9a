"""Video encoder (appendix A, figure 5): Dual-AI with added spatial-spatial and temporal-temporal branches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from proda_lib.batch import SceneGraphBatch
from proda_lib.nn.blocks import FFN, MLP, Attend, SelfAttentionBlock, over_nodes
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

    Shapes: x (S, N, D) tracks, mask (S, N), ``spatial`` says which tracks share a frame
    (:func:`~proda_lib.nn.blocks.over_nodes`) → (S, N, D).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, wiring: str = "figure5"):
        super().__init__()
        self.wiring = wiring
        attention = 6 if wiring == "figure5" else 4
        self.attention = nn.ModuleList(SelfAttentionBlock(width, heads, dropout) for _ in range(attention))
        self.mlps = nn.ModuleList(MLP(width, width, width) for _ in range(2 if wiring == "figure5" else 6))
        norm = nn.LayerNorm(width) if wiring == "figure5" else nn.Identity()
        self.fuse = nn.Sequential(nn.Linear(width, width), nn.GELU(), norm)

    def forward(self, x: Float[Tensor, "S N D"], mask: Bool[Tensor, "S N"], spatial: Attend) -> Float[Tensor, "S N D"]:
        def S(index: int, x: Tensor) -> Tensor:
            return self.attention[index](x, mask, spatial)

        def T(index: int, x: Tensor) -> Tensor:
            return self.attention[index](x, mask)

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
        nodes: (V, N, D) F_o, zero where the node is absent.
        edges: (E, N, D) edge features with relation embedding.
        adapted: (V, N, D) the adapter's output; ``links``: (E, N, D) edge features without relation embedding. Both
            are read by ``graph_supervision`` only.
    """

    nodes: Float[Tensor, "V N D"]
    edges: Float[Tensor, "E N D"]
    adapted: Float[Tensor, "V N D"]
    links: Float[Tensor, "E N D"]


class VideoEncoder(nn.Module):
    """Stem, Dual-AI, F_o and edge features.

    F_o = FFN(DualAI(stem) + class embedding): the input of a_m and the target of the reconstruction.
    e = MLP([subject, whole frame, object]) + W_r r: computed once, before any prompt. The subject of an edge is its end
    with the lower slot, so that both directions of a pair share the feature. Relations r (multi-hot) enter only here,
    so a_m never sees them. ``released`` supervises relations from e; here the part without W_r r is supervised, since
    the other would copy its own input.
    """

    def __init__(
        self, objects: int, relations: int, visual: int, frames: int, width: int, heads: int, dropout: float,
        wiring: str,
    ):  # fmt: skip
        super().__init__()
        self.stem = Stem(objects, visual, frames, width)
        self.dual_ai = DualAI(width, heads, dropout, wiring)
        self.classes = nn.Embedding(objects, width)
        self.ffn = FFN(width, dropout)
        self.edge = MLP(3 * width, width, width)
        self.relation = nn.Linear(relations, width, bias=False)
        nn.init.normal_(self.relation.weight)  # W_r r is a sum of embeddings, so it starts as nn.Embedding does

    def forward(self, batch: SceneGraphBatch) -> EncodedVideos:
        nodes, whole, adapted = self.stem(batch)
        # One track for each node and one for the whole frame; in its video, the whole frame stands first.
        B, X = len(batch), 1 + max(batch.node_counts, default=0)
        place = torch.cat([batch.node_video * X + batch.node_rank + 1, torch.arange(B, device=nodes.device) * X])
        mask = torch.cat([batch.node_mask, batch.frame_mask])
        encoded = self.dual_ai(torch.cat([nodes, whole]), mask, over_nodes(place, B, X))
        nodes, whole = encoded.split([len(nodes), B])
        nodes = self.ffn(nodes + self.classes(batch.classes)[:, None]) * batch.node_mask[..., None]
        subject, target = batch.edges.amin(0), batch.edges.amax(0)
        video = batch.node_video.index_select(0, subject)
        parts = [nodes.index_select(0, subject), whole.index_select(0, video), nodes.index_select(0, target)]
        links = self.edge(torch.cat(parts, -1))
        return EncodedVideos(nodes, links + self.relation(batch.relations), adapted, links)
