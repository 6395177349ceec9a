"""Table 1: recognition, against baselines on the same scene graphs."""

from __future__ import annotations

import itertools

import pandas as pd
import torch

from proda_lib.datasets.world import VOCABULARY
from proda_lib.evaluation import paired
from proda_lib.evaluation.cells import Table, Text, bullets
from proda_lib.evaluation.differences import compare, differences
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.tables import table01
from proda_lib.models.controls import EncoderOnly
from proda_lib.training.recipe import NETWORK_NAMES, Recipe
from proda_lib.training.stages import MODELS

#: Line → (row, key), in two groups that must not be compared with each other.
LINES: dict[tuple[str, str], tuple[str, str]] = {
    ("no test label is used", "relation histogram, LSTM over frames"): ("relation_lstm", "a_t/map"),
    ("no test label is used", "graph convolution, frame by frame"): ("frame_gcn", "a_t/map"),
    ("no test label is used", "GPNN, frame by frame"): ("gpnn", "a_t/map"),
    ("no test label is used", "transformer over node tokens"): ("token_transformer", "a_t/map"),
    ("no test label is used", "video encoder alone (no relations)"): ("encoder_only", "a_t/map"),
    ("no test label is used", "no_prompt: encoder and VGPNN"): ("no_prompt", "a_t/map"),
    ("no test label is used", "class frequency"): ("prompt_only", "frequency/map"),
    ("no test label is used", "ProDA, a_m"): ("ProDA", "a_m/map"),
    ("no test label is used", "ProDA, a_s by partition"): ("ProDA", "label_free/partition/a_s/map"),
    ("no test label is used", "ProDA, a_s by scan"): ("ProDA", "label_free/scan/a_s/map"),
    ("question built from the test labels", "ProDA, a_t"): ("ProDA", "paper/both/a_t"),
    ("question built from the test labels", "prompt only, trained"): ("prompt_only", "trained/both/a_t"),
    ("question built from the test labels", "prompt only, rule"): ("prompt_only", "rule/both/a_t"),
}


def recognition_table(found: Recorded) -> Table:
    """Ours, a line a model and answer, grouped by whether the question uses the test labels."""
    spreads = [cell(found, row, key) for row, key in LINES.values()]
    frame = pd.DataFrame({"mAP": spreads}, index=pd.MultiIndex.from_tuples(LINES))
    return Table(frame, f"{found.note} {RULES}")


def recognition_findings(found: Recorded) -> Text:
    """ProDA's label-free answers and no_prompt against the strongest other architecture on the same input, and against
    the video encoder alone."""
    baselines = {row: cell(found, row, key) for row, key in LINES.values()
                 if key == "a_t/map" and row not in ("no_prompt", "encoder_only")}  # fmt: skip
    done = {row: value.mean for row, value in baselines.items() if value.values}
    others = {"encoder_only": "the video encoder alone"}
    if done:
        best = max(done, key=done.get)
        name = next(line for (_, line), (row, _) in LINES.items() if row == best)
        others = {best: f"the best other architecture ({name})", **others}
    sentences = []
    for (other, name), (row, key, label) in itertools.product(others.items(), (
        ("no_prompt", "a_t/map", "no_prompt"), ("ProDA", "a_m/map", "ProDA's a_m"),
        ("ProDA", "label_free/partition/a_s/map", "ProDA's a_s by partition"),
    )):  # fmt: skip
        away = differences(found.runs.get(row, []), found.runs.get(other, []), key, "a_t/map")
        if away.values:
            sentences.append(compare(label, name, "no test labels", away))
    asked = differences(found.runs["ProDA"], found.runs["prompt_only"], "paper/both/a_t", "trained/both/a_t")
    sentences.append(compare("ProDA", "the trained prompt-only control", "a_t, question built from labels", asked))
    return bullets(sentences)


def recognition_differences(found: Recorded) -> Table:
    """ProDA minus each other model, with intervals: a_m beside the one answer of a model without questions, a_t beside
    the trained prompt-only control."""
    return paired.difference_table(found, paired.PAIRS[table01], {})


def sizes(found: Recorded) -> Table:
    """Trained numbers of each network, for SSG-World's classes and actions; nothing is trained or loaded for it."""
    recipes = {row: [run.recipe for run in runs] + found.missing.get(row, []) for row, runs in found.runs.items()}
    counts = {row: parameters(group[0]) for row, group in recipes.items() if group[0].model in NETWORK_NAMES}
    ratios = {row: f"{counts['ProDA'] / count:.1f}" for row, count in counts.items()}
    frame = pd.DataFrame({"parameters": {row: f"{count:,}" for row, count in counts.items()}, "ProDA / this": ratios})
    return Table(
        frame, "Equal width, not equal size: ProDA also has prompts, four readouts, a fusion and a reconstruction."
    )


def parameters(recipe: Recipe) -> int:
    """How many numbers the network of a recipe trains."""
    with torch.device("meta"):
        model = MODELS[recipe.model](recipe.model_config(VOCABULARY))
    trained = model.used() if isinstance(model, EncoderOnly) else [model]
    return sum(p.numel() for module in trained for p in module.parameters())
