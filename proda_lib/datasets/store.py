"""The packed store: many videos with visual features in one folder, opened in a moment and read at random.

::

    FOLDER/about.json          vocabulary, what the features are, and the list of shards with their checksums
    FOLDER/00000.arrow         one row a video: everything but the features (Arrow IPC)
    FOLDER/00000.safetensors   features of the shard's videos, memory-mapped: "nodes" (P, F), "frames" (T, F)
    FOLDER/00001.arrow ...

Only nodes that exist are stored: the P rows of a video are its present (frame, slot) pairs, frame by frame. A shard is
complete before ``about.json`` names it, and ``about.json`` is replaced in one step, so a crash costs the videos that
were not in a complete shard yet and nothing else. Bytes depend on the videos and their order alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import numpy as np
import pyarrow as pa
from jaxtyping import Float
from safetensors.numpy import save

from proda_lib.datasets.report import Report
from proda_lib.datasets.store_files import (
    FORMAT,
    KINDS,
    OWN_FILE,
    SCHEMA,
    feature_layout,
    fields_of_row,
    map_features,
    read_arrow,
    read_manifest,
    release,
    row_of_graph,
    write_arrow,
)
from proda_lib.datasets.stored_features import StoredFeatures
from proda_lib.errors import DataError
from proda_lib.files import make_folder, sha256, write_atomically, write_json
from proda_lib.graph import SceneGraph
from proda_lib.paths import ABOUT
from proda_lib.vocabulary import Vocabulary

SHARD_BYTES = 32 * 2**20  #: a shard is closed when the features of its videos are at least this large,
SHARD_VIDEOS = 2048  #: or when it has so many videos
OPEN_SHARDS = 16  #: so many stay in memory, which bounds that of a reader,
MAPPED_SHARDS = 192  #: and so many stay mapped, which bounds its open files (two each)


class StoreWriter:
    """Appends videos to a store; made by whoever comes first, and by one process at a time.

    Use it as a context manager. Videos become durable a shard at a time; what is left is written when the block ends
    without an error. After an error, or a kill, the store holds its complete shards: ask :attr:`videos` and go on.

    Args:
        folder: made if missing.
        vocabulary: of every video in the store.
        about: what the features are (encoder, checksums and so on), as JSON values; kept, and compared on append.

    Raises:
        DataError: another process is writing; the folder cannot be written; the store is damaged; it has another
            vocabulary or another ``about``; a video is there already, has another vocabulary, or has features that are
            neither float16 nor float32, or of another width or type than the others.
    """

    def __init__(self, folder: str | os.PathLike, vocabulary: Vocabulary, about: dict[str, Any] | None = None):
        self.folder, self.vocabulary = Path(folder), vocabulary
        self._rows: list[dict] = []
        self._features: list[dict[str, np.ndarray]] = []
        self._bytes = 0
        make_folder(self.folder, "store")
        self._lock = filelock.FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise DataError(self.folder, "store", "another process that writes", "one writer at a time") from error
        except OSError as error:
            raise DataError(self.folder, "store", error.strerror, "a folder that can be written") from error
        try:
            self.videos: set[str] = set()  #: names of the videos that are there
            self._manifest = self._continue(json.loads(json.dumps(about or {})))
        except BaseException:
            self._lock.release()
            raise

    def _continue(self, about: dict[str, Any]) -> dict[str, Any]:
        """The list of what is there; what a crash left without being listed is removed."""
        if (self.folder / ABOUT).exists():
            there = GraphStore(self.folder)
            if there.vocabulary != self.vocabulary:
                raise DataError(self.folder / ABOUT, "vocabulary", there.vocabulary.name, self.vocabulary.name)
            if there.about != about:
                raise DataError(self.folder / ABOUT, "about", there.about, f"{about}, which is now to be appended")
            self.videos.update(there.videos)
            shards, kinds = there._shards, there._kinds
        else:
            shards, kinds = [], {}
        listed = {f"{shard['name']}.{kind}" for shard in shards for kind in KINDS}
        for path in self.folder.iterdir():
            if OWN_FILE.fullmatch(path.name) and path.name not in listed and path.name != ABOUT:
                path.unlink()
        return {"format": FORMAT, "about": about, "features": kinds or None, "shards": shards}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._lock.release()

    def add(self, graph: SceneGraph) -> None:
        """Append a video. It is durable once its shard is full, or after :meth:`flush`."""
        if graph.vocabulary != self.vocabulary:
            raise DataError(graph.video, "vocabulary", graph.vocabulary.name, self.vocabulary.name)
        if graph.video in self.videos:
            raise DataError(graph.video, "video", "a video of the store", "a video that is not in the store yet")
        features = _packed_features(graph)
        for name, rows in features.items():
            if rows is not None and rows.dtype not in (np.float16, np.float32):
                raise DataError(graph.video, f"features of {name}", rows.dtype, "float16 or float32")
        kinds = {name: None if rows is None else f"{rows.dtype} x {rows.shape[1]}" for name, rows in features.items()}
        expected = self._manifest["features"] or kinds
        if kinds != expected:
            raise DataError(graph.video, "features", kinds, f"as in the store: {expected}")
        self._manifest["features"] = kinds
        self._rows.append(row_of_graph(graph))
        counts = {"nodes": int(graph.present.sum()), "frames": graph.num_frames}
        self._features.append({name: np.zeros((counts[name], 0), np.float32) if rows is None else rows
                               for name, rows in features.items()})  # fmt: skip
        self.videos.add(graph.video)
        self._bytes += sum(rows.nbytes for rows in self._features[-1].values())
        if self._bytes >= SHARD_BYTES or len(self._rows) >= SHARD_VIDEOS:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last shard as one more shard, to disk."""
        if not self._rows:
            return
        name = f"{len(self._manifest['shards']):05d}"
        tensors = {kind: np.concatenate([video[kind] for video in self._features]) for kind in ("nodes", "frames")}
        for kind, first in (("nodes", "first_node"), ("frames", "first_frame")):
            lengths = [len(video[kind]) for video in self._features]
            for row, start in zip(self._rows, np.cumsum([0, *lengths]).tolist(), strict=False):
                row[first] = start
        arrow, features = (self.folder / f"{name}.{kind}" for kind in KINDS)
        write_atomically(arrow, lambda path: write_arrow(path, self._rows))
        write_atomically(features, lambda path: path.write_bytes(save(tensors)))
        counts = {"videos": len(self._rows), **{kind: len(rows) for kind, rows in tensors.items()}}
        sums = dict(zip(KINDS, map(sha256, (arrow, features)), strict=True))
        self._manifest["shards"].append({"name": name, **counts, "sha256": sums})
        content = {**self._manifest, "vocabulary": dataclasses.asdict(self.vocabulary)}
        write_json(self.folder / ABOUT, content)
        self._rows, self._features, self._bytes = [], [], 0


def _packed_features(graph: SceneGraph) -> dict[str, np.ndarray | None]:
    nodes = None if graph.features is None else np.asarray(graph.features)[graph.present]
    return {"nodes": nodes, "frames": None if graph.frame_features is None else np.asarray(graph.frame_features)}


class GraphStore(Sequence[SceneGraph]):
    """A store as a sequence of scene graphs, and as a ``torch`` data set of them (it has a length and an index).

    Opening reads ``about.json`` and nothing else. A graph's ``features`` and ``frame_features`` stay in the file until
    frames are taken from them (:class:`StoredFeatures`). Safe to hand to worker processes.

    Raises:
        DataError: no store, another format, or a damaged one. The rows of a shard are compared with their checksum
            when the shard is first read; :meth:`verify` compares all bytes.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        manifest = read_manifest(self.folder)
        self.vocabulary: Vocabulary = manifest["vocabulary"]
        self.about: dict[str, Any] = manifest["about"]
        self._shards: list[dict] = manifest["shards"]
        self._kinds: dict[str, str | None] = manifest["features"] or {}
        self._starts = np.cumsum([0] + [shard["videos"] for shard in self._shards])
        self._sound: set[int] = set()  # shards whose rows were compared with their checksum
        self._forget()

    def _forget(self) -> None:
        self._batches: OrderedDict[int, pa.RecordBatch] = OrderedDict()  # rows, the ones read last at the end
        self._maps: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()  # in the same order
        self._read: OrderedDict[int, None] = OrderedDict()  # mapped shards, the ones read last at the end

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("_batches", "_maps", "_read")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()  # a process maps files for itself

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> SceneGraph:
        if not -len(self) <= index < len(self):
            raise IndexError(f"video {index} of {len(self)}")
        index %= len(self)
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        batch = self._batch(shard)
        row = {name: batch.column(name)[index - int(self._starts[shard])] for name in SCHEMA.names}
        fields = fields_of_row(self._path(shard, "arrow"), row, len(self.vocabulary.relations))
        present = fields["present"]
        if self._kinds.get("nodes"):
            fields["features"] = StoredFeatures(self, shard, "nodes", row["first_node"].as_py(), present)
        if self._kinds.get("frames"):
            whole = np.ones((len(present), 1), bool)
            fields["frame_features"] = StoredFeatures(self, shard, "frames", row["first_frame"].as_py(), whole)
        return SceneGraph(vocabulary=self.vocabulary, **fields)

    @cached_property
    def videos(self) -> list[str]:
        """Names of all videos, in order."""
        return [name for shard in range(len(self._shards)) for name in self._batch(shard)["video"].to_pylist()]

    def verify(self, report: Report | None = None) -> None:
        """Compare every file with its checksum (``proda data check FOLDER``).

        Raises:
            DataError: the first file that is missing or differs, unless the ``report`` gathers them all.
        """
        for shard in range(len(self._shards)):
            for kind in KINDS:
                self._verify(shard, kind, report or Report())

    def rows(self, shard: int, name: str) -> Float[np.ndarray, "rows F"]:
        """Memory-mapped features of a shard; ``name`` is "nodes" or "frames".

        What was read of a shard leaves the memory of this process when :data:`OPEN_SHARDS` others were read since, and
        its mapping goes after :data:`MAPPED_SHARDS` others.
        """
        if shard not in self._maps:
            path = self._path(shard, "safetensors")
            self._maps[shard] = map_features(path, feature_layout(path, self._shards[shard]))
        self._maps.move_to_end(shard)
        if len(self._maps) > MAPPED_SHARDS:
            self._maps.popitem(last=False)
        self._read[shard] = None
        self._read.move_to_end(shard)
        if len(self._read) > OPEN_SHARDS:
            release(self._maps[self._read.popitem(last=False)[0]])
        return self._maps[shard][name]

    def _path(self, shard: int, kind: str) -> Path:
        return self.folder / f"{self._shards[shard]['name']}.{kind}"

    def _verify(self, shard: int, kind: str, report: Report) -> None:
        path, expected = self._path(shard, kind), self._shards[shard]["sha256"][kind]
        try:
            found = f"sha256 {sha256(path)}"
        except OSError:
            found = "no file"
        if found != f"sha256 {expected}":
            report.fault(path, "checksum", found, f"sha256 {expected}")

    def _batch(self, shard: int) -> pa.RecordBatch:
        if shard not in self._batches:
            new = shard not in self._sound
            if new:
                self._verify(shard, "arrow", Report())
            self._batches[shard] = read_arrow(self._path(shard, "arrow"), self._shards[shard], check=new)
            self._sound.add(shard)
            if len(self._batches) > OPEN_SHARDS:
                self._batches.popitem(last=False)
        self._batches.move_to_end(shard)
        return self._batches[shard]
