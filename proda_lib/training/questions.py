"""Questions that a model asks itself: specifications from its own a_m, which no label decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool

from proda_lib.distributed import each_its_part
from proda_lib.evaluation.protocols import batches
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.specification import nested_best, specification_length
from proda_lib.training.data import evaluation_videos
from proda_lib.training.recipe import Recipe


@torch.no_grad()
def own_questions(
    model: ProDA, graphs: Sequence[SceneGraph], recipe: Recipe, device="cpu"
) -> Bool[np.ndarray, "V S C"]:
    """The SAPs of each video's own a_m: its k best actions, k = 1, 2, 4, ... K, on the evaluation frames."""
    model.eval()

    def answers(part: Sequence[SceneGraph]) -> np.ndarray:
        found = []
        for _, batch in batches(model, part, recipe.frames, device):
            found.append(model.unprompted(batch, model.encode(batch)).logits.float().cpu().numpy())
        return np.concatenate(found)

    a_m = np.concatenate(each_its_part(evaluation_videos(graphs, recipe), answers))
    return nested_best(a_m, specification_length(a_m.shape[1], recipe.spec_length))
