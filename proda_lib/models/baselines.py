"""Baselines of table 1 on the same input as ProDA: a transformer, two graph networks and an LSTM, without prompts.

Each gives one answer per video, C logits, and is trained on the videos' labels like the controls. Three of them read
what ProDA's encoder reads: boxes, visual features and positions in time through a :class:`~proda_lib.nn.stem.Stem`, a
class embedding, and relations r as W_r r, the sum of the embeddings of those that hold. Pooling is a plain mean, not
ProDA's learned :class:`~proda_lib.nn.readout.Readout`. Sizes come from :class:`~proda_lib.models.config.ModelConfig`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from proda_lib.batch import SceneGraphBatch, Sequences
from proda_lib.models.config import ModelConfig
from proda_lib.models.saved import SavedModel
from proda_lib.nn.blocks import MLP, SelfAttentionEncoder
from proda_lib.nn.readout import PRIOR
from proda_lib.nn.stem import Stem


@dataclass(eq=False)
class BaselineOutput:
    """``logits`` (B, C), and ``feature`` (B, D) before the last layer."""

    logits: Float[Tensor, "B C"]
    feature: Float[Tensor, "B D"]


class Classifier(nn.Module):
    """Dropout and a linear layer, whose bias starts at the log-odds of :data:`~proda_lib.nn.readout.PRIOR`.

    Shapes: feature (B, D) → see :class:`BaselineOutput`.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dropout, self.linear = nn.Dropout(config.dropout), nn.Linear(config.width, config.actions)
        nn.init.constant_(self.linear.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, feature: Float[Tensor, "B D"]) -> BaselineOutput:
        return BaselineOutput(self.linear(self.dropout(feature)), feature)


class Tokens(nn.Module):
    """What the first three baselines start from.

    Shapes: batch → nodes (P, D): stem + class embedding, whole frames (F, D) of the stem, W_r r of every edge (Q, D).

    Raises:
        GraphError: visual features are not as wide as in the model, or a video has more frames than it.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.stem = Stem(config.objects, config.visual, config.frames, config.width)
        self.classes = nn.Embedding(config.objects, config.width)
        self.relation = nn.Linear(config.relations, config.width, bias=False)
        nn.init.normal_(self.relation.weight)  # W_r r is a sum of embeddings, so it starts as nn.Embedding does

    def forward(
        self, batch: SceneGraphBatch
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "F D"], Float[Tensor, "Q D"]]:
        nodes, whole, _ = self.stem(batch)
        return nodes + self.classes(batch.classes), whole, self.relation(batch.relations)


def sum_incoming(values: Float[Tensor, "Q K"], edges: Int[Tensor, "2 Q"], nodes: int) -> Float[Tensor, "P K"]:
    """Sum over the edges (sender, receiver) that end in each of so many nodes; zero where none does."""
    return values.new_zeros(nodes, values.shape[1]).index_add(0, edges[1], values)


def mean_by_video(tokens: Float[Tensor, "X D"], video: Int[Tensor, "X"], videos: int) -> Float[Tensor, "B D"]:
    """Mean over the tokens of each video; zero where it has none."""
    total = tokens.new_zeros(videos, tokens.shape[1]).index_add(0, video, tokens)
    count = tokens.new_zeros(videos).index_add(0, video, torch.ones_like(tokens[:, 0]))
    return total / count.clamp(min=1)[:, None]


class TokenTransformer(SavedModel):
    """A transformer over everything in a video: each token sees all nodes of all frames, and the whole frames.

    x_v = token of :class:`Tokens` + Σ over incoming edges of W_r r, then blocks as in figure 6, the mean over tokens,
    and a linear layer. It has 2 + layers · depth blocks: as many as one path through ProDA has (two in the video
    encoder, ``depth`` in each VGPNN layer).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.tokens = Tokens(config)
        blocks = 2 + config.layers * config.depth
        self.encoder = SelfAttentionEncoder(config.width, config.heads, blocks, config.dropout, config.recompute)
        self.classifier = Classifier(config)

    def forward(self, batch: SceneGraphBatch) -> BaselineOutput:
        nodes, whole, edges = self.tokens(batch)
        x = torch.cat([nodes + sum_incoming(edges, batch.edges, len(nodes)), whole])
        # The tracks of a video stand one after another, so all of them together are one sequence.
        tracks, videos = batch.over_frames, len(batch)
        together = Sequences(tracks.place, tracks.mask.reshape(videos, -1))
        video = tracks.place // together.mask.shape[1]
        return self.classifier(mean_by_video(self.encoder(x, together), video, videos))


class GraphConvolution(nn.Module):
    """h_v ← LayerNorm(h_v + GELU(W_0 h_v + b + W_1 m_v)), m_v = mean over incoming edges (u, v) of h_u + e_uv.

    A node without incoming edges has m_v = 0. Dropout falls on what is added to h_v.

    Shapes: nodes (P, D), edge features (Q, D), edges (2, Q) as (sender, receiver) → (P, D).
    """

    def __init__(self, width: int, dropout: float = 0.0):
        super().__init__()
        self.own, self.neighbours = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(
        self, nodes: Float[Tensor, "P D"], features: Float[Tensor, "Q D"], edges: Int[Tensor, "2 Q"]
    ) -> Float[Tensor, "P D"]:
        message = nodes.index_select(0, edges[0]) + features
        degree = sum_incoming(torch.ones_like(message[:, :1]), edges, len(nodes)).clamp(min=1)
        mean = sum_incoming(message, edges, len(nodes)) / degree
        return self.norm(nodes + self.dropout(F.gelu(self.own(nodes) + self.neighbours(mean))))


class FrameGCN(SavedModel):
    """Two graph convolutions in each frame, then the mean over nodes and frames, then a linear layer.

    Relations are the edges' features. The whole frame is one more node of its frame, without edges. Frames meet only in
    the mean; what tells them apart is the position in time that the stem gives.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.tokens = Tokens(config)
        self.convolutions = nn.ModuleList(GraphConvolution(config.width, config.dropout) for _ in range(2))
        self.classifier = Classifier(config)

    def forward(self, batch: SceneGraphBatch) -> BaselineOutput:
        nodes, whole, edges = self.tokens(batch)
        x = torch.cat([nodes, whole])
        video = torch.cat([batch.node_video, batch.frame_index // batch.frame_mask.shape[1]])
        for convolution in self.convolutions:
            x = convolution(x, edges, batch.edges)
        return self.classifier(mean_by_video(x, video, len(batch)))


class GPNN(SavedModel):
    """Graph Parsing Neural Network (Qi et al., ECCV 2018), in each frame on its own.

    Link:    A_vw = sigmoid(MLP([h_v, h_w, m_vw])), how much v listens to w
    Message: m_vw = [W_v h_v, W_w h_w, W_e Γ_vw], summed into m_v = Σ over incoming edges (w, v) of A_vw m_vw
    Update:  h_v ← GRU(h_v, m_v)
    Readout: W_R h_v of every node, averaged over nodes and frames

    ``layers`` rounds with the same weights; h_v starts as the stem's token and, for the first link, m_vw as Γ_vw. The
    parts of a message are D / 4, D / 4 and D / 2 wide, so that it is as wide as Γ_vw. What the paper takes for Γ_vw
    depends on its data; here it is the whole frame's token + W_r r. The edges are those of the scene graph, and nothing
    supervises A: our data has no true parse graph. The paper's link for videos is recurrent over frames; this one is
    its link for images.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        D, part = config.width, config.width // 4
        self.tokens = Tokens(config)
        self.link = MLP(3 * D, D, 1)
        self.of_receiver, self.of_sender = nn.Linear(D, part), nn.Linear(D, part)
        self.of_edge = nn.Linear(D, D - 2 * part)
        self.update = nn.GRUCell(D, D)
        self.classifier = Classifier(config)

    def forward(self, batch: SceneGraphBatch) -> BaselineOutput:
        nodes, whole, relations = self.tokens(batch)
        edge = message = whole.index_select(0, batch.edge_whole) + relations
        sender, receiver = batch.edges
        for _ in range(self.config.layers):
            v, w = nodes.index_select(0, receiver), nodes.index_select(0, sender)
            adjacency = torch.sigmoid(self.link(torch.cat([v, w, message], -1)))
            message = torch.cat([self.of_receiver(v), self.of_sender(w), self.of_edge(edge)], -1)
            nodes = self.update(sum_incoming(adjacency * message, batch.edges, len(nodes)), nodes)
        return self.classifier(mean_by_video(nodes, batch.node_video, len(batch)))


def relation_counts(batch: SceneGraphBatch, objects: int) -> Float[Tensor, "B N K"]:
    """What each frame holds, as counts; frames that a video does not have are zeros.

    For each object class: how often each relation holds on an edge that starts or ends in an object of that class, and
    how many such objects are there. K = objects · (R + 1).
    """
    B, N = batch.frame_mask.shape
    place = (batch.node_video * N + batch.node_frame) * objects + batch.classes
    ends = place.index_select(0, batch.edges.flatten())
    relations = batch.relations.new_zeros(B * N * objects, batch.relations.shape[1])
    relations = relations.index_add(0, ends, batch.relations.repeat(2, 1))
    there = relations.new_zeros(B * N * objects, 1).index_add(0, place, relations.new_ones(len(place), 1))
    return torch.cat([relations, there], -1).view(B, N, -1)


class RelationLSTM(SavedModel):
    """An LSTM over the frames' :func:`relation_counts`: it sees classes and relations, no box and no visual feature.

    x_t = W counts_t; ``layers`` LSTM layers over the frames; mean of the last layer's states over the video's frames;
    linear. What comes after a video's last frame cannot reach its states.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        D, layers = config.width, config.layers
        self.embed = nn.Linear(config.objects * (config.relations + 1), D)
        self.lstm = nn.LSTM(D, D, layers, batch_first=True, dropout=config.dropout if layers > 1 else 0.0)
        self.classifier = Classifier(config)

    def forward(self, batch: SceneGraphBatch) -> BaselineOutput:
        states, _ = self.lstm(self.embed(relation_counts(batch, self.config.objects)))
        there = batch.frame_mask[..., None]
        return self.classifier((states * there).sum(1) / there.sum(1))
