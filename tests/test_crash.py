"""Kills, full disks and rivals cost no result. Kills during training: ``test_training.py``, and the record of
``workflow/reliability.py``."""

import os
import signal
from pathlib import Path

import pytest
import torch

from proda_lib.datasets.store import GraphStore
from proda_lib.features.clip import ClipEncoder
from proda_lib.training import runs
from proda_lib.training.checkpoint import read_checkpoint, save_checkpoint
from stress import crashes, crowding
from stress.children import REFUSED


def rewrite(folder: Path) -> None:
    """A checkpoint that is replaced again and again; its number counts on from where it stood."""
    path = folder / "a.safetensors"
    model = torch.nn.Linear(100, 100)
    state = {"recipe": "x", "epoch": 0, "step": 0, "curves": [], "best_score": 0.0, "sums": {},
             "looked": [0, {}], "trace": {}, "seconds": 0.5}  # fmt: skip
    step = read_checkpoint(path, "x")[0]["step"] if path.exists() else 0
    while step < 60:
        step += 1
        save_checkpoint(path, {**state, "step": step}, model, torch.optim.AdamW(model.parameters()), None)


REWRITING = crashes.Work("checkpoint", rewrite, lambda folder: read_checkpoint(folder / "a.safetensors", "x")[0],
                         "*.safetensors")  # fmt: skip
OTHERS = [work for work in crashes.WORKS if work.name != "training"]


@pytest.mark.parametrize("work", [REWRITING, *OTHERS], ids=lambda work: work.name)
def test_killed_at_random_moments(work):
    found = crashes.kill_at_random(work, 3, seed=0)
    assert found.killed == 3
    assert (found.lost, found.broken) == (0, 0), found.messages
    if work is not REWRITING:  # a partial checkpoint stays until its run is finished, which this work never is
        assert not found.left_over, found.messages


@pytest.mark.parametrize("work", OTHERS[1:], ids=lambda work: work.name)
def test_kills_of_an_extraction_fall_between_its_shards(work, tmp_path, monkeypatch):
    """What is killed has made some of its shards, and the second try does not make them again."""
    work.prepare()
    ready, encoded, real = tmp_path / "ready", tmp_path / "encoded", ClipEncoder.encode
    partial, begun = tmp_path / "out" / "train.partial", tmp_path / "few" if work is OTHERS[-1] else tmp_path

    def encode(encoder, pictures):
        if begun.exists() and not ready.exists() and len(list(partial.glob("*.arrow"))) >= 3:
            ready.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with open(encoded, "a") as file:
            file.write("x")
        return real(encoder, pictures)

    monkeypatch.setattr(ClipEncoder, "encode", encode)
    assert crashes.finish(crashes.start(lambda: work.do(tmp_path))) == -signal.SIGKILL
    before = encoded.stat().st_size
    assert crashes.finish(crashes.start(lambda: work.do(tmp_path))) == 0
    assert encoded.stat().st_size - before <= 5  # of six groups
    assert len(GraphStore(tmp_path / "out" / "train")) == 12


def test_a_lost_result_would_be_seen():
    def forgetful(folder: Path) -> None:
        first = not (folder / "begun").exists()
        (folder / "begun").touch()
        crashes.time.sleep(0.5)
        (folder / "result").write_text(str(first))

    work = crashes.Work("forgetful", forgetful, lambda folder: (folder / "result").read_text())
    found = crashes.kill_at_random(work, 4, seed=1)
    assert found.killed == 4 and found.lost  # not all: a slow machine may be killed before it has begun


@pytest.mark.parametrize("writing", crowding.WRITINGS, ids=lambda writing: writing.name)
def test_a_full_disk_costs_nothing_that_was_there(writing, tmp_path):
    ending, intact = crowding.fill_up(writing, tmp_path)
    assert ending.outcome == REFUSED, ending
    assert "room on its disk" in ending.message and intact


def test_a_disk_that_is_really_full():
    with crowding.small_disk() as folder:
        if folder is None:
            pytest.skip("cannot mount a small file system here")
        ending, intact = crowding.fill_up(crowding.WRITINGS[0], folder, limit_files=False)
    assert ending.outcome == REFUSED and "No space left" in ending.message and intact


def test_a_finished_run_keeps_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path))
    recipe = crashes.smoke_recipe("prompt_only", train_videos=2, test_videos=1)
    left = tmp_path / runs.run_name(recipe) / "fold0" / "pretrain.safetensors.partial1"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert runs.get(recipe).folder == left.parents[1] and not left.exists()


def test_two_processes_make_a_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path))
    assert crowding.two_of_one_run(tmp_path, crowding.made_up) == {"exit codes": [0, 0], "made": 1}


def test_a_second_writer_of_a_store_is_told(tmp_path):
    ending = crowding.two_writers(tmp_path)
    assert ending.outcome == REFUSED and "another process that writes" in ending.message
