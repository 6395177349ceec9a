"""A training step never waits for the device: on "meta", whose tensors hold no values, nobody can look at one."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from proda_lib.datasets.registry import load_splits
from proda_lib.training import data
from proda_lib.training.recipe import make_recipe
from proda_lib.training.stages import MODELS, control_losses, posttrain_losses, pretrain_losses


class OneDevice(TorchDispatchMode):
    """Refuses operators that wait for the device's values, and those that mix its tensors with the host's."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        given = [leaf for leaf in tree_leaves((arguments, named)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.is_meta for tensor in given):
            waiting = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
            assert function.overloadpacket not in waiting, f"{function} waits for the device"
            assert all(tensor.is_meta or not tensor.ndim for tensor in given), f"{function} mixes two devices"
        return function(*arguments, **(named or {}))


@pytest.fixture(scope="module")
def graphs():
    return load_splits("world", 6, 1)[0].train


@pytest.mark.parametrize("name, preset", [*((name, "paper") for name in MODELS), ("proda", "released")])
def test_a_training_step_neither_waits_nor_mixes_devices(graphs, name, preset):
    recipe = make_recipe("smoke", preset, model=name, dropout=0.1)
    model = MODELS[name](recipe.model_config(graphs[0].vocabulary, slots=20)).to("meta").train()
    rows = next(iter(data.epoch_loader(data.trainable(graphs, recipe), recipe, 0)[0]))
    with OneDevice():
        rows = rows.to("meta")
        if name == "proda":
            stages = [pretrain_losses(model, rows, 0.0, recipe=recipe, inner=model),
                      posttrain_losses(model, rows, 0.0, recipe=recipe)]  # fmt: skip
        else:
            stages = [control_losses(model, rows, 0.0)]
        for terms in stages:
            torch.stack(list(terms.values())).sum().backward()
    assert any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("broken, said", [
    (lambda x: x.sum().item(), "waits"), (lambda x: x.nonzero(), "waits"), (lambda x: x + torch.ones(3), "mixes"),
    (lambda x: x.index_select(0, torch.tensor([1])), "mixes"),
], ids=["item", "nonzero", "sum", "index"])  # fmt: skip
def test_what_waits_or_mixes_is_noticed(broken, said):
    with OneDevice(), pytest.raises(AssertionError, match=said):
        broken(torch.ones(3, device="meta"))
