"""Prompt-only controls: what the questions give away without any video.

A control sees nothing but the SAP, so videos are needed for their labels alone: a
:class:`~proda_lib.graph.SceneGraph` will do, and so will a :class:`LabelledVideo`, which has no frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from proda_lib.evaluation.protocols import PaperProtocol, evaluation_rows
from proda_lib.graph import SceneGraph
from proda_lib.losses import classification_loss
from proda_lib.models.controls import PromptOnly
from proda_lib.specification import branch_targets, video_rng
from proda_lib.training.data import draw_specifications
from proda_lib.training.recipe import Recipe
from proda_lib.vocabulary import Vocabulary

#: Settings of the trained control: epochs, learning rate, rows of a batch.
EPOCHS, LEARNING_RATE, BATCH_ROWS = 20, 1e-3, 256
#: More epochs where these are fewer steps: on few videos 20 epochs leave the control far from trained.
LEAST_STEPS = 600


@dataclass(frozen=True, eq=False)
class LabelledVideo:
    """A video of which only the labels are known: all that specifications are drawn from.

    Attributes:
        video: name; seeds the video's specifications, as a graph's name does.
        vocabulary: its ``actions`` are the C classes.
        labels: (L,) sorted distinct actions.
    """

    video: str
    vocabulary: Vocabulary
    labels: Int[np.ndarray, "L"]

    multi_hot = SceneGraph.multi_hot


Labelled = SceneGraph | LabelledVideo
#: A control as a function: SAPs (R, C) → scores of a_s (R, C + 1), a_u (R, C + 1) and a_t (R, C).
Answers = Callable[
    [Bool[np.ndarray, "R C"]],
    tuple[Float[np.ndarray, "R C1"], Float[np.ndarray, "R C1"], Float[np.ndarray, "R C"]],
]


def multi_hots(videos: Sequence[Labelled]) -> Bool[np.ndarray, "V C"]:
    """Labels of all videos, a row each."""
    return np.stack([video.multi_hot() for video in videos])


def ask_prompt_only(answers: Answers, test: Sequence[Labelled], recipe: Recipe) -> PaperProtocol:
    """Ask a control the questions of the paper's protocol about the test videos; a_m, which asks nothing, is 0."""
    video, sap, distractor = evaluation_rows(test, recipe)
    labels = multi_hots(test)
    a_s, a_u, a_t = answers(sap)
    return PaperProtocol(video, sap, distractor, labels[video], a_s, a_u, a_t, np.zeros(labels.shape))


# --- controls ---------------------------------------------------------------------------------------------------------


def frequency_answers(train: Sequence[Labelled]) -> Answers:
    """The training frequency of each class, whatever is asked; no-action 0."""
    frequency = multi_hots(train).mean(0)

    def answers(sap: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores = np.tile(frequency, (len(sap), 1))
        return _with_no_action(scores), _with_no_action(scores), scores

    return answers


def rule_answers(train: Sequence[Labelled]) -> Answers:
    """Each class in the SAP by its training frequency divided by the SAP's length, the others 0; no-action 0.

    a_u is the same rule for what is not asked.
    """
    frequency = multi_hots(train).mean(0)

    def rule(sap: np.ndarray) -> np.ndarray:
        return sap * frequency / np.maximum(sap.sum(1, keepdims=True), 1)

    return lambda sap: (_with_no_action(rule(sap)), _with_no_action(rule(~sap)), rule(sap))


def _with_no_action(scores: Float[np.ndarray, "R C"]) -> Float[np.ndarray, "R C1"]:
    return np.concatenate([scores, np.zeros((len(scores), 1))], axis=1)


def network_answers(model: PromptOnly) -> Answers:
    """Logits of a trained :class:`PromptOnly`."""

    @torch.no_grad()
    def answers(sap: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        a_s, a_u, a_t = model(torch.from_numpy(sap))
        return a_s.numpy(), a_u.numpy(), a_t.numpy()

    return answers


def train_prompt_only(train: Sequence[Labelled], recipe: Recipe, epochs: int | None = None) -> PromptOnly:
    """Train :class:`PromptOnly` on the specifications of the training videos, drawn afresh each epoch.

    Loss: BCE of a_s, a_u and a_t. AdamW at a constant rate, rows in random order; nothing is selected, the last epoch
    counts. CPU, seconds to a few minutes. Of the recipe only ``seed``, ``weight_decay``, and what decides the
    specifications (``spec_length``, ``absent_row``, ``absent_singles``) matter.

    Args:
        epochs: by default :data:`EPOCHS`, or so many that there are :data:`LEAST_STEPS` steps.
    """
    labels = torch.from_numpy(multi_hots(train))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = PromptOnly(labels.shape[1])
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=recipe.weight_decay)
        if epochs is None:
            steps = math.ceil(len(_training_rows(train, recipe, 0)[0]) / BATCH_ROWS)
            epochs = max(EPOCHS, math.ceil(LEAST_STEPS / steps))
        for epoch in range(epochs):
            video, sap = _training_rows(train, recipe, epoch)
            for rows in torch.randperm(len(sap)).split(BATCH_ROWS):
                asked, present = sap[rows], labels[video[rows]]
                a_s, a_u, a_t = model(asked)
                loss = classification_loss(a_s, branch_targets(present, asked))
                loss = loss + classification_loss(a_t, present)
                loss = loss + classification_loss(a_u, branch_targets(present, ~asked))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model


def _training_rows(
    train: Sequence[Labelled], recipe: Recipe, epoch: int
) -> tuple[Int[torch.Tensor, "R"], Bool[torch.Tensor, "R C"]]:
    """Video and SAP of every row of an epoch."""
    drawn = [draw_specifications(v, recipe, video_rng(recipe.seed, epoch, v.video)) for v in train]
    video = np.repeat(np.arange(len(train)), [len(saps) for saps in drawn])
    return torch.from_numpy(video), torch.from_numpy(np.concatenate(drawn))


# --- what a run's record holds ----------------------------------------------------------------------------------------


def frequency_rule_scores(train: Sequence[Labelled], test: Sequence[Labelled], recipe: Recipe) -> PaperProtocol:
    """:func:`rule_answers` to the questions of the paper's protocol."""
    return ask_prompt_only(rule_answers(train), test, recipe)


def trained_prompt_only_scores(
    train: Sequence[Labelled], test: Sequence[Labelled], recipe: Recipe, epochs: int | None = None
) -> PaperProtocol:
    """:func:`train_prompt_only`, then its answers to the questions of the paper's protocol."""
    return ask_prompt_only(network_answers(train_prompt_only(train, recipe, epochs)), test, recipe)


def class_frequency(train: Sequence[Labelled], test: Sequence[Labelled]) -> Float[np.ndarray, "V C"]:
    """The same scores for every test video: the training frequency of each class."""
    return np.tile(multi_hots(train).mean(0), (len(test), 1))
