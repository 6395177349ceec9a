"""Two processes that share every batch end where one process ends; a run moves between numbers of devices."""

import os
import subprocess
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file

from proda_lib import distributed
from proda_lib.batch import collate
from proda_lib.datasets import world
from proda_lib.errors import RecipeError
from proda_lib.training import data, runs
from proda_lib.training.outcome import make_fabric
from proda_lib.training.recipe import make_recipe
from proda_lib.training.stages import MODELS

#: 20 steps of stage 1 in double precision, without dropout, and one epoch of stage 2.
CHANGES = {"train_videos": 22, "test_videos": 5, "batch_videos": 4, "dropout": 0.0, "precision": "64-true",
           "pretrain_lr": 2e-4, "posttrain_lr": 1e-4}  # fmt: skip
SCRIPT = """
import os
from proda_lib.cli import app
from proda_lib.training import loop
stop = int(os.environ.get("STOP_AFTER", 0))
if stop:
    loop.SAVE_EVERY, loop.SAVE_SHARE, loop.LOOK_EVERY, seen, real = 0.0, 1e9, 2, [], loop.learning_rate

    def learning_rate(*given):
        seen.append(1)
        if len(seen) > stop:
            raise SystemExit(3)
        return real(*given)

    loop.learning_rate = learning_rate
app()
"""


def command(folder, changes, *options):
    """``proda train`` of the recipe, and the environment that gives it a run store of its own."""
    (folder / "script.py").write_text(SCRIPT)
    settings = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    return ([str(folder / "script.py"), "train", "--profile", "smoke", *options, *settings],
            {**os.environ, "PRODA_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"})  # fmt: skip


def run(folder, changes, processes=1, **environment):
    """Run the recipe, on several devices by ``torchrun``; the exit code."""
    call, variables = command(folder, changes, "--devices", str(processes))
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    options = {"env": {**variables, **environment}, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run([sys.executable, *start, *call], check=False, **options)


def result(folder, changes, monkeypatch) -> tuple[dict[str, torch.Tensor], runs.Run]:
    monkeypatch.setenv("PRODA_RUNS", str(folder / "runs"))
    found = runs.find(make_recipe("smoke", **changes))
    return load_file(found.folder / "fold0" / "model" / "model.safetensors"), found


def answers(weights: dict[str, torch.Tensor], run: runs.Run) -> torch.Tensor:
    """a_t of the trained model in double precision, on two videos."""
    model = MODELS[run.recipe.model](run.model().config).double().eval()
    model.load_state_dict(weights)
    graphs = [g.sample_frames(16) for g in world.make_videos(world.WorldConfig(), "test", 2)]
    batch = collate(graphs).to("cpu", dtype=torch.float64)
    return model(batch, batch.labels > 0, [0, 1]).a_t.logits if run.recipe.model == "proda" else model(batch).logits


def same(one: tuple, other: tuple) -> None:
    (weights, run), (others, another) = one, other
    assert weights.keys() == others.keys() and all(value.dtype == torch.float64 for value in weights.values())
    torch.testing.assert_close(answers(others, another), answers(weights, run), atol=1e-9, rtol=0)
    for row, matching in zip(run.curves, another.curves, strict=True):
        for name in set(row) - {"stage", "trace", "seconds"}:
            assert matching[name] == pytest.approx(row[name], abs=1e-6 if name.startswith("val_") else 1e-9), name
        for name, values in row["trace"].items():
            np.testing.assert_allclose(matching["trace"][name], values, atol=1e-9)
    for name, value in runs.flatten(run.metrics).items():
        assert runs.flatten(another.metrics)[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("changes", [
    {"questions": "a_m"}, {"norm": "batch", "rec": False}, {"preset": "released"},
    {"model": "no_prompt", "accumulate": 2, "batch_videos": 10}, {"model": "encoder_only"},
], ids=["paper, own questions", "batch norm", "released", "no_prompt, odd parts", "encoder_only"])  # fmt: skip
def test_two_processes_end_where_one_ends(tmp_path, monkeypatch, changes):
    changes = {**CHANGES, **changes}
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        ended = run(folder, changes, processes)
        assert ended.returncode == 0, ended.stderr[-3000:]
        found.append(result(folder, changes, monkeypatch))
    assert found[0][1].record["hardware"]["processes"] == 1 and found[1][1].record["hardware"]["processes"] == 2
    same(*found)


@pytest.mark.parametrize("first, then", [(1, 2), (2, 1)])
def test_a_run_resumes_on_another_number_of_devices(tmp_path, monkeypatch, first, then):
    """Stopped after the first part of the fifth step."""
    changes = {**CHANGES, "batch_videos": 10, "accumulate": 2}
    folders = [tmp_path / name for name in ("whole", "resumed")]
    for folder in folders:
        folder.mkdir()
    assert run(folders[0], changes).returncode == 0
    assert run(folders[1], changes, first, STOP_AFTER="9").returncode != 0
    assert list(folders[1].glob("runs/*/fold0/pretrain.safetensors"))
    ended = run(folders[1], changes, then)
    assert ended.returncode == 0, ended.stderr[-3000:]
    whole, resumed = (result(folder, changes, monkeypatch) for folder in folders)
    assert resumed[1].record["hardware"]["processes"] == then
    torch.testing.assert_close(answers(*resumed), answers(*whole), atol=1e-9, rtol=0)


def test_two_machines_under_slurm_end_where_one_ends(tmp_path, monkeypatch):
    """As ``srun --nodes 2 --ntasks-per-node 1 proda train --num-nodes 2`` starts it; both machines are this one."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    call, variables = command(folders[1], CHANGES, "--num-nodes", "2")
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2",
           "SLURM_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}  # fmt: skip
    tasks = [subprocess.Popen([sys.executable, *call], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env={**variables, **job, "SLURM_PROCID": str(task), "SLURM_NODEID": str(task)})
             for task in range(2)]  # fmt: skip
    assert run(folders[0], CHANGES).returncode == 0
    printed = [task.communicate(timeout=300) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], printed[0][1][-3000:]
    assert "a_t" in printed[0][0] and not printed[1][0].strip()  # the first process speaks for both
    one, two = (result(folder, CHANGES, monkeypatch) for folder in folders)
    assert two[1].record["hardware"]["processes"] == 2
    same(one, two)


@pytest.mark.parametrize("size, parts, N", [(10, 2, 2), (11, 3, 2), (9, 2, 4), (10, 1, 3)])
def test_shares_of_a_part_together_are_the_part_of_one_process(monkeypatch, size, parts, N):
    graphs = world.make_videos(world.WorldConfig(), "train", 30)
    recipe = make_recipe("smoke", batch_videos=size, accumulate=parts)

    def loaded(N, rank):
        monkeypatch.setattr(data, "processes", lambda: N)
        monkeypatch.setattr(data, "rank", lambda: rank)
        return [list(part) for part in data.epoch_loader(graphs, recipe, 0)[0].batch_sampler]

    whole, shares = loaded(1, 0), [loaded(N, rank) for rank in range(N)]
    assert any(len(part) % N for part in whole), "an even split could not go wrong"
    assert [sum(of_ranks, []) for of_ranks in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize("device, devices, asked", [
    ("cpu", 1, ("cpu", 1)), ("cuda", 1, ("cuda", 1)), ("cuda", 4, ("cuda", 4)), ("cuda:1", 1, ("cuda", [1])),
    ("cpu:0", 1, ("cpu", 1)),
])  # fmt: skip
def test_the_device_that_was_asked_for(monkeypatch, device, devices, asked):
    made = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("lightning_fabric.Fabric", lambda **given: made.append(given) or MagicMock())
    make_fabric(make_recipe("smoke"), device, devices)
    assert (made[0]["accelerator"], made[0]["devices"]) == asked


@pytest.mark.parametrize("device, devices", [("cuda:1", 2), ("cuda:one", 1)])
def test_a_device_that_cannot_be_is_refused(device, devices):
    with pytest.raises(RecipeError, match=f"device: found '{device}' for {devices} devices on 1 machines, expected"):
        make_fabric(make_recipe("smoke"), device, devices)


@pytest.mark.parametrize("device, devices, num_nodes, expected", [
    ("cpu", 0, 1, "devices: found 0, expected at least 1"), ("cpu", -1, -1, "devices: found -1, expected at least 1"),
    ("cpu", 1, 0, "num_nodes: found 0, expected at least 1"),
    ("cuda", 3, 1, "device: found 'cuda' with 3 devices a machine, expected at most the 2 CUDA devices of this one"),
    ("cuda:2", 1, 1, "device: found 'cuda:2' with 1 devices a machine, expected at most the 2 CUDA devices"),
])  # fmt: skip
def test_so_many_devices_as_cannot_be_are_refused(tmp_path, monkeypatch, device, devices, num_nodes, expected):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RecipeError, match=expected):
        runs.get(make_recipe("smoke"), device, devices, num_nodes)


@pytest.mark.parametrize("precision, kind", [("32-true", torch.float32), ("64-true", torch.float64)])
def test_what_a_model_gives_back_has_the_precision_of_the_recipe(precision, kind):
    fabric = make_fabric(make_recipe("smoke", precision=precision))
    assert fabric.setup_module(torch.nn.Linear(2, 1))(torch.ones(1, 2)).dtype == kind


def test_waiting_for_another_run_is_said_now_and_then(tmp_path, monkeypatch):
    """The other processes wait for a message, and no message may take half an hour."""
    said, other = [], FileLock(tmp_path / "lock")

    def any_process(flag):
        said.append(flag)
        if len(said) == 3:
            other.release()
        return flag

    monkeypatch.setattr(runs, "LOCK_EVERY", 0.01)
    monkeypatch.setattr(runs, "any_process", any_process)
    other.acquire()
    with runs._locked(tmp_path / "lock"):
        assert said == [False, False, False, True]
        with pytest.raises(Timeout):
            other.acquire(timeout=0)
    other.acquire(timeout=0)


@pytest.mark.parametrize("rank, seen", [(0, True), (1, False)])
def test_the_first_process_decides(monkeypatch, rank, seen):
    """The second process sees a file that the first does not see."""
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed.dist, "all_gather_object", lambda found, mine: found.__setitem__(rank, mine))
    assert distributed.first_decides(True) == seen


@pytest.mark.parametrize("N, items", [(2, 5), (3, 2), (4, 0)])
def test_parts_are_neighbours_and_complete(monkeypatch, N, items):
    sent = []

    def gather(found, mine):
        sent.append(mine)
        found[:] = [[] for _ in found]

    monkeypatch.setattr(distributed, "processes", lambda: N)
    monkeypatch.setattr(distributed.dist, "all_gather_object", gather)
    for rank in range(N):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        distributed.each_its_part(range(items), list)
    assert [i for results in sent for part in results for i in part] == list(range(items))
    assert all(part for results in sent for part in results)  # nobody works on nothing
