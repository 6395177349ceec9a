"""Trained weights as a folder that needs nothing else, and the ones that come with this library.

config.json, model.safetensors    of ``save_pretrained``
vocabulary.json                   what the model's numbers mean
record.json                       the run that made the weights (without its curves), if a run did
README.md                         the model card, written from the record
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proda_lib.errors import CheckpointError, RecipeError
from proda_lib.files import sha256, write_atomically
from proda_lib.models.saved import SavedModel
from proda_lib.vocabulary import Vocabulary

if TYPE_CHECKING:  # a run knows models, not the other way round
    from proda_lib.training.runs import Run

#: The weights that come with the library.
WEIGHTS = Path(__file__).parent / "weights" / "world"
#: Settings in which a control must agree with the run beside which it stands: its questions depend on them.
SHARED = ("dataset", "seed", "train_videos", "test_videos", "scenario", "scene_bias", "spec_length", "absent_row")
#: Kinds of questions in a record, and what the card calls them.
KINDS = {"both": "both kinds", "distractor": "present and absent actions", "non_distractor": "present actions only"}


def shipped_model() -> Path:
    """Folder of the ProDA that comes with this library, trained on SSG-World.

    Raises:
        CheckpointError: this copy of the library has none.
    """
    if not (WEIGHTS / "model.safetensors").is_file():
        raise CheckpointError(f"{WEIGHTS}: found no model.safetensors, expected the shipped weights; see make_shipped")
    return WEIGHTS


def shipped_version() -> str:
    """First digits of the SHA-256 of the shipped weights."""
    return sha256(shipped_model() / "model.safetensors")[:12]


def make_shipped(run: Run, folder: str | os.PathLike, control: Run | None = None, fold: int = 0) -> Path:
    """Copy a run's weights into a folder that stands alone, with vocabulary, record and model card.

    Args:
        run: a finished run of ProDA with its weights.
        control: run of "prompt_only" whose numbers stand beside; by default that of the same recipe, from the run
            store or the committed records, made now if it is in neither.

    Raises:
        RecipeError: the run's model is not ProDA, or the control's questions are others than the run's.
        CheckpointError: only the run's record is at hand.
    """
    from proda_lib.datasets.registry import load_splits
    from proda_lib.training import runs

    recipe, folder = run.recipe, Path(folder)
    if recipe.model != "proda":
        raise RecipeError(f"make_shipped: run {run.name}: found model {recipe.model!r}, expected 'proda'")
    control = control or runs.get_numbers(dataclasses.replace(recipe, model="prompt_only"))
    if control.recipe.model != "prompt_only":
        raise RecipeError(f"make_shipped: control {control.name}: found {control.recipe.model!r}, expected prompt_only")
    for name in SHARED:
        found, wanted = getattr(control.recipe, name), getattr(recipe, name)
        if found != wanted:
            raise RecipeError(f"make_shipped: control {control.name}: {name}: found {found!r}, expected {wanted!r}")
    model = run.model(fold)
    vocabulary = load_splits(recipe.dataset, 1, 1)[fold].train[0].vocabulary
    model.save_pretrained(folder)
    write_vocabulary(vocabulary, folder)
    record = {key: value for key, value in run.record.items() if key != "curves"}
    _write(folder / "record.json", json.dumps(record, indent=1) + "\n")
    _write(folder / "README.md", model_card(run, control, model))
    return folder


def write_vocabulary(vocabulary: Vocabulary, folder: str | os.PathLike) -> None:
    """Write ``vocabulary.json`` beside a saved model."""
    _write(Path(folder) / "vocabulary.json", json.dumps(dataclasses.asdict(vocabulary), indent=1) + "\n")


def read_vocabulary(folder: str | os.PathLike) -> Vocabulary:
    """What :func:`write_vocabulary` wrote.

    Raises:
        CheckpointError: the file is missing or is no vocabulary.
    """
    path = Path(folder) / "vocabulary.json"
    try:
        return Vocabulary.from_json(_read_json(path))
    except (OSError, ValueError, RecursionError) as error:
        expected = "expected the vocabulary beside the model, as make_shipped or write_vocabulary writes it"
        raise CheckpointError(f"{path}: {type(error).__name__}: {error}; {expected}") from error


def read_record(folder: str | os.PathLike) -> Run | None:
    """The run that made the weights in a folder; None if the folder does not say.

    Raises:
        CheckpointError: ``record.json`` is no record of a run, or lacks what is said of a model.
    """
    from proda_lib.training.runs import Run

    path = Path(folder) / "record.json"
    if not path.is_file():
        return None
    try:
        run = Run(_read_json(path), None)
        kinds = {"name": str, "data": str, "metrics": dict, "videos": list}
        if wrong := [name for name, kind in kinds.items() if not isinstance(run.record[name], kind)]:
            raise TypeError(f"another type of {', '.join(wrong)}")
        folds = run.record["videos"]
        if not folds or not all(isinstance(fold[part], int) for fold in folds for part in ("train", "test")):
            raise ValueError(f"videos: {folds!r:.80}")
        _ = run.recipe
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {type(error).__name__}: {error}; expected the record of a run") from error
    return run


def model_card(run: Run, control: Run, model: SavedModel) -> str:
    """README.md of a folder, in Markdown: every number is from the two records or the model."""
    from proda_lib.evaluation.report import DATASETS, setting
    from proda_lib.training.recipe import command
    from proda_lib.training.runs import flatten

    recipe, record = run.recipe, run.record
    own, beside = flatten(run.metrics), flatten(control.metrics)

    def cell(numbers: dict[str, float], key: str) -> str:
        return f"{numbers[key]:.1f}" if key in numbers else "–"

    rows = [
        f"| {answer}, {title} | {cell(own, f'paper/{kind}/{answer}')} | "
        f"{cell(beside, f'rule/{kind}/{answer}')} | {cell(beside, f'trained/{kind}/{answer}')} |"
        for kind, title in KINDS.items() for answer in ("a_s", "a_t")
    ]  # fmt: skip
    free = [f"| {title} | {cell(own, key)} |" for title, key in (
        ("a_m: no prompt at all", "a_m/map"),
        ("a_s, partition: all actions are asked for, in random groups", "label_free/partition/a_s/map"),
        ("a_t, partition", "label_free/partition/a_t/map"),
        ("a_s, scan: each action is asked for alone", "label_free/scan/a_s/map"),
    ) if key in own]  # fmt: skip
    free += [f"| class frequency alone | {cell(beside, 'frequency/map')} |"]
    data = DATASETS.get(recipe.dataset, recipe.dataset)
    world = recipe.dataset == "world"
    lines = [
        "---", "license: mit", "---", "", f"# ProDA on {data}", "",
        f"{sum(p.numel() for p in model.parameters()):,} parameters (width {recipe.width}, {recipe.layers} VGPNN layer"
        f"{'s' * (recipe.layers > 1)}, {recipe.frames} frames), trained in {record['seconds']:.0f} s on "
        f"{record['hardware'].get('gpu', record['hardware']['device'])}. {setting({'ProDA': [run]})}", "",
        f"    {command(recipe)}", "",
        f"Run {run.name}, commit {record['commit'] or 'unknown'}; control {control.name}.", "",
        "## What it reaches", "",
        "mAP in percent on the test videos. In the paper's protocol the question is made from the labels of the test",
        "video, so that it carries part of the answer. The controls get the question and no video.", "",
        "| answer, questions | this model | prompt-only, rule | prompt-only, trained |", "|---|---|---|---|", *rows, "",
        "Without looking at the labels:", "",
        "| protocol | mAP |", "|---|---|", *free, "",
        "## Limits", "",
        *(["- SSG-World is a simulator. Its relations are cleaner than a detector's, and its actions are orders of",
           "  relations. What the model says of a real video is a demonstration and has not been measured."]
          if world else [f"- It was trained on {data} alone; on other videos it has not been measured."]),
        "- Relations enter only through edges. A graph without relations takes away most of what it reads.",
        "- Scores of the actions asked for depend on the asking: compare them with those of the controls above.",
        "- It knows the names in vocabulary.json and no others"
        + ("." if model.config.visual else ", and reads no visual features."), "",
        "## Licence", "",
        "MIT, as the library" + (". No video, picture or annotation of anybody went into it." if world else
                                 " for the weights; the data set has terms of its own."), "",
        "## Use", "",
        "    from proda_lib.predict import Predictor",
        '    answer = Predictor.load("shipped")(graph="graph.json", actions=["raise_cup"])' if world else
        '    answer = Predictor.load("THIS FOLDER")(graph="graph.json", actions=["..."])', "",
    ]  # fmt: skip
    return "\n".join(lines)


def _read_json(path: Path) -> Any:
    """What is in a file. Half a character, which JSON can hold and no report can, is a ``ValueError`` too."""
    data = json.loads(path.read_text(encoding="utf-8"))
    json.dumps(data, ensure_ascii=False).encode()
    return data


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
