"""The files of a packed store (:mod:`proda_lib.datasets.store`): rows of videos, mapped features, the shard list."""

from __future__ import annotations

import json
import mmap
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError, safe_open

from proda_lib.errors import DataError
from proda_lib.graph import SceneGraph
from proda_lib.paths import ABOUT
from proda_lib.vocabulary import Vocabulary

FORMAT = 1
KINDS = ("arrow", "safetensors")
#: Names of what a store writes, finished or not; all else in its folder is somebody else's.
OWN_FILE = re.compile(rf"({re.escape(ABOUT)}|[0-9]{{5}}\.({'|'.join(KINDS)}))(\.partial[0-9]+)?")

_INTS, _FLOATS = pa.list_(pa.int64()), pa.list_(pa.float64())
#: One row a video. ``present``, ``relations`` and ``carriers`` are packed bits, (T, M), (T, E, R) and (T, E, K); boxes
#: are (P, 4), of present nodes alone; edges are all senders, then all receivers; segments start, end, start, end, ...
#: ``first_node``, ``first_frame``: where the video begins in the shard's features. No ``carriers``: null.
SCHEMA = pa.schema([
    ("video", pa.string()), ("duration", pa.float64()), ("scene", pa.int64()), ("classes", _INTS), ("edges", _INTS),
    ("times", _FLOATS), ("present", pa.binary()), ("boxes", _FLOATS), ("relations", pa.binary()),
    ("labels", _INTS), ("segment_labels", _INTS), ("segments", _FLOATS), ("carriers", pa.binary()),
    ("first_node", pa.int64()), ("first_frame", pa.int64()),
])  # fmt: skip


def row_of_graph(graph: SceneGraph) -> dict[str, Any]:
    """A graph without its features, as a row; boxes and times come back in double precision."""
    packed = {name: np.packbits(getattr(graph, name)).tobytes() for name in ("present", "relations")}
    carriers = None if graph.carriers is None else np.packbits(graph.carriers).tobytes()
    flat = {name: getattr(graph, name).ravel() for name in ("classes", "edges", "times", "labels", "segment_labels",
                                                            "segments")}  # fmt: skip
    return {"video": graph.video, "duration": float(graph.duration), "scene": int(graph.scene), **flat, **packed,
            "boxes": graph.boxes[graph.present].astype(np.float64).ravel(), "carriers": carriers}  # fmt: skip


def fields_of_row(path: Path, row: dict[str, pa.Scalar], relations: int) -> dict[str, Any]:
    """The other way; arrays are copies. Raises :class:`DataError` if the parts of the row do not fit together."""
    try:
        lists = [name for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True) if pa.types.is_list(kind)]
        flat = {name: np.array(row[name].values.to_numpy()) for name in lists}
        T, M, E, K = len(flat["times"]), len(flat["classes"]), len(flat["edges"]) // 2, len(flat["segment_labels"])
        fields = {"video": row["video"].as_py(), "duration": row["duration"].as_py(), "scene": row["scene"].as_py(),
                  "present": _bits(row["present"], (T, M)), "relations": _bits(row["relations"], (T, E, relations)),
                  "carriers": _bits(row["carriers"], (T, E, K)) if row["carriers"].is_valid else None}  # fmt: skip
        boxes = np.zeros((T, M, 4))
        boxes[fields["present"]] = flat["boxes"].reshape(-1, 4)
        flat |= {"boxes": boxes, "edges": flat["edges"].reshape(2, E), "segments": flat["segments"].reshape(K, 2)}
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise DataError(path, f"video {row['video']}", error, "the row of a whole video") from error
    return fields | flat


def _bits(packed: pa.Scalar, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    bits = np.unpackbits(np.frombuffer(packed.as_buffer(), np.uint8), count=count)
    if len(packed.as_buffer()) != -(-count // 8):
        raise ValueError(f"{len(packed.as_buffer())} bytes for {count} bits")
    return bits.view(bool).reshape(shape)


def write_arrow(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows → an Arrow IPC file with one batch."""
    columns = [
        pa.array([row[name] for row in rows], kind) for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)
    ]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(pa.record_batch(columns, schema=SCHEMA))


def read_arrow(path: Path, shard: dict[str, Any], check: bool) -> pa.RecordBatch:
    """The rows of a shard, mapped; ``check`` looks at every offset. Checksums are the caller's."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batch = reader.get_batch(0)
        if check:
            batch.validate(full=True)
    except (OSError, ValueError, IndexError, pa.ArrowException) as error:
        raise DataError(path, "file", f"{type(error).__name__}: {error}", "the rows of a shard") from error
    if batch.schema != SCHEMA or batch.num_rows != shard["videos"] or any(
        batch.column(name).null_count for name in SCHEMA.names if name != "carriers"
    ):  # fmt: skip
        raise DataError(path, "rows", f"{batch.num_rows} rows of {batch.schema.names}", f"{shard['videos']} whole rows")
    return batch


def feature_layout(path: Path, shard: dict[str, Any]) -> dict[str, tuple[type, int, tuple[int, int]]]:
    """Type, offset in the file and shape of a shard's "nodes" and "frames", to be mapped with ``np.memmap``.

    ``safetensors`` checks the file; the mapping is NumPy's, because its own slices are copies and five times slower.
    """
    layout = {}
    try:
        with safe_open(path, "numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in ("nodes", "frames")}
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for name, kind in kinds.items():
            rows, width = header[name]["shape"]
            if rows != shard[name]:
                raise ValueError(f"{name}: {rows} rows, expected {shard[name]}")
            start = 8 + length + header[name]["data_offsets"][0]
            layout[name] = {"F16": np.float16, "F32": np.float32}[kind], start, (rows, width)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(path, "file", f"{type(error).__name__}: {error}", "the features of a shard") from error
    return layout


def map_features(path: Path, layout: dict[str, tuple[type, int, tuple[int, int]]]) -> dict[str, np.ndarray]:
    """The mapped features of a shard by name; what is empty cannot be mapped and is an empty array."""
    try:
        return {name: np.memmap(path, dtype, "r", start, shape) if all(shape) else np.zeros(shape, dtype)
                for name, (dtype, start, shape) in layout.items()}  # fmt: skip
    except (OSError, ValueError) as error:
        raise DataError(path, "file", f"{type(error).__name__}: {error}", "the features of a shard") from error


def release(mapped: dict[str, np.ndarray]) -> None:
    """Give the pages of mapped arrays back to the system; whoever still has a view reads them again when needed."""
    for array in mapped.values():
        if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            array._mmap.madvise(mmap.MADV_DONTNEED)


def read_manifest(folder: Path) -> dict[str, Any]:
    """``about.json`` of a store, checked: format, vocabulary, and for each shard its name, counts and checksums."""
    path = folder / ABOUT
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format"]
        sound = found == FORMAT and isinstance(manifest["about"], dict)
        kinds = manifest["features"]
        sound &= kinds is None or (set(kinds) == {"nodes", "frames"})
        for number, shard in enumerate(manifest["shards"]):
            counts = [shard[name] for name in ("videos", "nodes", "frames")]
            sound &= shard["name"] == f"{number:05d}" and all(type(n) is int and 0 <= n < 2**48 for n in counts)
            sound &= set(shard["sha256"]) == set(KINDS) and shard["videos"] > 0
        manifest["vocabulary"] = Vocabulary.from_json(manifest["vocabulary"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(path, "file", f"{type(error).__name__}: {error}", "the list of a packed store") from error
    if not sound:
        raise DataError(path, "file", f"format {str(found)[:40]}", f"the list of a packed store, format {FORMAT}")
    return manifest
