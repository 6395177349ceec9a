"""From a recipe and a fold to test scores, and from the scores of all folds to metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from proda_lib.datasets.registry import Split
from proda_lib.distributed import rank
from proda_lib.evaluation.prompt_only import class_frequency, frequency_rule_scores, trained_prompt_only_scores
from proda_lib.evaluation.protocols import PaperProtocol, label_free_scores, paper_protocol, predict, recognition
from proda_lib.evaluation.simple_controls import (
    logistic_scores,
    object_bag,
    object_relation_histogram,
    relation_histogram,
)
from proda_lib.graph import SceneGraph
from proda_lib.memory import keep_freed_memory
from proda_lib.models.saved import SavedModel
from proda_lib.training.data import split_validation
from proda_lib.training.recipe import Recipe
from proda_lib.training.stages import train

#: Models that are networks on graphs; the others are controls that need seconds and keep no weights.
NETWORKS = ("proda", "no_prompt", "encoder_only")

#: Scores of one fold: video scores by name, and row scores of the paper's protocol by name.
Scores = tuple[dict[str, np.ndarray], dict[str, PaperProtocol]]


def make_fabric(recipe: Recipe, device: str = "cpu", devices: int = 1, num_nodes: int = 1):
    """A launched ``lightning_fabric.Fabric``; with several devices, one process for each."""
    from lightning_fabric import Fabric  # takes seconds to import, so only where training starts

    strategy = "ddp" if devices * num_nodes > 1 else "auto"
    fabric = Fabric(accelerator=device.split(":")[0], devices=devices, num_nodes=num_nodes, strategy=strategy,
                    precision=recipe.precision)  # fmt: skip
    fabric.launch()
    keep_freed_memory()
    return fabric


def fit_and_score(
    recipe: Recipe, recipe_hash: str, split: Split, folder: Path, device: str, fabric=None
) -> tuple[Scores, list[dict]]:
    """Train on a fold and score its test videos; the model is saved under ``folder/model``.

    ``fabric``: a launched Fabric, for networks.
    """
    if recipe.model == "prompt_only":
        return _prompt_only(recipe, split), []
    if recipe.model == "logistic":
        return _logistic(split), []
    folder.mkdir(parents=True, exist_ok=True)
    kept, judged_on = split.train, split.test
    if recipe.select == "validation":
        kept, judged_on = split_validation(split.train, recipe.seed)
    features = split.train[0].features
    visual = 0 if features is None else features.shape[-1]
    model, curves = train(recipe, recipe_hash, kept, judged_on, visual, folder, fabric,
                          workers=4 if device.startswith("cuda") else 0)  # fmt: skip
    if rank() == 0:
        model.save_pretrained(folder / "model")
    return score(model, recipe, split, fabric.device), curves


def score(model: SavedModel, recipe: Recipe, split: Split, device: str) -> Scores:
    """Test scores of a trained model under every protocol that applies to it."""
    if recipe.model != "proda":
        return {"a_t": predict(model, split.test, recipe, device)}, {}
    paper = paper_protocol(model, split.test, recipe, device)
    return {"a_m": paper.a_m, **label_free_scores(model, split.test, recipe, device)}, {"paper": paper}


def _prompt_only(recipe: Recipe, split: Split) -> Scores:
    return {"frequency": class_frequency(split.train, split.test)}, {
        "rule": frequency_rule_scores(split.train, split.test, recipe),
        "trained": trained_prompt_only_scores(split.train, split.test, recipe),
    }


def _logistic(split: Split) -> Scores:
    labels = np.stack([g.multi_hot() for g in split.train])
    features = {
        "object_bag": object_bag,
        "relation_histogram": relation_histogram,
        "object_relation_histogram": object_relation_histogram,
    }
    return {name: logistic_scores(f(split.train), labels, f(split.test)) for name, f in features.items()}, {}


def summarise(recipe: Recipe, splits: Sequence[Split], scores: Sequence[Scores]) -> tuple[dict, dict[str, np.ndarray]]:
    """Metrics (percent) over the test videos of all folds together, and the video scores behind them.

    Returns:
        Nested metrics, and scores (videos, C) by name.
    """
    test = [split.test for split in splits]
    video = {name: np.concatenate([found[0][name] for found in scores]) for name in scores[0][0]}
    metrics: dict = {}
    for name, values in video.items():
        protocol, _, answer = name.partition("/")
        answer = answer.rpartition("/")[2]  # "partition/0/a_s" → "a_s": the three partitions are averaged
        found = video_metrics(recipe, values, test)
        if answer:
            metrics.setdefault("label_free", {}).setdefault(protocol, {}).setdefault(answer, []).append(found)
        else:
            metrics[name] = found
    for answers in metrics.get("label_free", {}).values():
        for answer, parts in answers.items():
            answers[answer] = {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
    for name in scores[0][1]:
        metrics[name] = PaperProtocol.concatenate([found[1][name] for found in scores]).summary()
    return metrics, video


def video_metrics(recipe: Recipe, scores: np.ndarray, folds: Sequence[list[SceneGraph]]) -> dict[str, float]:
    """``map``: mean over the folds of mAP. With several folds also ``map_pooled``: all test videos in one ranking.

    For CAD-120's clips, which have one label each, the mean average recall over all clips too, with and without "null".
    """
    ends = np.cumsum([len(fold) for fold in folds])[:-1]
    parts = zip(np.split(scores, ends), folds, strict=True)
    found = {"map": float(np.mean([recognition(part, fold) for part, fold in parts]))}
    test = [graph for fold in folds for graph in fold]
    if len(folds) > 1:
        found["map_pooled"] = recognition(scores, test)
    if recipe.dataset == "cad120_clips":
        truth, guess = np.array([g.labels[0] for g in test]), scores.argmax(1)
        found["recall"] = mean_recall(guess, truth)
        actions = scores.shape[1] - 1  # "null" is the last
        kept = truth < actions
        found["recall_without_null"] = mean_recall(scores[kept, :actions].argmax(1), truth[kept])
    return found


def mean_recall(guess: np.ndarray, truth: np.ndarray) -> float:
    """Recall of each class, averaged over the classes that occur (percent)."""
    return 100 * float(np.mean([(guess[truth == c] == c).mean() for c in np.unique(truth)]))
