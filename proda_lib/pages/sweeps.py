"""Beyond the paper: one setting at a time, with the controls beside it."""

from __future__ import annotations

import pandas as pd

from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.differences import differences
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.report import Key, spread
from proda_lib.pages.ablations import ANSWERS
from proda_lib.training.runs import Run

#: How the rows of the sweep of both margins begin, those of the sweep of K, those of stage 2, and those of a control.
MARGINS, LENGTH, STAGE_2, PROMPT_ONLY = "margins", "length of a specification", "epochs of stage 2", "prompt_only, "
NO_PROMPT = "no_prompt, "


def sweep_table(found: Recorded) -> Table:
    """A line a value, the first of each sweep is the default's; beside it both controls (:func:`_control`)."""
    controls: dict[tuple[str, str], tuple[str, Key]] = {
        ("control", "no_prompt"): (NO_PROMPT, "a_t/map"),
        ("control", "prompt-only, a_t"): (PROMPT_ONLY, "trained/both/a_t"),
    }
    lines, index = [], []
    for row in found.runs:
        if row.startswith((NO_PROMPT, PROMPT_ONLY)):
            continue
        beside = [cell(found, _control(found, model, row), key) for model, key in controls.values()]
        lines.append([*(cell(found, row, key) for key in ANSWERS.values()), *beside])
        index.append(tuple(row.split(": ")))
    columns = pd.MultiIndex.from_tuples([*(("ProDA", label) for label in ANSWERS), *controls])
    frame = pd.DataFrame(lines, columns=columns, index=pd.MultiIndex.from_tuples(index))
    asked = "a_t and a_u: the paper's protocol, both kinds of specification, no-action counts in a_u."
    return Table(frame, f"{found.note} {RULES} {asked}")


def _control(found: Recorded, model: str, row: str) -> str:
    """The row of a control: its own where the setting changes it (without a prompt the input and the epochs,
    prompt-only the questions), else the default's, which stands first."""
    return model + row if model + row in found.runs else next((r for r in found.runs if r.startswith(model)), "")


def _values(found: Recorded, sweep: str) -> dict[str, list[Run]]:
    """Value → runs, of a sweep (the beginning of its rows), where there are any."""
    return {row.split(": ")[1]: runs for row, runs in found.runs.items() if row.startswith(sweep) and runs}


def length_findings(found: Recorded) -> Text:
    """How far a_t, its prompt-only control and a_m move from the shortest specification to the longest."""
    runs, control = _values(found, LENGTH), _values(found, PROMPT_ONLY + LENGTH)
    if len(runs) < 2:
        return Text("Nothing was run yet.")
    short, long = min(runs, key=int), max(runs, key=int)
    parts = {
        "a_t": differences(runs[long], runs[short], ANSWERS["a_t"]),
        "prompt-only": differences(control.get(long, ()), control.get(short, ()), "trained/both/a_t"),
        "a_m": differences(runs[long], runs[short], ANSWERS["a_m"]),
    }
    said = [f"{name} {Spread(moved.values, signed=True)}" for name, moved in parts.items() if moved.values]
    return Text(f"K {long} instead of {short}, in points: {', '.join(said)}.")


def stage_2_findings(found: Recorded) -> Text:
    """a_t and a_m after a longer stage 2, which alone trains a_m, and how far they are from their controls."""
    sentences = []
    for epochs, runs in _values(found, STAGE_2).items():
        said = []
        for answer, control, key, name in (
            ("a_t", PROMPT_ONLY, "trained/both/a_t", "the trained prompt-only control"),
            ("a_m", NO_PROMPT, "a_t/map", "no_prompt of as many epochs"),
        ):
            beside = found.runs.get(_control(found, control, f"{STAGE_2}: {epochs}"), ())
            away = Spread(differences(runs, beside, ANSWERS[answer], key).values, signed=True)
            said.append(f"{answer} {spread(runs, ANSWERS[answer])}" + f" ({away} from {name})" * bool(away.values))
        sentences.append(f"{epochs} epochs of stage 2: {', '.join(said)}.")
    return bullets(sentences or ["Nothing was run yet."])


def margin_findings(found: Recorded) -> Text:
    """Where a_t and a_m part, as they do if the question is answered from the prompt: a_t above that of the default's
    margin with every seed, and a_m below it."""
    runs = {float(margin): group for margin, group in _values(found, MARGINS).items()}
    if len(runs) < 2:
        return Text("Nothing was run yet.")
    default, *others = runs
    sentences, parted = [], []
    for margin in sorted(others):
        a_t, a_m = (differences(runs[margin], runs[default], ANSWERS[answer]) for answer in ("a_t", "a_m"))
        moved = [Spread(away.values, signed=True) for away in (a_t, a_m)]
        sentences.append(f"Margin {margin:g} instead of {default:g}: a_t {moved[0]} points, a_m {moved[1]}.")
        if min(a_t.values) > 0 > max(a_m.values):
            parted.append(f"{margin:g}")
    sentences.append(f"a_t above and a_m below, with every seed: {', '.join(parted) or 'at none of these'}.")
    return bullets(sentences)
