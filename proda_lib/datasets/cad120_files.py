"""The files of CAD-120's ``annotations.zip``: read and checked, not yet graphs (that is ``cad120.py``).

Every fault names the file and the row, or the key, object and frame (counted from 1).
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from proda_lib.datasets.report import Report
from proda_lib.vocabulary import Vocabulary

WIDTH, HEIGHT = 640, 480  #: pixels of a frame; the largest x + w and y + h in the release are exactly these

OBJECTS = ("head", "hand", "box", "medicine-box", "bowl", "cup", "book", "microwave", "cloth", "remote", "apple",
           "bottle", "plate")  # fmt: skip
PAIR_RELATIONS = ("holding", "not_holding", "contacting", "apart", "containing", "separate")
ATTRIBUTES = ("open", "closed")
ACTIONS = ("open", "close", "pick", "place", "drink", "eat", "microwave_food", "take_food", "clean", "null")
VOCABULARY = Vocabulary("CAD-120", OBJECTS, PAIR_RELATIONS + ATTRIBUTES, ACTIONS)

EMPTY_SIDE = "box with a side <= 0 that is not all-zero: treated as absent"
UNLABELLED = "video without clips: no labels"


@dataclass(frozen=True, eq=False)
class Video:
    """One video of the release as it stands, checked but not yet a graph. T frames, M objects, P pairs, K clips.

    Attributes:
        name: ``SUBJECT/ACTIVITY/VIDEO``.
        classes: (M,) index into :data:`OBJECTS`; slot 0 is the head.
        boxes: (T, M, 4) x, y, w, h in pixels; zeros where absent.
        present: (T, M) whether there is a box.
        pairs: (P, 2) slots of each relation or attribute track; an attribute's pair is (0, object).
        states: (T, P) index into ``VOCABULARY.relations``.
        clips: (K, 3) first and last frame, counted from 1, and action.
    """

    name: str
    classes: Int[np.ndarray, "M"]
    boxes: Float[np.ndarray, "T M 4"]
    present: Bool[np.ndarray, "T M"]
    pairs: Int[np.ndarray, "P 2"]
    states: Int[np.ndarray, "T P"]
    clips: Int[np.ndarray, "K 3"]


def read_videos(root: str | Path, report: Report | None = None) -> list[Video]:
    """All videos of the release, in order of name.

    Args:
        root: the folder that holds ``annotations/``.
        report: gathers quirks, and faults too if it collects; by default the first fault is raised.

    Returns:
        The videos (124 in the release); those with a fault are left out.

    Raises:
        DataError: a file is missing or broken.
    """
    report = Report() if report is None else report
    root = Path(root) / "annotations"
    paths = sorted((root / "all").glob("*/*/*.json"))
    if not paths:
        report.fault(root / "all", "files", "no SUBJECT/ACTIVITY/VIDEO.json", "the videos of CAD-120's annotations.zip")
    videos: dict[str, Video | None] = {}
    for path in paths:
        name = "/".join((*path.parts[-3:-1], path.stem))
        videos[name] = _VideoFile(path, name, report).read()
    clips = _read_clips(root / "video_clips.txt", videos, report)
    report.quirks[UNLABELLED] += sum(not clips[name] for name in videos)
    return [
        dataclasses.replace(video, clips=np.array(clips[name], dtype=np.int64).reshape(-1, 3))
        for name, video in videos.items()
        if video is not None
    ]


def read_rows(path: Path, columns: int, report: Report) -> list[tuple[int, list[str]]]:
    """The filled lines of a comma-separated file with their line numbers."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        report.fault(path, "file", f"{type(error).__name__}", "a readable text file")
        return []
    rows = [(n, [part.strip() for part in line.split(",")]) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        report.fault(path, "file", "no rows", "at least one row")
    for n, row in rows:
        if len(row) != columns:
            report.fault(path, f"row {n}", f"{len(row)} columns", f"{columns} columns")
    return [(n, row) for n, row in rows if len(row) == columns]


def _read_clips(path: Path, videos: dict[str, Video | None], report: Report) -> defaultdict[str, list]:
    out = defaultdict(list)
    for n, (subject, activity, video, *ends, action) in read_rows(path, 6, report):
        name = f"{subject}/{activity}/{video}"
        if name not in videos:
            report.fault(path, f"row {n}, video", name, "a video under annotations/all")
        elif action not in ACTIONS:
            report.fault(path, f"row {n}, action", repr(action), f"one of {', '.join(ACTIONS)}")
        elif not all(end.isascii() and end.isdigit() and len(end) < 10 for end in ends):
            report.fault(path, f"row {n}, frames", ", ".join(ends), "two whole numbers")
        else:
            first, last = map(int, ends)
            frames = len(videos[name].present) if videos[name] is not None else last  # a broken video has its own fault
            if 1 <= first <= last <= frames:
                out[name].append((first, last, ACTIONS.index(action)))
            else:
                report.fault(path, f"row {n}, frames", f"{first}, {last}", f"1 <= first <= last <= {frames}")
    return out


class _VideoFile:
    """Reads one VIDEO.json; each fault names the object and the frame (counted from 1)."""

    def __init__(self, path: Path, name: str, report: Report):
        self.path, self.name, self.report = path, name, report

    def read(self) -> Video | None:
        before = len(self.report.errors)
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            return self.fault("file", f"{type(error).__name__}: {error}", "a JSON file")
        if not isinstance(data, dict):
            return self.fault("file", type(data).__name__, "a JSON object")
        for key, expected in zip(("person_id", "video_label", "video_id"), self.name.split("/"), strict=True):
            if data.get(key) != expected:
                self.fault(key, repr(data.get(key)), f"{expected!r}, as in the file's path")

        tracks = dict(self.entries(data, "locations", "obj_id", "loc_list"))
        for obj in [obj for obj in tracks if obj.rsplit("_", 1)[0] not in OBJECTS]:
            self.fault(f"locations, {obj}", obj, f"a class of {', '.join(OBJECTS)} and a number")
            del tracks[obj]
        ids = sorted(tracks, key=lambda obj: (OBJECTS.index(obj.rsplit("_", 1)[0]), len(obj), obj))
        classes = np.array([OBJECTS.index(obj.rsplit("_", 1)[0]) for obj in ids], dtype=np.int64)
        if not ids or (classes == 0).sum() != 1:
            return self.fault("locations", f"{(classes == 0).sum()} heads", "one head")
        T = len(tracks[ids[0]])
        if T == 0:
            return self.fault(f"locations, {ids[0]}", "no frames", "at least one frame")
        boxes = [self.boxes(obj, tracks[obj], T) for obj in ids]

        pairs, states = [], []
        for obj_ids, track in self.entries(data, "relations", "obj_ids", "rel_list", several=True):
            pair = [ids.index(obj) for obj in obj_ids if obj in ids]
            if len(obj_ids) != 2 or len(set(pair)) != 2:
                self.fault("relations, obj_ids", list(obj_ids), "two different objects of this video")
                continue
            pairs.append(sorted(pair))
            states.append(self.states(f"relations, {'-'.join(obj_ids)}", track, PAIR_RELATIONS, T))
        for obj, track in self.entries(data, "attributes", "obj_id", "attr_list"):
            if obj not in ids[1:]:
                self.fault("attributes, obj_id", obj, "an object of this video")
                continue
            pairs.append([0, ids.index(obj)])
            states.append(self.states(f"attributes, {obj}", track, ATTRIBUTES, T))
        if len(self.report.errors) > before:
            return None
        stacked = np.stack(boxes, axis=1)
        return Video(self.name, classes, stacked, stacked.any(-1), np.array(pairs, dtype=np.int64).reshape(-1, 2),
                     np.array(states, dtype=np.int64).reshape(-1, T).T, np.zeros((0, 3), dtype=np.int64))  # fmt: skip

    def fault(self, where: str, found: object, expected: str) -> None:
        self.report.fault(self.path, where, found, expected)

    def entries(self, data: dict, key: str, name_key: str, list_key: str, several: bool = False) -> list[tuple]:
        """The (name, or names if several, and per-frame list) pairs at ``data[key]``; each only once."""
        out: dict = {}
        if not isinstance(data.get(key), list):
            self.fault(key, type(data.get(key)).__name__, "a list")
            return []
        for n, entry in enumerate(data[key]):
            name = entry.get(name_key) if isinstance(entry, dict) else None
            name = tuple(name) if several and isinstance(name, list) else name
            names = (name,) if not several else name if isinstance(name, tuple) else (None,)
            if not all(isinstance(part, str) for part in names) or not isinstance(entry.get(list_key), list):
                self.fault(f"{key}[{n}]", str(entry)[:80], f"an object with {name_key} and the list {list_key}")
                continue
            if name in out or (several and name[::-1] in out):
                self.fault(f"{key}[{n}]", f"{name} again", f"each {name_key} once")
            out[name] = entry[list_key]
        return list(out.items())

    def boxes(self, obj: str, track: list, frames: int) -> Float[np.ndarray, "T 4"]:
        """(T, 4) x, y, w, h in pixels, zeros where absent."""
        where, values = f"locations, {obj}", np.zeros((frames, 4))
        if len(track) != frames:
            self.fault(where, f"{len(track)} frames", f"{frames} frames, as the head has")
            return values
        for frame, box in enumerate(track):
            if isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and abs(v) < 1e6 for v in box):
                values[frame] = box
            else:  # NaN lands here too
                self.fault(f"{where}, frame {frame + 1}", str(box)[:80], "a box of four finite numbers x, y, w, h")
        empty = (values[:, 2:] <= 0).any(-1)
        self.report.quirks[EMPTY_SIDE] += int((empty & values.any(-1)).sum())
        inside = (values[:, :2] >= 0).all(-1) & (values[:, :2] + values[:, 2:] <= (WIDTH, HEIGHT)).all(-1)
        for frame in np.flatnonzero(~(empty | inside)):
            self.fault(f"{where}, frame {frame + 1}", track[frame], f"a box x, y, w, h inside {WIDTH} x {HEIGHT}")
        values[empty] = 0
        return values

    def states(self, where: str, track: list, names: tuple[str, ...], frames: int) -> Int[np.ndarray, "T"]:
        """(T,) index into ``VOCABULARY.relations``."""
        if len(track) != frames:
            self.fault(where, f"{len(track)} frames", f"{frames} frames, as the head has")
        for frame, name in enumerate(track, 1):
            if name not in names:
                self.fault(f"{where}, frame {frame}", repr(name)[:80], f"one of {', '.join(names)}")
        known = {name: VOCABULARY.relations.index(name) for name in names}
        fitted = (track + [names[0]] * frames)[:frames]
        return np.array([known[n] if isinstance(n, str) and n in known else 0 for n in fitted], dtype=np.int64)
