"""Action Genome (Ji et al., CVPR 2020) with Charades' actions: scene graphs of real videos.

Files, in the official layout: ``object_bbox_and_relationship.pkl``, ``person_bbox.pkl``, ``frame_list.txt``,
``object_classes.txt`` and ``relationship_classes.txt`` in one folder; Charades' csv files and class list; a pickle
of frames per second by video file name, because frame numbers count at each video's own rate: time = number / rate.

Slot 0 is the person, then one slot per object class, in the order of the vocabulary. Each object is joined with the
person in both directions, and both edges carry the object's relation vector. Object boxes are (x, y, w, h) and person
boxes x1y1x2y2, both in pixels of the frame, whose (width, height) is ``bbox_size`` in ``person_bbox.pkl``.

The constants in capitals, here and in ``action_genome_files.py``, are the accepted quirks, counted under their text in
``Report.quirks``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from proda_lib.datasets.action_genome_files import Reader, Tracks, key_of, load_dict, positive
from proda_lib.datasets.charades import CharadesVideo, read_charades, read_classes
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError, GraphError
from proda_lib.graph import SceneGraph
from proda_lib.vocabulary import ACTION_GENOME_OBJECTS, ACTION_GENOME_RELATIONS, CHARADES_SCENES, Vocabulary

#: Seconds by which a frame may come after the end of its video and still be moved there instead of refused.
MAX_LATE = 0.5

MANY_OBJECTS = "video with more object classes than slots (most often present kept)"
LATE = "frame after the end of its video (moved to the end)"


def action_genome_vocabulary(actions: Sequence[str]) -> Vocabulary:
    """36 object classes, 26 relations, Charades' actions and scenes."""
    return Vocabulary("action_genome", ACTION_GENOME_OBJECTS, ACTION_GENOME_RELATIONS, tuple(actions), CHARADES_SCENES)


def read_action_genome(annotations_dir: str | os.PathLike, charades_csvs: Sequence[str | os.PathLike],
                       classes_file: str | os.PathLike, fps_file: str | os.PathLike, split: str | None = None,
                       max_objects: int = 9, report: Report | None = None) -> list[SceneGraph]:  # fmt: skip
    """Scene graphs of the videos in ``frame_list.txt``, in its order; frames in order of time.

    Args:
        annotations_dir: folder of Action Genome's five files.
        charades_csvs: Charades' csv files; together they must have every video.
        classes_file: ``Charades_v1_classes.txt``.
        fps_file: pickle of {"VIDEO.mp4": frames per second}.
        split: "train" or "test" by the ``set`` that the objects carry; None reads both.
        max_objects: object slots at most; the classes present in most frames stay (ties: vocabulary order), with a
            warning and a quirk for each video that has more.
        report: where quirks are counted; with ``collect=True`` faults are gathered and their videos left out.

    Raises:
        DataError: a file is missing, cut off or hostile; a listed frame is absent from a pickle; a class, relation or
            split is unknown; a box is NaN, inverted or outside its frame by more than ``MAX_OUTSIDE``; an object
            marked visible has no box; a video is in no csv or has no frame rate; a frame comes more than
            :data:`MAX_LATE` seconds after its video.
    """
    if split not in ("train", "test", None):
        raise DataError("read_action_genome", "split", repr(split), '"train", "test" or None')
    if max_objects < 1:
        raise DataError("read_action_genome", "max_objects", max_objects, "at least 1")
    report = report or Report()
    actions = read_classes(classes_file, report)
    videos: dict[str, CharadesVideo] = {}
    for csv_path in charades_csvs:
        for video in read_charades(csv_path, actions, report).values():
            if video.id in videos:
                report.fault(csv_path, video.id, "a video that another csv has too", "each video once")
            videos[video.id] = video
    reader = Reader(Path(annotations_dir), report)
    rates = load_dict(Path(fps_file), report)
    vocabulary, graphs, crowded = action_genome_vocabulary(actions), [], report.quirks[MANY_OBJECTS]
    for name, frames in reader.frames_by_video().items():
        before = len(report.errors)
        if split is not None and reader.split(name, frames) != split:
            continue
        video, rate = videos.get(name), rates.get(f"{name}.mp4")
        if video is None:
            csvs = ", ".join(str(path) for path in charades_csvs)
            report.fault(reader.list_file, name, "no row in the csv", f"a row in {csvs}")
        if not positive(rate):
            found = "no frame rate" if rate is None else repr(rate)
            report.fault(fps_file, f"{name}.mp4", found, "a positive number of frames per second")
        tracks = reader.tracks(name, frames)
        if video is None or len(report.errors) > before:
            continue
        times = np.array(frames) / rate
        for number, time in zip(frames, times, strict=True):
            if time > video.length + MAX_LATE:
                report.fault(reader.list_file, key_of(name, number), f"a frame at {time:.2f} s (rate {rate:g})",
                             f"a time in the video of {video.length:g} s")  # fmt: skip
            elif time > video.length:
                report.quirks[LATE] += 1
        if len(report.errors) > before:
            continue
        try:
            graphs.append(_graph(video, vocabulary, times.clip(max=video.length), tracks, max_objects, report))
        except GraphError as error:
            report.fault(reader.objects_file, f"{name} {error.where}", error.found, error.expected)
    if crowded := report.quirks[MANY_OBJECTS] - crowded:
        warnings.warn(f"{reader.objects_file}: {crowded} x {MANY_OBJECTS}: {max_objects} slots", stacklevel=2)
    return graphs


def check_action_genome(annotations_dir: str | os.PathLike, charades_csvs: Sequence[str | os.PathLike],
                        classes_file: str | os.PathLike, fps_file: str | os.PathLike) -> Report:  # fmt: skip
    """All faults and quirks at once; arguments as :func:`read_action_genome`."""
    report = Report(collect=True)
    read_action_genome(annotations_dir, charades_csvs, classes_file, fps_file, report=report)
    return report


def _graph(video: CharadesVideo, vocabulary: Vocabulary, times: np.ndarray, tracks: Tracks, max_objects: int,
           report: Report) -> SceneGraph:  # fmt: skip
    """Keep the classes that occur, put the person first and join it with each object in both directions."""
    frequency = tracks.present[:, 1:].sum(axis=0)
    kept = np.argsort(-frequency, kind="stable")[:max_objects]
    if np.count_nonzero(frequency) > max_objects:
        report.quirks[MANY_OBJECTS] += 1
    classes = np.concatenate(([0], 1 + np.sort(kept[frequency[kept] > 0])))
    present = tracks.present[:, classes]
    objects = np.arange(1, len(classes))
    person = np.zeros_like(objects)
    relations = tracks.relations[:, classes[1:]] & (present[:, :1] & present[:, 1:])[..., None]
    return SceneGraph(
        video=video.id,
        vocabulary=vocabulary,
        classes=classes,
        boxes=tracks.boxes[:, classes],
        present=present,
        edges=np.stack([np.concatenate([person, objects]), np.concatenate([objects, person])]),
        relations=np.concatenate([relations, relations], axis=1),
        times=times,
        duration=video.length,
        segment_labels=video.segment_labels,
        segments=video.segments,
        labels=video.labels,
        scene=video.scene,
    )
