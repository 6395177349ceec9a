"""``proda data prepare charades``: Action Genome's and Charades' official files → packed stores with CLIP features.

For each frame that Action Genome annotates, the encoder sees the whole frame and the crop of each box. Frames come from
Action Genome's frame folders (``VIDEO.mp4/NNNNNN.png``) or are decoded from Charades' videos (``VIDEO.mp4``) by frame
number, at the rate that ``star_video_fps`` gives.

A run can be stopped at any time and started again. What is finished waits in ``OUT/train.partial``; ``OUT/train``
appears when the split is complete, packed in the order of the annotations. Videos go through the encoder in groups of
:data:`GROUP` that depend on the annotations alone, and a group is encoded whole even if a part of it is finished
already; so the store has the same bytes however often the run was stopped.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from proda_lib.datasets.official import Files
from proda_lib.datasets.prepare_files import check_charades, parts_of, refuse_other_files
from proda_lib.datasets.store import GraphStore, StoreWriter
from proda_lib.errors import DataError
from proda_lib.features.clip import BATCH, ClipEncoder, ahead, pictures_of, with_features
from proda_lib.features.film import Picture
from proda_lib.features.video import read_frames
from proda_lib.files import make_folder, recover_folder, replacing, write_json
from proda_lib.graph import SceneGraph
from proda_lib.paths import ABOUT

__all__ = ["check_charades", "prepare_charades"]

GROUP = 8  #: videos that go through the encoder together
FLUSH_SECONDS = 60.0  #: a killed run loses the group that is encoded, and at most this much before it
PACKAGES = ("proda-lib", "av", "numpy", "pillow", "torch", "transformers")
SKIPPED = "skipped.json"  #: in a store's folder: the videos that ``skip_broken`` left out, and why


def prepare_charades(
    annotations: str | os.PathLike, frames: str | os.PathLike, out: str | os.PathLike, features: str,
    split: str | None = None, device: str = "cpu", allow_download: bool = False, skip_broken: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Path]:  # fmt: skip
    """Write ``out/train`` and ``out/test`` (or one of them), each a store (:mod:`proda_lib.datasets.store`).

    Args:
        annotations: folder of the official files; see :meth:`Files.find`.
        frames: folder with a ``VIDEO.mp4`` for each video: a folder of frames or a video file.
        features: name or folder of a CLIP model, "random" or "random-tiny"; see :meth:`ClipEncoder.load`.
        skip_broken: leave out videos whose frames cannot be read, and write their names to ``skipped.json``.
        say: receives one line a split, and one for each video left out.

    Returns:
        {split: folder of its store}.

    Raises:
        DataError: a file is missing or broken (the message names it; what was finished before is kept, and a second
            call goes on); the store was begun with another encoder, other annotations or other versions, or was
            damaged since; ``out`` cannot be written, or has other files where a store is to be.
    """
    for part in parts_of(split):
        refuse_other_files(Path(out) / part)
    make_folder(Path(out), "stores")
    encoder, stores = ClipEncoder.load(features, device, allow_download), {}
    for part in parts_of(split):
        files = Files.find(annotations, (part,))
        graphs, store = files.read(part), Path(out) / part
        if not graphs:
            raise DataError(files.annotations / "frame_list.txt", part, "no videos", "videos of this split")
        skipped = _prepare_split(store, part, graphs, files, Path(frames), encoder, skip_broken)
        for video, fault in skipped.items():
            say(f"left out {video}: {fault}")
        say(f"{part}: {len(graphs) - len(skipped)} videos in {store}, features of {encoder.name}")
        stores[part] = store
    return stores


def _prepare_split(
    folder: Path, split: str, graphs: list[SceneGraph], files: Files, frames: Path, encoder: ClipEncoder,
    skip_broken: bool,
) -> dict[str, str]:  # fmt: skip
    """Make the store of a split, or add what it lacks; returns what was left out, and why."""
    recover_folder(folder)
    partial, about = folder.with_name(f"{folder.name}.partial"), _about(split, files, encoder)
    stores = [store for store in (_begun(folder, about), _begun(partial, about)) if store is not None]
    there = {video for store in stores for video in store.videos}
    if stores and stores[0].folder == folder and {graph.video for graph in graphs} <= set(stores[0].videos):
        _remove(partial)  # of a run that was killed when all else was done
        return {}
    for store in stores:
        _verify(store)  # before hours are spent, and again before it is copied
    skipped: dict[str, str] = {}
    encoded = _encoded(graphs, there, files, frames, encoder, skipped if skip_broken else None)
    with StoreWriter(partial, graphs[0].vocabulary, about) as store:
        flushed = time.monotonic()
        with tqdm(desc=split, unit="video", initial=len(there), total=len(graphs), smoothing=0.05) as bar:
            while True:
                try:
                    if (group := next(encoded, None)) is None:
                        break
                except BaseException:  # Ctrl-C too: what is finished stays
                    store.flush()
                    raise
                for graph in group:
                    store.add(graph)
                bar.update(len(group))
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    store.flush()
                    flushed = time.monotonic()
        store.flush()
        if len(skipped) == len(graphs):
            raise DataError(frames, split, "no video with sound frames", "at least one")
        _pack(folder, partial, graphs, about, skipped)
    _remove(partial)
    return skipped


def _pack(
    folder: Path, partial: Path, graphs: list[SceneGraph], about: dict[str, Any], skipped: dict[str, str]
) -> None:
    """Put the videos of both stores in the order of the annotations into a new one, which takes the final name."""
    stores = [GraphStore(path) for path in (folder, partial) if (path / ABOUT).exists()]
    for store in stores:
        _verify(store)
    places = {video: (store, index) for store in stores for index, video in enumerate(store.videos)}
    with replacing(folder) as scratch:
        with StoreWriter(scratch / "new", graphs[0].vocabulary, about) as writer:
            for store, index in (places[graph.video] for graph in graphs if graph.video in places):
                writer.add(store[index])
        if skipped:
            write_json(scratch / "new" / SKIPPED, skipped)


def _remove(partial: Path) -> None:
    """Remove a store; its list first, so that a kill leaves no store that lacks some of its files."""
    (partial / ABOUT).unlink(missing_ok=True)
    shutil.rmtree(partial, ignore_errors=True)


def _verify(store: GraphStore) -> None:
    """Copying gives new checksums, so that nobody would ever see what was damaged before."""
    try:
        store.verify()
    except DataError as error:
        expected = f"{error.expected}, as written; remove {store.folder} and start again"
        raise DataError(error.source, error.where, error.found, expected) from error


def _encoded(
    graphs: list[SceneGraph], there: set[str], files: Files, frames: Path, encoder: ClipEncoder,
    skipped: dict[str, str] | None,
) -> Iterator[list[SceneGraph]]:  # fmt: skip
    """The videos that are not ``there``, in order, with features, a group at a time; the next group is decoded while
    one is encoded."""
    numbers, rates = files.frame_numbers(), files.frame_rates()
    groups = [graphs[start : start + GROUP] for start in range(0, len(graphs), GROUP)]
    groups = [group for group in groups if any(graph.video not in there for graph in group)]

    def decode(group: list[SceneGraph]) -> list[tuple[SceneGraph, list[Picture]]]:
        decoded = []
        for graph in group:
            file = f"{graph.video}.mp4"
            try:
                pictures = read_frames(frames / file, numbers=numbers[graph.video], rate=rates[file])
            except DataError as error:
                if skipped is None:
                    raise
                if graph.video not in there:
                    skipped[graph.video] = str(error)
                continue
            decoded.append((graph, pictures_of(graph, pictures)))
        return decoded

    with ThreadPoolExecutor(1) as pool:
        for decoded in ahead(pool, decode, groups, depth=1):
            vectors = encoder.encode([picture for _, pictures in decoded for picture in pictures])
            ends = np.cumsum([len(pictures) for _, pictures in decoded]).tolist()
            yield [with_features(graph, vectors[end - len(pictures) : end])
                   for (graph, pictures), end in zip(decoded, ends, strict=True)
                   if graph.video not in there]  # fmt: skip


def _about(split: str, files: Files, encoder: ClipEncoder) -> dict[str, Any]:
    """The record of a store: what its features depend on."""
    return {
        "data": "Action Genome and Charades",
        "split": split,
        "encoder": encoder.name,
        "random": encoder.random,
        "weights": encoder.checksum,
        "width": encoder.width,
        "device": encoder.device.type,
        "precision": str(encoder.precision).removeprefix("torch."),
        "batch": BATCH,
        "group": GROUP,
        "versions": {package: version(package) for package in PACKAGES},
        "checksums": files.checksums(),
    }


def _begun(folder: Path, about: dict[str, Any]) -> GraphStore | None:
    """The store in a folder, if there is one; what was begun with something else cannot be continued."""
    if not (folder / ABOUT).exists():
        return None
    store = GraphStore(folder)
    for key in about.keys() | store.about.keys():
        if store.about.get(key) != about.get(key):
            expected = f"{about.get(key)}, as now; give another --out, or remove the folder"
            raise DataError(folder / ABOUT, key, store.about.get(key), expected)
    return store
