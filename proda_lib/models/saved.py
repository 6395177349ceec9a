"""Saving and loading of models, in the way of Hugging Face: a folder with config.json and model.safetensors."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from proda_lib.devices import checked_device
from proda_lib.errors import CheckpointError, RecipeError
from proda_lib.files import write_atomically, write_json
from proda_lib.models.config import ModelConfig


class SavedModel(nn.Module):
    """A module whose constructor takes a :class:`ModelConfig`, kept in ``self.config``."""

    config: ModelConfig

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder`` (made if missing)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        config = {"model": type(self).__name__, **dataclasses.asdict(self.config)}
        write_atomically(folder / "model.safetensors", lambda path: path.write_bytes(save(weights)))
        write_json(folder / "config.json", config, indent=2)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, device: torch.device | str = "cpu") -> Self:
        """Load a model saved by :meth:`save_pretrained`, in evaluation mode.

        Raises:
            DataError: this machine has no such device.
            CheckpointError: a file is missing, damaged, of another model class, or does not fit the config; or a weight
                is no finite number.
        """
        folder = Path(folder)
        try:
            config = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{folder / 'config.json'}: {error}; expected a folder of save_pretrained") from error
        if (name := config.pop("model", None)) != cls.__name__:
            raise CheckpointError(f"{folder / 'config.json'}: model: found {name!r}, expected {cls.__name__!r}")
        try:
            weights = load_file(folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{folder / 'model.safetensors'}: {error}") from error
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not tensor.float().isfinite().all():
                found = f"{name}: found NaN or infinity, expected finite numbers"
                raise CheckpointError(f"{folder / 'model.safetensors'}: {found}")
        try:
            settings = ModelConfig(**config)
            if settings.layers * settings.depth > len(weights):
                raise RecipeError(f"layers x depth: found {settings.layers} x {settings.depth}, expected no more than "
                                  f"the {len(weights)} tensors in model.safetensors")  # fmt: skip
            with torch.device("meta"):  # takes no memory, whatever sizes the config claims
                shell = cls(settings)
        except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
        try:
            shell.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            lines = str(error).splitlines()
            more = f" (and {len(lines) - 3} more lines)" if len(lines) > 3 else ""
            raise CheckpointError(f"{folder / 'model.safetensors'}: {' '.join(lines[:3])}{more}") from error
        model = cls(settings)  # of the size of the file
        model.load_state_dict(weights, assign=True)  # the precision of the file
        place = checked_device(device, str(folder))
        return model.to(place, next(model.parameters()).dtype).eval()  # buffers that are not in the file, too
