"""Small tables for pages."""

from __future__ import annotations

import pandas as pd


def shapes(tensors: dict[str, tuple[str, object]]) -> pd.DataFrame:
    """A row for each tensor: name → (what its axes are, the tensor)."""
    rows = {name: (axes, " × ".join(map(str, tensor.shape))) for name, (axes, tensor) in tensors.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["axes", "shape here"])
