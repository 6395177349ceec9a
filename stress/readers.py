"""Every reader of the library with tiny valid input, written by the library itself where it can."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from proda_lib.datasets.action_genome import read_action_genome
from proda_lib.datasets.cad120 import folds, read_cad120
from proda_lib.datasets.charades import read_charades, read_classes
from proda_lib.datasets.install import add_dataset
from proda_lib.datasets.miniature import write_action_genome, write_cad120
from proda_lib.datasets.own import read_own, write_own
from proda_lib.datasets.store import GraphStore, StoreWriter
from proda_lib.datasets.world import WorldConfig, make_videos
from proda_lib.graph import SceneGraph, load_graphs, save_graphs
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.models.shipped import write_vocabulary
from proda_lib.predict import Predictor
from proda_lib.training import runs
from proda_lib.training.checkpoint import read_checkpoint, restore, save_checkpoint
from proda_lib.training.recipe import make_recipe
from proda_lib.vocabulary import Vocabulary

RECIPE_HASH = "0123456789ab"


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        write: puts valid input into an empty folder.
        read: reads it all; only errors of :mod:`proda_lib.errors` may come out, whatever the files hold.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]


def _graphs() -> list[SceneGraph]:
    """Two videos of three frames, with the edges that are in one of them."""
    found = []
    for graph in make_videos(WorldConfig(), "train", 2):
        short = graph.sample_frames(3)
        there = short.edge_present.any(0)
        carriers = None if short.carriers is None else short.carriers[:, there]
        parts = {"edges": short.edges[:, there], "relations": short.relations[:, there], "carriers": carriers}
        found.append(dataclasses.replace(short, **parts))
    return found


def _write_charades(folder: Path) -> None:
    names = ["Holding some clothes", "Opening a door", "Sitting in a chair"]
    classes = "".join(f"c{i:03d} {name}\n" for i, name in enumerate(names))
    (folder / "classes.txt").write_text(classes)
    (folder / "videos.csv").write_text(
        'id,subject,scene,quality,relevance,verified,script,actions,length\n46GP8,HR43,Kitchen,6,7,Yes,"A person, and '
        'a ""door"".",c001 0.00 11.90;c002 0.00 12.60,24.83\nN11GT,0KZ7,Stairs,7,6,Yes,x,c000 12.80 20.10,30.96\n'
        "KRF68,TCVI,,1,1,No,,,10\n")  # fmt: skip


def _read_charades(folder: Path) -> None:
    read_charades(folder / "videos.csv", read_classes(folder / "classes.txt"))


def _write_action_genome(folder: Path) -> None:
    write_action_genome(folder, _graphs())


def _read_action_genome(folder: Path) -> None:
    files = [folder / "Charades_v1_train.csv"], folder / "Charades_v1_classes.txt", folder / "star_video_fps"
    read_action_genome(folder / "annotations", *files, split="train")


def _write_cad120(folder: Path) -> None:
    write_cad120(folder, ("S1", "S2", "S3", "S4"), fps=5)


def _read_cad120(folder: Path) -> None:
    read_cad120(folder)
    folds(folder)


def _write_zip(folder: Path) -> None:
    write_cad120(folder / "release", ("S1", "S2", "S3", "S4"), fps=3)
    with zipfile.ZipFile(folder / "annotations.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted((folder / "release").rglob("*")):
            zipped.write(path, path.relative_to(folder / "release"))
            if path.is_file():
                path.unlink()


def _read_zip(folder: Path) -> None:
    add_dataset("cad120", folder / "annotations.zip", folder / "data", accept_unknown=True, say=lambda line: None)


def _model() -> ProDA:
    torch.manual_seed(0)
    return ProDA(ModelConfig(actions=4, objects=3, relations=2, width=8, heads=2, layers=1, depth=1, candidates=2))


def _optimizer(model: ProDA) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in model.parameters() if p.ndim == 1][:3])


def _write_checkpoint(folder: Path) -> None:
    model = _model()
    optimizer = _optimizer(model)
    sum(p.sum() for group in optimizer.param_groups for p in group["params"]).backward()
    optimizer.step()
    state = {"recipe": RECIPE_HASH, "stage": "pretrain", "epoch": 1, "step": 2, "curves": [{"epoch": 1, "a_s": 0.5}],
             "best_score": 1.0, "sums": {"a_s": 0.5}, "looked": [1, {"a_s": 0.5}],
             "trace": {"epoch": [0.5]}, "seconds": 0.5}  # fmt: skip
    save_checkpoint(folder / "pretrain.safetensors", state, model, optimizer, model.state_dict())


def _read_checkpoint(folder: Path) -> None:
    _, tensors = read_checkpoint(folder / "pretrain.safetensors", RECIPE_HASH)
    model = _model()
    restore(tensors, model, _optimizer(model))


def _write_run(folder: Path) -> None:
    recipe = make_recipe("smoke")
    record = {"name": "world-proda-x", "recipe": vars(recipe), "metrics": {"a_t": {"map": 1.0}}, "curves": [],
              "seconds": 1.0, "hardware": {"device": "cpu"}}  # fmt: skip
    (folder / "world-proda-x").mkdir()
    (folder / "world-proda-x" / "record.json").write_text(json.dumps(record))


def _read_run(folder: Path) -> None:
    with mock.patch.object(runs, "runs_root", lambda: folder):
        for run in (runs.named("world-proda-x"), *runs.list_runs()):
            _ = run.recipe, run.metrics, run.curves, runs.flatten(run.metrics)


def _write_store(folder: Path) -> None:
    graphs = _graphs()
    with StoreWriter(folder / "store", graphs[0].vocabulary, {"encoder": "none"}) as writer:
        for graph in graphs:
            writer.add(graph)


def _read_store(folder: Path) -> None:
    for graph in GraphStore(folder / "store"):
        for features in (graph.features, graph.frame_features):
            _ = None if features is None else features[:2]


def _write_predictor(folder: Path) -> None:
    _model().save_pretrained(folder)
    write_vocabulary(Vocabulary("mini", ("person", "cup", "door"), ("holding", "near"), ("a", "b", "c", "d")), folder)
    record = {"name": "world-proda-x", "recipe": vars(make_recipe("smoke")), "metrics": {}, "data": "world-1",
              "videos": [{"train": 2, "test": 1}]}  # fmt: skip
    (folder / "record.json").write_text(json.dumps(record))


READERS = (
    Reader("Charades csv", _write_charades, _read_charades),
    Reader("Action Genome", _write_action_genome, _read_action_genome),
    Reader("CAD-120", _write_cad120, _read_cad120),
    Reader("zip archive", _write_zip, _read_zip),
    Reader("scene graphs", lambda f: save_graphs(f / "graphs.safetensors", _graphs()),
           lambda f: [(repr(graph), graph.multi_hot()) for graph in load_graphs(f / "graphs.safetensors")]),
    Reader("own JSON", lambda f: write_own(_graphs()[0], f / "own.json"), lambda f: read_own(f / "own.json")),
    Reader("packed store", _write_store, _read_store),
    Reader("checkpoint", _write_checkpoint, _read_checkpoint),
    Reader("saved model", lambda f: _model().save_pretrained(f), ProDA.from_pretrained),
    Reader("run record", _write_run, _read_run),
    Reader("model for predictions", _write_predictor, lambda f: [line.encode() for line in Predictor.load(f).about]),
)  # fmt: skip


@functools.cache
def valid_files(reader: Reader) -> dict[str, bytes]:
    """What :attr:`Reader.write` writes, by path."""
    with tempfile.TemporaryDirectory() as name:
        reader.write(Path(name))
        return {str(p.relative_to(name)): p.read_bytes() for p in sorted(Path(name).rglob("*")) if p.is_file()}


def write_valid(reader: Reader, folder: Path) -> None:
    for name, content in valid_files(reader).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read_quietly(reader: Reader, folder: Path) -> None:
    """Read without the warnings that name accepted quirks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader.read(folder)
