import numpy as np
import pytest
import torch
from torch import nn

from proda_lib.batch import collate
from proda_lib.errors import ProdaError, RecipeError
from proda_lib.nn.norm import FrameBatchNorm, GraphNorm, LayerNorm, VGNorm, make_norm
from tests import reference
from tests.graphs import (
    check_gradients,
    dense_masks,
    make_full,
    make_graph,
    make_graphs,
    randn,
    random_rows,
    randomize,
    unpack,
    without_nodes,
)

NAMES = pytest.mark.parametrize("name", sorted(reference.NORMS))
SLOTS, FRAMES, D = 6, 7, 4  # more slots and frames than any video has


def full_rows():
    """Three graphs of 4 slots and 5 frames, everything there: tokens (60, D) are (3, 4, 5, D)."""
    return collate([make_full(5, 4)]).rows((0, 0, 0))


@NAMES
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_equation(name, training):
    rows = collate([without_nodes(graph, 3) for graph in make_graphs()]).rows((0, 1, 2, 1))
    module = randomize(make_norm(name, FRAMES, D, SLOTS)).train(training)
    x, weights = randn(len(rows.node), D) + 0.7, reference.Weights.of(module)
    masks = dense_masks(rows, SLOTS)
    expected, running = reference.NORMS[name](weights, unpack(x, rows, SLOTS), masks, training)
    found = module(x, rows)
    for dense, wanted in zip(unpack(found, rows, SLOTS), expected, strict=True):
        np.testing.assert_allclose(dense, wanted, atol=1e-9)
    for buffer, values in running.items():
        np.testing.assert_allclose(getattr(module, buffer), values, atol=1e-12, err_msg=buffer)
        changed = (values != weights[buffer]).any(0) if values.ndim == 2 else values != weights[buffer]
        seen = [True, True, True, name == "vgnorm_released", True, False, False]  # the others keep their statistics
        assert changed.tolist() == [training and frame for frame in seen]


@pytest.mark.parametrize("name", [*sorted(reference.NORMS), "batch training", "vgnorm_released training"])
def test_gradients(name):
    """Training too, where the statistics of the batch carry gradient; VGNorm's do not, see below."""
    _, _, rows = random_rows((0, 1, 2))
    module = randomize(make_norm(name.split()[0], FRAMES, D, SLOTS)).train("training" in name)
    assert check_gradients(module, lambda x: module(x, rows), randn(len(rows.node), D))


def test_vgnorm_starts_with_the_paper_values():
    module = VGNorm(16, 768)
    assert module.momentum == 0.9 and not module.running_mean.any()
    assert (module.alpha == 1).all() and (module.beta == 0).all() and (module.gamma == 1).all()
    assert {p.shape for p in module.parameters()} == {(16,)}


def test_vgnorm_detaches_the_running_mean():
    """In training the updated running mean normalises, as a constant: gradients are those of evaluation after it."""
    _, _, rows = random_rows()
    module = randomize(VGNorm(FRAMES, D)).train()
    x = randn(len(rows.node), D).requires_grad_()
    results = []
    for training in (True, False):
        y = module.train(training)(x, rows)
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_vgnorm_result_has_unit_spread():
    rows = full_rows()
    module = VGNorm(5, D).double().train()
    y = module(3 * randn(len(rows.node), D) + 2, rows).view(3, 4, 5, D)
    torch.testing.assert_close(y.square().sum((1, 3)), torch.full((3, 5), 4.0 * D - 1).double())


def test_released_mean_carries_gradient_and_paper_mean_does_not():
    """Adding a constant to every feature leaves released training results alone, and so has no gradient there."""
    rows = full_rows()
    for name, invariant in [("vgnorm_released", True), ("vgnorm", False)]:
        module = make_norm(name, 5, D, slots=4).double().train()
        shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (module(randn(len(rows.node), D) + shift, rows) * randn(len(rows.node), D, seed=1)).sum().backward()
        assert (abs(shift.grad.item()) < 1e-9) == invariant


def test_released_refuses_more_nodes_than_slots():
    """Its divisors count slots: with more nodes than that, variances would be wrong or negative."""
    rows = collate([make_graph(slots=5, edges=9)]).rows([0])
    with pytest.raises(ProdaError, match="slots"):
        make_norm("vgnorm_released", FRAMES, D, slots=3)(torch.randn(len(rows.node), D), rows)


def test_batch_norm_is_batchnorm1d_where_everything_is_there():
    rows, x = full_rows(), randn(60, D) + 0.3
    ours, theirs = randomize(FrameBatchNorm(5, D)), nn.BatchNorm1d(5).double()
    state = ours.state_dict()
    theirs.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        torch.testing.assert_close(ours(x, rows), theirs(x.view(12, 5, D)).flatten(0, 1), atol=1e-12, rtol=0)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_layer_norm_is_layernorm_where_everything_is_there():
    rows, x = full_rows(), randn(60, D)
    module = randomize(LayerNorm(5, D))
    expected = nn.functional.layer_norm(x, (D,), module.weight, module.bias)
    torch.testing.assert_close(module(x, rows), expected)


def test_graph_norm_with_alpha_one_is_instance_norm_over_nodes():
    rows, x = full_rows(), randn(60, D)
    found = GraphNorm(5, D).double()(x, rows)
    nodes = x.view(3, 20, D).transpose(1, 2)
    torch.testing.assert_close(found.view(3, 20, D).transpose(1, 2), nn.functional.instance_norm(nodes))


@pytest.mark.parametrize("name", sorted(reference.NORMS.keys() - {"layer"}))
def test_statistics_of_bfloat16_features_are_taken_in_single_precision(name):
    """Under autocast, features come in bfloat16: results are those of the same values in float32, bit for bit."""
    _, _, rows = random_rows((0, 1, 2, 1))
    x = (randn(len(rows.node), D) + 0.7).bfloat16()
    results = []
    for given in (x, x.float()):
        module = make_norm(name, FRAMES, D, SLOTS).train()
        with torch.autocast("cpu", torch.bfloat16):
            results.append((module(given, rows), dict(module.named_buffers())))
    (found, buffers), (expected, wanted) = results
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert all(torch.equal(buffers[buffer], value) for buffer, value in wanted.items())


@NAMES
def test_two_passes_may_come_before_one_backward(name):
    _, _, rows = random_rows()
    module = randomize(make_norm(name, FRAMES, D, SLOTS)).train()
    x = randn(len(rows.node), D).requires_grad_()
    (module(x, rows) + module(2 * x, rows)).square().sum().backward()
    assert x.grad.isfinite().all() and all(p.grad.isfinite().all() for p in module.parameters())


@NAMES
def test_gradients_stay_finite_where_all_features_are_equal(name):
    _, _, rows = random_rows()
    module = make_norm(name, FRAMES, D, SLOTS)
    x = torch.zeros(len(rows.node), D, requires_grad=True)
    module(x, rows).sum().backward()
    assert x.grad.isfinite().all()


def test_an_unknown_norm_is_refused():
    with pytest.raises(RecipeError, match="'vgnom'.*vgnorm_released"):
        make_norm("vgnom", 16, 8, 10)
