"""A prepared data set (two packed stores under the data root) is a data set like any other."""

import numpy as np
import pytest
from PIL import Image

from proda_lib.datasets import world
from proda_lib.datasets.miniature import write_action_genome
from proda_lib.datasets.registry import data_version, load_splits
from proda_lib.datasets.store import StoreWriter
from proda_lib.errors import DataError, RecipeError
from proda_lib.paths import data_root
from proda_lib.training import runs
from proda_lib.training.recipe import make_recipe
from tests.test_store import write_store


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path / "runs"))
    config = world.WorldConfig(features=True)
    for part, count in (("train", 12), ("test", 5)):
        write_store(tmp_path / "data/mine" / part, world.make_videos(config, part, count), world.VOCABULARY)
    return tmp_path / "data/mine"


def test_a_run_reads_it_with_its_features(prepared):
    run = runs.get(make_recipe("smoke", dataset="mine", pretrain_lr=1e-4))
    assert run.name.startswith("mine-proda-") and run.record["videos"] == [{"train": 12, "test": 5}]
    assert run.model().config.visual == 512
    again = runs.evaluate(run)
    assert runs.flatten(again) == runs.flatten(run.metrics)


def prepare_and_train(proda, releases, settings=()):
    """``releases``: split → (annotations, frames). The run, from the commands alone."""
    for part, (annotations, frames) in releases.items():
        folder = data_root() / "mini"
        places = ("--annotations", annotations, "--frames-or-videos", frames, "--out", folder, "--split", part)
        code, out, err = proda("data", "prepare", "charades", *places, "--features", "random-tiny")
        assert code == 0, err
        assert f"{part}: " in out and "features of random-tiny" in out
    code, out, err = proda("train", "--dataset", "mini", "--profile", "smoke", *settings)
    assert code == 0, err
    (run,) = runs.list_runs()
    assert run.record["data"] == data_version("mini") and run.name in out
    assert run.model().config.visual == 16  # the features that were prepared
    return run


def test_official_files_are_prepared_and_trained_on(tmp_path, monkeypatch, proda):
    monkeypatch.setenv("PRODA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path / "runs"))
    releases = {}
    for part, count in (("train", 12), ("test", 3)):
        folder = tmp_path / part
        graphs = [graph.sample_frames(6) for graph in world.make_videos(world.WorldConfig(), part, count)]
        write_action_genome(folder, graphs, part)
        for key in (folder / "annotations" / "frame_list.txt").read_text().split():
            path = folder / "frames" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 27), (int(path.stem) % 256, 90, 160)).save(path)
        releases[part] = folder, folder / "frames"
    run = prepare_and_train(proda, releases)
    assert run.record["videos"] == [{"train": 12, "test": 3}]
    assert run.record["features"]["encoder"] == "random-tiny"
    graph = load_splits("mini", 0, 0)[0].test[0]
    graph.save(tmp_path / "graph.safetensors")
    asked = ("--graph", tmp_path / "graph.safetensors", "--actions", graph.vocabulary.actions[graph.labels[0]])
    for model in (run.name, run.folder, run.folder / "fold0/model"):  # from the commands alone
        code, out, err = proda("predict", "--model", model, *asked, "--out", tmp_path / "report")
        assert code == 0, err
        assert (tmp_path / "report/report.html").is_file()


def test_features_of_two_encoders_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_DATA", str(tmp_path))
    videos = world.make_videos(world.WorldConfig(features=True), "train", 2)
    for part, weights in (("train", "aa"), ("test", "bb")):
        with StoreWriter(tmp_path / "mine" / part, world.VOCABULARY, {"encoder": "clip", "weights": weights}) as writer:
            for graph in videos:
                writer.add(graph)
    with pytest.raises(DataError, match="test/about.json: weights: found bb, expected aa, as in .*train"):
        load_splits("mine", 0, 0)


def test_real_frames_are_prepared_and_trained_on(tmp_path, monkeypatch, proda, shared_data):  # noqa: F811
    mini, charades = shared_data / "action_genome_mini", shared_data / "charades"
    rates = shared_data / "action_genome" / "star_video_fps"
    if not (mini.is_dir() and charades.is_dir() and rates.is_file()):
        pytest.skip(f"Action Genome's frames are not in {shared_data}")
    monkeypatch.setenv("PRODA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path / "runs"))
    (tmp_path / "ag").mkdir()
    for source in (mini / "annotations", charades, rates):
        (tmp_path / "ag" / source.name).symlink_to(source)
    release = tmp_path / "ag", mini / "frames"
    run = prepare_and_train(proda, {"train": release, "test": release})
    assert run.record["videos"] == [{"train": 4, "test": 1}]


def test_its_version_follows_its_content(prepared):
    before = data_version("mine")
    (split,) = load_splits("mine", 1, 1)
    assert [len(split.train), len(split.test)] == [12, 5] and before.startswith("mine-")
    assert isinstance(split.train[0].sample_frames(4).features, np.ndarray)
    write_store(prepared / "train", world.make_videos(world.WorldConfig(features=True), "val", 1), world.VOCABULARY)
    assert data_version("mine") != before


def test_a_name_without_stores_is_an_error(prepared):
    for name in ("other", "mine2"):
        with pytest.raises(DataError, match=f"found '{name}', expected one of world, cad120"):
            load_splits(name, 1, 1)
        with pytest.raises(DataError, match=name):
            data_version(name)
    with pytest.raises(RecipeError, match="dataset"):
        make_recipe("smoke", dataset="../mine")
