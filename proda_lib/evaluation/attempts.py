"""Attempts to answer better without test labels: other ways to use the same weights (audit, label-free ProDA)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from proda_lib.distributed import each_its_part
from proda_lib.evaluation.protocols import LabelFree, batches, best_actions
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA

#: ``self`` is iterated at most so often.
ROUNDS = 8


@torch.no_grad()
def iterated_self(
    model: ProDA, graphs: Sequence[SceneGraph], length: int, frames: int, device="cpu"
) -> Float[np.ndarray, "V C"]:
    """Protocol ``self``, repeated until no SAP changes (at most :data:`ROUNDS` times).

    SAP_0 = the K best actions of a_m; SAP_{k+1} = the K best of a_s where SAP_k asked, of a_m elsewhere.

    Returns:
        a_s of the last round, minus infinity outside of the last SAP.
    """
    model.eval()

    def answers(part: Sequence[SceneGraph]) -> np.ndarray:
        found = []
        for _, batch in batches(model, part, frames, device):
            encoded, videos = model.encode(batch), range(len(batch))
            a_m = model.unprompted(batch, encoded).logits
            sap = best_actions(a_m, length)
            for _ in range(ROUNDS):
                a_s = model.ask(batch, encoded, sap, videos).logits[:, :-1]
                previous, sap = sap, best_actions(torch.where(sap, a_s, a_m), length)
                if torch.equal(previous, sap):
                    break
            found.append(a_s.masked_fill(~previous, -torch.inf).float().cpu().numpy())
        return np.concatenate(found)

    return np.concatenate(each_its_part(graphs, answers))


def averaged(free: dict[str, LabelFree], a_m: Float[np.ndarray, "V C"]) -> dict[str, Float[np.ndarray, "V C"]]:
    """Mean of the probabilities of a_s and a_m, for ``partition/0..2`` and ``scan`` as far as they were asked."""
    found = {}
    for name, answer in free.items():
        protocol, _, number = name.partition("/")
        if protocol in ("partition", "scan"):
            key = "/".join(filter(None, (f"{protocol}_with_a_m", number, "a_s")))
            found[key] = (_probability(answer.a_s) + _probability(a_m)) / 2
    return found


def _probability(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()
