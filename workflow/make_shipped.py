"""Make a folder that stands alone from a finished run of ProDA: weights, vocabulary, record and model card.

    python workflow/make_shipped.py RUN [--out FOLDER] [--control RUN]

By default it replaces the weights that come with the library.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from proda_lib.datasets.registry import load_splits
from proda_lib.errors import ProdaError, RecipeError
from proda_lib.evaluation.report import DATASETS, setting
from proda_lib.files import write_json, write_text
from proda_lib.models.saved import SavedModel
from proda_lib.models.shipped import WEIGHTS, write_vocabulary
from proda_lib.training import runs
from proda_lib.training.recipe import command
from proda_lib.training.runs import Run

#: Settings in which a control must agree with the run beside which it stands: its questions depend on them.
SHARED = ("dataset", "seed", "train_videos", "test_videos", "scenario", "scene_bias", "spec_length", "absent_row")
#: Kinds of questions in a record, and what the card calls them.
KINDS = {"both": "both kinds", "distractor": "present and absent actions", "non_distractor": "present actions only"}


def make_shipped(run: Run, folder: str | os.PathLike, control: Run | None = None) -> Path:
    """Copy a run's weights into a folder that stands alone, with vocabulary, record and model card.

    Args:
        run: a finished run of ProDA with its weights.
        control: run of "prompt_only" whose numbers stand beside; by default that of the same recipe, from the run
            store or the committed records, made now if it is in neither.

    Raises:
        RecipeError: the run's model is not ProDA, or the control's questions are others than the run's.
        CheckpointError: only the run's record is at hand.
    """
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
    model = run.model()
    vocabulary = load_splits(recipe.dataset, 1, 1)[0].train[0].vocabulary
    model.save_pretrained(folder)
    write_vocabulary(vocabulary, folder)
    record = {key: value for key, value in run.record.items() if key != "curves"}
    write_json(folder / "record.json", record)
    write_text(folder / "README.md", model_card(run, control, model))
    return folder


def model_card(run: Run, control: Run, model: SavedModel) -> str:
    """README.md of a folder, in Markdown: every number is from the two records or the model."""
    recipe, record = run.recipe, run.record
    own, beside = runs.flatten(run.metrics), runs.flatten(control.metrics)

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
        f"    {command(recipe)}",
        f"    python workflow/make_shipped.py {run.name}", "",
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="name of a finished run of ProDA, with its weights (`proda runs`)")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--control", help="name of a finished run of prompt_only; by default that of the same recipe")
    args = parser.parse_args()
    try:
        control = None if args.control is None else runs.named(args.control)
        print(make_shipped(runs.named(args.run), args.out, control))
    except ProdaError as error:
        print(f"make_shipped: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
