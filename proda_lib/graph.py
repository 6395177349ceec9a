"""SceneGraph: one video as a spatio-temporal scene graph, the single type that sources produce and models read.

A graph has M slots (the same object in every frame), E directed edges between slots, and T frames. Edges are a plain
list, so a star around the person, object-object edges and a full graph are all the same thing. Slots, edges and frames
have no fixed maximum. NumPy lives here; :mod:`proda_lib.batch` turns a list of graphs into tensors.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from proda_lib.errors import DataError, GraphError
from proda_lib.files import write_atomically
from proda_lib.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False, repr=False)
class SceneGraph:
    """The input of every model: one video as a spatio-temporal scene graph.

    Attributes:
        video: name of the video.
        vocabulary: what the class, relation, action and scene numbers mean.
        classes: (M,) object class of each slot; slot 0 is the person (or the head, in CAD-120).
        boxes: (T, M, 4) x1, y1, x2, y2 as fractions of the frame, 0..1; zeros where absent.
        present: (T, M) whether the object of the slot is in the frame.
        edges: (2, E) directed edges as (sender slot, receiver slot).
        relations: (T, E, R) multi-hot relations of each edge; all False where the edge is absent.
        times: (T,) time of each frame in seconds, not decreasing.
        duration: length of the video in seconds.
        segment_labels: (K,) action of each annotated segment.
        segments: (K, 2) start and end of each segment in seconds, inside the video.
        labels: (L,) sorted distinct actions of the video; ``None`` derives them from ``segment_labels``.
        scene: index into ``vocabulary.scenes``, -1 if unknown.
        features: (T, M, F) optional visual feature of each box.
        frame_features: (T, F) optional visual feature of each whole frame. Both are arrays, or lie in a packed store
            (:class:`~proda_lib.datasets.stored_features.StoredFeatures`) until frames are taken.
        carriers: (T, E, K) optional ground truth of parsing: the edges that carry each segment's action.

    An edge exists in a frame iff both its ends do: see :attr:`edge_present`.

    Raises:
        GraphError: a field has the wrong shape or an impossible value; the message names field, place and value.
    """

    video: str
    vocabulary: Vocabulary
    classes: Int[np.ndarray, "M"]
    boxes: Float[np.ndarray, "T M 4"]
    present: Bool[np.ndarray, "T M"]
    edges: Int[np.ndarray, "2 E"]
    relations: Bool[np.ndarray, "T E R"]
    times: Float[np.ndarray, "T"]
    duration: float
    segment_labels: Int[np.ndarray, "K"]
    segments: Float[np.ndarray, "K 2"]
    labels: Int[np.ndarray, "L"] | None = None
    scene: int = -1
    features: Float[np.ndarray, "T M F"] | None = None
    frame_features: Float[np.ndarray, "T F"] | None = None
    carriers: Bool[np.ndarray, "T E K"] | None = None

    def __post_init__(self) -> None:
        self._validate_types()
        if self.labels is None:
            object.__setattr__(self, "labels", np.unique(self.segment_labels))
        self._validate()

    @property
    def num_frames(self) -> int:
        return self.present.shape[0]

    @property
    def num_slots(self) -> int:
        return self.present.shape[1]

    @property
    def num_edges(self) -> int:
        return self.edges.shape[1]

    @property
    def edge_present(self) -> Bool[np.ndarray, "T E"]:
        """An edge exists in a frame iff both its ends do."""
        return self.present[:, self.edges[0]] & self.present[:, self.edges[1]]

    def _validate_types(self) -> None:
        arrays = {"present": ("bool", 2), "relations": ("bool", 3), "carriers": ("bool", 3), "classes": ("integers", 1),
                  "edges": ("integers", 2), "labels": ("integers", 1), "segment_labels": ("integers", 1),
                  "boxes": ("floats", 3), "times": ("floats", 1), "segments": ("floats", 2), "features": ("floats", 3),
                  "frame_features": ("floats", 2)}  # fmt: skip
        kinds = {"bool": "b", "integers": "iu", "floats": "f"}
        optional = ("labels", "features", "frame_features", "carriers")
        for name, (numbers, axes) in arrays.items():
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            if not isinstance(getattr(value, "dtype", None), np.dtype):  # features in a store have one, and a shape
                raise GraphError(self.video, name, f"type {type(value).__name__}", "a NumPy array")
            if value.dtype.kind not in kinds[numbers]:
                raise GraphError(self.video, name, f"type {value.dtype}", numbers)
            if len(value.shape) != axes:
                raise GraphError(self.video, name, f"shape {value.shape}", f"{axes}-d")

    def _validate(self) -> None:
        T, M, E, K = self.num_frames, self.num_slots, self.num_edges, len(self.segment_labels)
        vocabulary = self.vocabulary
        shapes = {
            "classes": (M,),
            "boxes": (T, M, 4),
            "edges": (2, E),
            "relations": (T, E, len(vocabulary.relations)),
            "times": (T,),
            "segments": (K, 2),
        }
        if self.features is not None:
            shapes["features"] = (T, M, self.features.shape[-1])
        if self.frame_features is not None:
            shapes["frame_features"] = (T, self.frame_features.shape[-1])
        if self.carriers is not None:
            shapes["carriers"] = (T, E, K)
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise GraphError(self.video, name, f"shape {getattr(self, name).shape}", f"shape {shape}")
        if T == 0:
            raise GraphError(self.video, "present", "no frames", "at least one frame")
        self._check("classes", self.classes, (self.classes >= 0) & (self.classes < len(vocabulary.objects)),
                    f"an object class in 0..{len(vocabulary.objects) - 1}")  # fmt: skip
        for name, actions in (("segment_labels", self.segment_labels), ("labels", self.labels)):
            self._check(name, actions, (actions >= 0) & (actions < len(vocabulary.actions)),
                        f"an action in 0..{len(vocabulary.actions) - 1}")  # fmt: skip
        rising = np.diff(self.labels, prepend=-1) > 0
        self._check("labels", self.labels, rising, "sorted, distinct actions")
        if not -1 <= self.scene < len(vocabulary.scenes):
            raise GraphError(self.video, "scene", self.scene, f"-1 or a scene in 0..{len(vocabulary.scenes) - 1}")
        inside = (self.boxes >= 0) & (self.boxes <= 1)  # NaN compares False
        self._check("boxes", self.boxes, inside, "a finite coordinate in 0..1")
        sides = self.boxes[..., 2:] - self.boxes[..., :2]
        self._check("boxes", self.boxes, (sides.min(-1) > 0) | ~self.present, "x1 < x2 and y1 < y2 where present")
        self._check("boxes", self.boxes, (self.boxes.max(-1) == 0) | self.present, "zeros where the slot is absent")
        self._check("edges", self.edges, (self.edges >= 0) & (self.edges < M), f"a slot in 0..{M - 1}")
        self._check("edges", self.edges.T, self.edges[0] != self.edges[1], "two different slots")
        pairs = self.edges[0] * max(M, 1) + self.edges[1]
        if len(np.unique(pairs)) != E:
            raise GraphError(self.video, "edges", "a repeated edge", "each directed edge once")
        absent = ~self.edge_present
        self._check("relations", self.relations, ~(self.relations.any(-1) & absent), "no relation on an absent edge")
        if self.carriers is not None:
            self._check("carriers", self.carriers, ~(self.carriers.any(-1) & absent), "only present edges")
        if not (np.isfinite(self.duration) and self.duration > 0):
            raise GraphError(self.video, "duration", self.duration, "a positive number of seconds")
        self._check("times", self.times, (self.times >= 0) & (self.times <= self.duration), f"0..{self.duration} s")
        self._check("times", self.times, np.diff(self.times, prepend=0) >= 0, "times that do not decrease")
        start, end = self.segments.T
        self._check("segments", self.segments, (start >= 0) & (start < end) & (end <= self.duration),
                    f"0 <= start < end <= {self.duration} s")  # fmt: skip
        for name in ("features", "frame_features"):
            if isinstance(getattr(self, name), np.ndarray):  # what lies in a store is checked when frames are taken
                self._check(name, getattr(self, name), np.isfinite(getattr(self, name)), "finite numbers")

    def _check(self, name: str, values: np.ndarray, good: np.ndarray, expected: str) -> None:
        if not good.all():
            place = tuple(int(i) for i in np.argwhere(~good)[0])
            raise GraphError(self.video, f"{name}{list(place)}", values[place], expected)

    def take_frames(self, frames: Int[np.ndarray, "N"]) -> SceneGraph:
        """The same video with only the given frames, in that order; repeats are allowed."""
        per_frame = ("boxes", "present", "relations", "times", "features", "frame_features", "carriers")
        taken = {n: getattr(self, n)[frames] for n in per_frame if getattr(self, n) is not None}
        return dataclasses.replace(self, **taken)

    def sample_frames(self, count: int, rng: np.random.Generator | None = None) -> SceneGraph:
        """``count`` of the annotated frames: random ones in order with ``rng`` (training), else evenly spread.

        With fewer frames than ``count``, every frame is used and they are repeated evenly, in order.
        """
        T = self.num_frames
        if rng is not None and T > count:
            frames = np.sort(rng.choice(T, count, replace=False))
        else:
            frames = ((np.arange(count) + 0.5) * T / count).astype(np.int64)
        return self.take_frames(frames)

    def window(self, count: int, rng: np.random.Generator | None = None) -> SceneGraph:
        """Every second one of at most ``2 count`` neighbouring frames: at a random place with ``rng``, else central."""
        length = min(self.num_frames, 2 * count)
        places = self.num_frames - length + 1
        start = (places - 1) // 2 if rng is None else int(rng.integers(places))
        return self.take_frames(np.arange(start, start + length, 2))

    def multi_hot(self) -> Bool[np.ndarray, "C"]:
        """The labels as a vector of length C."""
        hot = np.zeros(len(self.vocabulary.actions), dtype=bool)
        hot[self.labels] = True
        return hot

    def active(self, times: Float[np.ndarray, "N"] | None = None) -> Bool[np.ndarray, "N C"]:
        """Which actions are going on at each time (default: at each frame): start <= t <= end."""
        times = self.times if times is None else times
        on = (self.segments[:, 0] <= times[:, None]) & (times[:, None] <= self.segments[:, 1])
        active = np.zeros((len(times), len(self.vocabulary.actions)), dtype=bool)
        for label, column in zip(self.segment_labels, on.T, strict=True):
            active[:, label] |= column
        return active

    def save(self, path: str | os.PathLike) -> None:
        """Write this graph to one safetensors file; see :func:`save_graphs`."""
        save_graphs(path, [self])

    @classmethod
    def load(cls, path: str | os.PathLike) -> SceneGraph:
        """Read a file with one graph; see :func:`load_graphs`."""
        graphs = load_graphs(path)
        if len(graphs) != 1:
            raise DataError(path, "graphs", f"{len(graphs)} graphs", "one graph; use load_graphs")
        return graphs[0]

    def __repr__(self) -> str:
        names = [self.vocabulary.actions[label] for label in self.labels]
        return (f"SceneGraph({self.video!r}, {self.num_frames} frames, {self.num_slots} slots, {self.num_edges} edges, "
                f"{self.duration:.1f} s, labels {names})")  # fmt: skip

    def _repr_html_(self) -> str:
        from proda_lib.graph_html import graph_html  # the drawing knows the graph, so the import waits

        return graph_html(self)


_ARRAYS = tuple(f.name for f in dataclasses.fields(SceneGraph)
                if f.name not in ("video", "vocabulary", "duration", "scene"))  # fmt: skip


def save_graphs(path: str | os.PathLike, graphs: Iterable[SceneGraph]) -> None:
    """Write graphs to one safetensors file: arrays named ``INDEX/FIELD``, names and vocabularies in the metadata.

    The file appears under its final name only when it is complete.

    Raises:
        DataError: the disk is full, or the file cannot be written there.
    """
    path, tensors, infos, vocabularies = Path(path), {}, [], []
    for index, graph in enumerate(graphs):
        if graph.vocabulary not in vocabularies:
            vocabularies.append(graph.vocabulary)
        infos.append({"video": graph.video, "duration": float(graph.duration), "scene": int(graph.scene),
                      "vocabulary": vocabularies.index(graph.vocabulary)})  # fmt: skip
        for name in _ARRAYS:
            if (value := getattr(graph, name)) is not None:
                tensors[f"{index}/{name}"] = np.ascontiguousarray(value)
    metadata = {"graphs": json.dumps(infos), "vocabularies": json.dumps([dataclasses.asdict(v) for v in vocabularies])}
    write_atomically(path, lambda partial: partial.write_bytes(save(tensors, metadata)))


def load_graphs(path: str | os.PathLike) -> list[SceneGraph]:
    """Read the graphs that :func:`save_graphs` wrote; every graph is validated again.

    Raises:
        DataError: the file is no such file, or is damaged.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            vocabularies = [Vocabulary.from_json(entry) for entry in json.loads(metadata["vocabularies"])]
            infos = json.loads(metadata["graphs"])
            arrays: list[dict] = [{} for _ in infos]
            for key in file.keys():
                index, name = key.split("/")
                arrays[int(index)][name] = file.get_tensor(key)
    except (OSError, SafetensorError, KeyError, ValueError, IndexError, TypeError, AttributeError,
            RecursionError) as error:  # fmt: skip
        raise DataError(path, "file", f"{type(error).__name__}: {error}", "a file written by save_graphs") from error
    try:
        return [
            SceneGraph(**{**info, "vocabulary": vocabularies[info["vocabulary"]]}, **fields)
            for info, fields in zip(infos, arrays, strict=True)
        ]
    except GraphError:
        raise
    except (TypeError, IndexError, KeyError, ValueError, AttributeError, ArithmeticError) as error:
        raise DataError(path, "file", f"{type(error).__name__}: {error}", "a file written by save_graphs") from error
