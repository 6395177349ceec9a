"""What packed tokens, a two-step scan, bf16 and recomputation save or cost, counted and not timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from proda_lib.batch import collate
from proda_lib.evaluation import protocols
from proda_lib.evaluation.scan import two_step_scores
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.nn.blocks import SelfAttentionBlock
from proda_lib.training.data import EpochRows, collate_rows
from proda_lib.training.recipe import Recipe
from proda_lib.training.runs import Run
from proda_lib.training.stages import pretrain_losses


def occupancy(graphs: Sequence[SceneGraph], slots: int) -> pd.DataFrame:
    """Tokens of a batch of videos beside the places of its padded layout of ``slots`` slots and their star of edges."""
    batch = collate(graphs)
    B, N = batch.frame_mask.shape
    rows = {
        "nodes": (len(batch.classes), B * N * slots),
        "edges": (batch.edges.shape[1], B * N * max(g.num_edges for g in graphs)),
        "whole frames": (len(batch.frame_index), B * N),
    }
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["tokens", "padded places"])
    frame["share"] = [f"{part / whole:.0%}" for part, whole in rows.values()]
    return frame


def scan_scores(
    run: Run, graphs: Sequence[SceneGraph], few: int = 8, device: str = "cpu"
) -> tuple[Float[np.ndarray, "V C"], Float[np.ndarray, "V C"], list[SceneGraph]]:
    """a_m and the scan's a_s of a run on its test videos, and these videos.

    From the run's scores where its recipe includes the scan; otherwise its model scans the first ``few`` videos.
    """
    if "scan/a_s" in (scores := run.scores()):
        return scores["a_m"], scores["scan/a_s"], list(graphs)
    graphs = list(graphs[:few])
    scanned = protocols.ask_each_alone(run.model(device=device), graphs, run.recipe.frames, device).a_s
    return scores["a_m"][: len(graphs)], scanned, graphs


def two_step_accuracy(
    a_m: Float[np.ndarray, "V C"], scanned: Float[np.ndarray, "V C"], graphs: Sequence[SceneGraph], best: Sequence[int]
) -> pd.DataFrame:
    """mAP of two-step scans that ask for the ``best`` n actions of a_m, beside the full scan (n = C)."""
    actions = a_m.shape[1]
    sizes = [*(n for n in best if n < actions), actions]
    found = {n: protocols.recognition(two_step_scores(a_m, scanned, n), graphs) for n in sizes}
    rows = {n: (f"{actions / n:.3g}×", value, value - found[actions]) for n, value in found.items()}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["fewer questions", "mAP", "against the full scan"])
    frame.index.name = "n"
    return frame.round(1)


def bf16_accuracy(
    run: Run, graphs: Sequence[SceneGraph], scanned: Float[np.ndarray, "V C"], device: str = "cpu"
) -> pd.DataFrame:
    """mAP of the scan in single precision (``scanned``, of these videos) and under autocast in bf16, and how far apart
    their logits are."""
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        rounded = protocols.ask_each_alone(run.model(device=device), graphs, run.recipe.frames, device).a_s
    logits = {"single": scanned, "bf16": rounded}
    rows = {name: (protocols.recognition(a_s, graphs), np.abs(a_s - scanned).mean(), a_s.std())
            for name, a_s in logits.items()}  # fmt: skip
    columns = ["mAP", "mean distance of logits from single", "standard deviation of logits"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    frame.index.name = "precision"
    return frame.round(3)


def recompute_price(recipe: Recipe, graphs: Sequence[SceneGraph]) -> pd.DataFrame:
    """What one step of stage 1 keeps for its backward pass, and its matrix products, without and with ``recompute``.

    The batch is the first visit to each of ``graphs``; the weights are those at the start.
    """
    items = EpochRows(graphs, recipe, 0)
    rows = collate_rows([items[i] for i, (_, visit) in enumerate(items.items) if visit == 0])
    found = {}
    for recompute in (False, True):
        torch.manual_seed(recipe.seed)
        changed = dataclasses.replace(recipe, recompute=recompute)
        model = ProDA(changed.model_config(graphs[0].vocabulary)).train()
        found[recompute] = _kept_and_made(model, rows, changed)
    frame = pd.DataFrame.from_dict(found, orient="index", columns=["kept for the backward pass (MB)", "GFLOP a step"])
    frame.index.name = "recompute"
    return frame.round(2)


def _kept_and_made(model: ProDA, rows, recipe: Recipe) -> tuple[float, float]:
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # storages stay alive, so that no two have the same address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    for module in model.modules():
        if isinstance(module, SelfAttentionBlock):  # its input is kept either way; checkpointing does so unseen
            module.register_forward_pre_hook(lambda _, given: (keep(given[0]), None)[1])
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = torch.stack(list(pretrain_losses(model, rows, 0.0, recipe=recipe, inner=model).values())).sum()
        size = sum(storage.nbytes() for address, storage in kept.items() if address not in weights)
        loss.backward()
    return size / 1e6, counter.get_total_flops() / 1e9
