"""On a GPU: the processor's answers, the same weights twice, mixed precision, and the scan."""

import pytest
import torch
from safetensors.torch import load_file

from proda_lib.batch import collate
from proda_lib.datasets import world
from proda_lib.evaluation.scan import scan
from proda_lib.models.proda import ProDA
from proda_lib.training import runs
from proda_lib.training.data import epoch_loader
from proda_lib.training.recipe import make_recipe
from proda_lib.training.stages import MODELS
from tests.graphs import randomize

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
RECIPE = make_recipe("smoke", train_videos=10, test_videos=4, batch_videos=4)


def make(name: str):
    """A network with random weights in evaluation mode, in single precision, and a batch of three videos."""
    graphs = [graph.sample_frames(RECIPE.frames) for graph in world.make_videos(world.WorldConfig(), "test", 3)]
    model = randomize(MODELS[name](RECIPE.model_config(world.VOCABULARY)), scale=0.3).float().eval()
    return model, collate(graphs)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_answers_are_those_of_the_processor(name):
    model, batch = make(name)
    answers = []
    for device in ("cpu", "cuda"):
        model, there = model.to(device), batch.to(device)
        if isinstance(model, ProDA):
            out = model(there, there.labels > 0, [0, 1, 2])
            answers.append(torch.cat([out.a_s.logits, out.a_u.logits, out.a_t.logits, out.a_m.logits], -1).cpu())
        else:
            answers.append(model(there).logits.cpu())
    torch.testing.assert_close(answers[1], answers[0], atol=1e-4, rtol=1e-4)


def test_the_same_run_twice_gives_the_same_weights(tmp_path, monkeypatch):
    found = []
    for folder in ("one", "two"):
        monkeypatch.setenv("PRODA_RUNS", str(tmp_path / folder))
        run = runs.get(RECIPE, "cuda")
        found.append((load_file(run.folder / "fold0" / "model" / "model.safetensors"), run.metrics))
    (one, metrics), (two, others) = found
    assert metrics == others and one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_a_run_in_mixed_precision(tmp_path, monkeypatch, preset):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path))
    changes = {"train_videos": 10, "test_videos": 4, "batch_videos": 4, "precision": "bf16-mixed"}
    run = runs.get(make_recipe("smoke", preset, **changes), "cuda")
    assert 0 < run.metrics["paper"]["both"]["a_t"] <= 100 and run.record["hardware"]["gpu"]
    assert all(torch.tensor(row["a_t"]).isfinite() for row in run.curves)


def test_a_scan_finds_what_the_processor_finds():
    model, batch = make("proda")
    actions = range(model.config.actions)
    expected, found = (scan(model.to(device), batch.to(device), actions) for device in ("cpu", "cuda"))
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-4)


def test_the_loader_gives_pinned_batches():
    graphs = world.make_videos(world.WorldConfig(), "train", 4)
    rows = next(iter(epoch_loader(graphs, RECIPE, 0, pin=True)[0]))
    assert rows.sap.is_pinned() and rows.batch.boxes.is_pinned() and rows.batch.over_frames.place.is_pinned()
