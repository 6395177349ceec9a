"""Robustness by number of labels (section 4.4, tables 6 and 7): the rows of the paper's protocol, regrouped.

A row is a (video, SAP) pair; L is the number of labels of its video, i how many of them its SAP holds. All rows of one
kind (distractor-injected or not) with the same L and i are a cell, and

    cell(L, i) = mAP of a_s over the rows of the cell, classes without positives skipped
    table(L)   = mean ± deviation of cell(L, i) over i = 1, 2, ...

Choices where the paper is silent. The deviation has the divisor n, so that L = 1, with one cell, has 0.0, as in the
paper's tables. i = 0 is left out: "no-action" is right for all of its rows, so its cell is 100 whatever the scores are.
With i >= 1 a label is inside the SAP, and "no-action" is right for no row: as a class without positives it is skipped,
so counting it or not gives the same number.

In a cell of few rows most classes are right in all the rows that ask for them, or in one only, and mAP says little. So
the number of videos goes with each L, and the prompt-only controls, which see no video, have the same cells.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from proda_lib.evaluation.charades import mean_average_precision
from proda_lib.evaluation.protocols import PaperProtocol

#: Kinds of specification, with the table of the paper that is about it.
KINDS = {"non_distractor": "table06", "distractor": "table07"}


def robustness(*folds: PaperProtocol) -> dict[str, dict]:
    """Cells and their mean and deviation, in percent; no further question is asked.

    Args:
        folds: scores of a model or of a prompt-only control under the paper's protocol, one entry a fold. A cell is the
            mean over the folds that have it: each fold has a model of its own, whose scores are ranked by themselves.

    Returns:
        ``[kind][L][i]`` the cell, ``[kind][L]["mean"]`` and ``[kind][L]["sd"]`` over its i; ``["videos"][L]`` how many
        videos have L labels. L and i are strings, as in JSON. A cell without rows is absent, and so is L = 0.
    """
    cells: dict[str, dict[int, dict[int, list[float]]]] = {"non_distractor": {}, "distractor": {}}
    videos: Counter[int] = Counter()
    for rows in folds:
        labels, inside = rows.labels.sum(1), (rows.sap & rows.labels).sum(1)
        for kind, of_kind in (("non_distractor", ~rows.distractor), ("distractor", rows.distractor)):
            for L, i in np.unique(np.stack([labels, inside])[:, of_kind & (inside > 0)], axis=1).T.tolist():
                cell = _a_s(rows, of_kind & (labels == L) & (inside == i))
                cells[kind].setdefault(L, {}).setdefault(i, []).append(cell)
        _, first = np.unique(rows.video, return_index=True)
        videos.update(labels[first][labels[first] > 0].tolist())
    found: dict[str, dict] = {}
    for kind, of_kind in cells.items():
        lines = {}
        for L, line in sorted(of_kind.items()):
            means = {str(i): float(np.mean(values)) for i, values in sorted(line.items())}
            each = list(means.values())
            lines[str(L)] = {**means, "mean": float(np.mean(each)), "sd": float(np.std(each))}
        found[kind] = lines
    return {**found, "videos": {str(L): float(count) for L, count in sorted(videos.items())}}


def _a_s(rows: PaperProtocol, chosen: np.ndarray) -> float:
    truth = rows.labels[chosen] & rows.sap[chosen]
    return 100 * mean_average_precision(rows.a_s[chosen, :-1], truth, empty="skip").map
