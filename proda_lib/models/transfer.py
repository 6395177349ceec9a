"""Starting a model from another one that was trained on another vocabulary."""

from __future__ import annotations

import dataclasses

import torch

from proda_lib.errors import RecipeError
from proda_lib.models.saved import SavedModel


def vocabulary_tensors(model: SavedModel) -> set[str]:
    """Names of the model's tensors whose shape depends on the number of actions, objects or relations."""
    config = model.config
    sizes = {name: getattr(config, name) + 1 for name in ("actions", "objects", "relations")}
    with torch.device("meta"):
        larger = type(model)(dataclasses.replace(config, **sizes)).state_dict()
    return {name for name, tensor in model.state_dict().items() if larger[name].shape != tensor.shape}


def start_from(model: SavedModel, source: SavedModel) -> list[str]:
    """Copy every tensor of ``source`` that does not depend on the vocabulary into ``model``, in place.

    Embeddings of classes and relations, what reads the specification, and the classifiers stay as they are: their
    rows mean other things in the other vocabulary.

    Returns:
        The names of the tensors that were not copied.

    Raises:
        RecipeError: the two are of different classes, or differ in more than the vocabulary; the message names it.
    """
    if type(model) is not type(source):
        raise RecipeError(f"start_from: found a {type(source).__name__}, expected a {type(model).__name__}")
    theirs, mine, fresh = source.state_dict(), model.state_dict(), vocabulary_tensors(model)
    for name, tensor in mine.items():
        if name in fresh:
            continue
        if name not in theirs or theirs[name].shape != tensor.shape:
            found = tuple(theirs[name].shape) if name in theirs else "nothing"
            raise RecipeError(f"start_from: {name}: found {found}, expected {tuple(tensor.shape)}; the model that is "
                              "started must have the sizes and options of the one it starts from")  # fmt: skip
        tensor.copy_(theirs[name])
    return sorted(fresh)
