"""The two yardsticks that the library is timed against, with its weights and its numbers.

:class:`ReferenceProDA` is ProDA (the paper's settings) as the equations read and as such code is usually written: dense
padded slots (G, N, M, D) with masks, all directed edges of the padded edge list, linear layers on concatenations,
``nn.MultiheadAttention`` (its fused form, without returning weights), prompt candidates expanded to every node, SAP and
UAP in two passes, the video encoder run again for every (video, specification) row, and one forward per question.

:class:`FairProDA` keeps the dense layout and the equations as they are, but avoids what a careful author would:
the encoder runs once per video, both branches go through the VGPNN as one batch, attention calls
``scaled_dot_product_attention`` itself, and prompts are one matrix product per row. It is timed on videos padded to the
paper's M slots and, in the rows "trimmed", to the slots and edges that the largest video of the batch has
(:meth:`benchmarks.workload.Workload.trimmed`).

What could make the numbers differ, and does not: VGNorm's mean in training is over *both* branches, since the library
has them in one batch. So the two passes of the reference go layer by layer: each does its own link, message and
aggregation work, then the mean is updated once with both, and each pass is normalised by itself. Values of absent
nodes, edges and frames differ from the library's; nothing reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from benchmarks.blocks import (
    FFN,
    Answer,
    AttentionBlock,
    DynamicPrompt,
    Readout,
    SimplePrompt,
    Stem,
    VGPNNLayer,
    mlp,
    over_frames,
)
from benchmarks.dense import DenseBatch
from benchmarks.weights import from_library
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.specification import branch_targets


class DualAI(nn.Module):
    """Figure 5: x (G, N, X, D) of X nodes a frame, the whole frame among them."""

    def __init__(self, width: int, heads: int, dropout: float, fair: bool):
        super().__init__()
        self.attention = nn.ModuleList(AttentionBlock(width, heads, dropout, fair) for _ in range(6))
        self.mlps = nn.ModuleList(mlp(width, width, width) for _ in range(2))
        self.fuse = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def forward(self, x: Float[Tensor, "G N X D"], mask: Bool[Tensor, "G N X"]) -> Float[Tensor, "G N X D"]:
        def S(index: int, x: Tensor) -> Tensor:
            return self.attention[index](x.flatten(0, 1), mask.flatten(0, 1)).view_as(x)

        def T(index: int, x: Tensor) -> Tensor:
            return over_frames(self.attention[index], x, mask)

        s, t = S(0, x), T(1, x)
        s, t = self.mlps[0](T(2, s) + S(3, s) + s), self.mlps[1](S(4, t) + T(5, t) + t)
        return self.fuse(s + t)


class Encoder(nn.Module):
    """Stem, Dual-AI, F_o (G, N, M, D) and edge features (G, N, E, D)."""

    def __init__(self, config: ModelConfig, fair: bool):
        super().__init__()
        D = config.width
        self.stem = Stem(config)
        self.dual_ai = DualAI(D, config.heads, config.dropout, fair)
        self.classes, self.ffn = nn.Embedding(config.objects, D), FFN(D, config.dropout)
        self.edge, self.relation = mlp(3 * D, D, D), nn.Linear(config.relations, D, bias=False)

    def forward(self, batch: DenseBatch) -> tuple[Float[Tensor, "G N M D"], Float[Tensor, "G N E D"]]:
        mask = torch.cat([batch.frame_mask[..., None], batch.mask], -1)
        whole, nodes = self.dual_ai(self.stem(batch), mask).split([1, batch.mask.shape[-1]], 2)
        nodes = self.ffn(nodes + self.classes(batch.classes)[:, None]) * batch.mask[..., None]
        # The subject is the end with the lower slot, so that both directions share the feature.
        shape = (*batch.edge_mask.shape, nodes.shape[-1])
        subject, target = (e[:, None, :, None].expand(shape) for e in (batch.edges.amin(1), batch.edges.amax(1)))
        triple = [nodes.gather(2, subject), whole.expand(shape), nodes.gather(2, target)]
        return nodes, self.edge(torch.cat(triple, -1)) + self.relation(batch.relations)


@dataclass(eq=False)
class Output:
    """Answers, and F_s, F_u, F_o, F_r (R, N, M, D) with the mask (R, N, M) of the rows, for the losses."""

    a_s: Answer
    a_u: Answer
    a_t: Answer
    a_m: Answer
    specified: Tensor
    unspecified: Tensor
    original: Tensor
    rebuilt: Tensor
    mask: Tensor


class ReferenceProDA(nn.Module):
    """The straightforward ProDA; see the top of this file. ``a_m`` has one row per (video, specification)."""

    fair = False

    def __init__(self, config: ModelConfig):
        super().__init__()
        paper = {"norm": "vgnorm", "wiring": "figure5", "fusion_mlp": False, "message_norm": False,
                 "graph_supervision": False}  # fmt: skip
        if changed := [name for name, value in paper.items() if getattr(config, name) != value]:
            raise ValueError(f"the yardstick knows the paper's settings only, not another {', '.join(changed)}")
        C, D, dropout = config.actions, config.width, config.dropout
        self.config = config
        self.encoder = Encoder(config, self.fair)
        self.prompts = nn.ModuleList(
            SimplePrompt(C, D) if config.prompt == "simple" else DynamicPrompt(C, D, config.candidates, self.fair)
            for _ in range(2 if config.branches == "dual" else 1)
        )
        self.branch_ffn = nn.ModuleDict({"s": FFN(D, dropout), "u": FFN(D, dropout)})
        self.vgpnn = nn.Module()
        self.vgpnn.layers = nn.ModuleList(
            VGPNNLayer(D, config.heads, config.depth, config.frames, dropout, self.fair) for _ in range(config.layers)
        )
        self.fusion = nn.Module()
        self.fusion.delta = nn.Linear(2 * D, 1)
        self.reconstruction = mlp(D, D, D, D)
        self.readout_s, self.readout_u = Readout(D, C + 1, dropout), Readout(D, C + 1, dropout)
        self.readout_t, self.readout_m = Readout(D, C, dropout), Readout(D, C, dropout)

    @classmethod
    def from_library(cls, model: ProDA) -> Self:
        """The yardstick with the weights, precision, device and mode of a library model."""
        with torch.device("meta"):  # values come from the library, so none are drawn first
            made = cls(model.config)
        parameter = next(model.parameters())
        made = made.to_empty(device=parameter.device).to(parameter.dtype)
        made.load_state_dict(from_library(model.state_dict()))
        return made.train(model.training)

    def encode(self, batch: DenseBatch, rows: Tensor) -> tuple[DenseBatch, Tensor, Tensor]:
        """What the encoder saw, F_o and edge features: rows (fair: videos), one by one."""
        seen = batch if self.fair else batch.take(rows)
        return seen, *self.encoder(seen)

    def spread(self, rows: Tensor, *encoded: Tensor) -> tuple[Tensor, ...]:
        """What the encoder gave, one for each row."""
        return tuple(x.index_select(0, rows) for x in encoded) if self.fair else encoded

    def parse(self, nodes: Tensor, edges: Tensor, batch: DenseBatch, prompts: dict[str, Tensor]) -> list[Tensor]:
        """Disentangle the branches named in ``prompts``, each in a pass of its own (fair: in one pass)."""
        branches = list(prompts)
        groups = [branches] if self.fair else [[branch] for branch in branches]
        copies = len(groups[0])
        if copies > 1:
            batch = batch.take(torch.arange(len(nodes), device=nodes.device).repeat(copies))
            nodes, edges = nodes.repeat(copies, 1, 1, 1), edges.repeat(copies, 1, 1, 1)

        def prompt(x: Tensor, group: list[str]) -> Tensor:
            v = torch.cat([prompts[branch] for branch in group]).to(edges.dtype)
            if len(self.prompts) == 1:
                return self.prompts[0](x, v)
            parts = zip(group, x.chunk(copies), v.chunk(copies), strict=True)
            return torch.cat([self.prompts["su".index(branch)](part, given) for branch, part, given in parts])

        passes = []
        for group in groups:
            parts = zip(group, prompt(nodes, group).chunk(copies), strict=True)
            passes.append(torch.cat([self.branch_ffn[b](part) for b, part in parts]) * batch.mask[..., None])
        for layer in self.vgpnn.layers:
            passes = [layer(prompt(x, group), edges, batch) for group, x in zip(groups, passes, strict=True)]
            if self.training:
                layer.norm.update(passes, batch.mask)
            passes = [F.gelu(layer.norm(x, batch.mask)) * batch.mask[..., None] for x in passes]
        return list(torch.cat(passes).chunk(len(branches)))

    def ask(self, batch: DenseBatch, sap: Bool[Tensor, "R C"], row_video: Sequence[int]) -> Answer:
        """a_s alone: the encoder and the SAP branch."""
        rows = torch.as_tensor(row_video, device=sap.device)
        taken = batch.take(rows)
        _, *encoded = self.encode(batch, rows)
        return self.readout_s(self.parse(*self.spread(rows, *encoded), taken, {"s": sap})[0], taken)

    def forward(self, batch: DenseBatch, sap: Bool[Tensor, "R C"], row_video: Sequence[int]) -> Output:
        rows = torch.as_tensor(row_video, device=sap.device)
        taken = batch.take(rows)
        seen, *encoded = self.encode(batch, rows)
        original, edges = self.spread(rows, *encoded)
        specified, unspecified = self.parse(original, edges, taken, {"s": sap, "u": ~sap})
        delta = torch.sigmoid(self.fusion.delta(torch.cat([unspecified, specified], -1)))
        fused = delta * unspecified + (1 - delta) * specified
        return Output(
            a_s=self.readout_s(specified, taken),
            a_u=self.readout_u(unspecified, taken),
            a_t=self.readout_t(fused, taken),
            a_m=self.readout_m(encoded[0], seen),
            specified=specified,
            unspecified=unspecified,
            original=original,
            rebuilt=self.reconstruction(fused),
            mask=taken.mask,
        )


class FairProDA(ReferenceProDA):
    """The careful dense ProDA; see the top of this file. ``a_m`` has one row per video."""

    fair = True


def losses(output: Output, batch: DenseBatch, sap: Tensor, row_video: Sequence[int], m1: float, m2: float) -> dict:
    """Eq. (8) with all λ = 1 as a dict of its terms; dis and rec are means over the existing nodes of each sample."""
    labels = batch.labels.index_select(0, torch.as_tensor(row_video, device=sap.device)).bool()
    targets = {"a_s": branch_targets(labels, sap), "a_u": branch_targets(labels, ~sap), "a_t": labels}
    terms = {name: F.binary_cross_entropy_with_logits(getattr(output, name).logits, target.to(output.rebuilt.dtype))
             for name, target in targets.items()}  # fmt: skip
    mask = output.mask[..., None].to(output.rebuilt.dtype)
    count = (mask.sum((1, 2, 3)) * output.rebuilt.shape[-1]).clamp(min=1)

    def total(x: Tensor) -> Tensor:
        return (x * mask).sum((1, 2, 3))

    u, s = (x - (total(x) / count)[:, None, None, None] for x in (output.unspecified, output.specified))
    correlation = total(u * s) / (total(u.square()) * total(s.square())).clamp(min=1e-12).sqrt()
    error = total((output.original - output.rebuilt).square()) / count
    return {**terms, "dis": F.relu(correlation.abs() - m1).mean(), "rec": F.relu(error - m2).mean()}
