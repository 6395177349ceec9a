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
    """CAD-120: ProDA and ``no_prompt``, with and without relations, and the prompt-only controls (which see neither).

    ``dataset``: "cad120" or "cad120_clips".
    """
    rows: dict[str, dict] = {}
    for relations in (True, False):
        suffix = "" if relations else ", without relations"
        for model in ("proda", "no_prompt"):
            rows[model + suffix] = {"dataset": dataset, "model": model, "relations": relations}
    rows["prompt_only"] = {"dataset": dataset, "model": "prompt_only"}
    return _rows(profile, seeds, rows)


def localization(profile: str, seeds: Sequence[int], dataset: str = "world") -> Rows:
    """Figure 3 and the hit rates: ProDA as in table 3."""
    return _rows(profile, seeds, {"DPM": {"dataset": dataset}})


def presets(profile: str, seeds: Sequence[int] = (0,), dataset: str = "world") -> Rows:
    """The paper's text and the released code, each with the prompt-only controls on its own specifications.

    Both on at most 3,000 training videos: the comparison is between the two, and costs a run that no other page needs.
    Warm-up and the fresh a_m head are settings of the recipe that no preset touches, so they are named here.
    """
    videos = {"train_videos": min(make_recipe(profile).train_videos, 3000)}
    released = {"preset": "released", "warmup": 0.1, "head_m": "reinit"}
    rows = {
        "paper": {},
        "released": released,
        "prompt_only, paper": {"model": "prompt_only"},
        "prompt_only, released": {"model": "prompt_only", "preset": "released"},
    }
    return _rows(profile, seeds, {name: {"dataset": dataset, **videos, **row} for name, row in rows.items()})


def by_page(profile: str = "reference", seeds: Sequence[int] = (0, 1, 2)) -> dict[str, list[Recipe]]:
    """Every run that a page of the book shows: what is committed as a record, and nothing else is.

    Pages about one model take the first seed.
    """
    first = tuple(seeds)[:1]
    pages = {
        "data/world": [world_controls(profile, first)],
        "results/table03": [table03(profile, seeds)],
        "results/cad120": [cad120(profile, seeds), cad120(profile, first, "cad120_clips")],
        "figures/localization": [localization(profile, seeds)],
        "paper_and_code": [presets(profile, first)],
    }
    return {page: [r for rows in tables for recipes in rows.values() for r in recipes]
            for page, tables in pages.items()}  # fmt: skip
