"""A small untrained ProDA as a folder, and a short film, for the tests of predictions."""

from pathlib import Path

import numpy as np
import torch

from proda_lib.datasets.world import VOCABULARY
from proda_lib.models import shipped
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.paths import project_root

ASKED = ["raise_cup", "open_door"]
EXAMPLE = project_root() / "book/data/own_video.json"


def make_model(visual: int = 0) -> ProDA:
    torch.manual_seed(0)
    sizes = (len(VOCABULARY.actions), len(VOCABULARY.objects), len(VOCABULARY.relations))
    return ProDA(ModelConfig(*sizes, visual=visual, frames=8, width=16, heads=2, layers=2, depth=1, candidates=3))


def write_model(path: Path) -> Path:
    """A model with random weights, as a folder."""
    make_model().save_pretrained(path)
    shipped.write_vocabulary(VOCABULARY, path)
    return path


def write_film(path: Path) -> Path:
    """Six seconds of noise as a video file."""
    import av

    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(60):
            picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path
