"""Recipe: everything that decides the outcome of a run, as one frozen, printable, hashable value."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from proda_lib.datasets.transforms import Changes
from proda_lib.errors import RecipeError
from proda_lib.models.config import ModelConfig
from proda_lib.names import nearest_names
from proda_lib.training.profiles import DATASET_PROFILES, PROFILES, RELEASED
from proda_lib.vocabulary import Vocabulary

#: Raised whenever the same recipe gives other numbers than before.
NUMERICS = 2

#: Models that are networks on graphs; the other two are controls that need seconds and keep no weights.
NETWORK_NAMES = ("proda", "no_prompt", "encoder_only", "token_transformer", "frame_gcn", "gpnn", "relation_lstm")
MODEL_NAMES = (*NETWORK_NAMES, "prompt_only", "logistic")

_POSITIVE = (lambda value: 0 < value <= 1e30, "a number in (0, 1e30]")  # single precision has them
_NOT_NEGATIVE = (lambda value: 0 <= value <= 1e30, "a number in [0, 1e30]")
#: Numbers that a setting may be, and how to say so; nan is none of them.
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "seed": (lambda value: isinstance(value, int) and 0 <= value < 2**32, "a whole number in [0, 2**32)"),
    "scene_bias": (lambda value: 0 <= value <= 1, "a share in 0..1"),
    "dropout": (lambda value: 0 <= value < 1, "a share from 0 on, below 1"),
    "train_share": (lambda value: 0 < value <= 1, "a share above 0, at most 1"),
    "feature_scale": (lambda value: 0 < value <= 1e6, "a number in (0, 1e6]"),
    **dict.fromkeys(("pretrain_lr", "posttrain_lr", "clip"), _POSITIVE),
    **dict.fromkeys(("weight_decay", "warmup", "margin_dis", "margin_rec"), _NOT_NEGATIVE),
}

#: Sides that one can take where the paper and the released code differ.
PRESETS: dict[str, dict] = {"paper": {}, "released": RELEASED}


@dataclass(frozen=True)
class Recipe:
    """Settings of one run. The defaults are the paper's where its text states them.

    It states 16 frames and the epochs and learning rates of both stages (appendix D.2), and K = 16 (appendix C). It has
    no values for sizes of the network (width, heads, layers, depth, T), dropout, margins, batches, optimiser, weight
    decay, clipping and warm-up: these defaults are the released code's or a choice of ours.

    Attributes:
        profile: where the sizes come from; kept for the reader, the sizes themselves are below.
        dataset: "world", "cad120", "cad120_clips", "action_genome", or the name of a prepared data set.
        model: "proda"; its controls "no_prompt", "encoder_only", "prompt_only" (rule and trained MLP) and "logistic"
            (regression on histograms); or a baseline of table 1, "token_transformer", "frame_gcn", "gpnn" or
            "relation_lstm".
        seed: drives everything random but three things: SSG-World's videos are the same for every seed, the label-free
            protocol ``partition`` always averages the partitions of seeds 0, 1 and 2, and the absent action of
            parsing's control (:func:`~proda_lib.evaluation.parsing.other_actions`) is the same for every seed.
        train_videos, test_videos: how many to make (world only).
        relations: False removes every relation (boxes, classes and edges stay). ``shuffle_frames``: True permutes the
            frames of every video. ``relation_noise``, ``missing``: share of relations that are replaced, of boxes
            that are dropped. ``full_edges``: True joins all slots (see
            :class:`~proda_lib.datasets.transforms.Changes`; all of these in training and test).
        scenario: 1..5, training and test videos from different scenes (table 10). ``scene_bias``: how much the actions
            depend on the scene (world only).
        frames: N. ``window``: True takes them from a window of at most 2N annotated frames with stride 2, at a random
            place in training and central in evaluation, instead of from the whole video (:meth:`SceneGraph.window`).
        width ... graph_supervision: see :class:`ModelConfig`.
        spec_length: K. ``specs_per_video``: S, specifications of a video in a batch. ``batch_videos``: videos a batch.
        accumulate: a batch goes through in so many parts, one after the other, and their gradients are averaged, each
            part counting the same also where one has a video more: less memory, the same number of videos a step, but
            VGNorm and BatchNorm see one part at a time. The learning rate is what is written here, whatever the number
            of parts and devices. ``recompute``: see :class:`ModelConfig`.
        absent_singles: also train on length-1 SAPs of an absent action (for protocol "scan"). ``absent_row``: True
            draws 2L + 2 specifications, one more of a single absent action, in training and in the paper's protocol.
        redraw: specifications are drawn afresh each epoch; False: once for good. ``long_videos``: "cap" caps the number
            of present labels at K, "drop" leaves training videos with L > K out.
        questions: "labels" (the paper), or "a_m": a third stage trains on the model's own questions (see
            :func:`~proda_lib.training.stages.train`).
        pretrain_epochs, pretrain_lr, posttrain_epochs, posttrain_lr: the two stages; controls have one, with the
            epochs of both.
        weight_decay, clip, warmup: of AdamW (not on biases, norms, 1-d); gradient norm; epochs.
        margin_dis, margin_rec: m1, m2. ``falling_margins``: both fall from 0.7 at a stage's first step to 0.2 at its
            last instead. ``dis``, ``rec``: whether the loss has the term (weight λ4 = 1). ``detach_target``:
            the reconstruction does not move its target F_o. ``batch_loss``: each is one number of the batch instead of
            one per sample. ``balance_u``: the loss of a_u is weighted by gradient norms
            (:func:`~proda_lib.training.stages.balance`).
        posttrain_heads: "tm" (appendix D.2) or "sutm" (section 4.1 says a_u, a_s and a_t). ``head_m``: "keep" or
            "reinit" before the second stage.
        select: the videos that pick the best epoch: "validation" (10 % of the training videos) or "test". The paper
            (appendix D.2) reports the best-performing epoch and does not say on which videos it performed best.
        start: "" starts afresh; "world" from the weights that come with the library, trained on SSG-World
            (:func:`~proda_lib.models.transfer.start_from`). ``train_share``: share of the training videos to train on.
        scan: whether the evaluation includes the protocol "scan" (C questions a video).
        precision: Fabric's name, "32-true", "64-true" or "bf16-mixed".

    Raises:
        RecipeError: a setting that is none of its choices, outside of its range, or that does not fit another one.
    """

    profile: str = "paper"
    dataset: str = "world"
    model: str = "proda"
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
    window: bool = False
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
    wiring: str = "figure5"
    fusion_mlp: bool = False
    message_norm: bool = False
    graph_supervision: bool = False
    spec_length: int = 16
    specs_per_video: int = 4
    batch_videos: int = 8
    accumulate: int = 1
    recompute: bool = False
    absent_singles: bool = False
    absent_row: bool = False
    redraw: bool = True
    long_videos: str = "cap"
    questions: str = "labels"
    pretrain_epochs: int = 5
    pretrain_lr: float = 2e-4
    posttrain_epochs: int = 5
    posttrain_lr: float = 1e-4
    weight_decay: float = 1e-3
    clip: float = 5.0
    warmup: float = 0.0
    margin_dis: float = 0.2
    margin_rec: float = 0.2
    falling_margins: bool = False
    dis: bool = True
    rec: bool = True
    detach_target: bool = False
    batch_loss: bool = False
    balance_u: bool = False
    posttrain_heads: str = "tm"
    head_m: str = "keep"
    select: str = "validation"
    start: str = ""
    train_share: float = 1.0
    scan: bool = True
    precision: str = "32-true"

    def __post_init__(self) -> None:
        allowed = {
            "model": MODEL_NAMES,
            "long_videos": ("cap", "drop"),
            "questions": ("labels", "a_m"),
            "posttrain_heads": ("tm", "sutm"),
            "head_m": ("keep", "reinit"),
            "select": ("validation", "test"),
            "start": ("", "world"),
            "precision": ("32-true", "64-true", "bf16-mixed"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise RecipeError(f"Recipe.{name}: found {getattr(self, name)!r}, expected one of {values}")
        for name in ("train_videos", "test_videos", "spec_length", "specs_per_video", "batch_videos",
                     "accumulate"):  # fmt: skip
            if getattr(self, name) < 1:
                raise RecipeError(f"Recipe.{name}: found {getattr(self, name)}, expected at least 1")
        epochs = (self.pretrain_epochs, self.posttrain_epochs)  # a control trains for their sum, ProDA in two stages
        if min(epochs) < 0 or (min(epochs) if self.model == "proda" else sum(epochs)) < 1:
            expected = "at least 1 each" if self.model == "proda" else "none below 0 and a sum of at least 1"
            raise RecipeError(f"Recipe.pretrain_epochs, posttrain_epochs: found {epochs}, expected {expected}")
        if self.questions == "a_m" and self.model != "proda":
            raise RecipeError(f"Recipe.questions: found 'a_m' with model {self.model!r}, expected model 'proda'")
        if not re.fullmatch(r"[A-Za-z0-9_]+", self.dataset):  # it becomes part of a run's name
            raise RecipeError(f"Recipe.dataset: found {self.dataset!r}, expected letters, digits and underscores")
        if self.start and self.model != "proda":
            raise RecipeError(f"Recipe.start: found {self.start!r} with model {self.model!r}, expected model 'proda'")
        for name, (fits, expected) in RANGES.items():
            if not (isinstance(value := getattr(self, name), int | float) and fits(value)):
                raise RecipeError(f"Recipe.{name}: found {value!r:.80}, expected {expected}")
        _ = self.changes  # its shares are checked
        _ = self.model_config(Vocabulary("", ("",), ("",), ("",)))  # so are sizes and choices of the model

    def model_config(self, vocabulary: Vocabulary, visual: int = 0, slots: int = 0) -> ModelConfig:
        """The model that this recipe trains on data with this vocabulary and width of visual features.

        ``slots``: of the largest graph, if known. The released code's norm and loss count absent slots, and so have to
        know how many there are: the paper's 10, or these if they are more.
        """
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(ModelConfig) if hasattr(self, f.name)}
        sizes = {"actions": len(vocabulary.actions), "objects": len(vocabulary.objects)}
        sizes |= {"relations": len(vocabulary.relations), "slots": max(ModelConfig.slots, slots)}
        shared.update(sizes, visual=visual)
        return ModelConfig(**shared)

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


def read_recipe(settings: dict) -> Recipe:
    """The recipe that a run's record holds; settings that are newer than the record have their defaults.

    Older records also name a "preset", which can only be "paper".

    Raises:
        RecipeError: a setting that does not exist, or has a wrong value or a value of another type.
    """
    settings = dict(settings)
    if (preset := settings.pop("preset", "paper")) != "paper":
        raise RecipeError(f"recipe: preset: found {preset!r}, expected 'paper' or none")
    _known(settings)
    for name, value in settings.items():
        kind = type(getattr(Recipe, name))
        if not (type(value) is kind or kind is float and type(value) is int):
            raise RecipeError(f"Recipe.{name}: found {value!r:.80}, expected {kind.__name__}")
    return Recipe(**settings)


def parse_settings(settings: Sequence[str]) -> dict:
    """["seed=1", "prompt=simple"] → {"seed": 1, "prompt": "simple"}, with the types of :class:`Recipe`'s fields.

    They are changes of a profile (see :func:`make_recipe`), so the profile is none of them.

    Raises:
        RecipeError: no such setting, or a value of another type.
    """
    defaults, parsed = {**dataclasses.asdict(Recipe()), "preset": "paper"}, {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name == "profile":
            raise RecipeError(f"setting {setting!r}: found 'profile', expected it as an option, --profile {text}")
        if name not in defaults:
            raise RecipeError(f"setting {setting!r}: found {name!r}, expected NAME=VALUE with the name of a setting; "
                              + nearest_names(name, sorted(defaults)))  # fmt: skip
        kind = type(defaults[name])
        try:
            parsed[name] = {"True": True, "False": False}[text] if kind is bool else kind(text)
        except (KeyError, TypeError, ValueError) as error:
            raise RecipeError(f"setting: found {setting!r}, expected NAME=VALUE with a {kind.__name__}") from error
    return parsed


def make_recipe(profile: str, preset: str = "paper", **changes) -> Recipe:
    """The recipe of a profile, with changes.

    Args:
        preset: "paper", or "released" for all of :data:`RELEASED`; single changes come on top of it.

    Raises:
        RecipeError: no such profile, preset or setting.
    """
    for name, value, expected in (("profile", profile, PROFILES), ("preset", preset, PRESETS)):
        if value not in expected:
            raise RecipeError(f"{name}: found {value!r}, expected one of {tuple(expected)}")
    _known(changes)
    of_dataset = DATASET_PROFILES.get(changes.get("dataset", Recipe.dataset), {}).get(profile, {})
    return Recipe(**{"profile": profile, **PROFILES[profile], **of_dataset, **PRESETS[preset], **changes})


def _known(settings: Iterable[str]) -> None:
    known = {f.name for f in dataclasses.fields(Recipe)}
    if unknown := sorted(set(settings) - known):
        raise RecipeError(f"recipe: found {', '.join(unknown)}, expected settings among {', '.join(sorted(known))}")


def command(recipe: Recipe) -> str:
    """The shortest ``proda train`` command that makes (or reads) this recipe's run."""
    return min((_command(recipe, preset) for preset in PRESETS), key=len)


def _command(recipe: Recipe, preset: str) -> str:
    base = make_recipe(recipe.profile, preset, dataset=recipe.dataset, model=recipe.model, seed=recipe.seed)
    words = ["proda train", f"--dataset {recipe.dataset}", f"--profile {recipe.profile}"]
    words += [
        f"--{name} {getattr(recipe, name)}"
        for name in ("model", "seed")
        if getattr(recipe, name) != getattr(Recipe, name)
    ]
    words += [f"--set preset={preset}"] if preset != "paper" else []
    for field in dataclasses.fields(Recipe):
        if getattr(recipe, field.name) != getattr(base, field.name):
            words.append(f"--set {field.name}={getattr(recipe, field.name)}")
    return " ".join(words)
