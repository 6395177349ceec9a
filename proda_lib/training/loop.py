"""One stage of training on Lightning Fabric: epochs, progress, best epoch, checkpoints, interrupts, NaN."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from proda_lib.distributed import all_sum, any_process, first_decides, processes, rank
from proda_lib.errors import TrainingError
from proda_lib.graph import SceneGraph
from proda_lib.nn.norm import NORMS
from proda_lib.training.checkpoint import read_checkpoint, restore, save_checkpoint
from proda_lib.training.data import Questions, Rows, epoch_loader
from proda_lib.training.recipe import Recipe

#: Loss terms are fetched from the device, shown, checked and noted in the trace every so many steps.
LOOK_EVERY = 20
#: At the first look after so many seconds, and after every epoch, a checkpoint is written. It changes no record.
SAVE_EVERY = 60.0
#: Within an epoch, checkpoints may take this share of the time: at the paper's width one is gigabytes.
SAVE_SHARE = 0.02


@dataclass
class Stage:
    """What one stage trains and how it is judged.

    Every stage counts its epochs from 0, and what an epoch visits depends on (seed, epoch) alone. So the first epoch of
    the second stage has the frames, specifications and order that the first epoch of the first stage had, and so on.

    Attributes:
        name: "pretrain", "posttrain" or "self".
        epochs: how many. ``lr``: the learning rate at its highest, see :func:`learning_rate`.
        losses: model, batch and progress, from 0 at the stage's first step to 1 at its last → loss terms; their sum is
            minimised.
        trained: modules that train; everything else is frozen and in evaluation mode.
        validate: model → metrics, of which "score" picks the best epoch.
        questions: SAPs (S, C) of each video, if they are not drawn from its labels.
        curves: the rows of the epochs done, filled by :func:`run_stage`.
    """

    name: str
    epochs: int
    lr: float
    trained: Sequence[nn.Module]
    losses: Callable[[nn.Module, Rows, float], dict[str, Tensor]]
    validate: Callable[[nn.Module], dict[str, float]]
    questions: Questions = None
    curves: list[dict] = field(default_factory=list)


def make_optimizer(modules: Sequence[nn.Module], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; no weight decay on biases, norms and other 1-d parameters."""
    parameters = [p for module in modules for p in module.parameters()]
    norms = [part for module in modules for part in module.modules() if isinstance(part, NORMS)]
    of_norms = {id(p) for norm in norms for p in norm.parameters()}
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in of_norms]
    spared = [p for p in parameters if p.ndim < 2 or id(p) in of_norms]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
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


@dataclass
class Standing:
    """Where a stage stands: with model, optimizer and random state, what a checkpoint holds.

    Attributes:
        checkpoint: its file.
        epoch, done: epochs done, and steps of the next one.
        best, best_score: weights and score of the best epoch so far.
        sums: loss terms of this process, summed over the steps of this epoch; None before the first.
        looked: the last look: its step, and the sums of all processes then. ``trace``: see :func:`run_stage`.
        began: when this epoch began; the seconds that earlier processes spent on it count.
        next_save: from when on a checkpoint is due within the epoch.
    """

    checkpoint: Path
    epoch: int = 0
    done: int = 0
    best: dict[str, Tensor] | None = None
    best_score: float = -float("inf")
    sums: dict[str, Tensor] | None = None
    looked: tuple[int, dict[str, float]] = (0, {})
    trace: dict[str, list[float]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    next_save: float = field(default_factory=lambda: time.monotonic() + SAVE_EVERY)


def run_stage(
    stage: Stage, model: nn.Module, graphs: Sequence[SceneGraph], recipe: Recipe, recipe_hash: str, fabric,
    checkpoint: Path, workers: int = 0,
) -> list[dict]:  # fmt: skip
    """Train one stage from its checkpoint, if there is one, and leave the best epoch's weights in ``model``.

    Returns:
        One row per epoch: loss terms (means), validation metrics, seconds, and ``trace``: means of the loss terms over
        each :data:`LOOK_EVERY` steps (the last ones of an epoch may be fewer), with the epochs done at their end.

    Raises:
        TrainingError: a loss term is not finite; the message names it.
        KeyboardInterrupt: after saving a checkpoint.
    """
    model.requires_grad_(False)
    for module in stage.trained:
        module.requires_grad_(True)
    optimizer = make_optimizer(stage.trained, stage.lr, recipe.weight_decay)
    wrapped, optimizer = fabric.setup(model, optimizer)
    at = Standing(checkpoint)
    if first_decides(checkpoint.exists()):
        state, tensors = read_checkpoint(checkpoint, recipe_hash)
        at.best, at.best_score = restore(tensors, model, optimizer.optimizer), state["best_score"]
        at.epoch, at.done, stage.curves = state["epoch"], state["step"], state["curves"]
        # Sums are over all processes, however many there were; the first one takes them over.
        at.sums = {name: torch.tensor(value if rank() == 0 else 0.0, device=fabric.device, dtype=torch.double)
                   for name, value in state["sums"].items()} or None  # fmt: skip
        at.trace, at.looked = state["trace"], tuple(state["looked"])
        at.began -= state["seconds"]
    if rank():  # other dropout than in the first process
        torch.manual_seed(int(np.random.default_rng([recipe.seed, rank(), at.epoch, at.done]).integers(2**31)))

    def save() -> None:
        begun = time.monotonic()
        state = {"recipe": recipe_hash, "stage": stage.name, "epoch": at.epoch, "step": at.done, "curves": stage.curves,
                 "best_score": at.best_score, "sums": fetch(stage, at), "looked": at.looked,
                 "trace": at.trace, "seconds": time.monotonic() - at.began}  # fmt: skip
        if rank() == 0:
            save_checkpoint(checkpoint, state, model, optimizer, at.best)
        now = time.monotonic()
        at.next_save = now + max(SAVE_EVERY, (now - begun) / SAVE_SHARE)

    with interrupts() as interrupted:
        while at.epoch < stage.epochs:
            model.eval()
            for module in stage.trained:
                module.train()
            steps = train_epoch(stage, at, wrapped, optimizer, graphs, recipe, fabric, workers, interrupted, save)
            model.eval()
            metrics = stage.validate(model)
            means = {name: total / steps for name, total in at.looked[1].items()}
            row = {"stage": stage.name, "epoch": at.epoch + 1, **means, **metrics, "trace": at.trace}
            stage.curves.append({**row, "seconds": round(time.monotonic() - at.began, 2)})
            if metrics["score"] > at.best_score:
                at.best_score = metrics["score"]
                at.best = {name: value.detach().clone() for name, value in model.state_dict().items()}
            at = Standing(checkpoint, at.epoch + 1, best=at.best, best_score=at.best_score)
            save()
            if any_process(interrupted()):  # since the last step
                raise KeyboardInterrupt
    model.load_state_dict(at.best)
    model.eval()
    return stage.curves


def train_epoch(
    stage: Stage, at: Standing, wrapped, optimizer, graphs: Sequence[SceneGraph], recipe: Recipe, fabric, workers: int,
    interrupted: Callable[[], bool], save: Callable[[], None],
) -> int:  # fmt: skip
    """The steps of one epoch from where the stage stands on; the number of steps in the whole epoch.

    Raises:
        TrainingError, KeyboardInterrupt: see :func:`run_stage`.
    """
    pin = fabric.device.type == "cuda"
    loader, steps = epoch_loader(graphs, recipe, at.epoch, at.done, workers, stage.questions, pin)
    total, parts = stage.epochs * steps, recipe.accumulate
    title = f"{stage.name} {at.epoch + 1}/{stage.epochs}"
    # The bar is not given the loader: it would start it, with all its workers, a second time.
    with tqdm(desc=title, total=steps * parts, initial=at.done * parts, leave=False, mininterval=1.0) as bar:
        for part, rows in enumerate(loader, 1):
            step = at.epoch * steps + at.done
            for group in optimizer.param_groups:
                group["lr"] = stage.lr * learning_rate(step, total, recipe.warmup * steps)
            last = part % parts == 0
            with fabric.no_backward_sync(wrapped, enabled=not last and processes() > 1):
                terms = stage.losses(wrapped, rows.to(fabric.device), step / max(total - 1, 1))
                # Terms are shares of the part's loss, and gradients are averaged over processes, not summed.
                fabric.backward(torch.stack(list(terms.values())).sum() * (processes() / parts))
            terms = {name: value.detach().double() / parts for name, value in terms.items()}
            at.sums = terms if at.sums is None else {name: at.sums[name] + value for name, value in terms.items()}
            bar.update()
            if not last:
                continue
            fabric.clip_gradients(wrapped, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            at.done += 1
            due = at.done % LOOK_EVERY == 0 or at.done == steps
            if not due and processes() > 1:
                continue  # several processes agree only now and then on what to do
            if due:
                bar.set_postfix({name: f"{value:.4f}" for name, value in look(stage, at, steps).items()})
            stop = any_process(interrupted())
            if stop or due and any_process(time.monotonic() > at.next_save):
                save()
            if stop:
                raise KeyboardInterrupt
    return steps


def fetch(stage: Stage, at: Standing) -> dict[str, float]:
    """The loss terms, summed over the steps of this epoch and all processes.

    Raises:
        TrainingError: a sum is not finite.
    """
    sums = at.sums or {}
    totals = dict(zip(sums, all_sum(torch.stack(list(sums.values()))).tolist(), strict=True)) if sums else {}
    if bad := [name for name, total in totals.items() if not math.isfinite(total)]:
        raise TrainingError(f"{stage.name}, epoch {at.epoch + 1}, step {at.done}: loss terms {', '.join(bad)}: found "
                            f"not finite, expected finite; last good checkpoint: {at.checkpoint.name}")  # fmt: skip
    return totals


def look(stage: Stage, at: Standing, steps: int) -> dict[str, float]:
    """Note in the trace what the loss terms were since the last look, and return their means so far.

    Raises:
        TrainingError: see :func:`fetch`.
    """
    totals, (before, sums) = fetch(stage, at), at.looked
    recent = {name: (total - sums.get(name, 0.0)) / (at.done - before) for name, total in totals.items()}
    for name, value in {"epoch": at.epoch + at.done / steps, **recent}.items():
        at.trace.setdefault(name, []).append(value)
    at.looked = at.done, totals
    return {name: total / at.done for name, total in totals.items()}


def learning_rate(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over ``warmup`` steps, then linear decay to zero at ``total``: a factor in 0..1."""
    return min(1.0, (step + 1) / max(warmup, 1.0)) * min(1.0, (total - step) / max(total - warmup, 1.0))
