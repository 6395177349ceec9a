"""A prepared data set (two packed stores under the data root) is a data set like any other."""

import numpy as np
import pytest

from proda_lib.datasets import world
from proda_lib.datasets.registry import data_version, load_splits
from proda_lib.errors import DataError, RecipeError
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
