"""Charades' annotation files: the class list and the csv with one video a row (Sigurdsson et al., ECCV 2016).

The official release has quirks, which are accepted and counted under these names in ``Report.quirks``:

- ``"action ends after its video (clipped)"``: 14,596 of 49,809 training and 5,027 of 16,691 test intervals, by at
  most 1.54 s; more than :data:`MAX_OVERRUN` is a fault.
- ``"action starts at or after its end (dropped)"``: 7 training intervals. The interval is dropped with a warning; its
  label stays, as in the official video-level evaluation.
- ``"video without actions"``: 174 training and 49 test videos.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from proda_lib.datasets.report import Report
from proda_lib.vocabulary import CHARADES_SCENES

#: Seconds by which an interval may end after its video and still be clipped instead of refused.
MAX_OVERRUN = 2.0

#: Mean share of its video that an interval covers, over the training intervals (clipped ones as they are clipped).
MEAN_COVERAGE = 0.428

OVERRUN = "action ends after its video (clipped)"
REVERSED = "action starts at or after its end (dropped)"
NO_ACTIONS = "video without actions"


@dataclass(frozen=True)
class CharadesRow:
    """One row of the csv as it is written: nothing clipped, nothing dropped.

    Attributes:
        id: name of the video.
        line: line of the file on which the row ends, counted from 1.
        scene: text of the scene column, "" if the file has none.
        length: length of the video in seconds.
        actions: (A,) class of each interval.
        intervals: (A, 2) start and end of each interval in seconds.
    """

    id: str
    line: int
    scene: str
    length: float
    actions: Int[np.ndarray, "A"]
    intervals: Float[np.ndarray, "A 2"]


@dataclass(frozen=True)
class CharadesVideo:
    """What Charades says about one video.

    Attributes:
        id: name of the video.
        scene: index into :data:`~proda_lib.vocabulary.CHARADES_SCENES`, -1 if the csv gives none.
        length: length of the video in seconds.
        labels: (L,) sorted distinct actions, those of dropped intervals included.
        segment_labels: (K,) action of each segment.
        segments: (K, 2) start and end of each segment in seconds, inside the video.
    """

    id: str
    scene: int
    length: float
    labels: Int[np.ndarray, "L"]
    segment_labels: Int[np.ndarray, "K"]
    segments: Float[np.ndarray, "K 2"]


def read_classes(path: str | os.PathLike, report: Report | None = None) -> tuple[str, ...]:
    """Names of the actions in ``Charades_v1_classes.txt``, without the code: "c000 Holding some clothes" is number 0.

    Raises:
        DataError: the file cannot be read, or line i is not "c" + (i as three digits) + a space + a new name.
    """
    report = report or Report()
    names: list[str] = []
    if (text := _text(path, report)) is None:
        return ()
    for number, line in enumerate(text.splitlines()):
        code, _, name = line.strip().partition(" ")
        if code != f"c{number:03d}" or not name or name in names:
            report.fault(path, f"line {number + 1}", repr(line), f'"c{number:03d} " and the name of a new class')
        names.append(name)
    if not names:
        report.fault(path, "file", "no classes", "one class a line")
    return tuple(names)


def read_rows(csv_path: str | os.PathLike, num_classes: int, report: Report | None = None,
              columns: Sequence[str] = ("id", "scene", "actions", "length")) -> Iterator[CharadesRow]:  # fmt: skip
    """Rows of a Charades csv in file order, as written; a row with a fault is left out when faults are collected.

    Raises:
        DataError: the file cannot be read, a column is missing, a row has too few or too many fields, an id is empty
            or met before, the length is no positive number, an action is not "cNNN START END" with a known class and
            times from 0 on.
    """
    report, seen, empty = report or Report(), set(), True
    if (text := _text(csv_path, report)) is None:
        return
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if missing := [c for c in columns if c not in (reader.fieldnames or ())]:
        report.fault(csv_path, "header", reader.fieldnames or "no columns", f"the columns {', '.join(missing)} too")
        return
    try:
        for fields in reader:
            empty, before, where = False, len(report.errors), f"line {reader.line_num} ({fields['id']})"
            if None in fields or None in fields.values():
                many = "too many" if None in fields else "too few"
                report.fault(csv_path, where, f"{many} fields", f"{len(reader.fieldnames)} fields")
                continue
            if not fields["id"].strip():
                report.fault(csv_path, where, "an empty id", "the name of a video")
            elif fields["id"] in seen:
                report.fault(csv_path, where, "a repeated id", "each video once")
            seen.add(fields["id"])
            length = _number(fields["length"])
            if not length > 0:
                report.fault(csv_path, f"{where} length", repr(fields["length"]), "a positive number of seconds")
            actions, intervals = [], []
            for text in fields["actions"].split(";") if fields["actions"] else ():
                code, *times = text.split() or [""]
                start, end = map(_number, times if len(times) == 2 else ("", ""))
                if not re.fullmatch(r"c[0-9]{3}", code) or int(code[1:]) >= num_classes:
                    report.fault(csv_path, f"{where} actions", repr(text), f"a class in c000..c{num_classes - 1:03d}")
                elif not (start >= 0 and end >= 0):
                    report.fault(csv_path, f"{where} actions", repr(text), '"CLASS START END" with times from 0 s on')
                else:
                    actions.append(int(code[1:]))
                    intervals.append((start, end))
            if len(report.errors) == before:
                times = np.array(intervals, dtype=np.float64).reshape(-1, 2)
                yield CharadesRow(fields["id"], reader.line_num, fields.get("scene", ""), length,
                                  np.array(actions, dtype=np.int64), times)  # fmt: skip
    except csv.Error as error:
        report.fault(csv_path, f"row after line {reader.line_num}", error, "a csv row")
    if empty:
        report.fault(csv_path, "file", "no rows", "one video a row")


def read_charades(csv_path: str | os.PathLike, classes: Sequence[str],
                  report: Report | None = None) -> dict[str, CharadesVideo]:  # fmt: skip
    """Videos of ``Charades_v1_train.csv`` or ``_test.csv`` by id, in file order.

    Args:
        csv_path: the csv file.
        classes: names of the actions, from :func:`read_classes`.
        report: where quirks are counted; with ``collect=True`` faults are gathered and their videos left out.

    Raises:
        DataError: as :func:`read_rows`; also an interval that starts after its video or ends more than
            :data:`MAX_OVERRUN` seconds after it, or a scene that is not one of the 16.
    """
    report, videos = report or Report(), {}
    for row in read_rows(csv_path, len(classes), report):
        before, where = len(report.errors), f"line {row.line} ({row.id})"
        scene = row.scene.partition("(")[0].strip()
        if scene and scene not in CHARADES_SCENES:
            report.fault(csv_path, f"{where} scene", repr(row.scene), f"one of {', '.join(CHARADES_SCENES)}")
        keep = np.ones(len(row.actions), dtype=bool)
        for i, (start, end) in enumerate(row.intervals.tolist()):
            found = f"{start:g}..{end:g} s in a video of {row.length:g} s"
            keep[i] = start < end
            if end > row.length + MAX_OVERRUN or (keep[i] and start >= row.length):
                report.fault(csv_path, f"{where} actions", found, f"an interval inside (up to {MAX_OVERRUN:g} s over)")
            elif end > row.length:
                report.quirks[OVERRUN] += 1
            if not keep[i]:
                report.quirks[REVERSED] += 1
                warnings.warn(f"{csv_path}: {where}: {REVERSED}: c{row.actions[i]:03d} {found}", stacklevel=2)
        if not len(row.actions):
            report.quirks[NO_ACTIONS] += 1
        if len(report.errors) == before:
            videos[row.id] = CharadesVideo(
                id=row.id,
                scene=CHARADES_SCENES.index(scene) if scene else -1,
                length=row.length,
                labels=np.unique(row.actions),
                segment_labels=row.actions[keep],
                segments=row.intervals[keep].clip(max=row.length),
            )
    return videos


def _text(path: str | os.PathLike, report: Report) -> str | None:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        report.fault(path, "file", error.strerror or error, "a readable text file")
    except UnicodeDecodeError as error:
        report.fault(path, f"byte {error.start}", error.reason, "UTF-8 text")
    return None


def _number(text: str) -> float:
    """The finite number written in ``text``, else NaN."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
