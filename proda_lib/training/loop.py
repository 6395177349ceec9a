"""One stage of training on Lightning Fabric: epochs, progress, best epoch, checkpoints, interrupts, NaN."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from proda_lib.errors import TrainingError
from proda_lib.graph import SceneGraph
from proda_lib.training.checkpoint import read_checkpoint, restore, save_checkpoint
from proda_lib.training.data import Rows, epoch_loader
from proda_lib.training.recipe import Recipe

#: A checkpoint is written at least this often (seconds) and after every epoch. It changes no result.
SAVE_EVERY = 60.0
#: Loss terms are fetched from the device, shown and checked every so many steps.
LOOK_EVERY = 20


@dataclass
class Stage:
    """What one stage trains and how it is judged.

    Attributes:
        name: "pretrain" or "posttrain".
        losses: model, batch and share of the stage's epochs done → loss terms; their sum is minimised.
        trained: modules that train; everything else is frozen and in evaluation mode.
        validate: model → metrics, of which "score" picks the best epoch.
    """

    name: str
    epochs: int
    lr: float
    trained: Sequence[nn.Module]
    losses: Callable[[nn.Module, Rows, float], dict[str, Tensor]]
    validate: Callable[[nn.Module], dict[str, float]]
    curves: list[dict] = field(default_factory=list)


def make_optimizer(modules: Sequence[nn.Module], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; no weight decay on biases, norms and other 1-d parameters."""
    parameters = [p for module in modules for p in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Within the block, the first Ctrl-C (or SIGTERM) is only noted, so that a step is never left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    noted = []
    previous = {}

    def note(number, frame):
        noted.append(number)
        signal.signal(number, previous[number])  # the second one acts at once

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_stage(
    stage: Stage, model: nn.Module, graphs: Sequence[SceneGraph], recipe: Recipe, recipe_hash: str, fabric,
    checkpoint: Path, workers: int = 0,
) -> list[dict]:  # fmt: skip
    """Train one stage from its checkpoint, if there is one, and leave the best epoch's weights in ``model``.

    Returns:
        One row per epoch: loss terms (means), validation metrics, seconds.

    Raises:
        TrainingError: a loss term is not finite; the message names it.
        KeyboardInterrupt: after saving a checkpoint.
    """
    model.requires_grad_(False)
    for module in stage.trained:
        module.requires_grad_(True)
    optimizer = make_optimizer(stage.trained, stage.lr, recipe.weight_decay)
    epoch, done, best, best_score, sums = 0, 0, None, -float("inf"), None
    if checkpoint.exists():
        state, tensors = read_checkpoint(checkpoint, recipe_hash)
        best = restore(tensors, model, optimizer)
        epoch, done, stage.curves, best_score = state["epoch"], state["step"], state["curves"], state["best_score"]
        sums = {name: torch.tensor(value, device=fabric.device) for name, value in state["sums"].items()} or None
    wrapped, optimizer = fabric.setup(model, optimizer)

    def save(epoch: int, step: int) -> None:
        state = {"recipe": recipe_hash, "stage": stage.name, "epoch": epoch, "step": step, "curves": stage.curves,
                 "best_score": best_score, "sums": {k: v.item() for k, v in (sums or {}).items()}}  # fmt: skip
        save_checkpoint(checkpoint, state, model, optimizer, best)

    def look(bar: tqdm, step: int) -> None:
        means = {name: (total / step).item() for name, total in sums.items()}
        if bad := [name for name, value in means.items() if value != value or abs(value) == float("inf")]:
            raise TrainingError(f"{stage.name}, epoch {epoch + 1}, step {step}: loss terms {', '.join(bad)}: found not "
                                f"finite, expected finite; last good checkpoint: {checkpoint.name}")  # fmt: skip
        bar.set_postfix({name: f"{value:.4f}" for name, value in means.items()})

    saved = time.monotonic()
    with interrupts() as interrupted:
        while epoch < stage.epochs:
            model.eval()
            for module in stage.trained:
                module.train()
            loader, steps = epoch_loader(graphs, recipe, epoch, done, workers)
            title = f"{stage.name} {epoch + 1}/{stage.epochs}"
            started, progress = time.monotonic(), epoch / max(stage.epochs, 1)
            with tqdm(loader, title, total=steps, initial=done, leave=False, mininterval=1.0) as bar:
                for rows in bar:
                    lr = stage.lr * learning_rate(epoch * steps + done, stage.epochs * steps, recipe.warmup * steps)
                    for group in optimizer.param_groups:
                        group["lr"] = lr
                    terms = stage.losses(wrapped, rows.to(fabric.device), progress)
                    optimizer.zero_grad(set_to_none=True)
                    fabric.backward(torch.stack(list(terms.values())).sum())
                    fabric.clip_gradients(wrapped, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
                    optimizer.step()
                    done += 1
                    terms = {name: value.detach().float() for name, value in terms.items()}
                    sums = terms if sums is None else {name: sums[name] + value for name, value in terms.items()}
                    if done % LOOK_EVERY == 0 or done == steps:
                        look(bar, done)
                    if interrupted():
                        look(bar, done)
                        save(epoch, done)
                        raise KeyboardInterrupt
                    if time.monotonic() - saved > SAVE_EVERY:
                        look(bar, done)
                        save(epoch, done)
                        saved = time.monotonic()
            model.eval()
            metrics = stage.validate(model)
            means = {name: (total / steps).item() for name, total in sums.items()}
            row = {"stage": stage.name, "epoch": epoch + 1, **means, **metrics}
            stage.curves.append({**row, "seconds": round(time.monotonic() - started, 2)})
            if metrics["score"] > best_score:
                best_score = metrics["score"]
                best = {name: value.detach().clone() for name, value in model.state_dict().items()}
            epoch, done, sums = epoch + 1, 0, None
            save(epoch, 0)
            saved = time.monotonic()
    model.load_state_dict(best)
    model.eval()
    return stage.curves


def learning_rate(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over ``warmup`` steps, then linear decay to zero at ``total``: a factor in 0..1."""
    return min(1.0, (step + 1) / max(warmup, 1.0)) * min(1.0, (total - step) / max(total - warmup, 1.0))
