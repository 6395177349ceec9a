"""What is missing before ``proda data prepare charades`` starts: official files, annotations, frames."""

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

from proda_lib.datasets.official import SPLITS, Files
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError
from proda_lib.features.clip import ClipEncoder
from proda_lib.features.video import numbered, probe
from proda_lib.paths import ABOUT

KINDS = ("annotation", "frames", "csv row")  #: what a video can lack


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
            files = Files.find(annotations, (part,))
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
            files = numbered(path)
            lost = sorted(number for number in set(numbers) if number not in files or not files[number].stat().st_size)
            return f"{path}: {len(lost)} of {len(numbers)} missing or empty, first {lost[0]:06d}.png" if lost else ""
        info = probe(path)
    except DataError as error:
        return str(error)
    last = (numbers[-1] - 0.5) / (rate or info.rate)
    return f"{path}: ends at {info.duration:.2f} s, frame {numbers[-1]} is at {last:.2f} s" if (
        last > info.duration + 1 / info.rate) else ""  # fmt: skip


def refuse_other_files(folder: Path) -> None:
    """Raises :class:`DataError` if a store is to be where something else is, which would be lost."""
    if os.path.lexists(folder) and not (folder / ABOUT).is_file():
        if not folder.is_dir() or any(folder.iterdir()):
            raise DataError(folder, "store", "other files", "nothing there, or a store; give another --out")


def parts_of(split: str | None) -> tuple[str, ...]:
    """Both splits, or the given one."""
    if split not in (None, *SPLITS):
        raise DataError("proda data prepare", "split", repr(split), '"train" or "test"')
    return SPLITS if split is None else (split,)
