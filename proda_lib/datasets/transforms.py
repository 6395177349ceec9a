"""Graphs with something taken away, for controls: what does a result owe to relations, what to the order of frames?"""

from __future__ import annotations

import dataclasses

import numpy as np

from proda_lib.graph import SceneGraph


def without_relations(graph: SceneGraph) -> SceneGraph:
    """The same graph with every relation False; edges, classes and boxes stay."""
    return dataclasses.replace(graph, relations=np.zeros_like(graph.relations))


def shuffle_frames(graph: SceneGraph, rng: np.random.Generator) -> SceneGraph:
    """The same frames in random order: what each frame holds is permuted, times and segments stay.

    Boxes, presence, relations, features and ``carriers`` move together, so that every frame stays valid in itself.
    """
    order = rng.permutation(graph.num_frames)
    per_frame = ("boxes", "present", "relations", "features", "frame_features", "carriers")
    moved = {name: getattr(graph, name)[order] for name in per_frame if getattr(graph, name) is not None}
    return dataclasses.replace(graph, **moved)
