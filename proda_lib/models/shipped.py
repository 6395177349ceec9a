"""Trained weights as a folder that needs nothing else, and the ones that come with this library.

config.json, model.safetensors    of ``save_pretrained``
vocabulary.json                   what the model's numbers mean
record.json                       the run that made the weights (without its curves), if a run did
README.md                         the model card, written from the record

``workflow/make_shipped.py`` makes such a folder from a run.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from proda_lib.errors import CheckpointError
from proda_lib.files import sha256, write_json
from proda_lib.vocabulary import Vocabulary

#: The weights that come with the library.
WEIGHTS = Path(__file__).parent / "weights" / "world"


def shipped_model() -> Path:
    """Folder of the ProDA that comes with this library, trained on SSG-World.

    Raises:
        CheckpointError: this copy of the library has none.
    """
    if not (WEIGHTS / "model.safetensors").is_file():
        expected = "expected the shipped weights, which workflow/make_shipped.py writes"
        raise CheckpointError(f"{WEIGHTS}: found no model.safetensors, {expected}")
    return WEIGHTS


def shipped_version() -> str:
    """First digits of the SHA-256 of the shipped weights."""
    return sha256(shipped_model() / "model.safetensors")[:12]


def write_vocabulary(vocabulary: Vocabulary, folder: str | os.PathLike) -> None:
    """Write ``vocabulary.json`` beside a saved model."""
    write_json(Path(folder) / "vocabulary.json", dataclasses.asdict(vocabulary))


def read_vocabulary(folder: str | os.PathLike) -> Vocabulary:
    """What :func:`write_vocabulary` wrote.

    Raises:
        CheckpointError: the file is missing or is no vocabulary.
    """
    path = Path(folder) / "vocabulary.json"
    try:
        return Vocabulary.from_json(read_json(path))
    except (OSError, ValueError, RecursionError) as error:
        expected = "expected the vocabulary beside the model, as write_vocabulary writes it"
        raise CheckpointError(f"{path}: {type(error).__name__}: {error}; {expected}") from error


def read_json(path: Path) -> Any:
    """What is in a file. Half a character, which JSON can hold and no report can, is a ``ValueError`` too."""
    data = json.loads(path.read_text(encoding="utf-8"))
    json.dumps(data, ensure_ascii=False).encode()
    return data
