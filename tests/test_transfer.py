"""Starting from a model of another vocabulary: all that can be taken over is, the rest stays as it was."""

import dataclasses

import pytest
import torch

from proda_lib.errors import RecipeError
from proda_lib.evaluation import grid
from proda_lib.evaluation.tables import SHARES, STARTS
from proda_lib.models.config import ModelConfig
from proda_lib.models.controls import NoPrompt
from proda_lib.models.proda import ProDA
from proda_lib.models.shipped import shipped_model
from proda_lib.models.transfer import start_from, vocabulary_tensors
from proda_lib.pages import transfer as page
from proda_lib.training import runs
from proda_lib.training.data import first_share, split_validation
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


@pytest.mark.parametrize("select, sizes", [("validation", (1, 16)), ("test", (1, 18))])
def test_the_page_says_how_many_videos_a_share_is(select, sizes):
    """As many as training gets of folds with 71 and 64 videos, and each version of the data once."""

    def run(start: str, share: float) -> runs.Run:
        recipe = make_recipe("smoke", dataset="cad120", start=start, train_share=share, select=select)
        data = "cad120-1" + ", start 2" * bool(start)
        record = {"name": "a", "recipe": dataclasses.asdict(recipe), "data": data, "metrics": {}, "curves": [],
                  "videos": [{"train": 71, "test": 9}, {"train": 64, "test": 16}]}  # fmt: skip
        return runs.Run(record, None)

    graphs = [make_graph(i) for i in range(71)]
    kept = split_validation(graphs, 0)[0] if select == "validation" else graphs
    assert (len(first_share(kept, 0.01, 0)), len(first_share(kept, 0.25, 0))) == sizes
    found = grid.Recorded({f"{name}, {share:.0%}": [run(start, share)] for share in SHARES[:3]
                           for name, start in zip(STARTS, ("world", ""), strict=True)})  # fmt: skip
    table = page.transfer_table(found)
    smaller = 14 if select == "validation" else 16
    heads = list(table.frame.index)
    assert [heads[0], *heads[2:]] == ["1% (1 of a fold)", f"25% ({smaller}–{sizes[1]} of a fold)", "100%"]
    assert "data version cad120-1, start 2; profile" in table.note


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
    still = {"pretrain_lr": 1e-30, "posttrain_lr": 1e-30}  # so that a run ends where it began
    recipe = make_recipe("smoke", start="world", train_share=0.3, **sizes, **still)
    run = runs.get(recipe)
    assert run.name != runs.run_name(dataclasses.replace(recipe, start=""))
    fresh, found = vocabulary_tensors(shipped), run.model().state_dict()
    for name, tensor in shipped.state_dict().items():
        if name not in fresh and "running" not in name:  # statistics move without a learning rate
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-25, msg=name)
