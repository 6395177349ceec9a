"""Tables 10 and 11: training in some scenes, testing in others."""

from __future__ import annotations

import statistics

import pandas as pd

from proda_lib.datasets.scenarios import TEST_SCENES
from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.layouts import RULES
from proda_lib.evaluation.report import Key

#: Column → (model, key).
COLUMNS: dict[tuple[str, str], tuple[str, Key]] = {
    ("no test label is used", "no_prompt"): ("no_prompt", "a_t/map"),
    ("no test label is used", "a_m"): ("ProDA", "a_m/map"),
    ("no test label is used", "a_s by partition"): ("ProDA", "label_free/partition/a_s/map"),
    ("no test label is used", "class frequency"): ("prompt_only", "frequency/map"),
    ("question from test labels", "a_t"): ("ProDA", "paper/both/a_t"),
    ("question from test labels", "prompt only, trained"): ("prompt_only", "trained/both/a_t"),
}
FREE = "scenario 1, actions free of scenes"
SCENARIOS = tuple(f"scenario {number}" for number in TEST_SCENES)


def division_table() -> Table:
    """Table 10: the scenes of the test videos."""
    frame = pd.DataFrame({"scenes of the test videos": [", ".join(names) for names in TEST_SCENES.values()]},
                         index=pd.Index(SCENARIOS, name="split"))  # fmt: skip
    return Table(frame, "All other scenes are those of the training videos. From table 10 of the paper.")


def shift_table(found: Recorded) -> Table:
    """Each scenario, mean and variance over the five (of the means over seeds), then the control without a shift."""
    cells = {}
    for column, (model, key) in COLUMNS.items():
        values = [cell(found, f"{model}, {scenario}", key) for scenario in SCENARIOS]
        means = [value.mean for value in values if value.values]
        whole = len(means) == len(SCENARIOS)
        mean = Spread((statistics.fmean(means),) if whole else (), blank="not run")
        variance = Spread((statistics.variance(means),) if whole else (), blank="not run")
        cells[column] = [*values, mean, variance, cell(found, f"{model}, {FREE}", key)]
    index = pd.Index([*SCENARIOS, "mean of the five", "variance of the five", FREE], name="split")
    return Table(pd.DataFrame(cells, index=index), f"{found.note} {RULES}")


def over_splits(found: Recorded, key: Key, control: str, other: Key) -> Spread:
    """ProDA − a control, one value a scenario (of the means over seeds)."""
    pairs = [(cell(found, f"ProDA, {scenario}", key), cell(found, f"{control}, {scenario}", other))
             for scenario in SCENARIOS]  # fmt: skip
    return Spread(tuple(a.mean - b.mean for a, b in pairs if a.values and b.values), signed=True)


def shift_findings(found: Recorded) -> Text:
    """ProDA against its controls over the splits, and what the shift costs: scenario 1 with actions tied to scenes,
    against the same scenes without the tie."""
    sentences = []
    for label, key, control, other in (
        ("a_t", "paper/both/a_t", ("prompt_only", "the trained prompt-only control"), "trained/both/a_t"),
        ("a_m, no test labels", "a_m/map", ("no_prompt", "no_prompt"), "a_t/map"),
        ("a_s by partition, no test labels", "label_free/partition/a_s/map", ("no_prompt", "no_prompt"), "a_t/map"),
    ):
        away = over_splits(found, key, control[0], other)
        if away.values:
            below = sum(value < 0 for value in away.values)
            sentences.append(f"{label}: ProDA − {control[1]} = {away} points over the splits; below it in {below} of "
                             f"{len(away.values)}.")  # fmt: skip
    for (_, label), (model, key) in COLUMNS.items():
        tied, free = (cell(found, f"{model}, {end}", key) for end in (SCENARIOS[0], FREE))
        if tied.values and free.values:
            sentences.append(f"{label}: {tied} where actions depend on the scene, {free} where they do not.")
    return bullets(sentences or ["Nothing was run yet."])
