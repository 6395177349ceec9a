"""A small untrained ProDA, some graphs and what the explorer says of them, for its tests."""

import functools
import json
import re

import torch

from proda_lib.datasets import world
from proda_lib.explorer.precompute import precompute
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA

VOCABULARY = world.VOCABULARY
C = len(VOCABULARY.actions)
OFFERED = 4


@functools.cache
def make_model() -> ProDA:
    torch.manual_seed(0)
    config = ModelConfig(C, len(VOCABULARY.objects), len(VOCABULARY.relations), width=16, heads=1, layers=2, depth=1,
                         candidates=3)  # fmt: skip
    return ProDA(config).eval()


@functools.cache
def make_graphs() -> tuple:
    return tuple(world.make_video(world.WorldConfig(), index) for index in range(3))


@functools.cache
def make_data() -> dict:
    return precompute(make_model(), make_graphs(), offered=OFFERED, about=["A <model> for tests & nothing else."])


def data_of(page: str) -> dict:
    """The data that a page holds."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
