import numpy as np
import pytest
import torch

from proda_lib.nn.blocks import FFN, MLP, SelfAttentionBlock, SelfAttentionEncoder, over_nodes
from tests import reference
from tests.graphs import check_gradients, randn, randomize

MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]).bool()


def test_mlp_and_ffn():
    x = randn(3, 5, 8)
    for module, twin in [(MLP(8, 4, 7, 2), reference.mlp), (FFN(8), reference.ffn)]:
        randomize(module)
        np.testing.assert_allclose(module(x).detach(), twin(reference.Weights.of(module), x.numpy()), atol=1e-9)
    assert [type(layer).__name__ for layer in MLP(8, 4, 2)] == ["Linear", "GELU", "Linear"]


def test_ffn_is_four_times_as_wide_inside():
    assert FFN(8).mlp[0].out_features == 32 and SelfAttentionBlock(8, 2).mlp[0].out_features == 32


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_block(heads):
    module, x = randomize(SelfAttentionBlock(8, heads)), randn(4, 5, 8)
    found = module(x, MASK).detach()
    for sequence, mask, result in zip(x, MASK, found, strict=True):
        expected = reference.attention_block(reference.Weights.of(module), sequence.numpy(), mask.numpy(), heads)
        np.testing.assert_allclose(result[mask], expected[mask], atol=1e-9)
    assert found.isfinite().all()  # also where nothing exists


def test_attention_over_the_nodes_of_a_frame():
    """Two videos of 3 and 1 tracks, laid out in any order and with a free place."""
    module, x, place = randomize(SelfAttentionBlock(8, 2)), randn(4, 5, 8), torch.tensor([5, 2, 0, 1])
    found, weights = module(x, MASK, over_nodes(place, videos=2, nodes=3)).detach(), reference.Weights.of(module)
    for tracks in ([1, 2, 3], [0]):
        for frame in range(5):
            there = MASK[tracks, frame].numpy()
            expected = reference.attention_block(weights, x[tracks, frame].numpy(), there, 2)
            np.testing.assert_allclose(found[tracks, frame][there], expected[there], atol=1e-9)


def test_attention_encoder():
    module, x = randomize(SelfAttentionEncoder(8, 2, depth=3)), randn(4, 5, 8)
    found, weights = module(x, MASK).detach(), reference.Weights.of(module)
    for sequence, mask, result in zip(x, MASK, found, strict=True):
        expected = reference.attention_encoder(weights, sequence.numpy(), mask.numpy(), 2, 3)
        np.testing.assert_allclose(result[mask], expected[mask], atol=1e-9)


def test_what_does_not_exist_is_never_attended_to():
    module, x = randomize(SelfAttentionEncoder(8, 2, depth=2)), randn(4, 5, 8)
    changed = torch.where(MASK[..., None], x, 100 * randn(4, 5, 8, seed=1))
    torch.testing.assert_close(module(x, MASK)[MASK], module(changed, MASK)[MASK], atol=1e-12, rtol=0)


def test_attention_gradients():
    module = randomize(SelfAttentionBlock(4, 2))
    assert check_gradients(module, lambda x: module(x, MASK), randn(4, 5, 4))


def test_dropout_only_in_training():
    module, x = randomize(SelfAttentionBlock(8, 2, dropout=0.5)), randn(4, 5, 8)
    assert torch.equal(module(x, MASK), module(x, MASK))
    module.train()
    assert not torch.equal(module(x, MASK), module(x, MASK))
