"""Visual features of one video that stay in a packed store until frames are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from proda_lib.errors import DataError

if TYPE_CHECKING:
    from proda_lib.datasets.store import GraphStore


class StoredFeatures:
    """Features of one video that stay in the file: (T, M, F) for nodes, (T, F) for frames; zeros where absent.

    ``features[frames]`` reads these frames into a plain array, ``np.asarray(features)`` all of them.
    """

    def __init__(self, store: GraphStore, shard: int, name: str, start: int, exists: Bool[np.ndarray, "T M"]):
        self._store, self.shard, self._name, self._exists = store, shard, name, exists
        self._ends = start + np.cumsum(exists.sum(1))
        rows = store.rows(shard, name)
        if start < 0 or self._ends[-1] > len(rows):
            raise DataError(store.folder, f"shard {shard}, {name}", f"{len(rows)} rows", f"{self._ends[-1]} or more")
        self.dtype = rows.dtype
        self.shape = (*exists.shape, rows.shape[1]) if name == "nodes" else (len(exists), rows.shape[1])

    @property
    def packed(self) -> Float[np.ndarray, "P F"]:
        """The stored rows themselves, memory-mapped: one for each present node (or frame), in order."""
        return self._store.rows(self.shard, self._name)[self._ends[0] - self._exists[0].sum() : self._ends[-1]]

    def __getitem__(self, frames: Int[np.ndarray, "N"] | slice) -> Float[np.ndarray, "N ..."]:
        frames = np.arange(len(self._exists))[frames]
        exists = self._exists[frames]
        if exists.ndim != 2:
            raise TypeError("a video's stored features are indexed by an array or a slice of frames")
        counts = exists.sum(1)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(self._ends[frames] - counts, counts) + offsets
        taken = np.zeros((*exists.shape, self.shape[-1]), self.dtype)
        taken[exists] = self._store.rows(self.shard, self._name)[rows]
        return taken if self._name == "nodes" else taken[:, 0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
