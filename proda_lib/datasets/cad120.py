"""CAD-120 as scene graphs, from ``annotations.zip``: the release with re-annotated relations and attributes.

Layout under ``root`` (``data/cad120`` after ``proda data add cad120``)::

    annotations/all/SUBJECT/ACTIVITY/VIDEO.json     124 videos: boxes, relation and attribute of each frame
    annotations/video_clips.txt                     551 rows "SUBJECT, ACTIVITY, VIDEO, first, last, action"
    annotations/splits/{train,test}list0K.txt       4 folds, each leaves one subject out

What was decided here:

- Slots: the head is slot 0, then the hands, then the objects in the order of :data:`OBJECTS` and their number.
- Edges: each annotated pair gives two directed edges with the same relations: hand-object (holding / not_holding),
  head-object (contacting / apart) and microwave-object (containing / separate).
- Attributes belong to one object. They become the relations ``open`` / ``closed`` on a pair of edges between the head
  and that object, so that its state is part of the graph.
- An edge needs both its ends, so what the release says of an object without a box (a bowl inside the closed
  microwave) has no place in the graph. It is dropped and counted; ``cad120_files.read_videos`` still has it.
- Frames count from 1 and a clip includes both ends: clip (a, b) is the segment [(a - 1) / fps, b / fps], and the time
  of a frame is its middle, so that a shared border is never ambiguous.
- The release states no frame rate. 30 is the Kinect's nominal one. It fits: the videos are named by the second at which
  they were taken (MMDDHHMMSS), and two names in a row are so close that at least 23.5 frames a second were recorded if
  the name is the start, 26.1 if it is the end.
- "null" is an action like the others, the last one. 24 videos (stacking and unstacking) have no clips: no labels.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from proda_lib.datasets.cad120_files import ACTIONS, HEIGHT, VOCABULARY, WIDTH, Video, read_rows, read_videos
from proda_lib.datasets.report import Report
from proda_lib.graph import SceneGraph

FPS = 30.0  #: nominal frames per second, see the module's docstring
NULL = ACTIONS.index("null")
FOLDS = 4

#: Quirk: what the release says of a pair in a frame in which one of the two has no box.
HIDDEN = "{state} in a frame where an end has no box: dropped"


def read_cad120(root: str | Path, report: Report | None = None) -> list[SceneGraph]:
    """All videos with all their frames, in order of name.

    Args:
        root: the folder that holds ``annotations/``.
        report: gathers quirks, and faults too if it collects; by default the first fault is raised.

    Returns:
        One graph a video (124, with 65,133 frames), named ``SUBJECT/ACTIVITY/VIDEO``. Videos with a fault are left out.

    Raises:
        DataError: a file is missing or broken; the message names file and row or key.
    """
    report = Report() if report is None else report
    return [_graph(video, report) for video in read_videos(root, report)]


def clips(graphs: list[SceneGraph]) -> list[SceneGraph]:
    """One graph for each segment of each graph (551 in all), with that segment's frames and its one label.

    Clip k of a video (k from 0, the order of ``segments``) is named ``VIDEO#k``; its times start at 0.
    """
    out = []
    for graph in graphs:
        for k, (start, end) in enumerate(graph.segments):
            part = graph.take_frames(np.flatnonzero((start <= graph.times) & (graph.times <= end)))
            out.append(dataclasses.replace(
                part, video=f"{graph.video}#{k}", times=part.times - start, duration=float(end - start), labels=None,
                segment_labels=graph.segment_labels[[k]], segments=np.array([[0.0, end - start]]),
                carriers=None if part.carriers is None else part.carriers[..., [k]],
            ))  # fmt: skip
    return out


def subject_of(graph: SceneGraph | Video) -> str:
    """The subject of a video or of a clip of it: the first part of its name."""
    return (graph.video if isinstance(graph, SceneGraph) else graph.name).split("/")[0]


def folds(root: str | Path, report: Report | None = None) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The release's four leave-one-subject-out folds as (training subjects, test subjects).

    Raises:
        DataError: a list is missing, names an unknown subject, or the two lists of a fold overlap.
    """
    report = Report() if report is None else report
    root = Path(root) / "annotations"
    known = {path.name for path in (root / "all").glob("*")}
    out = []
    for k in range(1, FOLDS + 1):
        fold: list[tuple[str, ...]] = []
        for part in ("train", "test"):
            path = root / "splits" / f"{part}list{k:02d}.txt"
            names = tuple(name for _, (name,) in read_rows(path, 1, report))
            for name in names:
                if name not in known:
                    report.fault(path, "subject", repr(name), f"one of {', '.join(sorted(known))}")
                if fold and name in fold[0]:
                    report.fault(path, "subject", f"{name!r}, also in the training list", "no subject in both lists")
            fold.append(names)
        out.append((fold[0], fold[1]))
    return out


def split_by_fold(
    graphs: list[SceneGraph], fold: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[list[SceneGraph], list[SceneGraph]]:
    """The training and the test graphs (videos or clips) of one entry of :func:`folds`."""
    train, test = ([g for g in graphs if subject_of(g) in subjects] for subjects in fold)
    return train, test


def check_cad120(root: str | Path) -> Report:
    """Read everything and report all faults at once, with the counted quirks."""
    report = Report(collect=True)
    read_cad120(root, report)
    folds(root, report)
    return report


def _graph(video: Video, report: Report) -> SceneGraph:
    T, P = video.states.shape
    both = video.present[:, video.pairs[:, 0]] & video.present[:, video.pairs[:, 1]]  # (T, P)
    for state, count in zip(*np.unique(video.states[~both], return_counts=True), strict=True):
        report.quirks[HIDDEN.format(state=VOCABULARY.relations[state])] += int(count)
    one_hot = (video.states[..., None] == np.arange(len(VOCABULARY.relations))) & both[..., None]
    # An object may have a track with the head and an attribute: those two share their edges.
    pairs, pair_of_track = np.unique(video.pairs, axis=0, return_inverse=True)
    relations = np.zeros((T, len(pairs), one_hot.shape[-1]), dtype=bool)
    for track in range(P):
        relations[:, pair_of_track[track]] |= one_hot[:, track]
    x, y, w, h = np.moveaxis(video.boxes, -1, 0)
    boxes = np.stack([x / WIDTH, y / HEIGHT, (x + w) / WIDTH, (y + h) / HEIGHT], axis=-1).astype(np.float32)
    first, last, actions = video.clips.T
    return SceneGraph(
        video=video.name,
        vocabulary=VOCABULARY,
        classes=video.classes,
        boxes=boxes,
        present=video.present,
        edges=np.concatenate([pairs, pairs[:, ::-1]]).T,
        relations=np.concatenate([relations, relations], axis=1),
        times=(np.arange(T) + 0.5) / FPS,
        duration=T / FPS,
        segment_labels=actions,
        segments=np.stack([(first - 1) / FPS, last / FPS], axis=1),
    )
