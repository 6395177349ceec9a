"""Data sets by name: their training and test videos, and a version that names the data in a run's hash."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proda_lib.datasets import action_genome, cad120, world
from proda_lib.datasets.install import CHARADES_CLASSES, CHARADES_CSVS, charades_folder, known_checksums
from proda_lib.datasets.transforms import shuffle_frames, without_relations
from proda_lib.errors import DataError
from proda_lib.graph import SceneGraph
from proda_lib.paths import data_root

NAMES = ("world", "cad120", "cad120_clips", "action_genome")


@dataclass(frozen=True)
class Split:
    """Training and test videos of one fold."""

    train: list[SceneGraph]
    test: list[SceneGraph]


def data_version(name: str) -> str:
    """What a run's hash says of its data: the world's version, or the first digits of the release's checksum."""
    if name == "world":
        return f"world-{world.WORLD_VERSION}"
    if name == "action_genome":
        return "official"
    return "cad120-" + known_checksums("cad120")["annotations.zip"][:12]


def load_splits(
    name: str, train_videos: int, test_videos: int, relations: bool = True, shuffled: bool = False, seed: int = 0
) -> list[Split]:
    """The folds of a data set: one for most, four (leave one subject out) for CAD-120.

    ``cad120`` are the 100 labelled videos with the 9 actions that are not "null"; ``cad120_clips`` the 551 clips with
    one of 10 actions each. ``world`` makes ``train_videos`` and ``test_videos``; the others use all they have.

    Args:
        relations: False removes all relations. ``shuffled``: True permutes the frames of every video (by ``seed``).

    Raises:
        DataError: an unknown name, or data that is not installed; the message says how to get it.
    """
    if name == "world":
        config = world.WorldConfig()
        counts = {"train": train_videos, "test": test_videos}
        splits = [Split(*(world.make_videos(config, part, count) for part, count in counts.items()))]
    elif name in ("cad120", "cad120_clips"):
        splits = _cad120(installed("cad120", "annotations"), whole_videos=name == "cad120")
    elif name == "action_genome":
        root = installed("action_genome", "annotations")
        charades = charades_folder(data_root()) or root
        classes, rates = charades / CHARADES_CLASSES, root / "star_video_fps"
        csvs = {part: [charades / csv] for part, csv in zip(("train", "test"), CHARADES_CSVS, strict=True)}
        read = action_genome.read_action_genome
        splits = [Split(*(read(root / "annotations", csv, classes, rates, part) for part, csv in csvs.items()))]
    else:
        raise DataError("data sets", "name", repr(name), f"one of {', '.join(NAMES)}")
    rng = np.random.default_rng([seed, 11])

    def change(graph: SceneGraph) -> SceneGraph:
        graph = graph if relations else without_relations(graph)
        return shuffle_frames(graph, rng) if shuffled else graph

    return [Split([change(g) for g in s.train], [change(g) for g in s.test]) for s in splits]


def installed(name: str, part: str) -> Path:
    """The folder of an installed data set; raises :class:`DataError` that tells how to install it."""
    root = data_root() / name
    if not (root / part).exists():
        raise DataError(root, part, "nothing", f"an installed data set; see data/README.md or `proda data add {name}`")
    return root


def _cad120(root: Path, whole_videos: bool) -> list[Split]:
    graphs = [g for g in cad120.read_cad120(root) if len(g.labels)]
    if whole_videos:
        graphs = [without_action(g, cad120.NULL) for g in graphs]
    else:
        graphs = cad120.clips(graphs)
    return [Split(*cad120.split_by_fold(graphs, fold)) for fold in cad120.folds(root)]


def without_action(graph: SceneGraph, action: int) -> SceneGraph:
    """The same graph in a vocabulary that lacks its last action, without that action's segments."""
    actions = graph.vocabulary.actions
    if action != len(actions) - 1:
        raise DataError(graph.video, "action", action, f"the last action, {len(actions) - 1}")
    kept = graph.segment_labels != action
    return dataclasses.replace(
        graph,
        vocabulary=dataclasses.replace(graph.vocabulary, actions=actions[:-1]),
        labels=None,
        segment_labels=graph.segment_labels[kept],
        segments=graph.segments[kept],
        carriers=None if graph.carriers is None else graph.carriers[..., kept],
    )
