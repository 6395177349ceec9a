import numpy as np
import torch

from proda_lib.nn.prompt import DynamicPrompt, SimplePrompt
from tests import reference
from tests.graphs import C, check_gradients, dense_masks, randn, random_rows, randomize, unpack

SPECIFICATIONS = (torch.rand(4, C, generator=torch.Generator().manual_seed(3)) < 0.5).double()


def test_dynamic_prompt_and_its_weights():
    """Eq. (1)-(2), with rows that share a video but not a specification."""
    _, _, rows = random_rows((0, 1, 2, 1))
    module, nodes = randomize(DynamicPrompt(C, 8, candidates=3)), randn(len(rows.node), 8)
    weights, given = reference.Weights.of(module), module.candidates(SPECIFICATIONS)
    found, alpha = module(nodes, given, rows), module.weights(nodes, given, rows).detach()
    assert alpha.shape == (len(rows.node), 3) and given.q.shape == (4, 3, 8)
    for node, graph in enumerate(rows.graph):
        v = SPECIFICATIONS[graph].numpy()
        expected = reference.dynamic_prompt(weights, nodes[node, None, None].numpy(), v)[0, 0]
        np.testing.assert_allclose(found[node].detach(), expected, atol=1e-9)
        expected = reference.dynamic_prompt_weights(weights, nodes[node].numpy(), v)
        np.testing.assert_allclose(alpha[node], expected, atol=1e-9)


def test_weights_are_independent_sigmoids():
    """Sigmoid, not softmax: a candidate's weight does not depend on the others."""
    _, _, rows = random_rows()
    module, nodes = randomize(DynamicPrompt(C, 8, candidates=3)), randn(len(rows.node), 8)
    given = module.candidates(SPECIFICATIONS)
    before = module.weights(nodes, given, rows)
    with torch.no_grad():
        module.ww.bias[0] += 1
    after = module.weights(nodes, given, rows)
    torch.testing.assert_close(after[..., 1:], before[..., 1:])
    torch.testing.assert_close(after[..., 0].logit(), before[..., 0].logit() + 1)


def test_simple_prompt():
    _, _, rows = random_rows()
    module, nodes = randomize(SimplePrompt(C, 8)), randn(len(rows.node), 8)
    found = unpack(module(nodes, module.candidates(SPECIFICATIONS), rows), rows, 5)
    masks = dense_masks(rows, 5)
    for graph, dense in enumerate(unpack(nodes, rows, 5)):
        expected = reference.simple_prompt(reference.Weights.of(module), dense, SPECIFICATIONS[graph].numpy())
        np.testing.assert_allclose(found[graph][masks[graph]], expected[masks[graph]], atol=1e-9)


def test_an_empty_specification_changes_nothing():
    _, _, rows = random_rows()
    nodes = randn(len(rows.node), 8)
    for module in (randomize(DynamicPrompt(C, 8, 3)), randomize(SimplePrompt(C, 8))):
        assert torch.equal(module(nodes, module.candidates(torch.zeros(4, C).double()), rows), nodes)


def test_gradients():
    _, _, rows = random_rows()
    for module in (randomize(DynamicPrompt(C, 4, 3)), randomize(SimplePrompt(C, 4))):

        def prompt(nodes, v, module=module):
            return module(nodes, module.candidates(v), rows)

        assert check_gradients(module, prompt, randn(len(rows.node), 4), SPECIFICATIONS)
