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

import numpy as np

from proda_lib.evaluation.charades import mean_average_precision
from proda_lib.evaluation.protocols import PaperProtocol

#: Kinds of specification, with the table of the paper that is about it.
KINDS = {"non_distractor": "table06", "distractor": "table07"}


def robustness(rows: PaperProtocol) -> dict[str, dict]:
    """Cells and their mean and deviation, in percent; no further question is asked.

    Args:
        rows: scores of a model or of a prompt-only control under the paper's protocol, of one or of several folds.

    Returns:
        ``[kind][L][i]`` the cell, ``[kind][L]["mean"]`` and ``[kind][L]["sd"]`` over its i; ``["videos"][L]`` how many
        videos have L labels. L and i are strings, as in JSON. A cell without rows is absent, and so is L = 0.
    """
    labels, inside = rows.labels.sum(1), (rows.sap & rows.labels).sum(1)
    found: dict[str, dict] = {}
    for kind, of_kind in (("non_distractor", ~rows.distractor), ("distractor", rows.distractor)):
        lines = {}
        for L in np.unique(labels[of_kind & (inside > 0)]):
            of_L = of_kind & (labels == L)
            cells = {str(i): _a_s(rows, of_L & (inside == i)) for i in np.unique(inside[of_L & (inside > 0)])}
            values = list(cells.values())
            lines[str(L)] = {**cells, "mean": float(np.mean(values)), "sd": float(np.std(values))}
        found[kind] = lines
    videos = {str(L): float(len(np.unique(rows.video[labels == L]))) for L in np.unique(labels[labels > 0])}
    return {**found, "videos": videos}


def _a_s(rows: PaperProtocol, chosen: np.ndarray) -> float:
    truth = rows.labels[chosen] & rows.sap[chosen]
    return 100 * mean_average_precision(rows.a_s[chosen, :-1], truth, empty="skip").map
