"""Action Genome's own five files: which frames, which boxes and which relations they say a video has."""

from __future__ import annotations

import math
import re
import reprlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proda_lib.datasets.report import Report
from proda_lib.datasets.safe_pickle import safe_load
from proda_lib.errors import DataError
from proda_lib.vocabulary import ACTION_GENOME_OBJECTS, ACTION_GENOME_RELATIONS

#: Part of the frame's side by which a box may stand out and still be clipped instead of refused.
MAX_OUTSIDE = 0.1

NO_PERSON = "frame without a person box (person absent)"
MANY_PERSONS = "frame with several person boxes (best score kept)"
OUTSIDE = "box partly outside its frame (clipped)"
INVISIBLE = "object marked invisible with a box (absent)"
REPEATED = "object class repeated in a frame (first visible kept)"
UNLISTED = "frame in the pickles but not in frame_list.txt (left out)"

_RELATION_KEYS = ("attention_relationship", "spatial_relationship", "contacting_relationship")
_Box = tuple[float, float, float, float]


class Tracks:
    """What the files say about one video: a box per frame and class, and the relations that go with it."""

    def __init__(self, num_frames: int):
        shape = (num_frames, len(ACTION_GENOME_OBJECTS))
        self.boxes = np.zeros((*shape, 4), dtype=np.float32)
        self.present = np.zeros(shape, dtype=bool)
        self.relations = np.zeros((*shape, len(ACTION_GENOME_RELATIONS)), dtype=bool)


class Reader:
    """Action Genome's own five files."""

    def __init__(self, folder: Path, report: Report):
        self.report = report
        self.list_file = folder / "frame_list.txt"
        self.objects_file, self.persons_file = folder / "object_bbox_and_relationship.pkl", folder / "person_bbox.pkl"
        self.classes = _check_names(folder / "object_classes.txt", ACTION_GENOME_OBJECTS, report)
        self.relations = _check_names(folder / "relationship_classes.txt", ACTION_GENOME_RELATIONS, report)
        self.object_records = load_dict(self.objects_file, report)
        self.person_records = load_dict(self.persons_file, report)

    def frames_by_video(self) -> dict[str, list[int]]:
        """{video: sorted frame numbers} of ``frame_list.txt``."""
        videos: dict[str, list[int]] = defaultdict(list)
        listed = set()
        for line, key in enumerate(_lines(self.list_file, self.report), 1):
            match = re.fullmatch(r"([^/]+)\.mp4/([0-9]{6})\.png", key)
            if not match:
                self.report.fault(self.list_file, f"line {line}", repr(key), '"VIDEO.mp4/NNNNNN.png"')
            elif key in listed:
                self.report.fault(self.list_file, f"line {line}", f"{key} again", "each frame once")
            else:
                videos[match[1]].append(int(match[2]))
            listed.add(key)
        if unlisted := len((self.object_records.keys() | self.person_records.keys()) - listed):
            self.report.quirks[UNLISTED] += unlisted
        return {name: sorted(numbers) for name, numbers in videos.items()}

    def split(self, name: str, frames: list[int]) -> str | None:
        """The split that the video's objects name; None after a fault."""
        records = [r for n in frames for r in self._list(key_of(name, n)) if isinstance(r, dict)]
        metadata = [r.get("metadata") for r in records]
        found = {part if isinstance(part := m.get("set") if isinstance(m, dict) else m, str) else shortened(part)
                 for m in metadata}  # fmt: skip
        if len(found) == 1 and found <= {"train", "test"}:
            return found.pop()
        self.report.fault(self.objects_file, f"{name} metadata set", sorted(found) or "none", '"train" or "test"')
        return None

    def tracks(self, name: str, frames: list[int]) -> Tracks:
        """Boxes and relations of one video; meaningless where a fault was recorded."""
        tracks, keys = Tracks(len(frames)), [key_of(name, number) for number in frames]
        records = [self.person_records.get(key) for key in keys]
        sizes = [r.get("bbox_size") if isinstance(r, dict) else None for r in records]
        known = next((size for size in sizes if size is not None), None)
        for t, (key, record, size) in enumerate(zip(keys, records, sizes, strict=True)):
            for source, file in ((self.person_records, self.persons_file), (self.object_records, self.objects_file)):
                if key not in source:
                    self.report.fault(file, key, "no entry", f"an entry, since {self.list_file.name} lists the frame")
            if key not in self.person_records:
                continue
            if not isinstance(record, dict):
                self.report.fault(self.persons_file, key, type(record).__name__, "a dict with bbox and bbox_size")
                continue
            size = known if size is None else size
            if not isinstance(size, Sequence | np.ndarray) or len(size) != 2 or not all(map(positive, size)):
                self.report.fault(self.persons_file, f"{key} bbox_size", shortened(size), "(width, height) in pixels")
                continue
            if (box := self._person(key, record, size)) is not None:
                tracks.present[t, 0], tracks.boxes[t, 0] = True, box
            for record in self._list(key):
                self._object(key, record, size, tracks, t)
        return tracks

    def _list(self, key: str) -> Sequence[Any]:
        records = self.object_records.get(key, ())
        if isinstance(records, list | tuple):
            return records
        self.report.fault(self.objects_file, key, type(records).__name__, "a list of objects")
        return ()

    def _person(self, key: str, record: dict, size: Sequence[float]) -> _Box | None:
        if record.get("bbox_mode", "xyxy") != "xyxy":
            self.report.fault(self.persons_file, f"{key} bbox_mode", shortened(record["bbox_mode"]), '"xyxy"')
            return None
        try:
            boxes = np.asarray(() if record.get("bbox") is None else record["bbox"], dtype=np.float64).reshape(-1, 4)
            scores = np.asarray(record.get("bbox_score", ()), dtype=np.float64).ravel()
        except (TypeError, ValueError) as error:
            self.report.fault(self.persons_file, f"{key} bbox", error, "boxes of four numbers and their scores")
            return None
        if not len(boxes):
            self.report.quirks[NO_PERSON] += 1
            return None
        best = 0
        if len(boxes) > 1:
            self.report.quirks[MANY_PERSONS] += 1
            best = int(scores.argmax()) if len(scores) == len(boxes) else 0
        return self._box(self.persons_file, f"{key} bbox", boxes[best], size, corners=True)

    def _object(self, key: str, record: Any, size: Sequence[float], tracks: Tracks, t: int) -> None:
        if not isinstance(record, dict) or not {"class", "bbox", "visible"} <= record.keys():
            self.report.fault(self.objects_file, key, shortened(record), "a dict with class, bbox and visible")
            return
        number = self.classes.get(_letters(record["class"]), 0)
        if not number:
            found = shortened(record["class"])
            self.report.fault(self.objects_file, f"{key} class", found, "one of the 35 object classes")
            return
        where = f"{key} {record['class']}"
        if not isinstance(record["visible"], bool | np.bool):
            self.report.fault(self.objects_file, f"{where} visible", shortened(record["visible"]), "True or False")
            return
        if not record["visible"]:
            if record["bbox"] is not None:
                self.report.quirks[INVISIBLE] += 1
            return
        if record["bbox"] is None:
            self.report.fault(self.objects_file, f"{where} bbox", "no box", "a box, since visible is True")
            return
        groups = [() if record.get(group) is None else record[group] for group in _RELATION_KEYS]
        if not all(isinstance(group, list | tuple) for group in groups):
            self.report.fault(self.objects_file, f"{where} relations", shortened(groups), "three lists of names")
            return
        names = [name for group in groups for name in group]
        for name in names:
            if _letters(name) not in self.relations:
                self.report.fault(self.objects_file, f"{where} relation", shortened(name), "one of the 26 relations")
        box = self._box(self.objects_file, f"{where} bbox", record["bbox"], size, corners=False)
        if tracks.present[t, number]:
            self.report.quirks[REPEATED] += 1
        elif box is not None:
            tracks.present[t, number], tracks.boxes[t, number] = True, box
            tracks.relations[t, number, [self.relations.get(_letters(name), 0) for name in names]] = True

    def _box(self, file: Path, where: str, raw: Any, size: Sequence[float], corners: bool) -> _Box | None:
        """Normalised x1y1x2y2; None after a fault."""
        kind = "x1, y1, x2, y2" if corners else "x, y, w, h"
        expected = f"{kind} of a box in a frame of {size[0]} x {size[1]} (at most {MAX_OUTSIDE:.0%} outside)"
        try:
            x, y, a, b = (float(value) for value in raw)
        except (TypeError, ValueError, OverflowError):
            x = y = a = b = math.nan
        (width, height), (right, bottom) = size, (a, b) if corners else (x + a, y + b)
        x1, y1, x2, y2 = box = float(x / width), float(y / height), float(right / width), float(bottom / height)
        outside = max(-x1, -y1, x2 - 1, y2 - 1)
        clipped = tuple(min(max(side, 0.0), 1.0) for side in box)
        sound = all(map(math.isfinite, box)) and x1 < x2 and y1 < y2 and outside <= MAX_OUTSIDE
        if not sound or clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
            self.report.fault(file, where, shortened(raw), expected)
            return None
        if outside > 0:
            self.report.quirks[OUTSIDE] += 1
        return clipped


def _check_names(path: Path, names: Sequence[str], report: Report) -> dict[str, int]:
    """{letters of the name: number}; the file must list the same names, in any order, with or without separators."""
    numbers = {_letters(name): number for number, name in enumerate(names)}
    found = list(_lines(path, report))
    for line, name in enumerate(found, 1):
        if _letters(name) not in numbers:
            report.fault(path, f"line {line}", repr(name), "a name of the official release")
    if found and (missing := numbers.keys() - set(map(_letters, found))):
        report.fault(path, "file", f"no {', '.join(sorted(missing))}", f"all {len(names)} names")
    return numbers


def _lines(path: Path, report: Report) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        report.fault(path, "file", error, "a readable text file")
        return []
    lines = [line.strip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        report.fault(path, "file", "nothing", "one name a line")
    return lines


def load_dict(path: Path, report: Report) -> dict:
    """The dict in a pickle; empty after a fault."""
    try:
        content = safe_load(path)
    except DataError as error:
        report.fault(path, error.where, error.found, error.expected)
        return {}
    if not isinstance(content, dict):
        report.fault(path, "pickle", type(content).__name__, "a dict")
        return {}
    return content


def key_of(name: str, number: int) -> str:
    """What the files call a frame of a video."""
    return f"{name}.mp4/{number:06d}.png"


def _letters(name: object) -> str:
    return "".join(filter(str.isalpha, name.lower())) if isinstance(name, str) else ""


def shortened(value: object) -> str:
    """``value`` for a message, however large it is."""
    return reprlib.repr(value)


def positive(value: object) -> bool:
    """Whether this is a finite number above 0."""
    return isinstance(value, int | float | np.integer | np.floating) and 0 < value < math.inf
