import numpy as np
import pytest
import torch

from proda_lib.errors import GraphError
from proda_lib.losses import (
    classification_loss,
    correlation,
    disentanglement_loss,
    disentanglement_loss_released,
    graph_supervision_loss,
    reconstruction_error,
    reconstruction_loss,
)
from tests import reference
from tests.graphs import dense_masks, randn, random_rows, unpack

SLOTS = 6
_, BATCH, ROWS = random_rows((0, 1, 2, 1))
P = len(ROWS.node)
U = randn(P, 4)
S = 0.3 * U + randn(P, 4, seed=1) + 0.2  # correlated, and not centred
MASKS = dense_masks(ROWS, SLOTS)


def dense(x):
    return unpack(x, ROWS, SLOTS)


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.3, 1.0])
def test_disentanglement(margin):
    """Eq. (5); the margin 0.3 lies between the samples' correlations."""
    expected = reference.disentanglement_loss(dense(U), dense(S), MASKS, margin)
    assert disentanglement_loss(U, S, ROWS, margin).item() == pytest.approx(expected, abs=1e-9)
    assert disentanglement_loss(U, -S, ROWS, margin).item() == pytest.approx(expected, abs=1e-9)


def test_disentanglement_of_a_copy_and_of_a_constant():
    assert disentanglement_loss(U, 3 - 2 * U, ROWS, 0.2).item() == pytest.approx(0.8, abs=1e-9)
    constant = torch.ones_like(U).requires_grad_()
    loss = disentanglement_loss(constant, S, ROWS, 0.0)
    loss.backward()
    assert loss.item() == 0 and constant.grad.isfinite().all()


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_disentanglement_released(margin):
    expected = reference.disentanglement_loss_released(dense(U), dense(S), MASKS, margin)
    assert expected > 0
    found = disentanglement_loss_released(U, S, ROWS, margin, SLOTS)
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_disentanglement_released_refuses_more_nodes_than_slots():
    with pytest.raises(GraphError, match="slots: found 4, expected at most 3"):
        disentanglement_loss_released(U, S, ROWS, 0.2, 3)


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5, 50.0])
def test_reconstruction(margin, per_sample):
    """Eq. (7); the margin 1.5 lies between the samples' errors."""
    expected = reference.reconstruction_loss(dense(U), dense(S), MASKS, margin, per_sample)
    assert reconstruction_loss(U, S, ROWS, margin, per_sample).item() == pytest.approx(expected, abs=1e-9)


def test_correlation_and_error_of_each_sample():
    samples = list(zip(dense(U), dense(S), MASKS, strict=True))
    correlations = [np.corrcoef(u[m].ravel(), s[m].ravel())[0, 1] for u, s, m in samples]
    errors = [((u - s)[m] ** 2).mean() for u, s, m in samples]
    np.testing.assert_allclose(correlation(U, S, ROWS), correlations, atol=1e-9)
    total, nodes = reconstruction_error(U, S, ROWS)
    assert nodes.tolist() == [m.sum() for m in MASKS]
    np.testing.assert_allclose(total / nodes, errors, atol=1e-9)
    # so that the margins 0.3 and 1.5 above see both sides of their ReLU:
    assert min(np.abs(correlations)) < 0.3 < max(np.abs(correlations)) and min(errors) < 1.5 < max(errors)


def test_gradients():
    for loss in (
        lambda u, s: disentanglement_loss(u, s, ROWS, 0.1),
        lambda u, s: disentanglement_loss_released(u, s, ROWS, 0.1, SLOTS),
        lambda u, s: reconstruction_loss(u, s, ROWS, 0.1),
        lambda u, s: reconstruction_loss(u, s, ROWS, 0.1, per_sample=False),
    ):
        assert torch.autograd.gradcheck(loss, (U.clone().requires_grad_(), S.clone().requires_grad_()), fast_mode=True)


def test_reconstruction_moves_its_target_unless_that_is_detached():
    original, rebuilt = U.clone().requires_grad_(), S.clone().requires_grad_()
    reconstruction_loss(original, rebuilt, ROWS, 0.0).backward()
    torch.testing.assert_close(original.grad, -rebuilt.grad)
    assert original.grad.abs().sum() > 0
    held, once_more = U.clone().requires_grad_(), S.clone().requires_grad_()
    reconstruction_loss(held, once_more, ROWS, 0.0, detach_target=True).backward()
    assert held.grad is None
    torch.testing.assert_close(once_more.grad, rebuilt.grad)


def test_classification():
    logits, target = randn(4, 8), (randn(4, 8, seed=1) > 0).double()
    expected = reference.binary_cross_entropy(logits.numpy(), target.numpy()).mean()
    assert classification_loss(logits, target).item() == pytest.approx(expected, abs=1e-9)


def test_graph_supervision():
    """Mean cross-entropy over nodes that exist plus mean binary cross-entropy over edges that exist."""
    classes, relations = randn(len(BATCH.classes), 5), randn(len(BATCH.relations), 3, seed=1)
    found = graph_supervision_loss(classes, BATCH.classes, relations, BATCH.relations)
    node_terms = []
    for logits, truth in zip(classes.numpy(), BATCH.classes, strict=True):
        p = np.exp(logits)
        node_terms.append(-np.log(p[truth] / p.sum()))
    terms = reference.binary_cross_entropy(relations.numpy(), BATCH.relations.numpy())
    assert found.item() == pytest.approx(np.mean(node_terms) + terms.mean(), abs=1e-9)


def test_graph_supervision_without_edges_or_nodes():
    classes, nodes = randn(3, 5), torch.tensor([0, 4, 2])
    found = graph_supervision_loss(classes, nodes, randn(0, 3), randn(0, 3))
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(classes, nodes))
    assert graph_supervision_loss(classes[:0], nodes[:0], randn(0, 3), randn(0, 3)) == 0
