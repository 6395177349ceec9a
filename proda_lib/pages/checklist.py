"""The page "Checklist": how far numbers move from seed to seed, and what choosing the epoch on the test videos does."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from proda_lib.evaluation import audit, report, tables
from proda_lib.evaluation.report import (
    DATASETS,
    Key,
    RunRows,
    Spread,
    Table,
    Text,
    bullets,
    compare,
    differences,
    setting,
    spread,
)
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
    for dataset, table in (("world", tables.table03), ("cad120", tables.cad120)):
        for name, group in report.committed_runs(table("reference", seeds, dataset)).items():
            found[f"{DATASETS[dataset]}: {name}"] = group
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
                 "weights, the order of the videos, and the specifications of training and of evaluation.")  # fmt: skip


def selection_rows(seeds: Sequence[int]) -> dict[str, RunRows]:
    """Committed records of the two ways to pick the best epoch, by data set, where both ways are there."""
    found = {DATASETS[name]: report.committed_runs(tables.selection("reference", seeds, name))
             for name in ("world", "cad120")}  # fmt: skip
    return {name: rows for name, rows in found.items() if {"validation", "test"} <= set(rows)}


def selection_table(found: dict[str, RunRows]) -> Table:
    """The two ways on each data set, and their difference seed by seed."""
    if not found:
        return Table(pd.DataFrame(), "Not run: no records of both ways are committed.")
    cells, notes = {}, []
    for name, rows in found.items():
        ways = rows["validation"], rows["test"]
        for way, group in zip(("validation", "test"), ways, strict=True):
            cells[name, way] = [spread(group, key) for key in MEASURES.values()]
        cells[name, "test − validation"] = [differences(*ways[::-1], key) for key in MEASURES.values()]
        recipe = ways[1][0].recipe
        notes.append(f"{setting(rows)} {recipe.pretrain_epochs} + {recipe.posttrain_epochs} epochs to choose from.")
    return Table(
        pd.DataFrame(cells, index=pd.Index(list(MEASURES), name="answer")), f"{' '.join(notes)} mAP in percent."
    )


def selection_findings(found: dict[str, RunRows]) -> Text:
    """The difference in words, seed by seed, and where there was nothing to choose."""
    if not found:
        return Text("**Not run.** Two recipes that differ in `select` alone will be compared here seed by seed.")
    sentences = []
    for name, rows in found.items():
        for label, key in MEASURES.items():
            difference = differences(rows["test"], rows["validation"], key)
            sentences.append(compare("selected on test", "selected on validation", f"{name}, {label}", difference))
        recipe = rows["test"][0].recipe
        if recipe.pretrain_epochs == recipe.posttrain_epochs == 1:
            sentences.append(f"{name}: each stage has one epoch, so there was nothing to choose, and the difference is "
                             "that of the training videos alone.")  # fmt: skip
    return bullets(sentences)


def selection_records(found: dict[str, RunRows]) -> Table:
    """Which runs these are."""
    return report.records({f"{name}: {way}": group for name, rows in found.items() for way, group in rows.items()})
