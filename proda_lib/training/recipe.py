"""Recipe: everything that decides the outcome of a run, as one frozen, printable, hashable value.

========= ================================ ==================================================================
profile   meant for                        command
========= ================================ ==================================================================
smoke     tests, seconds                   ``proda train --dataset world --profile smoke``
quick     a newcomer on 2 cores, minutes   ``proda train --dataset world --profile quick``
reference what the book shows              ``proda train --dataset world --profile reference --device cuda``
paper     the paper's sizes, one GPU       ``proda train --dataset action_genome --profile paper --device cuda``
========= ================================ ==================================================================
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from proda_lib.datasets.transforms import Changes
from proda_lib.errors import RecipeError
from proda_lib.models.config import ModelConfig, with_preset
from proda_lib.vocabulary import Vocabulary

#: Raised whenever the same recipe gives other numbers than before.
NUMERICS = 2

#: Models that are networks on graphs; the other two are controls that need seconds and keep no weights.
NETWORK_NAMES = ("proda", "no_prompt", "encoder_only", "token_transformer", "frame_gcn", "gpnn", "relation_lstm")
MODEL_NAMES = (*NETWORK_NAMES, "prompt_only", "logistic")


@dataclass(frozen=True)
class Recipe:
    """Settings of one run. The defaults are the paper's.

    Attributes:
        profile: where the sizes come from; kept for the reader, the sizes themselves are below.
        dataset: "world", "cad120", "cad120_clips" or "action_genome".
        model: "proda"; its controls "no_prompt", "encoder_only", "prompt_only" (rule and trained MLP) and "logistic"
            (regression on histograms); or a baseline of table 1, "token_transformer", "frame_gcn", "gpnn" or
            "relation_lstm". ``preset``: "paper" or "released".
        seed: drives everything random.
        train_videos, test_videos: how many to make (world only).
        relations: False removes every relation (boxes, classes and edges stay). ``shuffle_frames``: True permutes the
            frames of every video. ``relation_noise``, ``missing``: share of relations that are replaced, of boxes
            that are dropped. ``full_edges``: True joins all slots (see
            :class:`~proda_lib.datasets.transforms.Changes`; all of these in training and test).
        scenario: 1..5, training and test videos from different scenes (table 10). ``scene_bias``: how much the actions
            depend on the scene (world only).
        width ... norm: see :class:`ModelConfig`.
        spec_length: K. ``specs_per_video``: S, specifications of a video in a batch. ``batch_videos``: videos a batch.
        accumulate: a batch goes through in so many parts, one after the other, and their gradients are averaged: less
            memory, the same number of videos a step, but VGNorm and BatchNorm see one part at a time. The learning rate
            is what is written here, whatever the number of parts and devices. ``recompute``: see :class:`ModelConfig`.
        absent_singles: also train on length-1 SAPs of an absent action (for protocol "scan").
        pretrain_epochs, pretrain_lr, posttrain_epochs, posttrain_lr: the two stages.
        weight_decay, clip, warmup: of AdamW (not on biases, norms, 1-d); gradient norm; epochs.
        margin_dis, margin_rec: m1, m2. ``dis``, ``rec``: whether the loss has the term (weight λ4 = 1).
        posttrain_heads: "tm" (appendix D.2) or "sutm" (section 4.1 says a_u, a_s and a_t). ``head_m``: "keep" or
            "reinit" before the second stage.
        select: "validation" (10 % of the training videos) or "test" (as the paper).
        scan: whether the evaluation includes the protocol "scan" (C questions a video).
        precision: Fabric's name, "32-true", "64-true" or "bf16-mixed".
    """

    profile: str = "paper"
    dataset: str = "world"
    model: str = "proda"
    preset: str = "paper"
    seed: int = 0
    train_videos: int = 7464
    test_videos: int = 1737
    relations: bool = True
    shuffle_frames: bool = False
    relation_noise: float = 0.0
    missing: float = 0.0
    full_edges: bool = False
    scenario: int = 0
    scene_bias: float = 0.5
    frames: int = 16
    width: int = 768
    heads: int = 12
    layers: int = 3
    depth: int = 2
    candidates: int = 10
    dropout: float = 0.1
    feature_scale: float = 1.0
    prompt: str = "dpm"
    branches: str = "single"
    norm: str = "vgnorm"
    spec_length: int = 16
    specs_per_video: int = 4
    batch_videos: int = 8
    accumulate: int = 1
    recompute: bool = False
    absent_singles: bool = False
    pretrain_epochs: int = 5
    pretrain_lr: float = 2e-4
    posttrain_epochs: int = 5
    posttrain_lr: float = 1e-4
    weight_decay: float = 1e-3
    clip: float = 5.0
    warmup: float = 0.0
    margin_dis: float = 0.2
    margin_rec: float = 0.2
    dis: bool = True
    rec: bool = True
    posttrain_heads: str = "tm"
    head_m: str = "keep"
    select: str = "validation"
    scan: bool = True
    precision: str = "32-true"

    def __post_init__(self) -> None:
        allowed = {
            "dataset": ("world", "cad120", "cad120_clips", "action_genome"),
            "model": MODEL_NAMES,
            "preset": ("paper", "released"),
            "posttrain_heads": ("tm", "sutm"),
            "head_m": ("keep", "reinit"),
            "select": ("validation", "test"),
            "precision": ("32-true", "64-true", "bf16-mixed"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise RecipeError(f"Recipe.{name}: found {getattr(self, name)!r}, expected one of {values}")
        for name in ("train_videos", "test_videos", "spec_length", "specs_per_video", "batch_videos",
                     "accumulate"):  # fmt: skip
            if getattr(self, name) < 1:
                raise RecipeError(f"Recipe.{name}: found {getattr(self, name)}, expected at least 1")
        _ = self.changes  # its shares are checked

    def model_config(self, vocabulary: Vocabulary, visual: int = 0) -> ModelConfig:
        """The model that this recipe trains on data with this vocabulary and width of visual features."""
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(ModelConfig) if hasattr(self, f.name)}
        sizes = {"actions": len(vocabulary.actions), "objects": len(vocabulary.objects)}
        shared.update(sizes, relations=len(vocabulary.relations), visual=visual)
        return with_preset(ModelConfig(**shared), self.preset)

    @property
    def changes(self) -> Changes:
        """What the recipe changes in every graph."""
        return Changes(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Changes)})

    def hash(self, data_version: str) -> str:
        """Name of the run: a hash of this recipe, the version of its data, and :data:`NUMERICS`.

        Settings that have their default value are left out, so a new setting leaves the names of old runs as they were
        (and a new default for an old setting must raise :data:`NUMERICS`).
        """
        changed = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        }
        content = {"recipe": changed, "data": data_version, "numerics": NUMERICS}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def parse_settings(settings: Sequence[str]) -> dict:
    """["seed=1", "prompt=simple"] → {"seed": 1, "prompt": "simple"}, with the types of :class:`Recipe`'s fields."""
    defaults, parsed = Recipe(), {}
    for setting in settings:
        name, _, text = setting.partition("=")
        kind = type(getattr(defaults, name, None))
        try:
            parsed[name] = {"True": True, "False": False}[text] if kind is bool else kind(text)
        except (KeyError, TypeError, ValueError) as error:
            raise RecipeError(f"setting: found {setting!r}, expected NAME=VALUE with a {kind.__name__}") from error
    return parsed


#: What each profile changes. Same code, other numbers.
PROFILES: dict[str, dict] = {
    "smoke": {
        "train_videos": 24, "test_videos": 12, "width": 16, "heads": 2, "layers": 1, "depth": 1, "candidates": 3,
        "batch_videos": 8, "pretrain_epochs": 1, "posttrain_epochs": 1, "pretrain_lr": 2e-3, "posttrain_lr": 1e-3,
        "warmup": 0.2, "scan": False,
    },
    "quick": {
        "train_videos": 200, "test_videos": 80, "width": 32, "heads": 2, "layers": 1, "depth": 1, "candidates": 5,
        "pretrain_epochs": 3, "posttrain_epochs": 1, "pretrain_lr": 2e-3, "posttrain_lr": 1e-3, "warmup": 0.2,
        "scan": False,
    },
    "reference": {
        "train_videos": 2000, "test_videos": 500, "width": 128, "heads": 4, "layers": 1, "depth": 1, "candidates": 5,
        "dropout": 0.0, "feature_scale": 0.4, "pretrain_epochs": 1, "posttrain_epochs": 1, "pretrain_lr": 2e-3,
        "posttrain_lr": 2e-3, "warmup": 0.1,
    },
    "paper": {},
}  # fmt: skip

#: CAD-120 is small (75 to 95 training videos, or some 400 clips, a fold): more epochs, smaller batches.
_CAD120: dict[str, dict] = {
    "smoke": {"frames": 4},
    "quick": {"frames": 8, "pretrain_epochs": 6, "posttrain_epochs": 2},
    "reference": {"frames": 8, "width": 32, "batch_videos": 8, "pretrain_epochs": 8, "posttrain_epochs": 2,
                  "dropout": 0.1, "feature_scale": 1.0, "warmup": 0.15},
    "paper": {"pretrain_epochs": 60, "posttrain_epochs": 20},
}  # fmt: skip
#: A clip has one label, so it has few specifications, and an epoch few steps.
_CLIPS = {**_CAD120, "reference": {**_CAD120["reference"], "pretrain_epochs": 16, "posttrain_epochs": 8}}

#: What a data set changes in a profile.
DATASET_PROFILES: dict[str, dict[str, dict]] = {"cad120": _CAD120, "cad120_clips": _CLIPS}


def make_recipe(profile: str, **changes) -> Recipe:
    """The recipe of a profile, with changes.

    Raises:
        RecipeError: no such profile or setting.
    """
    if profile not in PROFILES:
        raise RecipeError(f"profile: found {profile!r}, expected one of {tuple(PROFILES)}")
    known = {f.name for f in dataclasses.fields(Recipe)}
    if unknown := sorted(set(changes) - known):
        raise RecipeError(f"recipe: found {', '.join(unknown)}, expected settings among {', '.join(sorted(known))}")
    of_dataset = DATASET_PROFILES.get(changes.get("dataset", Recipe.dataset), {}).get(profile, {})
    return Recipe(**{"profile": profile, **PROFILES[profile], **of_dataset, **changes})


def command(recipe: Recipe) -> str:
    """The shortest ``proda train`` command that makes (or reads) this recipe's run."""
    base = make_recipe(recipe.profile, dataset=recipe.dataset, model=recipe.model, seed=recipe.seed)
    words = ["proda train", f"--dataset {recipe.dataset}", f"--profile {recipe.profile}"]
    words += [
        f"--{name} {getattr(recipe, name)}"
        for name in ("model", "seed")
        if getattr(recipe, name) != getattr(Recipe, name)
    ]
    for field in dataclasses.fields(Recipe):
        if getattr(recipe, field.name) != getattr(base, field.name):
            words.append(f"--set {field.name}={getattr(recipe, field.name)}")
    return " ".join(words)
