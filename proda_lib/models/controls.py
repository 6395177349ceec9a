"""Controls that stand beside ProDA: the same network without prompts, the encoder alone, a prompt without a video."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from proda_lib.batch import SceneGraphBatch
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import make_encoder, make_vgpnn
from proda_lib.models.saved import SavedModel
from proda_lib.nn.blocks import FFN, MLP
from proda_lib.nn.readout import Readout, ReadoutOutput


class NoPrompt(SavedModel):
    """``no_prompt``: the same encoder, VGPNN, relations and width, one branch, no prompt module.

    Trained on the videos' labels, it is the fair control for any gain from prompting. One answer per video, C logits.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config)
        self.ffn = FFN(config.width, config.dropout)
        self.vgpnn = make_vgpnn(config)
        self.readout = Readout(config.width, config.actions, config.dropout)

    def forward(self, batch: SceneGraphBatch) -> ReadoutOutput:
        encoded, rows = self.encoder(batch), batch.rows(range(len(batch)))
        nodes, _ = self.vgpnn(self.ffn(encoded.nodes), encoded.edges, rows)
        return self.readout(nodes, rows, batch.frame_mask)


class EncoderOnly(SavedModel):
    """The video encoder and a readout, trained end to end: row ⑥ of table 5. It never sees relations.

    The encoder is ProDA's, with the parts that make edge features; they are not computed here, and stay as they start.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config)
        self.readout = Readout(config.width, config.actions, config.dropout)

    def forward(self, batch: SceneGraphBatch) -> ReadoutOutput:
        nodes, _, _ = self.encoder.encode_nodes(batch)
        return self.readout(nodes, batch.rows(range(len(batch))), batch.frame_mask)

    def used(self) -> list[nn.Module]:
        """The parts that the answer depends on: all but edge features and relations."""
        idle = {"edge", "relation"}
        return [*(part for name, part in self.encoder.named_children() if name not in idle), self.readout]


class PromptOnly(nn.Module):
    """The trained prompt-only control: MLPs from the SAP, C → 1024 → 1024 → 2C + 1 to a_s (C + 1) and a_t (C), and
    C → 1024 → 1024 → C + 1 to a_u.

    It is given no video, so its score is what the protocol alone gives away.
    """

    def __init__(self, actions: int, hidden: int = 1024):
        super().__init__()
        self.actions = actions
        self.mlp = MLP(actions, hidden, hidden, 2 * actions + 1)
        with torch.random.fork_rng(devices=[]):  # a_s and a_t are the same with and without it
            self.rest = MLP(actions, hidden, hidden, actions + 1)

    def forward(
        self, sap: Bool[Tensor, "R C"]
    ) -> tuple[Float[Tensor, "R C1"], Float[Tensor, "R C1"], Float[Tensor, "R C"]]:
        """SAPs (R, C) → logits of a_s (R, C + 1), a_u (R, C + 1) and a_t (R, C)."""
        a_s, a_t = self.mlp(sap.float()).split([self.actions + 1, self.actions], dim=-1)
        return a_s, self.rest(sap.float()), a_t
