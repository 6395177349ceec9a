"""A small untrained ProDA, some graphs and what the explorer says of them, for its tests."""

import dataclasses
import functools
import json
import re

import numpy as np
import torch

from proda_lib.datasets import world
from proda_lib.explorer.precompute import precompute
from proda_lib.graph import SceneGraph
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA

VOCABULARY = world.VOCABULARY
C = len(VOCABULARY.actions)
OFFERED = 4


@functools.cache
def make_model(actions: int = C) -> ProDA:
    torch.manual_seed(0)
    config = ModelConfig(actions, len(VOCABULARY.objects), len(VOCABULARY.relations), width=16, heads=1, layers=2,
                         depth=1, candidates=3)  # fmt: skip
    return ProDA(config).eval()


@functools.cache
def make_graphs() -> tuple:
    return tuple(world.make_video(world.WorldConfig(), index) for index in range(3))


@functools.cache
def make_data() -> dict:
    return precompute(make_model(), make_graphs(), offered=OFFERED, about=["A <model> for tests & nothing else."])


@functools.cache
def make_small_graph() -> SceneGraph:
    """A video with the labels 0, 1 and 2 of 9 actions, as many as CAD-120 has: K is 4."""
    graph = make_graphs()[0]
    return dataclasses.replace(
        graph, vocabulary=dataclasses.replace(VOCABULARY, actions=VOCABULARY.actions[:9]), labels=None,
        segment_labels=np.arange(3), segments=graph.segments[[0, 0, 0]], carriers=None,
    )  # fmt: skip


@functools.cache
def make_small_data() -> dict:
    return precompute(make_model(9), [make_small_graph()])


def data_of(page: str) -> dict:
    """The data that a page holds."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
