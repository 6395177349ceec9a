"""The official files behind ``proda data prepare charades``: where they lie, and what is missing before it starts."""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from proda_lib.datasets.action_genome import read_action_genome
from proda_lib.datasets.action_genome_files import load_dict
from proda_lib.datasets.install import CHARADES_CLASSES, CHARADES_CSVS
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError
from proda_lib.features.clip import ClipEncoder
from proda_lib.features.video import numbered, probe
from proda_lib.files import sha256
from proda_lib.graph import SceneGraph

CSVS = dict(zip(("train", "test"), CHARADES_CSVS, strict=True))
KINDS = ("annotation", "frames", "csv row")  #: what a video can lack


@dataclass(frozen=True)
class Files:
    """Where the official files of one split lie."""

    annotations: Path
    csv: Path
    classes: Path
    rates: Path

    @classmethod
    def find(cls, folder: str | os.PathLike, split: str) -> Files:
        """In ``folder``, its ``annotations/``, or ``charades/`` in it or beside it, as data/README.md has them."""
        folder = Path(folder)
        places = (folder, folder / "annotations", folder / "charades", folder.resolve().parent / "charades")

        def found(name: str) -> Path:
            if (place := next((p for p in places if (p / name).is_file()), None)) is None:
                searched = ", ".join(map(str, places))
                raise DataError(folder, name, "no such file", f"the official file in one of {searched}")
            return place / name

        return cls(found("frame_list.txt").parent, found(CSVS[split]), found(CHARADES_CLASSES), found("star_video_fps"))

    def read(self, split: str, report: Report | None = None) -> list[SceneGraph]:
        """The scene graphs of the split, without features."""
        return read_action_genome(self.annotations, [self.csv], self.classes, self.rates, split, report=report)

    def frame_numbers(self) -> dict[str, list[int]]:
        """The annotated frames of each video in order of time, as the reader takes them."""
        text = (self.annotations / "frame_list.txt").read_text("utf-8", "replace")
        numbers: dict[str, set[int]] = defaultdict(set)
        for video, number in re.findall(r"^\s*([^/\n]+)\.mp4/([0-9]{6})\.png\s*$", text, re.M):
            numbers[video].add(int(number))
        return {video: sorted(found) for video, found in numbers.items()}

    def frame_rates(self) -> dict[str, float]:
        """Frames per second by the name of the video's file."""
        return load_dict(self.rates, Report())

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file that the graphs come from."""
        names = ("frame_list.txt", "object_bbox_and_relationship.pkl", "person_bbox.pkl", "object_classes.txt",
                 "relationship_classes.txt")  # fmt: skip
        paths = [*(self.annotations / name for name in names), self.csv, self.classes, self.rates]
        return {path.name: sha256(path) for path in paths}


@dataclass
class Readiness:
    """What a split lacks before it can be prepared.

    Attributes:
        videos, frames: how many are annotated.
        missing: {video: [(what of :data:`KINDS`, explanation)]}, only videos that lack something.
        faults: what is wrong with no video in particular.
    """

    split: str
    videos: int = 0
    frames: int = 0
    missing: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether nothing is missing."""
        return not (self.missing or self.faults)

    def lines(self) -> Iterator[str]:
        """The report: one line for each thing that a video lacks, then the totals."""
        for fault in self.faults:
            yield f"{self.split}: {fault}"
        for video, lacks in sorted(self.missing.items()):
            yield from (f"{self.split} {video}: {kind}: {text}" for kind, text in lacks)
        counts = Counter(kind for lacks in self.missing.values() for kind in {kind for kind, _ in lacks})
        lack = ", ".join(f"{kind} {counts[kind]}" for kind in KINDS)
        yield (f"{self.split}: {self.videos} videos with {self.frames} frames; {len(self.missing)} videos lack "
               f"something ({lack}); {len(self.faults)} other faults")  # fmt: skip


def check_charades(
    annotations: str | os.PathLike, frames: str | os.PathLike, split: str | None = None,
    out: str | os.PathLike | None = None, features: str | None = None, device: str = "cpu",
) -> list[Readiness]:  # fmt: skip
    """What each split (or the given one) lacks, without decoding a frame; see :func:`prepare_charades`.

    Args:
        out: where the stores are to be; None does not look whether they can be written and have room.
        features, device: the encoder, which is loaded; None does not look for it.
    """
    found: list[Readiness] = []
    encoder, before, sizes = None, [], {}
    try:
        encoder = None if features is None else ClipEncoder.load(features, device)
    except DataError as error:
        before.append(str(error))
    for part in parts_of(split):
        ready = Readiness(part)
        found.append(ready)
        try:
            files = Files.find(annotations, part)
            report, numbers, rates = Report(collect=True), files.frame_numbers(), files.frame_rates()
        except DataError as error:
            ready.faults.append(str(error))
            continue
        with warnings.catch_warnings():  # what the reader warns of is no fault
            warnings.simplefilter("ignore")
            graphs = files.read(part, report)
        names = {graph.video for graph in graphs}
        if encoder is not None:
            vectors = sum(graph.num_frames + int(graph.present.sum()) for graph in graphs)
            sizes[part] = vectors * encoder.width * np.dtype(np.float32).itemsize
        for error in report.errors:
            words = re.split(r"[ ()/]|\.mp4", error.where)
            if (video := next((word for word in words if word in numbers), None)) is None:
                ready.faults.append(str(error))
                continue
            lacks_row = error.source.endswith(".csv") or error.found == "no row in the csv"
            ready.missing[video].append(("csv row" if lacks_row else "annotation", str(error)))
            names.add(video)
        for video in tqdm(sorted(names), desc=f"{part}, frames", unit="video"):
            rate = rates.get(f"{video}.mp4")
            rate = rate if isinstance(rate, int | float) and 0 < rate < math.inf else None  # a fault of its own
            if lack := _lacking(Path(frames) / f"{video}.mp4", numbers[video], rate):
                ready.missing[video].append(("frames", lack))
        ready.videos, ready.frames = len(names), sum(len(numbers[video]) for video in names)
        if not names:
            ready.faults.append(f"no videos of this split in {files.annotations / 'frame_list.txt'}")
    for ready in found if out is not None else ():
        try:
            refuse_other_files(Path(out) / ready.split)
        except DataError as error:
            ready.faults.append(str(error))
    found[0].faults[:0] = before + ([] if out is None else _place_faults(Path(out), sizes))
    return found


def _place_faults(out: Path, sizes: dict[str, int]) -> list[str]:
    """Why a folder cannot take the stores of these sizes, if so. Packing a split needs room for it twice."""
    place = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
    try:
        with tempfile.TemporaryDirectory(prefix=".proda-", dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        return [str(DataError(out, "stores", error.strerror or error, "a folder that can be written"))]
    needed = kept = 0
    for part, size in sizes.items():
        stores = [folder for folder in (out / part, out / f"{part}.partial") if folder.is_dir()]
        there = sum(file.stat().st_size for store in stores for file in store.iterdir())
        needed, kept = max(needed, kept + 2 * size - there), kept + max(0, size - there)
    if free < needed:
        expected = f"{needed / 2**30:.2f} GiB: the features, and as much again while they are packed"
        return [str(DataError(place, "free space", f"{free / 2**30:.2f} GiB", expected))]
    return []


def _lacking(path: Path, numbers: list[int], rate: float | None) -> str:
    """Which of the frames are not there; "" if all are."""
    try:
        if path.is_dir():
            lost = sorted(set(numbers) - numbered(path).keys())
            return f"{path}: {len(lost)} of {len(numbers)} missing, first {lost[0]:06d}.png" if lost else ""
        info = probe(path)
    except DataError as error:
        return str(error)
    last = (numbers[-1] - 0.5) / (rate or info.rate)
    return f"{path}: ends at {info.duration:.2f} s, frame {numbers[-1]} is at {last:.2f} s" if (
        last > info.duration + 1 / info.rate) else ""  # fmt: skip


def refuse_other_files(folder: Path) -> None:
    """Raises :class:`DataError` if a store is to be where something else is, which would be lost."""
    if os.path.lexists(folder) and not (folder / "about.json").is_file():
        if not folder.is_dir() or any(folder.iterdir()):
            raise DataError(folder, "store", "other files", "nothing there, or a store; give another --out")


def parts_of(split: str | None) -> tuple[str, ...]:
    """Both splits, or the given one."""
    if split not in (None, *CSVS):
        raise DataError("proda data prepare", "split", repr(split), '"train" or "test"')
    return tuple(CSVS) if split is None else (split,)
