"""Graphs with something taken away or added, for controls and sweeps: what does a result owe to what?"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from proda_lib.errors import RecipeError
from proda_lib.graph import SceneGraph

_PER_FRAME = ("boxes", "present", "relations", "features", "frame_features", "carriers")


@dataclass(frozen=True)
class Changes:
    """What is changed in every graph, in training and test; the defaults change nothing.

    Attributes:
        relations: False removes every relation. ``shuffle_frames``: True permutes the frames of every video.
        relation_noise, missing: shares in 0..1, see :func:`noisy_relations` and :func:`drop_boxes`.
        full_edges: True joins every pair of slots, see :func:`full_edges`.
    """

    relations: bool = True
    shuffle_frames: bool = False
    relation_noise: float = 0.0
    missing: float = 0.0
    full_edges: bool = False

    def __post_init__(self) -> None:
        for name in ("relation_noise", "missing"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name}: found {getattr(self, name)}, expected a share in 0..1")

    def apply(self, graph: SceneGraph, rng: np.random.Generator) -> SceneGraph:
        """The changed graph; ``rng`` is only drawn from where something random changes."""
        if self.missing:
            graph = drop_boxes(graph, self.missing, rng)
        if self.relation_noise:
            graph = noisy_relations(graph, self.relation_noise, rng)
        if not self.relations:
            graph = without_relations(graph)
        if self.full_edges:
            graph = full_edges(graph)
        return shuffle_frames(graph, rng) if self.shuffle_frames else graph


UNCHANGED = Changes()


def without_relations(graph: SceneGraph) -> SceneGraph:
    """The same graph with every relation False; edges, classes and boxes stay."""
    return dataclasses.replace(graph, relations=np.zeros_like(graph.relations))


def noisy_relations(graph: SceneGraph, share: float, rng: np.random.Generator) -> SceneGraph:
    """Relations with label noise: with probability ``share`` a pair of slots has the relations of another place.

    For each frame and pair of slots, independently; the other place is a random frame and pair of the same video, so
    that relations stay as frequent as they were. Both directions of a pair change together.
    """
    exists = graph.edge_present
    low, high = graph.edges.min(0), graph.edges.max(0)
    first, pair = np.unique(low * graph.num_slots + high, return_index=True, return_inverse=True)[1:]
    places = np.argwhere(exists[:, first])
    if not len(places):
        return graph
    hit = rng.random((graph.num_frames, len(first))) < share
    frame, other = places[rng.integers(len(places), size=hit.shape)].transpose(2, 0, 1)
    drawn = graph.relations[frame, first[other]]  # (T, pairs, R)
    relations = np.where(hit[:, pair, None], drawn[:, pair], graph.relations) & exists[..., None]
    return dataclasses.replace(graph, relations=relations)


def drop_boxes(graph: SceneGraph, share: float, rng: np.random.Generator) -> SceneGraph:
    """The same graph without a random ``share`` of its boxes, with their edges; slot 0, the person, stays."""
    present = graph.present.copy()
    present[:, 1:] &= rng.random(present[:, 1:].shape) >= share
    return keep_nodes(graph, present)


def keep_nodes(graph: SceneGraph, present: Bool[np.ndarray, "T M"]) -> SceneGraph:
    """The same graph with these of its nodes only, and the edges between them."""
    edge = present[:, graph.edges[0]] & present[:, graph.edges[1]]
    changed = {"present": present, "boxes": graph.boxes * present[..., None],
               "relations": graph.relations & edge[..., None]}  # fmt: skip
    if graph.carriers is not None:
        changed["carriers"] = graph.carriers & edge[..., None]
    if graph.features is not None:
        changed["features"] = np.asarray(graph.features) * present[..., None]
    return dataclasses.replace(graph, **changed)


def full_edges(graph: SceneGraph) -> SceneGraph:
    """The same graph with an edge from every slot to every other; the new ones have no relation."""
    known = set(zip(*graph.edges.tolist(), strict=True))
    new = [pair for pair in itertools.permutations(range(graph.num_slots), 2) if pair not in known]
    if not new:
        return graph

    def widen(values: np.ndarray) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, len(new)), (0, 0)))

    return dataclasses.replace(
        graph,
        edges=np.concatenate([graph.edges, np.array(new, dtype=graph.edges.dtype).T], axis=1),
        relations=widen(graph.relations),
        carriers=None if graph.carriers is None else widen(graph.carriers),
    )


def shuffle_frames(graph: SceneGraph, rng: np.random.Generator) -> SceneGraph:
    """The same frames in random order: what each frame holds is permuted, times and segments stay.

    Boxes, presence, relations, features and ``carriers`` move together, so that every frame stays valid in itself.
    """
    order = rng.permutation(graph.num_frames)
    moved = {name: getattr(graph, name)[order] for name in _PER_FRAME if getattr(graph, name) is not None}
    return dataclasses.replace(graph, **moved)
