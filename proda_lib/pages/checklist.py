"""The page "Checklist": how far numbers move from seed to seed, and what choosing the epoch on the test videos does."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from proda_lib.evaluation import audit, report, tables
from proda_lib.evaluation.cells import Spread, Table, Text, bullets
from proda_lib.evaluation.differences import compare, differences
from proda_lib.evaluation.grid import Recorded, cell
from proda_lib.evaluation.report import DATASETS, Key, RunRows, spread
from proda_lib.training.runs import Run

#: Measures of ProDA that the page follows: one under the paper's protocol, two without labels in the question.
MEASURES: dict[str, Key] = {
    "a_t, paper's protocol, both kinds": "paper/both/a_t",
    "a_s, partition": "label_free/partition/a_s/map",
    "a_m": "a_m/map",
}


def seed_rows(seeds: Sequence[int]) -> RunRows:
    """Committed records of more than one seed by (data set, model), those of the Charades audit with them."""
    found: RunRows = {}
    for dataset, table, proda in (("world", tables.table03, "DPM"), ("cad120", tables.cad120, "proda")):
        for name, group in report.committed_runs(table("reference", seeds, dataset)).items():
            found[f"{DATASETS[dataset]}: {name.replace(proda, 'ProDA')}"] = group  # each table has a name of its own
    record = audit.recorded()
    found["Charades: prompt_only"] = [Run({"metrics": metrics}, None) for metrics in record["metrics"]]
    return {name: group for name, group in found.items() if len(group) > 1}


def seed_table(found: RunRows) -> Table:
    """Mean, standard deviation and range over seeds of each measure that a model has."""
    measures = {**MEASURES, "mAP, no prompt": "a_t/map", "a_t, prompt alone, trained": "trained/both/a_t",
                "a_t, prompt alone, rule": "rule/both/a_t"}  # fmt: skip
    lines = {}
    for name, group in found.items():
        for label, key in measures.items():
            if len(values := spread(group, key).values) > 1:
                extremes = (Spread((edge,)) for edge in (min(values), max(values)))
                lines[f"{name}: {label}"] = (len(values), Spread(values), *extremes)
    columns = ["seeds", "mean ± sd", "lowest", "highest"]
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    frame.index.name = "model: measure"
    if frame.empty:
        return Table(frame, "No records of more than one seed are committed.")
    return Table(frame, "Committed records of profile reference; mAP in percent; divisor n − 1. A seed changes the "
                 "weights, the order of the videos, which of them are held out for validation, and the specifications "
                 "of training and of evaluation.")  # fmt: skip


def selection_table(found: Recorded) -> Table:
    """The two ways to pick the best epoch, and their difference seed by seed."""
    ways = {way: found.runs[way] for way in ("validation", "test")}
    cells = {way: [cell(found, way, key) for key in MEASURES.values()] for way in ways}
    away = [differences(ways["test"], ways["validation"], key) for key in MEASURES.values()]
    cells["test − validation"] = [Spread(d.values, blank="not run", signed=True) for d in away]
    frame = pd.DataFrame(cells, index=pd.Index(list(MEASURES), name="answer"))
    recipe = next(run.recipe for group in ways.values() for run in group) if any(ways.values()) else None
    epochs = f" {recipe.pretrain_epochs} + {recipe.posttrain_epochs} epochs to choose from." if recipe else ""
    return Table(frame, f"{found.note}{epochs} mAP in percent.")


def selection_findings(found: Recorded) -> Text:
    """The difference in words, seed by seed."""
    return bullets(
        compare(
            "selected on test",
            "selected on validation",
            label,
            differences(found.runs["test"], found.runs["validation"], key),
        )
        for label, key in MEASURES.items()
    )
