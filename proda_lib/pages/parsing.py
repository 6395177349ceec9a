"""The page on figures 9 to 11: which videos, which numbers, which sentences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread

from proda_lib.datasets.action_genome_files import key_of, load_dict
from proda_lib.datasets.registry import load_splits
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError
from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.explain import look
from proda_lib.evaluation.localization import example_videos
from proda_lib.evaluation.parsing import attention_summary, parsing_summary
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.paths import data_root
from proda_lib.plotting.parsing import over_time
from proda_lib.specification import one_hot
from proda_lib.training.recipe import make_recipe
from proda_lib.training.runs import Run, find, flatten

KINDS = ("edges", "nodes", "objects")
#: Measures of ProDA and of the encoder-only model as lines of the table; "w_1", "w_2", ... come before them.
PRODA = {"node_score": "node score", "node_weight": "node score · s", "gradient_sum": "gradient × input, sum",
         "gradient_norm": "gradient × input, norm"}  # fmt: skip
ENCODER = {"attention": "encoder only: attention", "node_weight": "encoder only: node score · s"}


def action_to_show(graph: SceneGraph) -> int:
    """The label that goes on in about a third of the frames, so that there is a before and an after."""
    share = graph.active()[:, graph.labels].mean(0)
    return int(graph.labels[np.abs(share - 1 / 3).argmin()])


def measured(run: Run, test: Sequence[SceneGraph], device: str = "cpu") -> dict:
    """A run's parsing scores: those of its record, or measured now from its weights if the record has none."""
    if "parsing" in run.metrics:
        return run.metrics["parsing"]
    summary = attention_summary if run.recipe.model == "encoder_only" else parsing_summary
    return summary(run.model(device=device), test, run.recipe.frames, device)


def _spread(summaries: Sequence[dict], key: str) -> Spread:
    flat = [flatten(summary) for summary in summaries]
    return Spread(tuple(entry[key] for entry in flat if key in entry))


def _gain(proda: Sequence[dict], kind: str, name: str) -> Spread:
    both = [found for found in proda if "other" in found]
    asked, other = _spread(both, f"{kind}/{name}"), _spread(both, f"other/{kind}/{name}")
    return Spread(tuple(a - b for a, b in zip(asked.values, other.values, strict=True)), signed=True)


def _measures(proda: Sequence[dict]) -> dict[str, str]:
    layers = [name for name in proda[0]["edges"] if name.startswith("w_")]
    return {**{name: f"w, layer {name[2:]}" for name in layers}, **PRODA}


def precision_table(proda: Sequence[dict], encoder: Sequence[dict], setting: str) -> Table:
    """Average precision of every measure, and how much of it goes when another action is asked for.

    Args:
        proda: results of ``parsing_summary``, one a seed; ``encoder``: of ``attention_summary``.
    """
    lines = {"base rate": [cell for kind in KINDS for cell in (_spread(proda, f"{kind}/base_rate"), Spread())]}
    for name, title in _measures(proda).items():
        pairs = [(_spread(proda, f"{kind}/{name}"), _gain(proda, kind, name)) for kind in KINDS]
        lines[f"ProDA: {title}"] = list(itertools.chain(*pairs))
    for name, title in ENCODER.items():
        lines[title] = [cell for kind in KINDS for cell in (_spread(encoder, f"{kind}/{name}"), Spread())]
    columns = pd.MultiIndex.from_product([KINDS, ("asked", "− another asked")])
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    counts = proda[0]
    note = (f"Average precision in percent, mean over {counts['questions']} questions about the first "
            f"{counts['videos']} test videos ({counts['unseen']} more fall between the sampled frames).")  # fmt: skip
    if (known := sum("other" in found for found in proda)) < len(proda):
        note += f" − another asked: of the seeds for which it was scored, {known} of {len(proda)}."
    return Table(frame, f"{note} {setting}")


def findings(proda: Sequence[dict], encoder: Sequence[dict]) -> Text:
    """What stands highest, and what the prompt contributes, as the numbers have it."""
    sentences = []
    for kind in KINDS:
        values = {f"ProDA's {title}": _spread(proda, f"{kind}/{name}") for name, title in _measures(proda).items()}
        values |= {title: _spread(encoder, f"{kind}/{name}") for name, title in ENCODER.items()}
        values = {title: value for title, value in values.items() if value.values}
        order = sorted(values, key=lambda title: -values[title].mean)
        base = _spread(proda, f"{kind}/base_rate")
        ranked = "; ".join(f"{title} {values[title]}" for title in order)
        sentences.append(f"{kind.capitalize()}, base rate {base}: {ranked}.")
        gains = {title: _gain(proda, kind, name) for name, title in _measures(proda).items()}
        listed = "; ".join(f"{title} {gain}" for title, gain in gains.items() if gain.values)
        sentences.append(f"{kind.capitalize()}, asked minus another asked, in points: {listed}.")
    return bullets(sentences)


def layer_findings(runs: Sequence[Run]) -> Text:
    """How well w finds the edges in each layer of a deeper parser, from the records of its runs."""
    summaries = [run.metrics["parsing"] for run in runs if "parsing" in run.metrics]
    if not summaries:
        return Text("A parser of several layers was not run yet.")
    found = {title: _spread(summaries, f"edges/{name}") for name, title in _measures(summaries).items()}
    listed = ", ".join(f"{title} {value}" for title, value in found.items() if title.startswith("w, "))
    return Text(f"Edges, base rate {_spread(summaries, 'edges/base_rate')}: {listed}.")


def parsed_video(
    model: ProDA, graph: SceneGraph, device: str = "cpu", images: Sequence[np.ndarray] | None = None
) -> Figure:
    """One action of a video with N sampled frames, asked for alone: figures 10 and 11."""
    action = action_to_show(graph)
    answer = look(model, graph, one_hot([action], len(graph.vocabulary.actions)), device)[0]
    return over_time(graph, answer, action, images=images)


def real_frames(profile: str, seed: int, device: str = "cpu") -> Figure | Text:
    """:func:`parsed_video` over the frames of a real video, the first test video with about ten labels.

    It takes what is there and makes nothing: without Action Genome, its frames, or a finished run on it, the result is
    a sentence that says what is missing. The frames are licensed: the figure is for the screen, never for a commit.
    """
    root = data_root() / "action_genome"
    if not (root / "annotations").exists() or not (root / "frames").is_dir():
        return Text("Nothing drawn: Action Genome or its frames are not installed here.")
    run = find(make_recipe(profile, dataset="action_genome", seed=seed))
    if run is None:
        return Text(f"Nothing drawn: the run store has no run of profile {profile} on Action Genome.")
    test = load_splits("action_genome", 1, 1)[0].test
    graph = example_videos(test, [10])[0].sample_frames(run.recipe.frames)
    return parsed_video(run.model(device=device), graph, device, action_genome_images(graph, root))


def action_genome_images(graph: SceneGraph, root: Path) -> list[np.ndarray]:
    """The picture of each frame of an Action Genome video, from ``frames/VIDEO.mp4/000123.png`` under ``root``.

    Raises:
        DataError: a frame is not there.
    """
    rate = load_dict(root / "star_video_fps", Report())[f"{graph.video}.mp4"]
    paths = [root / "frames" / key_of(graph.video, int(number)) for number in np.rint(graph.times * rate)]
    for path in paths:
        if not path.is_file():
            raise DataError(path, "frame", "no such file", "a frame of the video")
    return [imread(path) for path in paths]
