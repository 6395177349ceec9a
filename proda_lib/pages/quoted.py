"""A table of the paper as it stands there."""

from __future__ import annotations

import pandas as pd

from proda_lib.evaluation.cells import Spread, Table
from proda_lib.evaluation.papers import paper_table


def quoted_table(name: str, corner: str) -> Table:
    """``results/paper/NAME.csv`` as a table."""
    rows: dict[str, dict[str, Spread]] = {}
    for (row, column), value in paper_table(name).items():
        rows.setdefault(row, {})[column] = value
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    cells = {column: [row.get(column, Spread()) for row in rows.values()] for column in columns}
    return Table(pd.DataFrame(cells, index=pd.Index(list(rows), name=corner)), "Quoted from the paper.")
