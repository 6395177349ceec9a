"""Controls without a network: logistic regression on a histogram of what is in the graph.

They read every frame of a video, where networks read a recipe's ``frames`` of them, and train on the whole training
split, also on the tenth of it that networks hold out to pick their epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from proda_lib.graph import SceneGraph


def object_bag(graphs: Sequence[SceneGraph]) -> Float[np.ndarray, "V objects"]:
    """(videos, objects) 1 for each object class that appears in the video."""
    bag = np.zeros((len(graphs), len(graphs[0].vocabulary.objects)))
    for row, graph in zip(bag, graphs, strict=True):
        row[graph.classes[graph.present.any(0)]] = 1
    return bag


def object_relation_histogram(graphs: Sequence[SceneGraph]) -> Float[np.ndarray, "V F"]:
    """(videos, objects · R) how many relations objects of a class have, per frame; order is forgotten."""
    vocabulary = graphs[0].vocabulary
    histogram = np.zeros((len(graphs), len(vocabulary.objects), len(vocabulary.relations)))
    for row, graph in zip(histogram, graphs, strict=True):
        np.add.at(row, graph.classes[graph.edges[0]], graph.relations.mean(0))
    return histogram.reshape(len(graphs), -1)


def relation_histogram(graphs: Sequence[SceneGraph]) -> Float[np.ndarray, "V R"]:
    """(videos, R) how often each relation occurs, per frame: order and objects are forgotten."""
    return np.stack([graph.relations.sum(1).mean(0) for graph in graphs])


def logistic_scores(
    train: Float[np.ndarray, "V F"], labels: Bool[np.ndarray, "V C"], test: Float[np.ndarray, "W F"]
) -> Float[np.ndarray, "W C"]:
    """Log-odds of each class by its own L2-regularised logistic regression on standardised features.

    A class that is never (or always) present in training scores its frequency for every video.
    """
    scores = np.empty((len(test), labels.shape[1]))
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    for column, truth in zip(scores.T, labels.T, strict=True):
        if truth.all() or not truth.any():
            column[:] = truth.mean()
        else:
            column[:] = LogisticRegression(C=1.0, max_iter=1000).fit(train, truth).decision_function(test)
    return scores
