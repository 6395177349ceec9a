"""What is missing before ``proda data prepare charades`` starts: official files, annotations, frames."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from proda_lib.datasets.official import SPLITS, Files
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError
from proda_lib.features.video import numbered, probe

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
    annotations: str | os.PathLike, frames: str | os.PathLike, split: str | None = None
) -> list[Readiness]:
    """What each split (or the given one) lacks, without decoding a frame; see :func:`prepare_charades`."""
    found = []
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
            names = {graph.video for graph in files.read(part, report)}
        for error in report.errors:
            words = re.split(r"[ ()/]|\.mp4", error.where)
            if (video := next((word for word in words if word in numbers), None)) is None:
                ready.faults.append(str(error))
                continue
            lacks_row = error.source.endswith(".csv") or error.found == "no row in the csv"
            ready.missing[video].append(("csv row" if lacks_row else "annotation", str(error)))
            names.add(video)
        for video in tqdm(sorted(names), desc=f"{part}, frames", unit="video"):
            if lack := _lacking(Path(frames) / f"{video}.mp4", numbers[video], rates.get(f"{video}.mp4")):
                ready.missing[video].append(("frames", lack))
        ready.videos, ready.frames = len(names), sum(len(numbers[video]) for video in names)
        if not names:
            ready.faults.append(f"no videos of this split in {files.annotations / 'frame_list.txt'}")
    return found


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


def parts_of(split: str | None) -> tuple[str, ...]:
    """Both splits, or the given one."""
    if split not in (None, *SPLITS):
        raise DataError("proda data prepare", "split", repr(split), '"train" or "test"')
    return SPLITS if split is None else (split,)
