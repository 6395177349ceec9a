"""ProDA (figure 2): a video and a specification in, two disentangled graphs and four answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from proda_lib.batch import GraphRows, SceneGraphBatch
from proda_lib.models.config import ModelConfig
from proda_lib.models.saved import SavedModel
from proda_lib.nn.blocks import FFN
from proda_lib.nn.fusion import Fusion, Reconstruction
from proda_lib.nn.prompt import DynamicPrompt, SimplePrompt
from proda_lib.nn.readout import Readout, ReadoutOutput
from proda_lib.nn.vgpnn import VGPNN
from proda_lib.nn.video_encoder import EncodedVideos, VideoEncoder


@dataclass(eq=False)
class Parsed:
    """Disentangled graphs: ``nodes`` (P', D), edge weights ``w`` (layers, Q'), and the rows they belong to."""

    nodes: Float[Tensor, "Pr D"]
    w: Float[Tensor, "layers Qr"]
    rows: GraphRows


@dataclass(eq=False)
class ProDAOutput:
    """Rows are (video, specification) pairs; a_m has one row per video.

    Attributes:
        a_s, a_u: readouts of the specified and the unspecified graph, C + 1 logits (index C is "no-action").
        a_t: readout of the fused graph, C logits. ``a_m``: readout of F_o, C logits, (B, C).
        specified, unspecified, fused, original, rebuilt: F_s, F_u, F_t, F_o and F_r, each (P', D).
        rows: layout of the rows. ``delta``: (P',) of eq. (6). ``w``: edge weights of the SAP branch.
        encoded: what the encoder gave, once per video.
    """

    a_s: ReadoutOutput
    a_u: ReadoutOutput
    a_t: ReadoutOutput
    a_m: ReadoutOutput
    specified: Float[Tensor, "Pr D"]
    unspecified: Float[Tensor, "Pr D"]
    fused: Float[Tensor, "Pr D"]
    original: Float[Tensor, "Pr D"]
    rebuilt: Float[Tensor, "Pr D"]
    rows: GraphRows
    delta: Float[Tensor, "Pr"]
    w: Float[Tensor, "layers Qr"]
    encoded: EncodedVideos


def make_encoder(config: ModelConfig) -> VideoEncoder:
    """The video encoder that a config describes."""
    return VideoEncoder(config.objects, config.relations, config.visual, config.frames, config.width, config.heads,
                        config.dropout, config.wiring, config.feature_scale)  # fmt: skip


def make_vgpnn(config: ModelConfig) -> VGPNN:
    """The VGPNN that a config describes."""
    return VGPNN(config.layers, config.width, config.heads, config.depth, config.norm, config.frames, config.slots,
                 config.dropout, config.message_norm, config.recompute)  # fmt: skip


class ProDA(SavedModel):
    """Prompt-guided Disentangled Representation for Action Recognition.

    ``encode`` runs once per video, ``parse`` once per (video, specification) and branch, and the readouts answer.
    ``forward`` does all of it. SAP and UAP go through the VGPNN as one batch; it, and with ``branches="single"`` the
    prompt module too, serve both.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        C, D, dropout = config.actions, config.width, config.dropout
        self.encoder = make_encoder(config)
        make_prompt = SimplePrompt if config.prompt == "simple" else DynamicPrompt
        sizes = (C, D) if config.prompt == "simple" else (C, D, config.candidates)
        self.prompts = nn.ModuleList(make_prompt(*sizes) for _ in range(2 if config.branches == "dual" else 1))
        self.branch_ffn = nn.ModuleDict({"s": FFN(D, dropout), "u": FFN(D, dropout)})
        self.vgpnn = make_vgpnn(config)
        self.fusion = Fusion(D, config.fusion_mlp)
        self.reconstruction = Reconstruction(D)
        self.readout_s, self.readout_u = Readout(D, C + 1, dropout), Readout(D, C + 1, dropout)
        self.readout_t, self.readout_m = Readout(D, C, dropout), Readout(D, C, dropout)
        if config.graph_supervision:
            self.object_head, self.relation_head = nn.Linear(D, config.objects), nn.Linear(D, config.relations)

    def encode(self, batch: SceneGraphBatch) -> EncodedVideos:
        """F_o and edge features of every video; nothing here sees a prompt."""
        return self.encoder(batch)

    def parse(self, encoded: EncodedVideos, rows: GraphRows, specifications: Tensor, branches: Sequence[str]) -> Parsed:
        """Disentangle: prompt, FFN of the branch, then the VGPNN with the prompt again before each layer.

        Args:
            encoded: from :meth:`encode`.
            rows: R graphs, those of one branch; every branch gets them.
            specifications: (branches · R, C) multi-hot, branch after branch: the SAPs for "s" and the UAPs for "u".
            branches: ("s",), ("u",) or ("s", "u").
        """
        # Rows of a branch are neighbours and so are their tokens: what differs by branch runs on each one's part.
        parts, all_rows = len(branches), rows.repeat(len(branches))
        specifications = specifications.to(encoded.nodes.dtype)
        nodes = encoded.nodes.index_select(0, all_rows.node)
        if len(self.prompts) == 1:
            given = self.prompts[0].candidates(specifications)

            def prompt(nodes: Tensor) -> Tensor:
                return self.prompts[0](nodes, given, all_rows)

        else:
            modules = {"s": self.prompts[0], "u": self.prompts[1]}
            own = [modules[b] for b in branches]
            givens = [module.candidates(v) for module, v in zip(own, specifications.chunk(parts), strict=True)]

            def prompt(nodes: Tensor) -> Tensor:
                each = zip(own, nodes.chunk(parts), givens, strict=True)
                return torch.cat([module(part, given, rows) for module, part, given in each])

        prompted = zip(branches, prompt(nodes).chunk(parts), strict=True)
        nodes = torch.cat([self.branch_ffn[b](part) for b, part in prompted])
        nodes, w = self.vgpnn(nodes, encoded.edges, all_rows, prompt)
        return Parsed(nodes, w, all_rows)

    def ask(
        self, batch: SceneGraphBatch, encoded: EncodedVideos, sap: Bool[Tensor, "R C"], row_video: Sequence[int]
    ) -> ReadoutOutput:
        """a_s alone, for R questions, without the UAP branch (it is not needed for a_s)."""
        rows = batch.rows(row_video)
        return self.readout_s(self.parse(encoded, rows, sap, ("s",)).nodes, rows, batch.frame_mask)

    def unprompted(self, batch: SceneGraphBatch, encoded: EncodedVideos) -> ReadoutOutput:
        """a_m, one row a video: what is there when nothing is asked."""
        return self.readout_m(encoded.nodes, batch.rows(range(len(batch))), batch.frame_mask)

    def forward(
        self,
        batch: SceneGraphBatch,
        sap: Bool[Tensor, "R C"],
        row_video: Sequence[int],
        encoded: EncodedVideos | None = None,
    ) -> ProDAOutput:
        """Everything for R rows: ``sap`` (R, C) on the batch's device, ``row_video`` (R,) on the host.

        ``encoded``: from :meth:`encode`, for a batch that is asked more than once.
        """
        encoded = self.encode(batch) if encoded is None else encoded
        rows = batch.rows(row_video)
        both = self.parse(encoded, rows, torch.cat([sap, ~sap]), ("s", "u"))
        specified, unspecified = both.nodes.chunk(2)
        fused, delta = self.fusion(unspecified, specified)
        return ProDAOutput(
            a_s=self.readout_s(specified, rows, batch.frame_mask),
            a_u=self.readout_u(unspecified, rows, batch.frame_mask),
            a_t=self.readout_t(fused, rows, batch.frame_mask),
            a_m=self.unprompted(batch, encoded),
            specified=specified,
            unspecified=unspecified,
            fused=fused,
            original=encoded.nodes.index_select(0, rows.node),
            rebuilt=self.reconstruction(fused),
            rows=rows,
            delta=delta,
            w=both.w[:, : both.w.shape[1] // 2],
            encoded=encoded,
        )
