"""Paper and code: the text against the released code, whole and one difference at a time."""

from __future__ import annotations

import dataclasses

import pandas as pd

from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.differences import compare, differences
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import ASKED, LABEL_FREE, RULES
from proda_lib.evaluation.report import Key, RunRows, frame_of, setting, spread, without_empty_lines
from proda_lib.training.recipe import Recipe

#: Where a question is built from the test labels, and where none is.
OF_QUESTIONS: dict[str, Key] = {"a_t, both": "paper/both/a_t", "a_s, both": "paper/both/a_s"}
FREE: dict[str, Key] = {"a_s by partition": "label_free/partition/a_s/map", "a_m": "a_m/map"}
#: Control → its row, and its keys by the measure that they stand beside.
_ASKED_KEYS = {"a_t, both": "trained/both/a_t", "a_s, both": "trained/both/a_s"}
CONTROLS: dict[str, tuple[str, dict[str, Key]]] = {
    "prompt-only, trained": ("prompt_only", _ASKED_KEYS),
    "prompt-only, trained, absent_row = True": ("prompt_only, absent_row", _ASKED_KEYS),
    "no_prompt": ("no_prompt", dict.fromkeys(FREE, "a_t/map")),
}


def presets_table(found: RunRows) -> Table:
    """The two presets under both kinds of protocol, each with the prompt-only control on its own specifications."""
    lines: dict[str, Key] = {label: f"paper/{key}" for label, key in ASKED.items() if "both" in label}
    lines |= {label: f"{key}/map" for label, key in LABEL_FREE.items()}
    frame = frame_of(
        lines, {("ours", f"preset {name}"): (found[name], "") for name in ("paper", "released")}, "answer, rows"
    )
    for name in ("paper", "released"):
        runs = found[f"prompt_only, {name}"]
        keys = [str(key).replace("paper/", "trained/") for key in lines.values()]
        frame["prompt-only, trained", f"preset {name}"] = [spread(runs, key) for key in keys]
    frame = without_empty_lines(frame)
    return Table(frame, f"{setting(found)} {RULES}")


def presets_findings(found: RunRows) -> Text:
    """The two presets compared on answers that both give to the same questions."""
    keys = {"a_m": "a_m/map", "a_s by partition": "label_free/partition/a_s/map"}
    return bullets(
        compare("released", "paper", label, differences(found["released"], found["paper"], key))
        for label, key in keys.items()
    )


def preset_options(paper: Recipe, released: Recipe) -> Table:
    """Every setting in which two recipes differ."""
    sides = [dataclasses.asdict(recipe) for recipe in (paper, released)]
    different = [name for name in sides[0] if sides[0][name] != sides[1][name]]
    cells = {"paper": [sides[0][n] for n in different], "released": [sides[1][n] for n in different]}
    return Table(pd.DataFrame(cells, index=pd.Index(different, name="setting")))


def change_of(recipe: Recipe, base: Recipe) -> str:
    """The settings in which a row departs from the paper's, as "wiring = released"; not seed and ``scan``."""
    names = [f.name for f in dataclasses.fields(Recipe) if f.name not in ("seed", "scan")]
    changed = [name for name in names if getattr(recipe, name) != getattr(base, name)]
    return ", ".join(f"{name} = {getattr(recipe, name)}" for name in changed)


def differences_table(found: Recorded) -> Table:
    """A line a difference: its answers, and their change against "paper" seed by seed.

    Where ``absent_row`` changes the questions themselves, the change of the answers to them has no number.
    """
    measures, cells = {**OF_QUESTIONS, **FREE}, {}
    recipes = {row: _recipe(found, row) for row in found.runs}
    base = recipes["paper"]
    rows = [row for row in found.runs if recipes[row].model == "proda"]
    for label, key in measures.items():
        controls = [cell(found, row, keys[label]) if label in keys else Spread() for row, keys in CONTROLS.values()]
        cells["mAP", label] = [cell(found, row, key) for row in rows] + controls
    for label, key in measures.items():
        changes = []
        for row in rows:
            other = row == "paper" or (label in OF_QUESTIONS and recipes[row].absent_row != base.absent_row)
            away = differences(found.runs[row], found.runs["paper"], key)
            changes.append(Spread() if other else Spread(away.values, blank="not run", signed=True))
        cells["change against paper", label] = changes + [Spread()] * len(CONTROLS)
    names = ["paper" if row == "paper" else change_of(recipes[row], base) for row in rows]
    frame = pd.DataFrame(cells, index=pd.Index([*names, *(f"control: {name}" for name in CONTROLS)], name="difference"))
    return Table(
        frame,
        f"{found.note} {RULES} a_t and a_s, both: the paper's protocol, both kinds of "
        "specification, no-action counts in a_s.",
    )


def _recipe(found: Recorded, row: str) -> Recipe:
    return found.runs[row][0].recipe if found.runs[row] else found.missing[row][0]
