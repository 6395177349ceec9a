"""Two processes that share every batch end where one process ends; a run moves between numbers of devices."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from proda_lib import distributed
from proda_lib.batch import collate
from proda_lib.datasets import world
from proda_lib.training import runs
from proda_lib.training.recipe import make_recipe
from proda_lib.training.stages import MODELS

#: 20 steps of stage 1 in double precision, without dropout, and one epoch of stage 2.
CHANGES = {"train_videos": 22, "test_videos": 5, "batch_videos": 4, "dropout": 0.0, "precision": "64-true",
           "pretrain_lr": 2e-4, "posttrain_lr": 1e-4}  # fmt: skip
SCRIPT = """
import os
import torch
torch.set_default_dtype(torch.float64)  # else Fabric turns what the model gives back into single precision
from proda_lib.cli import app
from proda_lib.training import loop
stop = int(os.environ.get("STOP_AFTER", 0))
if stop:
    loop.SAVE_EVERY, seen, real = 0.0, [], loop.learning_rate

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
    return model(batch).logits if run.recipe.model == "no_prompt" else model(batch, batch.labels > 0, [0, 1]).a_t.logits


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
    {"model": "no_prompt", "accumulate": 2, "batch_videos": 8},
], ids=["paper, own questions", "batch norm", "released", "no_prompt"])  # fmt: skip
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


def test_a_run_resumes_on_more_devices(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("whole", "resumed")]
    for folder in folders:
        folder.mkdir()
    assert run(folders[0], CHANGES).returncode == 0
    assert run(folders[1], CHANGES, STOP_AFTER="7").returncode == 3
    assert list(folders[1].glob("runs/*/fold0/pretrain.safetensors"))
    ended = run(folders[1], CHANGES, 2)
    assert ended.returncode == 0, ended.stderr[-3000:]
    whole, resumed = (result(folder, CHANGES, monkeypatch) for folder in folders)
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
