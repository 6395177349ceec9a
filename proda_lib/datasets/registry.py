"""Data sets by name: their training and test videos, and a version that names the data in a run's hash."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from proda_lib.datasets import cad120, world
from proda_lib.datasets.install import ARCHIVES, known_checksums
from proda_lib.datasets.official import SPLITS, Files
from proda_lib.datasets.scenarios import scenes_of
from proda_lib.datasets.transforms import UNCHANGED, Changes
from proda_lib.errors import DataError
from proda_lib.graph import SceneGraph
from proda_lib.paths import ABOUT, data_root

if TYPE_CHECKING:
    from proda_lib.datasets.store import GraphStore

NAMES = ("world", "cad120", "cad120_clips", "action_genome")
#: What a store says of the encoder of its features: its name, and the SHA-256 of its weights.
ENCODER = ("encoder", "weights")


@dataclass(frozen=True)
class Split:
    """Training and test videos of one fold."""

    train: list[SceneGraph]
    test: list[SceneGraph]


def data_version(name: str) -> str:
    """What a run's hash says of its data: the world's version, or the first digits of a checksum.

    CAD-120's is that of the release, Action Genome's one over the official files, and a prepared data set's one over
    the lists of its two stores, which hold the checksums of all the rest.

    Raises:
        DataError: an unknown name; Action Genome or a prepared data set that is not installed.
    """
    if name == "world":
        return f"world-{world.WORLD_VERSION}"
    if name == "action_genome":
        return _version(name, json.dumps(_action_genome().checksums()).encode())
    if name in ("cad120", "cad120_clips"):
        return "cad120-" + known_checksums("cad120")["annotations.zip"][:12]
    return _version(name, b"".join((_prepared(name) / part / ABOUT).read_bytes() for part in SPLITS))


def _version(name: str, content: bytes) -> str:
    return f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"


def load_splits(
    name: str, train_videos: int, test_videos: int, changes: Changes = UNCHANGED, seed: int = 0, scenario: int = 0,
    scene_bias: float = world.WorldConfig.scene_bias,
) -> list[Split]:  # fmt: skip
    """The folds of a data set: one for most, four (leave one subject out) for CAD-120.

    ``cad120`` are the 100 labelled videos with the 9 actions that are not "null"; ``cad120_clips`` the 551 clips, with
    one of 10 actions each. ``world`` makes ``train_videos`` and ``test_videos``; the others use all they have. Another
    name is a folder with packed stores ``train`` and ``test`` under the data root (``proda data prepare``).

    Args:
        changes: what is changed in every graph; ``seed`` drives what is random in it.
        scenario: 1..5, training and test videos from different scenes (table 10); 0, from all. Action Genome's two
            parts are pooled first, as in table 11; ``world`` makes videos until it has enough in the scenes.
        scene_bias: knob of ``world``: how much the actions depend on the scene.

    Raises:
        DataError: an unknown name, or data that is not installed; the message says how to get it. Or two stores that
            do not belong together: other vocabularies, or features of other encoders.
        RecipeError: a scenario of a data set without scenes.
    """
    if name == "world":
        config = world.WorldConfig(scene_bias=scene_bias)
        counts = {"train": train_videos, "test": test_videos}
        splits = [Split(*(_world_videos(config, part, count, scenario) for part, count in counts.items()))]
    elif name in ("cad120", "cad120_clips"):
        splits = _cad120(installed("cad120", "annotations"), whole_videos=name == "cad120")
    elif name == "action_genome":
        files = _action_genome()
        splits = [Split(*(files.read(part) for part in SPLITS))]
    else:
        from proda_lib.datasets.store import GraphStore  # Arrow takes a while to load, and few need it

        stores = [GraphStore(_prepared(name) / part) for part in SPLITS]
        _refuse_mixed(*stores)
        splits = [Split(*map(list, stores))]
    if scenario and name != "world":
        splits = [_by_scene(split.train + split.test, scenario) for split in splits]
    rng = np.random.default_rng([seed, 11])
    return [Split(*([changes.apply(g, rng) for g in part] for part in (s.train, s.test))) for s in splits]


def _world_videos(config: world.WorldConfig, split: str, count: int, scenario: int) -> list[SceneGraph]:
    if not scenario:
        return world.make_videos(config, split, count)
    scenes = scenes_of(scenario, split)
    made = (world.make_video(config, index, split) for index in itertools.count())
    return list(itertools.islice((graph for graph in made if graph.scene in scenes), count))


def _prepared(name: str) -> Path:
    """The folder of a prepared data set: two packed stores, ``train`` and ``test``."""
    root = data_root() / name
    for part in SPLITS:
        if not (root / part / ABOUT).is_file():
            expected = f"one of {', '.join(NAMES)}, or a prepared data set with the store {root / part}"
            raise DataError("data sets", "name", repr(name), expected)
    return root


def visual_features(name: str) -> dict[str, str] | None:
    """What made the visual features of a prepared data set, by the keys :data:`ENCODER`; None if that is not known."""
    if name in NAMES:
        return None
    from proda_lib.datasets.store import GraphStore

    about = GraphStore(_prepared(name) / SPLITS[0]).about
    return {key: about[key] for key in ENCODER} if about.keys() >= set(ENCODER) else None


def _refuse_mixed(train: GraphStore, test: GraphStore) -> None:
    """Features of one width may be of two encoders, and nothing later would notice."""
    said = [{"vocabulary": store.vocabulary, **{key: store.about.get(key) for key in ENCODER}}
            for store in (train, test)]  # fmt: skip
    for key, expected in said[0].items():
        if (found := said[1][key]) != expected:
            names = [getattr(value, "name", value) for value in (found, expected)]
            raise DataError(test.folder / ABOUT, key, names[0], f"{names[1]}, as in {train.folder}")


def _by_scene(graphs: list[SceneGraph], scenario: int) -> Split:
    scenes = {part: scenes_of(scenario, part, graphs[0].vocabulary.scenes) for part in SPLITS}
    return Split(*([g for g in graphs if g.scene in scenes[part]] for part in ("train", "test")))


def installed(name: str, part: str) -> Path:
    """The folder of an installed data set; raises :class:`DataError` that tells how to install it."""
    root = data_root() / name
    if not (root / part).exists():
        how = f" or `proda data add {name}`" if name in ARCHIVES else ""
        raise DataError(root, part, "nothing", f"an installed data set; see data/README.md{how}")
    return root


def _action_genome() -> Files:
    return Files.find(installed("action_genome", "annotations"))


def _cad120(root: Path, whole_videos: bool) -> list[Split]:
    graphs = [g for g in cad120.read_cad120(root) if len(g.labels)]
    if whole_videos:
        graphs = [without_last_action(g) for g in graphs]
    else:
        graphs = cad120.clips(graphs)
    return [Split(*cad120.split_by_fold(graphs, fold)) for fold in cad120.folds(root)]


def without_last_action(graph: SceneGraph) -> SceneGraph:
    """The same graph in a vocabulary that lacks its last action, without that action's segments."""
    actions = graph.vocabulary.actions
    kept = graph.segment_labels != len(actions) - 1
    return dataclasses.replace(
        graph,
        vocabulary=dataclasses.replace(graph.vocabulary, actions=actions[:-1]),
        labels=None,
        segment_labels=graph.segment_labels[kept],
        segments=graph.segments[kept],
        carriers=None if graph.carriers is None else graph.carriers[..., kept],
    )
