"""The packed store at the size of a data set: writing, opening, random access and memory."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.cases import Row, ratio_row
from benchmarks.measure import python, seconds, side_by_side
from proda_lib.datasets import world
from proda_lib.datasets.store import GraphStore, StoreWriter
from proda_lib.graph import SceneGraph

VIDEOS, FRAMES, FEW = 10_000, 76, 10
#: All rows are made if one of them is asked for.
STORE = ("store_write", "store_open", "store_read_features", "store_read_graph", "store_memory")


def simulated(count: int) -> Iterator[SceneGraph]:
    """Videos of SSG-World with features in half precision, their frames repeated evenly to :data:`FRAMES`."""
    config = world.WorldConfig(features=True)
    for index in tqdm(range(count), desc="videos", mininterval=5):
        graph = world.make_video(config, index).sample_frames(FRAMES)
        half = {name: getattr(graph, name).astype(np.float16) for name in ("features", "frame_features")}
        yield dataclasses.replace(graph, **half)


def store_rows(repeats: int, videos: int = VIDEOS) -> list[Row]:
    """Five rows. References: opening a small store; the same bytes by ``os.pread``; memory after a twentieth."""
    with tempfile.TemporaryDirectory() as folder:
        path, few = Path(folder) / "many", Path(folder) / "few"
        took = seconds(lambda: _write(path, simulated(videos)))
        _write(few, simulated(FEW))
        frames = videos * FRAMES
        size = f"{videos:,} videos, {frames:,} frames, {sum(f.stat().st_size for f in path.iterdir()) / 2**30:.1f} GiB"
        rows = [Row("store_write", size, "videos/s", None, videos / took, None, None, (1,), "generation included")]
        opened = side_by_side({"few": lambda: GraphStore(few), "many": lambda: GraphStore(path)}, repeats)
        rows.append(
            ratio_row("store_open", size, opened["few"], opened["many"], note=f"reference: a store of {FEW} videos")
        )
        store = GraphStore(path)
        order = np.random.default_rng(0).permutation(len(store))[:500].tolist()
        graphs = [store[index] for index in order]
        files: dict[str, int] = {}
        places = [_place(store, graph, files) for graph in graphs]
        read = side_by_side({"raw": lambda: [_raw(*place) for place in places],
                             "ours": lambda: [np.array(graph.features.packed) for graph in graphs]},
                            repeats)  # fmt: skip
        size = (
            f"{len(order)} videos at random, {sum(count for _, _, count in places) / len(order) / 2**10:.0f} KiB each"
        )
        rows.append(
            ratio_row(
                "store_read_features", size, read["raw"], read["ours"], note="reference: os.pread of the same bytes"
            )
        )
        rng = np.random.default_rng(1)
        whole = side_by_side({"raw": lambda: [_raw(*place) for place in places],
                              "ours": lambda: [store[index].sample_frames(16, rng) for index in order]},
                             repeats)  # fmt: skip
        note = "graph with 16 of its frames, checked; reference: os.pread of all its features"
        rows.append(ratio_row("store_read_graph", size, whole["raw"], whole["ours"], note=note))
        for file in files.values():
            os.close(file)
        rows.append(_memory_row(path, videos))
    return rows


def _write(folder: Path, graphs: Iterable[SceneGraph]) -> None:
    with StoreWriter(folder, world.VOCABULARY) as writer:
        for graph in graphs:
            writer.add(graph)


def _place(store: GraphStore, graph: SceneGraph, files: dict[str, int]) -> tuple[int, int, int]:
    """Open file, offset and length of a video's node features."""
    packed = graph.features.packed
    base = store.rows(graph.features.shard, "nodes")
    start = packed.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    name = str(base.filename)
    if name not in files:
        files[name] = os.open(name, os.O_RDONLY)
    return files[name], base.offset + start, packed.nbytes


def _raw(file: int, offset: int, count: int) -> bytes:
    return os.pread(file, count, offset)


READ_ALL = """
import resource, sys
from pathlib import Path
import numpy as np
from proda_lib.datasets.store import GraphStore

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

store, begin, peak = GraphStore(sys.argv[1]), resident(), 0.0
order = np.random.default_rng(2).permutation(len(store)).tolist()
for count, index in enumerate(order, 1):
    store[index].sample_frames(16)
    peak = max(peak, resident())
    if count == len(order) // 20:
        print(peak - begin)
print(peak - begin)
"""


def _memory_row(path: Path, videos: int) -> Row:
    """Peak resident memory, mapped files included, that a fresh process adds as it reads 16 frames of each video."""
    some, every = map(float, python(READ_ALL, str(path)).split())
    note = f"peak over the start, all videos; reference: the first {videos // 20:,} of them"
    return Row("store_memory", f"16 frames of {videos:,} videos at random", "MiB", some, every, some / every, None,
               (1, 1), note)  # fmt: skip
