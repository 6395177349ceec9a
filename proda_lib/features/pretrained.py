"""Models of ``transformers``: from this machine unless a download is asked for, whole, on a device that exists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from proda_lib.errors import DataError


def load_pretrained(
    name: str | os.PathLike, model_class: Any, processor_class: Any, what: str, kind: str, allow_download: bool,
    **processor_options: Any,
) -> tuple[str, torch.nn.Module, Any]:  # fmt: skip
    """A model in float32, by name or folder, with its image processor; and its name, or its folder's.

    Weights are read from safetensors alone, and code that lies beside them is never run.

    Args:
        model_class, processor_class: of ``transformers``; ``processor_options`` are the latter's.
        what, kind: what an error says is broken ("detector"), and what is expected ("an object detection model").
        allow_download: fetch what is not on this machine; otherwise the network is not touched.

    Raises:
        DataError: not on this machine, damaged, another kind of model, or some of its weights are missing.
    """
    local = {"local_files_only": not allow_download, "trust_remote_code": False}
    try:
        processor = processor_class.from_pretrained(name, **local, **processor_options)
        model, loaded = model_class.from_pretrained(
            name, **local, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # a missing or damaged model can raise nearly anything
        advice = (
            f"the folder of {kind} (config.json, model.safetensors, preprocessor_config.json), or the name of one that "
            f"is on this machine: allow the download (--download), or `hf download {name}`, or set HF_HOME"
        )
        raise DataError(name, what, f"{type(error).__name__}: {str(error)[:300]}", advice) from error
    if missing := sorted(loaded["missing_keys"]):
        found = f"no {missing[0]} and {len(missing) - 1} other weights"
        raise DataError(name, what, found, f"all weights of {kind}")
    return Path(name).name if Path(name).is_dir() else str(name), model, processor
