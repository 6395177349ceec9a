"""The two stages of ProDA (section 4.1, appendix D.2), a third on its own questions, and the one of its controls."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.distributed import all_sum
from proda_lib.errors import DataError
from proda_lib.evaluation.protocols import ask, paper_protocol, predict, recognition, self_questions
from proda_lib.graph import SceneGraph
from proda_lib.losses import (
    classification_loss,
    disentanglement_loss,
    disentanglement_loss_released,
    graph_supervision_loss,
    reconstruction_loss,
)
from proda_lib.models.baselines import GPNN, FrameGCN, RelationLSTM, TokenTransformer
from proda_lib.models.config import ModelConfig
from proda_lib.models.controls import EncoderOnly, NoPrompt
from proda_lib.models.proda import ProDA, ProDAOutput
from proda_lib.models.saved import SavedModel
from proda_lib.models.shipped import shipped_model
from proda_lib.models.transfer import start_from
from proda_lib.nn.readout import Readout
from proda_lib.specification import branch_targets, specification_length
from proda_lib.training.data import Rows, trainable
from proda_lib.training.loop import Stage, run_stage
from proda_lib.training.questions import own_questions
from proda_lib.training.recipe import Recipe

MODELS: dict[str, type[SavedModel]] = {
    "proda": ProDA,
    "no_prompt": NoPrompt,
    "encoder_only": EncoderOnly,
    "token_transformer": TokenTransformer,
    "frame_gcn": FrameGCN,
    "gpnn": GPNN,
    "relation_lstm": RelationLSTM,
}


def margins(recipe: Recipe, progress: float) -> tuple[float, float]:
    """m1, m2. ``falling_margins``: both go linearly from 0.7 at the stage's first step to 0.2 at its last.

    ``progress``: 0 at the first step, 1 at the last.
    """
    if recipe.falling_margins:
        return (0.7 - 0.5 * progress,) * 2
    return recipe.margin_dis, recipe.margin_rec


def balance(out: ProDAOutput, labels_s: Float[Tensor, "R C1"], labels_u: Float[Tensor, "R C1"], model: ProDA) -> Tensor:
    """``balance_u``: weight of the a_u loss, ‖∂L_s/∂W_s‖ / ‖∂L_u/∂W_u‖ at the last layers W of the two readouts.

    The public code re-weights by last-layer gradient norms; this ratio, detached and at most 10, is our reading of it.
    The last layers run again on their inputs, since only Fabric may differentiate what came through its model in mixed
    precision.

    Args:
        out: what the model gave. ``labels_s``, ``labels_u``: what a_s and a_u should be, no-action last.
    """
    norms = []
    for answer, labels, readout in ((out.a_s, labels_s, model.readout_s), (out.a_u, labels_u, model.readout_u)):
        loss = classification_loss(readout.classifier(answer.feature.detach()), labels)
        norms.append(all_sum(torch.autograd.grad(loss, readout.classifier.weight)[0]).norm())
    return (norms[0] / norms[1].clamp(min=1e-12)).clamp(max=10.0).detach()


def pretrain_losses(
    model: nn.Module, rows: Rows, progress: float, *, recipe: Recipe, inner: ProDA
) -> dict[str, Tensor]:
    """Eq. (8): λ1 BCE(a_u) + λ2 BCE(a_s) + λ3 BCE(a_t) + λ4 (dis + rec), all λ = 1."""
    out: ProDAOutput = model(rows.batch, rows.sap, rows.row_video)
    labels = rows.labels
    labels_s, labels_u = (branch_targets(labels, asked).float() for asked in (rows.sap, ~rows.sap))
    terms = {
        "a_s": classification_loss(out.a_s.logits, labels_s),
        "a_u": classification_loss(out.a_u.logits, labels_u),
        "a_t": classification_loss(out.a_t.logits, labels.float()),
    }
    margin_dis, margin_rec = margins(recipe, progress)
    if recipe.dis and recipe.batch_loss:
        slots = inner.config.slots
        terms["dis"] = disentanglement_loss_released(out.unspecified, out.specified, out.rows, margin_dis, slots)
    elif recipe.dis:
        terms["dis"] = disentanglement_loss(out.unspecified, out.specified, out.rows, margin_dis)
    if recipe.rec:
        terms["rec"] = reconstruction_loss(
            out.original, out.rebuilt, out.rows, margin_rec, not recipe.batch_loss, recipe.detach_target
        )
    if recipe.balance_u:
        terms["a_u"] = terms["a_u"] * balance(out, labels_s, labels_u, inner)
    if recipe.graph_supervision:
        batch, seen = rows.batch, out.encoded
        terms["graph"] = graph_supervision_loss(
            inner.object_head(seen.adapted), batch.classes, inner.relation_head(seen.links), batch.relations
        )
    return terms


def posttrain_losses(model: nn.Module, rows: Rows, progress: float, *, recipe: Recipe) -> dict[str, Tensor]:
    """Second stage: BCE of the heads that train."""
    out: ProDAOutput = model(rows.batch, rows.sap, rows.row_video)
    labels = rows.labels
    terms = {
        "a_t": classification_loss(out.a_t.logits, labels.float()),
        "a_m": classification_loss(out.a_m.logits, rows.batch.labels),
    }
    if recipe.posttrain_heads == "sutm":
        terms["a_s"] = classification_loss(out.a_s.logits, branch_targets(labels, rows.sap).float())
        terms["a_u"] = classification_loss(out.a_u.logits, branch_targets(labels, ~rows.sap).float())
    return terms


def control_losses(model: nn.Module, rows: Rows, progress: float) -> dict[str, Tensor]:
    """BCE of the video's labels; the specifications of the batch are not looked at."""
    return {"a_t": classification_loss(model(rows.batch).logits, rows.batch.labels)}


def self_stage(
    model: ProDA, graphs: Sequence[SceneGraph], judged_on: Sequence[SceneGraph], recipe: Recipe, device
) -> Stage:
    """``questions="a_m"``: after the two stages, eq. (8) once more, on questions that need no label to be asked.

    The encoder and the a_m head are frozen, so the questions (:func:`~proda_lib.training.questions.own_questions`, made
    once) stay what the model would ask; the target of a question is, as ever, the true labels inside it. As many epochs
    as the second stage; half the learning rate of the first, since everything that trains here is trained already. The
    best epoch has the best mean of a_s and a_t mAP under the protocol ``self``.
    """

    def judge(model: nn.Module) -> dict[str, float]:
        length = specification_length(model.config.actions, recipe.spec_length)
        answer = ask(model, judged_on, self_questions(length), recipe.frames, device)
        found = {f"val_{name}, self": recognition(getattr(answer, name), judged_on) for name in ("a_s", "a_t")}
        return {**found, "score": sum(found.values()) / len(found)}

    trained = [module for name, module in _first_stage(model, recipe).items() if name != "encoder"]
    losses = functools.partial(pretrain_losses, recipe=recipe, inner=model)
    questions = own_questions(model, graphs, recipe, device)
    return Stage("self", recipe.posttrain_epochs, recipe.pretrain_lr / 2, trained, losses, judge, questions)


def _first_stage(model: ProDA, recipe: Recipe) -> dict[str, nn.Module]:
    """The parts of ProDA that eq. (8) reaches."""
    idle = {"readout_m"} if recipe.rec else {"readout_m", "reconstruction"}
    return {name: module for name, module in model.named_children() if name not in idle}


def train(
    recipe: Recipe, recipe_hash: str, graphs: Sequence[SceneGraph], judged_on: Sequence[SceneGraph], visual: int,
    slots: int, folder: Path, fabric, workers: int = 0,
    after_pretrain: Callable[[SavedModel], object] = lambda model: None,
) -> tuple[SavedModel, list[dict]]:  # fmt: skip
    """Train the recipe's model; checkpoints go into ``folder`` and a second call continues where the first stopped.

    ProDA: stage 1 trains everything but the a_m head and keeps the epoch with the best mean of a_s and a_u mAP; stage 2
    trains the a_t head (its readout and classifier) and the a_m head on frozen features and keeps the epoch with the
    best mean of a_t and a_m mAP; with ``questions="a_m"``, :func:`self_stage` follows. Controls: one stage with as many
    epochs, steps and videos a step as ProDA's first two.

    Args:
        judged_on: the videos that pick the best epoch. ``visual``, ``slots``: see :meth:`Recipe.model_config`.
        fabric: a launched ``lightning_fabric.Fabric``.
        after_pretrain: called with ProDA between the two stages (tables 12 and 13 score it there).

    Returns:
        The model in evaluation mode, and one row per epoch.

    Raises:
        DataError: none of the videos that pick the best epoch has a label.
    """
    if not any(len(graph.labels) for graph in judged_on):
        raise DataError(recipe.dataset, f"{recipe.select} videos, which pick the best epoch",
                        f"no label in any of {len(judged_on)}", "a label in at least one")  # fmt: skip
    graphs = trainable(graphs, recipe)
    torch.manual_seed(recipe.seed)
    config: ModelConfig = recipe.model_config(graphs[0].vocabulary, visual, slots)
    model = MODELS[recipe.model](config)
    if recipe.start:
        start_from(model, ProDA.from_pretrained(shipped_model()))
    go = functools.partial(run_stage, model=model, graphs=graphs, recipe=recipe, recipe_hash=recipe_hash,
                           fabric=fabric, workers=workers)  # fmt: skip
    if not isinstance(model, ProDA):

        def judge(model: nn.Module) -> dict[str, float]:
            scores = predict(model, judged_on, recipe, fabric.device)
            found = recognition(scores, judged_on)
            return {"val_a_t": found, "score": found}

        epochs = recipe.pretrain_epochs + recipe.posttrain_epochs
        trained = model.used() if isinstance(model, EncoderOnly) else [model]
        stage = Stage("pretrain", epochs, recipe.pretrain_lr, trained, control_losses, judge)
        return model, go(stage, checkpoint=folder / "pretrain.safetensors")

    def judge_pretrain(model: nn.Module) -> dict[str, float]:
        found = paper_protocol(model, judged_on, recipe, fabric.device).summary()["both"]
        kept = {f"val_{name}": found[name] for name in ("a_s", "a_u", "a_t")}
        return {**kept, "score": (found["a_s"] + found["a_u"]) / 2}

    def judge_posttrain(model: nn.Module) -> dict[str, float]:
        result = paper_protocol(model, judged_on, recipe, fabric.device)
        a_t, a_m = result.summary()["both"]["a_t"], recognition(result.a_m, judged_on)
        return {"val_a_t": a_t, "val_a_m": a_m, "score": (a_t + a_m) / 2}

    first = list(_first_stage(model, recipe).values())
    losses = functools.partial(pretrain_losses, recipe=recipe, inner=model)
    stage = Stage("pretrain", recipe.pretrain_epochs, recipe.pretrain_lr, first, losses, judge_pretrain)
    curves = go(stage, checkpoint=folder / "pretrain.safetensors")
    after_pretrain(model)
    heads: list[Readout] = [model.readout_t, model.readout_m]
    if recipe.posttrain_heads == "sutm":
        heads += [model.readout_s, model.readout_u]
    torch.manual_seed(recipe.seed + 1)
    if recipe.head_m == "reinit":
        model.readout_m = Readout(config.width, config.actions, config.dropout).to(fabric.device)
        heads[1] = model.readout_m
    losses = functools.partial(posttrain_losses, recipe=recipe)
    stage = Stage("posttrain", recipe.posttrain_epochs, recipe.posttrain_lr, heads, losses, judge_posttrain)
    curves = curves + go(stage, checkpoint=folder / "posttrain.safetensors")
    if recipe.questions == "a_m":
        torch.manual_seed(recipe.seed + 2)
        stage = self_stage(model, graphs, judged_on, recipe, fabric.device)
        curves = curves + go(stage, checkpoint=folder / "self.safetensors")
    return model, curves
