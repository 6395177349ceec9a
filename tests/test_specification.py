import numpy as np
import pytest
import torch

from proda_lib.errors import RecipeError
from proda_lib.specification import (
    best_of,
    branch_targets,
    nested_best,
    one_hot,
    partition,
    sample_specifications,
    specification_length,
    video_rng,
)


def draw(labels, actions=157, length=16, seed=0, **options):
    sap, injected = sample_specifications(
        np.array(labels, int), actions, length, np.random.default_rng(seed), **options
    )
    present = np.isin(np.arange(actions), labels)
    return sap, injected, (sap & present).sum(1).tolist(), (sap & ~present).sum(1).tolist()


def test_the_example_of_appendix_c():
    """5 labels of 157: 11 specifications; SAPs of 16 and so UAPs of 141 where distractors are injected."""
    sap, injected, present, absent = draw([77, 79, 80, 76, 75])
    assert sap.shape == (11, 157) and sap.dtype == bool
    assert injected.tolist() == [True] * 6 + [False] * 5
    assert (~sap).sum(1).tolist() == [141] * 6 + [156, 155, 154, 153, 152]
    assert present == [0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    assert absent == [16, 15, 14, 13, 12, 11, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "actions, length, L", [(157, 16, 0), (157, 16, 1), (10, 5, 3), (7, 4, 6), (7, 4, 7), (6, 6, 2)]
)
def test_counts_and_lengths(actions, length, L):
    """2L + 1 SAPs; distractor-injected ones of length min(K, i + C - L), with i capped at K."""
    sap, injected, present, absent = draw(range(L), actions, length)
    capped = [min(i, length) for i in range(L + 1)]
    assert injected.sum() == L + 1 and len(sap) == 2 * L + 1
    assert present == capped + list(range(1, L + 1))
    assert sap.sum(1).tolist()[: L + 1] == [min(length, i + actions - L) for i in capped]
    assert absent[L + 1 :] == [0] * L


def test_i_is_capped_when_a_video_has_more_labels_than_K():
    sap, injected, present, _ = draw(range(20))
    assert present[:21] == [*range(17), 16, 16, 16, 16]
    assert (sap[injected].sum(1) == 16).all()


@pytest.mark.parametrize("L", [0, 1, 5])
def test_the_absent_row_is_one_absent_label(L):
    sap, injected, present, absent = draw(range(L), absent_row=True)
    assert len(sap) == 2 * L + 2 and injected.tolist() == [True] * (L + 1) + [False] * (L + 1)
    assert (present[-1], absent[-1]) == (0, 1)
    assert len(draw(range(7), actions=7, length=4, absent_row=True)[0]) == 15  # no label is absent


def test_every_label_and_distractor_is_drawn_sometimes():
    rng = np.random.default_rng(0)
    saps = np.stack([sample_specifications(np.array([2, 5]), 8, 4, rng)[0] for _ in range(200)])
    chances = saps.mean(0)
    np.testing.assert_allclose(chances[0], [4 / 6, 4 / 6, 0, 4 / 6, 4 / 6, 0, 4 / 6, 4 / 6], atol=0.12)
    np.testing.assert_allclose(chances[1], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], atol=0.12)
    np.testing.assert_allclose(chances[3], [0, 0, 0.5, 0, 0, 0.5, 0, 0], atol=0.12)


def test_draws_depend_on_seed_epoch_and_video_only():
    def first(*key):
        return draw([1, 2, 3], seed=video_rng(*key).integers(2**31))[0]

    again = first(0, 0, "a")
    np.testing.assert_array_equal(first(0, 0, "a"), again)
    for other in [(1, 0, "a"), (0, 1, "a"), (0, 0, "b")]:
        assert (first(*other) != again).any()


def test_what_does_not_exist_is_refused():
    for length in (0, 158):
        with pytest.raises(RecipeError, match=f"found {length}, expected 1..157"):
            draw([1], length=length)
        with pytest.raises(RecipeError, match=f"found {length}, expected 1..157"):
            nested_best(np.zeros((1, 157)), length)


@pytest.mark.parametrize("actions, expected", [(157, 16), (33, 16), (32, 16), (31, 15), (10, 5), (3, 2), (2, 2)])
def test_K_rule(actions, expected):
    assert specification_length(actions) == expected


def test_branch_targets_and_no_action():
    labels = torch.tensor([[1, 0, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()
    sap = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]]).bool()
    assert branch_targets(labels, sap).int().tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]
    assert branch_targets(labels, ~sap).int().tolist() == [[0, 0, 1, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize("actions, length", [(157, 16), (10, 5), (7, 4), (3, 5), (5, 1)])
def test_partition_covers_each_action_once(actions, length):
    groups = partition(actions, length, np.random.default_rng(0))
    assert groups.shape == (-(-actions // length), actions)
    assert (groups.sum(0) == 1).all()
    assert (groups.sum(1)[:-1] == length).all() and groups.sum(1)[-1] == actions - length * (len(groups) - 1)
    drawn = {partition(actions, length, np.random.default_rng(seed)).tobytes() for seed in range(8)}
    assert (len(drawn) > 1) == (actions > length)  # at random, unless one group takes all


def test_of_equal_actions_the_first_is_taken():
    assert best_of(np.array([[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]]), 2).tolist() == [[1, 2], [0, 1]]


@pytest.mark.parametrize("K, sizes", [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (16, [1, 2, 4, 8, 16])])
def test_nested_best_takes_the_best_actions_in_growing_numbers(K, sizes):
    scores = np.random.default_rng(0).normal(size=(3, 20))
    found = nested_best(scores, K)
    for saps, values in zip(found, scores, strict=True):
        assert [np.flatnonzero(sap).tolist() for sap in saps] == [sorted(np.argsort(-values)[:k]) for k in sizes]
    assert nested_best(np.array([[1.0, 2.0, 2.0, 2.0]]), 2).astype(int).tolist() == [[[0, 1, 0, 0], [0, 1, 1, 0]]]


def test_one_hot():
    assert one_hot([2, 0, 2], 3).astype(int).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert one_hot([], 3).shape == (0, 3)
