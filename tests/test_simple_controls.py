"""What the controls without a network read of a graph, on one made by hand."""

import dataclasses

import numpy as np
import pytest

from proda_lib.evaluation.simple_controls import object_bag, object_relation_histogram, relation_histogram
from tests.graphs import VOCABULARY, R, make_full

PERSON, CUP, BOOK, DOOR = range(4)
HOLDING, TOUCHING, ABOVE = range(R)


@pytest.fixture
def graph():
    """Two frames; the book is in the first only, the door in neither."""
    full = make_full(2, 4, ((0, 0, 1), (1, 2, 0)))
    present = np.array([[True, True, True, False], [True, True, False, False]])
    relations = np.zeros((2, 3, R), dtype=bool)
    relations[:, 0, HOLDING] = True  # the person holds the cup
    relations[0, 1, [TOUCHING, ABOVE]] = True  # and touches the book below
    relations[1, 2, ABOVE] = True  # the cup is above the person
    return dataclasses.replace(full, classes=np.array([PERSON, CUP, BOOK, DOOR]), present=present,
                               boxes=full.boxes * present[..., None], relations=relations)  # fmt: skip


def test_objects(graph):
    assert object_bag([graph, graph]).tolist() == [[1, 1, 1, 0, 0]] * 2


def test_relations(graph):
    assert relation_histogram([graph]).tolist() == [[1.0, 0.5, 1.0]]


def test_relations_of_objects(graph):
    expected = np.zeros((len(VOCABULARY.objects), R))
    expected[PERSON], expected[CUP, ABOVE] = [1.0, 0.5, 0.5], 0.5
    np.testing.assert_array_equal(object_relation_histogram([graph]), expected.reshape(1, -1))
