"""Prompt-only controls: what the paper's protocol gives away without any video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from proda_lib.evaluation.protocols import PaperProtocol, evaluation_rows
from proda_lib.graph import SceneGraph
from proda_lib.losses import classification_loss
from proda_lib.models.controls import PromptOnly
from proda_lib.specification import branch_targets, video_rng
from proda_lib.training.data import draw_specifications
from proda_lib.training.recipe import Recipe


def _protocol(graphs: Sequence[SceneGraph], recipe: Recipe, score) -> PaperProtocol:
    video, sap, distractor = evaluation_rows(graphs, recipe)
    labels = np.stack([g.multi_hot() for g in graphs])
    a_s, a_t = score(sap)
    blank = np.zeros((len(graphs), sap.shape[1]))
    return PaperProtocol(video, sap, distractor, labels[video], a_s, None, a_t, blank)


def frequency_rule_scores(train: Sequence[SceneGraph], test: Sequence[SceneGraph], recipe: Recipe) -> PaperProtocol:
    """Score each class in the SAP by its training frequency divided by the SAP's length, others 0; no-action 0."""
    frequency = np.stack([g.multi_hot() for g in train]).mean(0)

    def score(sap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = sap * frequency / sap.sum(1, keepdims=True)
        return np.concatenate([scores, np.zeros((len(sap), 1))], axis=1), scores

    return _protocol(test, recipe, score)


def class_frequency(train: Sequence[SceneGraph], test: Sequence[SceneGraph]) -> np.ndarray:
    """(videos, C) the same scores for every test video: the training frequency of each class."""
    return np.tile(np.stack([g.multi_hot() for g in train]).mean(0), (len(test), 1))


def trained_prompt_only_scores(
    train: Sequence[SceneGraph], test: Sequence[SceneGraph], recipe: Recipe, epochs: int = 20, lr: float = 1e-3
) -> PaperProtocol:
    """Train :class:`PromptOnly` on the specifications of the training videos (drawn afresh each epoch), then score.

    Batches of 256 rows, AdamW, BCE of a_s and a_t. CPU, seconds to a few minutes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = PromptOnly(len(train[0].vocabulary.actions))
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=recipe.weight_decay)
        for epoch in range(epochs):
            drawn = [draw_specifications(g, recipe, video_rng(recipe.seed, epoch, g.video)) for g in train]
            sap = torch.from_numpy(np.concatenate(drawn))
            hot = np.stack([g.multi_hot() for g in train])
            labels = torch.from_numpy(np.repeat(hot, [len(d) for d in drawn], axis=0))
            for rows in torch.randperm(len(sap)).split(256):
                a_s, a_t = model(sap[rows])
                loss = classification_loss(a_s, branch_targets(labels[rows], sap[rows]).float())
                loss = loss + classification_loss(a_t, labels[rows].float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    @torch.no_grad()
    def score(sap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a_s, a_t = model(torch.from_numpy(sap))
        return a_s.numpy(), a_t.numpy()

    return _protocol(test, recipe, score)
