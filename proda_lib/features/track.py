"""Detections frame by frame → objects that keep their slot, and a scene graph of them.

From frame to frame, boxes of one class are matched so that the sum of their IoUs with where the tracks should now be is
largest (Hungarian algorithm). A track should be where its last two boxes point to (each corner moves on at the same
speed); what finds nothing there is looked for where it was last seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from proda_lib.errors import DataError
from proda_lib.features.detect import Detections
from proda_lib.graph import SceneGraph
from proda_lib.vocabulary import Vocabulary

#: Smallest IoU of a box with where a track should be.
MIN_IOU = 0.1
#: Frames in a row in which a track may be missed before it ends.
MAX_GAP = 3
#: Object slots beside the person, as in Action Genome's reader.
MAX_OBJECTS = 9


@dataclass(eq=False)
class Track:
    """One object: its class, and its box in each frame in which it was found."""

    name: str
    boxes: dict[int, Float[np.ndarray, "4"]] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max(self.boxes)

    def expected(self, frame: int, times: Float[np.ndarray, "T"]) -> Float[np.ndarray, "4"]:
        """Where the object should be in a later frame, if it goes on as between the last two."""
        *before, last = sorted(self.boxes)
        if not before or times[last] <= times[before[-1]]:
            return self.boxes[last]
        step = (times[frame] - times[last]) / (times[last] - times[before[-1]])
        return self.boxes[last] + step * (self.boxes[last] - self.boxes[before[-1]])


def iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every box of ``a`` with every box of ``b``; 0 for a box without an inside."""
    upper, lower = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (lower - upper).clip(min=0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).clip(min=0).prod(-1) for x in (a, b)]
    return shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-12)


def associate(found: Sequence[Detections], times: Float[np.ndarray, "T"], max_gap: int = MAX_GAP) -> list[Track]:
    """Tracks through the detections of T frames, in the order in which they begin."""
    tracks: list[Track] = []
    for frame, detections in enumerate(found):
        alive = [track for track in tracks if frame - track.last <= max_gap + 1]
        left = list(range(len(detections.names)))
        for place in (lambda track: track.expected(frame, times), lambda track: track.boxes[track.last]):  # noqa: B023
            waiting = [track for track in alive if track.last < frame]
            if not (waiting and left):
                break
            overlap = iou(np.array([place(track) for track in waiting]), detections.boxes[left])
            same = np.array([[track.name == detections.names[i] for i in left] for track in waiting])
            overlap = np.where(same & (overlap >= MIN_IOU), overlap, 0.0)
            pairs = [(t, d) for t, d in zip(*linear_sum_assignment(-overlap), strict=True) if overlap[t, d] > 0]
            for t, d in pairs:
                waiting[t].boxes[frame] = detections.boxes[left[d]]
            left = [i for place, i in enumerate(left) if place not in {d for _, d in pairs}]
        tracks += [Track(detections.names[i], {frame: detections.boxes[i]}) for i in left]
    return tracks


def graph_of_tracks(
    tracks: Sequence[Track], times: Float[np.ndarray, "T"], duration: float, video: str, vocabulary: Vocabulary,
    max_objects: int = MAX_OBJECTS,
) -> tuple[SceneGraph, Counter[str]]:  # fmt: skip
    """A scene graph of the tracks that are there longest, and how many of each class were left out.

    The person (class 0) that is in most frames is slot 0 and joined with all others in both directions, without any
    relation: a detector sees none. Without a person there are no edges.

    Raises:
        DataError: there is no track.
    """
    if not tracks:
        raise DataError(video, "detections", f"no known object in {len(times)} frames", "at least one; a lower "
                        "--threshold, another --detector, or a graph by hand (--graph)")  # fmt: skip
    ordered = sorted(tracks, key=lambda track: (-len(track.boxes), min(track.boxes)))
    persons = [track for track in ordered if track.name == vocabulary.objects[0]]
    first, others = persons[:1], [track for track in ordered if track not in persons[:1]]
    kept = first + others[:max_objects]
    T, M = len(times), len(kept)
    boxes, present = np.zeros((T, M, 4)), np.zeros((T, M), dtype=bool)
    for slot, track in enumerate(kept):
        for frame, box in track.boxes.items():
            boxes[frame, slot], present[frame, slot] = box, True
    edges = [end for slot in range(1, M) for end in ((0, slot), (slot, 0))] if first else []
    graph = SceneGraph(
        video=video,
        vocabulary=vocabulary,
        classes=np.array([vocabulary.objects.index(track.name) for track in kept]),
        boxes=boxes,
        present=present,
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2).T,
        relations=np.zeros((T, len(edges), len(vocabulary.relations)), dtype=bool),
        times=times,
        duration=duration,
        segment_labels=np.zeros(0, dtype=np.int64),
        segments=np.zeros((0, 2)),
    )
    return graph, Counter(track.name for track in others[max_objects:])
