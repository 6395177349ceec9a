import numpy as np
import pytest
import torch

from proda_lib.nn.fusion import Fusion, Reconstruction
from tests import reference
from tests.graphs import check_gradients, randn, randomize

HIDDEN = pytest.mark.parametrize("hidden", [False, True])


@HIDDEN
def test_fusion(hidden):
    module, u, s = randomize(Fusion(8, hidden)), randn(6, 5, 8), randn(6, 5, 8, seed=1)
    fused, delta = module(u, s)
    expected, weight = reference.fusion(reference.Weights.of(module), u.numpy(), s.numpy())
    np.testing.assert_allclose(fused.detach(), expected, atol=1e-9)
    np.testing.assert_allclose(delta.detach(), weight, atol=1e-9)
    assert delta.shape == (6, 5)


def test_released_fusion_has_three_layers():
    layers = [layer for layer in Fusion(8, hidden=True).delta if isinstance(layer, torch.nn.Linear)]
    sizes = [(layer.in_features, layer.out_features) for layer in layers]
    assert sizes == [(16, 8), (8, 4), (4, 1)]


@HIDDEN
def test_delta_one_keeps_the_unspecified_graph(hidden):
    module, u, s = randomize(Fusion(8, hidden)), randn(6, 5, 8), randn(6, 5, 8, seed=1)
    last = module.delta[-1] if hidden else module.delta
    for bias, kept in [(1e3, u), (-1e3, s)]:
        torch.nn.init.constant_(last.bias, bias)
        torch.testing.assert_close(module(u, s)[0], kept)


def test_reconstruction_is_a_mlp_of_three_layers():
    module, x = randomize(Reconstruction(8)), randn(6, 5, 8)
    assert sum(isinstance(layer, torch.nn.Linear) for layer in module) == 3
    np.testing.assert_allclose(module(x).detach(), reference.mlp(reference.Weights.of(module), x.numpy()), atol=1e-9)


@HIDDEN
def test_gradients(hidden):
    module = randomize(Fusion(4, hidden))
    assert check_gradients(module, module, randn(3, 2, 4), randn(3, 2, 4, seed=1))
