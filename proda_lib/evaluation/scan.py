"""Many questions about the same videos, in chunks that fit into memory; and ``scan``, all C of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from proda_lib.batch import SceneGraphBatch
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.nn.video_encoder import EncodedVideos
from proda_lib.specification import one_hot

#: Bytes that the questions in flight may take.
MEMORY = 2**28


def rows_within(memory: int, config: ModelConfig, batch: SceneGraphBatch) -> int:
    """How many rows (questions) may go through the SAP branch at a time; at least one.

    An estimate without gradients: about 12 vectors of width D for every frame of every edge (padded, for attention) and
    8 for every node token, 4 bytes a number, for the largest video of the batch.
    """
    edges = max(batch.track_counts, default=0) * batch.frame_mask.shape[1]
    return max(1, memory // (4 * config.width * (12 * edges + 8 * max(batch.node_counts, default=0) + 1)))


@torch.no_grad()
def ask_in_chunks(
    model: ProDA, batch: SceneGraphBatch, encoded: EncodedVideos, sap: Bool[np.ndarray, "R C"],
    row_video: Sequence[int], memory: int = MEMORY,
) -> tuple[Float[Tensor, "R C1"], Float[Tensor, "R N"]]:  # fmt: skip
    """a_s logits and frame scores s of R questions (at least one).

    The chunks change no result; the encoder's answer is shared by all of them.
    """
    rows, device = rows_within(memory, model.config, batch), batch.labels.device
    answers = [
        model.ask(batch, encoded, torch.from_numpy(sap[i : i + rows]).to(device), row_video[i : i + rows])
        for i in range(0, len(sap), rows)
    ]
    return torch.cat([answer.logits for answer in answers]), torch.cat([answer.s for answer in answers])


@torch.no_grad()
def scan_frames(
    model: ProDA, batch: SceneGraphBatch, actions: Sequence[int] | None = None, memory: int = MEMORY
) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A N"]]:
    """Ask for each action alone: a_s of the SAP {c} and its frame scores s, for every video and action (by default C).

    One pass of the encoder, then B · A rows through the SAP branch; the UAP branch is not needed for a_s.

    Returns:
        Logits and frame scores, for each video and each of ``actions``, in their order.
    """
    asked = np.arange(model.config.actions) if actions is None else np.asarray(actions)
    sap = np.tile(one_hot(asked, model.config.actions), (len(batch), 1))
    row_video = np.repeat(np.arange(len(batch)), len(asked))
    logits, s = ask_in_chunks(model, batch, model.encode(batch), sap, row_video, memory)
    own = torch.from_numpy(np.tile(asked, len(batch))).to(logits.device)
    shape = (len(batch), len(asked))
    return logits.gather(1, own[:, None]).view(shape), s.unflatten(0, shape)


def scan(
    model: ProDA, batch: SceneGraphBatch, actions: Sequence[int] | None = None, memory: int = MEMORY
) -> Float[Tensor, "B A"]:
    """The logits of :func:`scan_frames`."""
    return scan_frames(model, batch, actions, memory)[0]


def two_step(a_m: Float[np.ndarray, "V C"], scanned: Float[np.ndarray, "V C"], best: int) -> Float[np.ndarray, "V C"]:
    """Scores of the two-step scan, in which only the ``best`` actions of a_m are asked for: C / best times fewer rows.

    Args:
        scanned: a_s of the full scan; only the entries that the two-step scan would have asked for are read.

    Returns:
        Those entries as they are; the other actions below all of them, in the order of a_m.
    """
    order = (-a_m).argsort(1, kind="stable")
    asked = np.zeros(a_m.shape, dtype=bool)
    np.put_along_axis(asked, order[:, :best], True, axis=1)
    floor = scanned[asked].min() if asked.any() else 0.0
    return np.where(asked, scanned, floor - 1 - (a_m.max() - a_m))
