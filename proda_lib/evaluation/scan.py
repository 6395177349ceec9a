"""Many questions about the same videos, in chunks that fit into memory: ``scan``, all C; ``two_step``, the best few."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from proda_lib.batch import SceneGraphBatch
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.nn.video_encoder import EncodedVideos
from proda_lib.specification import best_of, one_hot

#: Bytes that the questions in flight may take on a CPU: through the SAP branch alone, and through both branches.
MEMORY, MEMORY_OF_BOTH = 2**28, 2**31


def budget(device: torch.device, branches: int = 1) -> int:
    """Bytes that the questions in flight may take: :data:`MEMORY` (of both branches :data:`MEMORY_OF_BOTH`) on a CPU,
    a quarter of what is free on a GPU."""
    if device.type != "cuda":
        return MEMORY if branches == 1 else MEMORY_OF_BOTH
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by PyTorch, for its next tensors
    return (torch.cuda.mem_get_info(device)[0] + kept) // 4


def rows_within(memory: int, config: ModelConfig, batch: SceneGraphBatch, branches: int = 1) -> int:
    """How many rows (questions) may go through one branch, or both, at a time; at least one.

    An estimate without gradients: for each branch about 12 vectors of width D for every frame of every edge (padded,
    for attention) and 8 for every node token, 4 bytes a number, for the largest video of the batch.
    """
    edges = max(batch.track_counts, default=0) * batch.frame_mask.shape[1]
    vectors = branches * (12 * edges + 8 * max(batch.node_counts, default=0) + 1)
    return max(1, memory // (4 * config.width * vectors))


def rows_of_both(config: ModelConfig, batch: SceneGraphBatch, most: int) -> int:
    """How many rows of SAP and UAP together: ``most``, or fewer where these need more than the :func:`budget`."""
    return min(most, rows_within(budget(batch.labels.device, 2), config, batch, branches=2))


@torch.no_grad()
def ask_in_chunks(
    model: ProDA, batch: SceneGraphBatch, encoded: EncodedVideos, sap: Bool[np.ndarray, "R C"],
    row_video: Sequence[int], memory: int | None = None,
) -> tuple[Float[Tensor, "R C1"], Float[Tensor, "R N"]]:  # fmt: skip
    """a_s logits and frame scores s of R questions (at least one).

    The chunks change no result; the encoder's answer is shared by all of them. ``memory``: bytes, by default
    :func:`budget`.
    """
    device = batch.labels.device
    rows = rows_within(memory or budget(device), model.config, batch)
    answers = [
        model.ask(batch, encoded, torch.from_numpy(sap[i : i + rows]).to(device), row_video[i : i + rows])
        for i in range(0, len(sap), rows)
    ]
    return torch.cat([answer.logits for answer in answers]), torch.cat([answer.s for answer in answers])


@torch.no_grad()
def scan_frames(
    model: ProDA, batch: SceneGraphBatch, actions: Sequence[int] | Int[np.ndarray, "B A"] | None = None,
    memory: int | None = None, encoded: EncodedVideos | None = None,
) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A N"]]:  # fmt: skip
    """Ask for each action alone: a_s of the SAP {c} and its frame scores s, for every video and action.

    One pass of the encoder, then B · A rows through the SAP branch; the UAP branch is not needed for a_s.

    Args:
        actions: the same for all videos, (A,), or for each its own, (B, A); by default all C.
        memory: bytes that the rows in flight may take, by default :func:`budget`.
        encoded: the batch, if it is encoded already.

    Returns:
        Logits and frame scores, for each video and each of its actions, in their order.
    """
    C, B = model.config.actions, len(batch)
    asked = np.arange(C) if actions is None else np.asarray(actions)
    shape = (B, asked.shape[-1])
    asked = np.broadcast_to(asked, shape).flatten()
    row_video = np.repeat(np.arange(B), shape[1])
    encoded = model.encode(batch) if encoded is None else encoded
    logits, s = ask_in_chunks(model, batch, encoded, one_hot(asked, C), row_video, memory)
    own = torch.from_numpy(asked).to(logits.device)
    return logits.gather(1, own[:, None]).view(shape), s.unflatten(0, shape)


def scan(
    model: ProDA, batch: SceneGraphBatch, actions: Sequence[int] | Int[np.ndarray, "B A"] | None = None,
    memory: int | None = None,
) -> Float[Tensor, "B A"]:  # fmt: skip
    """The logits of :func:`scan_frames`. Under ``torch.autocast`` in bf16 the questions take less time where the device
    multiplies bf16 matrices; the page on performance says how much less, and what it changes."""
    return scan_frames(model, batch, actions, memory)[0]


@torch.no_grad()
def two_step(model: ProDA, batch: SceneGraphBatch, best: int) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """The two-step scan: a_m of every action, then a_s of the ``best`` ones alone (1..C), C / best times fewer rows.

    One pass of the encoder serves both steps, and the a_s are those of :func:`scan`.

    Returns:
        Logits a_m and a_s, the latter minus infinity where it was not asked for. :func:`two_step_scores` makes one
        ranking of them, for all videos that are ranked together.
    """
    encoded = model.encode(batch)
    a_m = model.unprompted(batch, encoded).logits
    actions = best_of(a_m.float().cpu().numpy(), best)
    found, _ = scan_frames(model, batch, actions, encoded=encoded)
    asked = torch.from_numpy(actions).to(found.device)
    return a_m, torch.full_like(a_m, -torch.inf).scatter(1, asked, found)


def two_step_scores(
    a_m: Float[np.ndarray, "V C"], a_s: Float[np.ndarray, "V C"], best: int
) -> Float[np.ndarray, "V C"]:
    """Scores of the two-step scan.

    Args:
        a_s: of :func:`two_step`, or of the full scan: only the entries of the ``best`` actions of a_m are read.

    Returns:
        Those entries as they are; the other actions below all of them, in any video, in the order of a_m.
    """
    asked = np.zeros(a_m.shape, dtype=bool)
    np.put_along_axis(asked, best_of(a_m, best), True, axis=1)
    floor = a_s[asked].min() if asked.any() else 0.0
    return np.where(asked, a_s, floor - 1 - (a_m.max() - a_m))
