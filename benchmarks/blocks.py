"""Parts of the yardsticks: attention, prompt, VGPNN layer, norm, readout, on padded slots (G, N, M, D) with masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from benchmarks.dense import DenseBatch
from proda_lib.models.config import ModelConfig


def mlp(*sizes: int) -> nn.Sequential:
    """Linear → GELU → ... → Linear."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class FFN(nn.Module):
    """LayerNorm(x + Dropout(W2 GELU(W1 x)))."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.mlp, self.dropout, self.norm = mlp(width, 4 * width, width), nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout(self.mlp(x)))


class FusedAttention(nn.MultiheadAttention):
    """The same parameters and result, by ``scaled_dot_product_attention`` with a boolean mask."""

    def forward(self, x: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor, need_weights: bool):
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, ~key_padding_mask[:, None, None], dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(-2)), None


class AttentionBlock(nn.Module):
    """Pre-norm encoder block of figure 6 on sequences (S, L, D) with mask (S, L)."""

    def __init__(self, width: int, heads: int, dropout: float, fair: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        kind = FusedAttention if fair else nn.MultiheadAttention
        self.attention = kind(width, heads, dropout, batch_first=True)
        self.mlp, self.drop = mlp(width, 4 * width, width), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "S L D"], mask: Bool[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        # A sequence without any element would be NaN: it attends to all of its padding, and nobody reads the result.
        hidden = ~(mask | ~mask.any(-1, keepdim=True))
        y = self.norm1(x)
        x = x + self.drop(self.attention(y, y, y, key_padding_mask=hidden, need_weights=False)[0])
        return x + self.drop(self.mlp(self.norm2(x)))


def over_frames(run, x: Float[Tensor, "G N X D"], mask: Bool[Tensor, "G N X"]) -> Float[Tensor, "G N X D"]:
    """Call ``run`` on each node (or edge) as a sequence of frames."""
    tracks = run(x.transpose(1, 2).flatten(0, 1), mask.transpose(1, 2).flatten(0, 1))
    return tracks.unflatten(0, (len(x), -1)).transpose(1, 2)


class AttentionEncoder(nn.Module):
    """Blocks and a final LayerNorm."""

    def __init__(self, width: int, heads: int, depth: int, dropout: float, fair: bool):
        super().__init__()
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, dropout, fair) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "S L D"], mask: Bool[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class Stem(nn.Module):
    """MLP([appearance, box]) + temporal position for every slot and, as one more node, for the whole frame."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D = config.width
        if config.visual:
            self.adapter = mlp(config.visual, D, D)
        else:
            self.appearance, self.whole_frame = nn.Embedding(config.objects, D), nn.Parameter(torch.zeros(D))
        self.box, self.fuse = nn.Linear(4, D), mlp(2 * D, D, D)
        self.position = nn.Parameter(torch.zeros(config.frames, D))

    def forward(self, batch: DenseBatch) -> Float[Tensor, "G N X D"]:
        G, N, M = batch.mask.shape
        if batch.features is not None:
            seen = self.adapter(torch.cat([batch.frame_features[:, :, None], batch.features], 2))
        else:
            nodes = self.appearance(batch.classes)[:, None].expand(G, N, M, -1)
            seen = torch.cat([self.whole_frame.expand(G, N, 1, -1), nodes], 2)
        whole = batch.boxes.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(G, N, 1, 4)
        boxes = self.box(torch.cat([whole, batch.boxes], 2))
        return self.fuse(torch.cat([seen, boxes], -1)) + self.position[:N, None]


class DynamicPrompt(nn.Module):
    """Eq. (1)–(2). The straightforward way multiplies candidates that were expanded to every node, (G, N, M, T, D)."""

    def __init__(self, actions: int, width: int, candidates: int, fair: bool):
        super().__init__()
        self.T, self.fair = candidates, fair
        self.wq = nn.Linear(actions, candidates * width, bias=False)
        self.wy = nn.Linear(actions, width, bias=False)
        self.ww = nn.Linear(width, candidates)

    def forward(self, nodes: Float[Tensor, "G N M D"], v: Float[Tensor, "G C"]) -> Float[Tensor, "G N M D"]:
        q = self.wq(v).unflatten(-1, (self.T, -1))
        alpha = torch.sigmoid(self.ww(self.wy(v)[:, None, None] + nodes))
        if self.fair:
            return nodes + (alpha.flatten(1, 2) @ q).view_as(nodes)
        return nodes + (alpha[..., None] * q[:, None, None]).sum(-2)


class SimplePrompt(nn.Module):
    """f + W_y v."""

    def __init__(self, actions: int, width: int):
        super().__init__()
        self.wy = nn.Linear(actions, width, bias=False)

    def forward(self, nodes: Float[Tensor, "G N M D"], v: Float[Tensor, "G C"]) -> Float[Tensor, "G N M D"]:
        return nodes + self.wy(v)[:, None, None]


class VGNorm(nn.Module):
    """Eq. (3)–(4): running mean per frame, updated first; deviation per video and frame, over existing nodes."""

    def __init__(self, frames: int):
        super().__init__()
        self.alpha, self.gamma = nn.Parameter(torch.ones(frames)), nn.Parameter(torch.ones(frames))
        self.beta = nn.Parameter(torch.zeros(frames))
        self.register_buffer("running_mean", torch.zeros(frames))

    @torch.no_grad()
    def update(self, passes: list[Tensor], mask: Bool[Tensor, "G N M"]) -> None:
        """One update of the mean, with the nodes of all passes; each pass (G, N, M, D) has the same mask."""
        N, D = passes[0].shape[1], passes[0].shape[-1]
        total = sum((x.sum(-1) * mask).sum((0, 2)) for x in passes)
        count = len(passes) * D * mask.sum((0, 2))
        old = self.running_mean[:N].clone()
        mean = (total / count.clamp(min=1)).to(old.dtype)
        self.running_mean[:N] = torch.where(count > 0, 0.9 * old + 0.1 * mean, old)

    def forward(self, x: Float[Tensor, "G N M D"], mask: Bool[Tensor, "G N M"]) -> Float[Tensor, "G N M D"]:
        N, D = x.shape[1], x.shape[-1]
        alpha, beta, gamma, mean = (v[:N, None, None] for v in (self.alpha, self.beta, self.gamma, self.running_mean))
        centred = (x - alpha * mean.clone()) * mask[..., None]
        count = mask.sum(-1)[..., None, None] * D
        variance = centred.square().sum((2, 3), keepdim=True) / (count - 1).clamp(min=1)
        return gamma * centred / (variance + 1e-12).sqrt() + beta


class VGPNNLayer(nn.Module):
    """Eq. (9)–(12) on a padded edge list: linear layers read concatenations, messages are summed into receivers."""

    def __init__(self, width: int, heads: int, depth: int, frames: int, dropout: float, fair: bool):
        super().__init__()
        self.link, self.message = mlp(3 * width, width, width), mlp(2 * width, width, width)
        self.transformer = AttentionEncoder(width, heads, depth, dropout, fair)
        self.weight = nn.Linear(width, 1)
        self.agg = mlp(width, width, width)
        self.norm = VGNorm(frames)

    def forward(
        self, nodes: Float[Tensor, "G N M D"], edges: Float[Tensor, "G N E D"], batch: DenseBatch
    ) -> Float[Tensor, "G N M D"]:
        """Agg(v + message), before the norm: the norm waits for the other pass."""

        def ends(which: int) -> Int[Tensor, "G N E D"]:
            return batch.edges[:, which, None, :, None].expand_as(edges)

        sender, receiver = nodes.gather(2, ends(0)), nodes.gather(2, ends(1))
        link = self.link(torch.cat([receiver, edges, sender], -1))
        link = over_frames(self.transformer, link, batch.edge_mask)
        w = torch.sigmoid(self.weight(link)) * batch.edge_mask[..., None]
        message = w * self.message(torch.cat([receiver, link], -1))
        return self.agg(nodes + message.new_zeros(nodes.shape).scatter_add(2, ends(1), message))


@dataclass(eq=False)
class Answer:
    """``logits`` (G, classes) and frame scores ``s`` (G, N)."""

    logits: Tensor
    s: Tensor


class Readout(nn.Module):
    """Section 3.3: FFN → node score → sum over nodes → FFN → frame score → sum over frames → FFN → linear."""

    def __init__(self, width: int, classes: int, dropout: float):
        super().__init__()
        hidden = max(width // 4, 1)
        self.node_ffn, self.node_score = FFN(width, dropout), mlp(width, hidden, 1)
        self.frame_ffn, self.frame_score = FFN(width, dropout), mlp(width, hidden, 1)
        self.video_ffn, self.classifier = FFN(width, dropout), nn.Linear(width, classes)

    def forward(self, nodes: Float[Tensor, "G N M D"], batch: DenseBatch) -> Answer:
        nodes = self.node_ffn(nodes)
        weight = torch.sigmoid(self.node_score(nodes)) * batch.mask[..., None]
        frames = self.frame_ffn((weight * nodes).sum(2))
        s = torch.sigmoid(self.frame_score(frames))[..., 0] * batch.frame_mask
        return Answer(self.classifier(self.video_ffn((s[..., None] * frames).sum(1))), s)
