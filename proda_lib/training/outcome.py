"""From a recipe and a fold to test scores, and from the scores of all folds to metrics."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from proda_lib.datasets.registry import Split
from proda_lib.distributed import barrier, first_decides, rank
from proda_lib.errors import RecipeError
from proda_lib.evaluation.attempts import averaged, iterated_self
from proda_lib.evaluation.localization import FrameScores
from proda_lib.evaluation.localization_record import ask_about_labels, hit_summary, map_summary, not_measurable
from proda_lib.evaluation.parsing import attention_summary, parsing_summary
from proda_lib.evaluation.prompt_only import class_frequency, frequency_rule_scores, trained_prompt_only_scores
from proda_lib.evaluation.protocols import PaperProtocol, label_free, paper_protocol, predict, recognition
from proda_lib.evaluation.robustness import robustness
from proda_lib.evaluation.scan import two_step_scores
from proda_lib.evaluation.simple_controls import (
    logistic_scores,
    object_bag,
    object_relation_histogram,
    relation_histogram,
)
from proda_lib.graph import SceneGraph
from proda_lib.memory import keep_freed_memory
from proda_lib.models.saved import SavedModel
from proda_lib.models.shipped import write_vocabulary
from proda_lib.specification import specification_length
from proda_lib.training.data import evaluation_videos, first_share, split_validation
from proda_lib.training.recipe import Recipe
from proda_lib.training.stages import MODELS, train
from proda_lib.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Scores:
    """Test scores of one fold.

    Attributes:
        video: (V, C) video scores by name.
        rows: row scores of the paper's protocol by name.
        frames: (V, C, N) frame scores by label-free protocol; its video scores are ``PROTOCOL/a_s``.
        asked: frame scores of one question about each label, by kind of specification.
        parsing: how well edges and nodes are parsed, where the truth is known (SSG-World).
    """

    video: dict[str, np.ndarray]
    rows: dict[str, PaperProtocol] = field(default_factory=dict)
    frames: dict[str, np.ndarray] = field(default_factory=dict)
    asked: dict[str, list[FrameScores]] = field(default_factory=dict)
    parsing: dict = field(default_factory=dict)


def loader_workers(device: str) -> int:
    """How many processes make the batches of a run: on a GPU, one would make it wait."""
    return 4 if device.startswith("cuda") else 0


def make_fabric(recipe: Recipe, device: str = "cpu", devices: int = 1, num_nodes: int = 1):
    """A launched ``lightning_fabric.Fabric``; with several devices, one process for each.

    Args:
        device: "cpu", "cuda", or one of several, as "cuda:1".

    Raises:
        RecipeError: ``device`` has a number that is none, or there are several devices; ``devices`` or ``num_nodes``
            is below 1; or there are not so many CUDA devices.
    """
    from lightning_fabric import Fabric  # takes seconds to import, so only where training starts
    from lightning_fabric.plugins import DoublePrecision

    class Double(DoublePrecision):
        """Losses in double precision too: Fabric's own turns what the model gives back into single precision."""

        def convert_output(self, data):
            return data

    kind, _, index = device.partition(":")
    if index and (devices * num_nodes > 1 or not index.isdecimal()):
        found = f"{device!r} for {devices} devices on {num_nodes} machines"
        raise RecipeError(f"device: found {found}, expected {kind!r}, or {kind + ':0'!r} and so on for one device")
    for name, count in (("devices", devices), ("num_nodes", num_nodes)):
        if count < 1:
            raise RecipeError(f"{name}: found {count}, expected at least 1")
    wanted, there = int(index) + 1 if index else devices, torch.cuda.device_count() if kind == "cuda" else None
    if there is not None and there < wanted:
        raise RecipeError(f"device: found {device!r} with {devices} devices a machine, expected at most the {there} "
                          "CUDA devices of this one")  # fmt: skip
    precision = {"plugins": [Double()]} if recipe.precision == "64-true" else {"precision": recipe.precision}
    fabric = Fabric(accelerator=kind, devices=[int(index)] if index and kind != "cpu" else devices,
                    num_nodes=num_nodes, strategy="ddp" if devices * num_nodes > 1 else "auto",
                    **precision)  # fmt: skip
    fabric.launch()
    keep_freed_memory()
    return fabric


def fit_and_score(
    recipe: Recipe, recipe_hash: str, split: Split, folder: Path, device: str, fabric=None
) -> tuple[Scores, list[dict], float]:
    """Train on a fold and score its test videos; the model is saved under ``folder/model``.

    ``fabric``: a launched Fabric, for networks.

    Returns:
        Scores, one row per epoch, and the seconds of these epochs that earlier, interrupted processes spent.
    """
    if recipe.model in ("prompt_only", "logistic"):  # they pick no epoch
        split = dataclasses.replace(split, train=first_share(split.train, recipe.train_share, recipe.seed))
        return (_prompt_only(recipe, split) if recipe.model == "prompt_only" else _logistic(split)), [], 0.0
    kept, judged_on = split.train, split.test
    if recipe.select == "validation":
        kept, judged_on = split_validation(split.train, recipe.seed)
        judged_on = evaluation_videos(judged_on, recipe)
    # A share is of what is trained on; the videos that pick the epoch are the same for every share.
    kept = first_share(kept, recipe.train_share, recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, features = split.train[0].vocabulary, split.train[0].features
    visual, slots = 0 if features is None else features.shape[-1], 0
    if recipe.norm == "vgnorm_released" or recipe.batch_loss:  # absent slots count
        slots = max(graph.num_slots for graph in itertools.chain(split.train, split.test))
    clock = time.monotonic()
    model, curves = train(recipe, recipe_hash, kept, judged_on, visual, slots, folder, fabric,
                          workers=loader_workers(device),
                          after_pretrain=lambda model: save(model, folder / "pretrained", vocabulary))  # fmt: skip
    earlier = max(0.0, sum(row["seconds"] for row in curves) - (time.monotonic() - clock))
    save(model, folder / "model", vocabulary)
    barrier()
    return score_folder(folder, recipe, split, fabric.device), curves, earlier


def save(model: SavedModel, folder: Path, vocabulary: Vocabulary) -> None:
    """Save once, whatever the number of processes; with the vocabulary, so that the folder can be asked (`predict`)."""
    if rank() == 0:
        model.save_pretrained(folder)
        write_vocabulary(vocabulary, folder)


def score_folder(folder: Path, recipe: Recipe, split: Split, device: str) -> Scores:
    """Test scores of the models saved in a fold's folder; ProDA's also as it was between the two stages."""
    found = score(MODELS[recipe.model].from_pretrained(folder / "model", device), recipe, split, device)
    if first_decides((folder / "pretrained").exists()):
        before = MODELS[recipe.model].from_pretrained(folder / "pretrained", device)
        rows = {**found.rows, "pretrain": paper_protocol(before, split.test, recipe, device)}
        found = dataclasses.replace(found, rows=rows)
    return found


def score(model: SavedModel, recipe: Recipe, split: Split, device: str) -> Scores:
    """Test scores of a trained model under every protocol that applies to it."""
    if recipe.model != "proda":
        found = Scores({"a_t": predict(model, split.test, recipe, device)})
        if recipe.model == "encoder_only" and recipe.dataset == "world":
            found.parsing.update(attention_summary(model, split.test, recipe.frames, device))
        return found
    paper = paper_protocol(model, split.test, recipe, device)
    free = label_free(model, split.test, recipe, device)
    video = {"a_m": paper.a_m}
    for name, found in free.items():
        video |= {f"{name}/{answer}": values for answer in ("a_s", "a_t")
                  if (values := getattr(found, answer)) is not None}  # fmt: skip
    video |= averaged(free, paper.a_m)
    length = specification_length(paper.a_m.shape[1], recipe.spec_length)
    video["self_filled/a_s"] = two_step_scores(paper.a_m, free["self"].a_s, length)
    video["self_iterated/a_s"] = iterated_self(model, split.test, length, recipe.frames, device)
    frames = {name: found.s for name, found in free.items() if name.partition("/")[0] in ("partition", "scan")}
    asked = {}
    if not not_measurable(split.test):
        asked = ask_about_labels(model, split.test, recipe, free.get("scan"), device)
    parsing = parsing_summary(model, split.test, recipe.frames, device) if recipe.dataset == "world" else {}
    return Scores(video, {"paper": paper}, frames, asked, parsing)


def _prompt_only(recipe: Recipe, split: Split) -> Scores:
    rows = {
        "rule": frequency_rule_scores(split.train, split.test, recipe),
        "trained": trained_prompt_only_scores(split.train, split.test, recipe),
    }
    return Scores({"frequency": class_frequency(split.train, split.test)}, rows)


def _logistic(split: Split) -> Scores:
    labels = np.stack([g.multi_hot() for g in split.train])
    features = {
        "object_bag": object_bag,
        "relation_histogram": relation_histogram,
        "object_relation_histogram": object_relation_histogram,
    }
    return Scores({name: logistic_scores(f(split.train), labels, f(split.test)) for name, f in features.items()})


def summarise(recipe: Recipe, splits: Sequence[Split], scores: Sequence[Scores]) -> tuple[dict, dict[str, np.ndarray]]:
    """Metrics (percent), and the scores behind them.

    Every mAP is that of each fold, averaged over the folds: they have models of their own, whose scores are on scales
    of their own. Hits of frames are counted over the videos of all folds.

    Returns:
        Nested metrics; and scores (videos, C) by name with the true ``labels`` and the ``fold`` of each video, and the
        rows of a_t under the paper's protocol with their labels and videos.
    """
    test = [split.test for split in splits]
    video = {name: np.concatenate([found.video[name] for found in scores]) for name in scores[0].video}
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
            answers[answer] = _mean(parts)
    for name in scores[0].rows:
        metrics[name] = _mean([found.rows[name].summary() for found in scores])
    regrouped = [name for name in scores[0].rows if name != "pretrain"]
    if regrouped:
        metrics["robustness"] = {name: robustness(*(found.rows[name] for found in scores)) for name in regrouped}
    if recipe.model in ("proda", "prompt_only"):
        metrics["localization"] = _localization(test, scores)
    if scores[0].parsing:
        metrics["parsing"] = scores[0].parsing
    kept = {**video, "labels": np.stack([graph.multi_hot() for fold in test for graph in fold]),
            "fold": np.repeat(np.arange(len(test)), [len(fold) for fold in test])}  # fmt: skip
    for protocol in {"paper", "trained"} & set(scores[0].rows):
        rows = PaperProtocol.concatenate([found.rows[protocol] for found in scores])
        kept |= {f"{protocol}/{name}": getattr(rows, name) for name in ("a_t", "labels", "video")}
    return metrics, kept


def _mean(parts: Sequence[dict]) -> dict:
    """Nested metrics averaged, each over the parts that have it."""
    found = {}
    for name in dict.fromkeys(itertools.chain(*parts)):
        values = [part[name] for part in parts if name in part]
        found[name] = _mean(values) if isinstance(values[0], dict) else float(np.mean(values))
    return found


def _localization(folds: Sequence[list[SceneGraph]], scores: Sequence[Scores]) -> dict:
    """Hits of each kind of question, and 25-point mAP; ``["left_out"]`` if nothing can be measured."""
    if counts := not_measurable([graph for fold in folds for graph in fold]):
        return {"left_out": counts}
    kinds = dict.fromkeys(kind for found in scores for kind in found.asked)
    asked = {kind: [found.asked[kind] for found in scores if kind in found.asked] for kind in kinds}
    maps = [map_summary(fold, found.video, found.frames) for fold, found in zip(folds, scores, strict=True)]
    return {**{kind: hit_summary(entries) for kind, entries in asked.items()}, "map": _mean(maps)}


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
