import numpy as np
import pytest
import torch

from proda_lib.batch import Sequences
from proda_lib.nn.blocks import FFN, MLP, SelfAttentionBlock, SelfAttentionEncoder
from tests import reference
from tests.graphs import check_gradients, randn, randomize

MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]).bool()
SEQUENCES = Sequences.of(MASK.flatten().nonzero()[:, 0], *MASK.shape)
TOKENS = int(MASK.sum())


def check(found: torch.Tensor, x: torch.Tensor, sequences: Sequences, twin) -> None:
    """``twin(sequence, mask)`` of each sequence is what was found for its tokens."""
    laid, results = sequences.spread(x).numpy(), sequences.spread(found.detach()).numpy()
    for sequence, mask, result in zip(laid, sequences.mask.numpy(), results, strict=True):
        np.testing.assert_allclose(result[mask], twin(sequence, mask)[mask], atol=1e-9)
    assert found.shape == x.shape


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
    module, x = randomize(SelfAttentionBlock(8, heads)), randn(TOKENS, 8)
    weights = reference.Weights.of(module)
    check(module(x, SEQUENCES), x, SEQUENCES, lambda x, mask: reference.attention_block(weights, x, mask, heads))


def test_attention_encoder():
    module, x = randomize(SelfAttentionEncoder(8, 2, depth=3)), randn(TOKENS, 8)
    weights = reference.Weights.of(module)
    check(module(x, SEQUENCES), x, SEQUENCES, lambda x, mask: reference.attention_encoder(weights, x, mask, 2, 3))


def test_tokens_of_a_sequence_may_stand_anywhere():
    """Two sequences of 4 and 3 tokens, mixed and with free places."""
    module, x = randomize(SelfAttentionBlock(8, 2)), randn(7, 8)
    found = module(x, Sequences.of(torch.tensor([9, 2, 5, 0, 7, 3, 1]), 2, 5)).detach()
    for tokens in ([1, 3, 5, 6], [0, 2, 4]):
        exists = np.ones(len(tokens), dtype=bool)
        expected = reference.attention_block(reference.Weights.of(module), x[tokens].numpy(), exists, 2)
        np.testing.assert_allclose(found[tokens], expected, atol=1e-9)


def test_free_places_change_nothing():
    module, x = randomize(SelfAttentionEncoder(8, 2, depth=2)), randn(TOKENS, 8)
    sequence, position = SEQUENCES.place // 5, SEQUENCES.place % 5
    roomy = Sequences.of((2 * sequence + 1) * 9 + 8 - position, 9, 9)
    torch.testing.assert_close(module(x, roomy), module(x, SEQUENCES), atol=1e-12, rtol=0)


def test_attention_over_no_tokens():
    module = randomize(SelfAttentionEncoder(8, 2, depth=1))
    for shape in ((3, 5), (0, 5)):
        assert module(randn(0, 8), Sequences.of(torch.zeros(0, dtype=torch.long), *shape)).shape == (0, 8)


def test_attention_gradients():
    module = randomize(SelfAttentionBlock(4, 2))
    assert check_gradients(module, lambda x: module(x, SEQUENCES), randn(TOKENS, 4))


def test_dropout_only_in_training():
    module, x = randomize(SelfAttentionBlock(8, 2, dropout=0.5)), randn(TOKENS, 8)
    assert torch.equal(module(x, SEQUENCES), module(x, SEQUENCES))
    module.train()
    assert not torch.equal(module(x, SEQUENCES), module(x, SEQUENCES))
