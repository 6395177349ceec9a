"""Which runs a page needs, by row: the pages, the grid and the tests read the same lists."""

from __future__ import annotations

from collections.abc import Sequence

from proda_lib.training.recipe import Recipe, make_recipe

#: Rows of a table: name → one recipe per seed.
Rows = dict[str, list[Recipe]]


def _rows(profile: str, seeds: Sequence[int], rows: dict[str, dict]) -> Rows:
    return {name: [make_recipe(profile, seed=seed, **changes) for seed in seeds] for name, changes in rows.items()}


def table03(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Table 3, the prompt: SimplePrompt and DPM, with the prompt-free and the prompt-only controls."""
    rows = {
        "SimplePrompt": {"prompt": "simple"},
        "DPM": {},
        "no_prompt": {"model": "no_prompt"},
        "prompt_only": {"model": "prompt_only"},
    }
    return _rows(profile, seeds, {name: {"dataset": dataset, **row} for name, row in rows.items()})


def world_controls(profile: str, seeds: Sequence[int] = (0,)) -> Rows:
    """What makes SSG-World a benchmark: ``no_prompt`` whole, shuffled, without relations; and simpler models."""
    rows = {
        "no_prompt": {"model": "no_prompt"},
        "no_prompt, frames shuffled": {"model": "no_prompt", "shuffle_frames": True},
        "no_prompt, without relations": {"model": "no_prompt", "relations": False},
        "encoder_only": {"model": "encoder_only"},
        "logistic": {"model": "logistic"},
        "prompt_only": {"model": "prompt_only"},
    }
    return _rows(profile, seeds, rows)


def cad120(profile: str, seeds: Sequence[int], dataset: str = "cad120") -> Rows:
    """CAD-120: ProDA and ``no_prompt``, with and without relations. ``dataset``: "cad120" or "cad120_clips"."""
    rows = {}
    for relations in (True, False):
        suffix = "" if relations else ", without relations"
        for model in ("proda", "no_prompt"):
            rows[model + suffix] = {"dataset": dataset, "model": model, "relations": relations}
    return _rows(profile, seeds, rows)
