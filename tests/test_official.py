"""Where the official files of Action Genome and Charades are looked for, and what a run's hash says of them."""

import os
import shutil

import numpy as np
import pytest

from proda_lib.datasets import official, registry, world
from proda_lib.datasets.install import check_dataset
from proda_lib.datasets.miniature import write_action_genome
from proda_lib.datasets.official import CHARADES_CLASSES, CHARADES_CSVS, Files
from proda_lib.errors import DataError
from proda_lib.training import runs
from proda_lib.training.recipe import make_recipe

CHARADES = (*CHARADES_CSVS, CHARADES_CLASSES)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with the official files of two training videos, and a test csv, all in ``action_genome/``."""
    root, videos = tmp_path / "data", world.make_videos(world.WorldConfig(), "train", 2)
    monkeypatch.setenv("PRODA_DATA", str(root))
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path / "runs"))
    write_action_genome(root / "action_genome", [graph.take_frames(np.array([1, 3])) for graph in videos])
    rows = (root / "action_genome" / CHARADES_CSVS[0]).read_text().splitlines()
    (root / "action_genome" / CHARADES_CSVS[1]).write_text(f"{rows[0]}\nOTHER,{rows[1].partition(',')[2]}\n")
    return root


def move_charades(root, to):
    to.mkdir()
    for name in CHARADES:
        shutil.move(root / "action_genome" / name, to / name)


@pytest.mark.parametrize("place", ["action_genome", "charades", "action_genome/charades"])
def test_all_readers_find_charades_in_each_place(root, place):
    before = registry.data_version("action_genome")
    if place != "action_genome":
        move_charades(root, root / place)
    (split,) = registry.load_splits("action_genome", 1, 1)
    assert (len(split.train), len(split.test)) == (2, 0)
    assert registry.data_version("action_genome") == before  # of what the files say, not of where they are
    assert check_dataset("action_genome", root).errors == []
    assert len(Files.find(root / "action_genome", ("train",)).read("train")) == 2


def test_charades_beside_comes_first_and_a_link_is_not_followed_for_it(root, tmp_path):
    shutil.copytree(root / "action_genome", tmp_path / "elsewhere/ag")
    shutil.rmtree(root / "action_genome")
    (root / "action_genome").symlink_to(tmp_path / "elsewhere/ag")
    (root / "charades").mkdir()
    for name in CHARADES:
        shutil.copy(tmp_path / "elsewhere/ag" / name, root / "charades" / name)
    files = Files.find(root / "action_genome")
    assert {path.parent for path in (*files.csvs.values(), files.classes)} == {root / "charades"}


@pytest.mark.parametrize("name", [path.name for path in Files.at(".").paths()])
def test_the_version_follows_every_file(root, name):
    (path,) = (path for path in Files.find(root / "action_genome").paths() if path.name == name)
    before = registry.data_version("action_genome")
    assert before.startswith("action_genome-") and len(before) == len("action_genome-") + 12
    state = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the size stays
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert registry.data_version("action_genome") != before
    path.unlink()
    with pytest.raises(DataError, match=f"{name}: found no such file, expected the official file in one of"):
        registry.data_version("action_genome")


def test_a_file_is_hashed_once(root, monkeypatch):
    before = registry.data_version("action_genome")

    def refuse(path):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(official, "sha256", refuse)
    assert registry.data_version("action_genome") == before
    os.utime(root / "action_genome/star_video_fps", ns=(0, 0))
    with pytest.raises(AssertionError, match="star_video_fps is read again"):
        registry.data_version("action_genome")


def test_edited_annotations_make_another_run(root):
    recipe = make_recipe("smoke", dataset="action_genome")
    before = runs.run_name(recipe)
    with open(root / "action_genome" / CHARADES_CSVS[0], "a") as file:
        file.write("\n")
    assert runs.run_name(recipe) != before


def test_not_installed_is_the_same_error_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_DATA", str(tmp_path))
    recipe, messages = make_recipe("smoke", dataset="action_genome"), set()
    for ask in (lambda: registry.data_version("action_genome"), lambda: runs.find(recipe), lambda: runs.get(recipe),
                lambda: registry.load_splits("action_genome", 1, 1)):  # fmt: skip
        with pytest.raises(DataError) as caught:
            ask()
        messages.add(str(caught.value))
    (message,) = messages
    assert str(tmp_path / "action_genome") in message and "data/README.md" in message
    assert "proda data add" not in message  # which takes archives only
