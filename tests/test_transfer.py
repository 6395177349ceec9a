"""Starting from a model of another vocabulary: all that can be taken over is, the rest stays as it was."""

import dataclasses

import pytest
import torch

from proda_lib.errors import RecipeError
from proda_lib.models.config import ModelConfig
from proda_lib.models.controls import NoPrompt
from proda_lib.models.proda import ProDA
from proda_lib.models.shipped import shipped_model
from proda_lib.models.transfer import start_from, vocabulary_tensors
from proda_lib.training import runs
from proda_lib.training.data import first_share
from proda_lib.training.recipe import make_recipe
from tests.graphs import make_graph

SMALL = ModelConfig(actions=5, objects=4, relations=3, frames=4, width=8, heads=2, layers=1, depth=1, candidates=2)


def test_everything_is_copied_but_what_depends_on_the_vocabulary():
    source, model = ProDA(SMALL), ProDA(dataclasses.replace(SMALL, actions=5, objects=9, relations=2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = start_from(model, source)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name] if name in fresh else source.state_dict()[name], rtol=0, atol=0)
    # As many actions in both, and still other actions: their tensors have equal shapes and are not copied.
    same_shape = [name for name in fresh if source.state_dict()[name].shape == before[name].shape]
    assert {name.split(".")[0] for name in same_shape} >= {
        "prompts",
        "readout_s",
        "readout_t",
        "readout_m",
        "readout_u",
    }
    assert all(name.endswith(("weight", "bias")) for name in same_shape)
    assert len(fresh) < len(before) / 3


@pytest.mark.parametrize("change", [{"width": 16}, {"layers": 2}, {"frames": 8}, {"message_norm": True}])
def test_another_size_or_option_is_refused(change):
    with pytest.raises(RecipeError, match="start_from: "):
        start_from(ProDA(dataclasses.replace(SMALL, **change)), ProDA(SMALL))


def test_another_class_is_refused():
    with pytest.raises(RecipeError, match="found a NoPrompt"):
        start_from(ProDA(SMALL), NoPrompt(SMALL))


def test_the_tensors_that_depend_on_the_vocabulary_are_found_by_shape():
    names = vocabulary_tensors(ProDA(SMALL))
    sizes = {SMALL.actions, SMALL.actions + 1, SMALL.objects, SMALL.relations, SMALL.actions * SMALL.width}
    for name in names:
        assert set(ProDA(SMALL).state_dict()[name].shape) & sizes, name


def test_a_smaller_share_is_inside_a_larger_one():
    graphs = [make_graph(i) for i in range(40)]
    chosen = [{g.video for g in first_share(graphs, share, seed=3)} for share in (0.01, 0.05, 0.25, 1.0)]
    assert [len(c) for c in chosen] == [1, 2, 10, 40]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]
    assert {g.video for g in first_share(graphs, 0.25, seed=4)} != chosen[2]


@pytest.mark.parametrize(
    "settings", [{"start": "cad120"}, {"start": "world", "model": "no_prompt"}, {"train_share": 0.0}]
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(RecipeError, match=next(iter(settings))):
        make_recipe("smoke", **settings)


def test_a_run_starts_from_the_shipped_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("PRODA_RUNS", str(tmp_path))
    shipped = ProDA.from_pretrained(shipped_model())
    sizes = {
        name: getattr(shipped.config, name) for name in ("width", "heads", "layers", "depth", "candidates", "frames")
    }
    still = {"pretrain_lr": 0.0, "posttrain_lr": 0.0}  # so that a run ends where it began
    recipe = make_recipe("smoke", start="world", train_share=0.3, **sizes, **still)
    run = runs.get(recipe)
    assert run.name != runs.run_name(dataclasses.replace(recipe, start=""))
    fresh, found = vocabulary_tensors(shipped), run.model().state_dict()
    for name, tensor in shipped.state_dict().items():
        if name not in fresh and "running" not in name:  # statistics move without a learning rate
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)
