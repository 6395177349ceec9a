"""Video Graph Parsing Neural Network (section 3.3, appendix B, eq. 9–12) on any edge list."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.batch import GraphRows
from proda_lib.nn.blocks import MLP, SelfAttentionEncoder
from proda_lib.nn.norm import make_norm


class VGPNNLayer(nn.Module):
    """One round of link, message and update.

    Link (9): f = MLP([v_recv, e, v_send]), then a transformer over the frames of that edge gives F.
    Message (10, 11): w = sigmoid(W_m F); the message into a node is Σ over its incoming edges of w · Msg([v_recv, F]).
    Update (12): GELU(norm(Agg(v + message))).

    A linear layer on a concatenation is the sum of linear layers on its parts, so what belongs to a node, to an edge
    of the video, and to an edge of a row is computed once each; the last layer of Msg is applied after the sum over
    edges. The result is the same. Absent nodes send and receive nothing: they and their edges have no tokens.

    ``message_norm`` (released): the summed message is scaled by a learned MessageNorm, s · ‖v‖₂ · m / ‖m‖₂.

    Shapes: nodes of the rows (P', D), edge features of the videos (Q, D) → nodes (P', D), w (Q',).
    """

    def __init__(
        self, width: int, heads: int, depth: int, norm: nn.Module, dropout: float, message_norm: bool,
        recompute: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.link_receiver = nn.Linear(width, width)
        self.link_edge = nn.Linear(width, width, bias=False)
        self.link_sender = nn.Linear(width, width, bias=False)
        self.link_out = nn.Linear(width, width)
        self.transformer = SelfAttentionEncoder(width, heads, depth, dropout, recompute)
        self.weight = nn.Linear(width, 1)
        self.message_receiver = nn.Linear(width, width)
        self.message_edge = nn.Linear(width, width, bias=False)
        self.message_out = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.ones(())) if message_norm else None
        self.agg = MLP(width, width, width)
        self.norm = norm

    def forward(
        self, nodes: Float[Tensor, "Pr D"], edges: Float[Tensor, "Q D"], rows: GraphRows
    ) -> tuple[Float[Tensor, "Pr D"], Float[Tensor, "Qr"]]:
        sender, receiver = rows.ends
        link = (
            self.link_receiver(nodes).index_select(0, receiver)
            + self.link_edge(edges).index_select(0, rows.edge)
            + self.link_sender(nodes).index_select(0, sender)
        )
        link = self.transformer(self.link_out(F.gelu(link)), rows.over_frames)
        w = torch.sigmoid(self.weight(link))
        hidden = F.gelu(self.message_receiver(nodes).index_select(0, receiver) + self.message_edge(link))
        weighted = w * hidden
        summed = torch.zeros_like(nodes, dtype=weighted.dtype).index_add(0, receiver, weighted)
        received = w.new_zeros(len(nodes), 1).index_add(0, receiver, w)
        message = F.linear(summed, self.message_out.weight) + received * self.message_out.bias
        if self.scale is not None:
            message = self.scale * nodes.norm(dim=-1, keepdim=True) * F.normalize(message, dim=-1)
        return F.gelu(self.norm(self.agg(nodes + message), rows)), w[:, 0]


class VGPNN(nn.Module):
    """``layers`` VGPNN layers; the prompt is added again before each of them.

    Shapes: nodes (P', D), edge features (Q, D) → nodes (P', D), weights w of all layers (layers, Q').
    """

    def __init__(
        self, layers: int, width: int, heads: int, depth: int, norm: str, frames: int, slots: int, dropout: float,
        message_norm: bool, recompute: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.layers = nn.ModuleList(
            VGPNNLayer(width, heads, depth, make_norm(norm, frames, width, slots), dropout, message_norm, recompute)
            for _ in range(layers)
        )

    def forward(
        self, nodes: Float[Tensor, "Pr D"], edges: Float[Tensor, "Q D"], rows: GraphRows, prompt=None
    ) -> tuple[Float[Tensor, "Pr D"], Float[Tensor, "layers Qr"]]:
        weights = []
        for layer in self.layers:
            if prompt is not None:
                nodes = prompt(nodes)
            nodes, w = layer(nodes, edges, rows)
            weights.append(w)
        return nodes, torch.stack(weights)
