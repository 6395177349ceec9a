"""What a prediction is made from: a graph in the model's words, from a file or a detector, with the features it reads.

Every function also gives ``notes``: sentences on what was left out or is missing, which the report shows.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from proda_lib.datasets.own import frame_size, read_own
from proda_lib.datasets.world_actions import ACTIONS, VOCABULARY
from proda_lib.errors import DataError
from proda_lib.features.clip import ClipEncoder, add_features
from proda_lib.features.detect import Detector, to_vocabulary
from proda_lib.features.film import Picture
from proda_lib.features.track import associate, graph_of_tracks
from proda_lib.features.video import probe, read_frames
from proda_lib.graph import SceneGraph
from proda_lib.names import nearest_names
from proda_lib.plotting.style import readable
from proda_lib.vocabulary import Vocabulary

#: Seconds by which a graph and its video may differ in length without a note.
SLACK = 0.5
NO_RELATIONS = (
    "No edge of this graph has a relation. The model reads relations only through edges, so that most of what it was "
    "trained to read is missing here: only classes, boxes and when objects are there are left."
)


def read_graph(source: SceneGraph | str | os.PathLike) -> SceneGraph:
    """A graph as it is, or from a file: ``.safetensors`` of :meth:`SceneGraph.save`, else the JSON of ``own.py``.

    Raises:
        DataError: the file is broken, or this is no graph and no path.
    """
    if isinstance(source, SceneGraph):
        return source
    if not isinstance(source, str | os.PathLike):
        raise DataError("predict", "graph", type(source).__name__, "a SceneGraph, or the path of its file")
    return SceneGraph.load(source) if Path(source).suffix == ".safetensors" else read_own(source)


def mismatch(
    graph: SceneGraph, source: SceneGraph | str | os.PathLike, video: str | os.PathLike, rate: float | None
) -> list[str]:
    """What says that a graph and a video do not belong together: another length, or another shape of the frame.

    A graph may be drawn on a scaled copy of the video, which costs nothing.

    Args:
        source: where the graph is from; only a JSON file can state a size.
        rate: frames per second of a folder of pictures; None for a video file.

    Raises:
        DataError: the video cannot be read.
    """
    info, notes = probe(video, rate), []
    if abs(info.duration - graph.duration) > max(SLACK, 2 / info.rate):
        notes.append(f"The graph says that the video has {graph.duration:.1f} s, but it has {info.duration:.1f} s: "
                     "they may not belong together.")  # fmt: skip
    size = None if isinstance(source, SceneGraph) or Path(source).suffix == ".safetensors" else frame_size(source)
    if size is not None and abs(size[0] * info.height / (size[1] * info.width) - 1) > 0.02:
        notes.append(f"The graph's boxes are in frames of {size[0]:g} x {size[1]:g} pixels, but the video's have "
                     f"{info.width} x {info.height}: they may not belong together.")  # fmt: skip
    return notes


def in_vocabulary(graph: SceneGraph, vocabulary: Vocabulary) -> tuple[SceneGraph, list[str]]:
    """The same graph in other words: object classes, relations, actions and the scene are looked up by name.

    Labels and segments only show the truth beside an answer, so those that the vocabulary lacks are left out and noted.

    Raises:
        DataError: an object class or a relation that occurs has no such name; the message has the nearest ones.
    """
    own, notes = graph.vocabulary, []
    used = np.flatnonzero(graph.relations.any((0, 1)))
    classes = _numbers(graph, "objects", sorted(set(graph.classes.tolist())), vocabulary)
    columns = _numbers(graph, "relations", used.tolist(), vocabulary)
    relations = np.zeros((*graph.relations.shape[:2], len(vocabulary.relations)), dtype=bool)
    for here, there in columns.items():
        relations[..., there] = graph.relations[..., here]
    actions = {i: vocabulary.actions.index(name) for i, name in enumerate(own.actions) if name in vocabulary.actions}
    kept = np.array([label in actions for label in graph.segment_labels], dtype=bool)
    unknown = {int(label) for label in [*graph.labels, *graph.segment_labels]} - actions.keys()
    if unknown:
        names = ", ".join(sorted(readable(own.actions[label]) for label in unknown))
        notes.append(f"The graph's labels that the model does not know are not shown: {names}.")
    scene = own.scenes[graph.scene] if graph.scene >= 0 else None
    return dataclasses.replace(
        graph,
        vocabulary=vocabulary,
        classes=np.array([classes[c] for c in graph.classes], dtype=np.int64),
        relations=relations,
        labels=np.array(sorted(actions[label] for label in graph.labels if label in actions), dtype=np.int64),
        segment_labels=np.array([actions[label] for label in graph.segment_labels[kept]], dtype=np.int64),
        segments=graph.segments[kept],
        carriers=None if graph.carriers is None else graph.carriers[..., kept],
        scene=vocabulary.scenes.index(scene) if scene in vocabulary.scenes else -1,
    ), notes  # fmt: skip


def _numbers(graph: SceneGraph, kind: str, used: Sequence[int], vocabulary: Vocabulary) -> dict[int, int]:
    """Number in the graph's vocabulary → number in ``vocabulary``, of the names in use."""
    names, known = getattr(graph.vocabulary, kind), getattr(vocabulary, kind)
    for number in used:
        if names[number] not in known:
            expected = f"{kind} of the model ({vocabulary.name}); {nearest_names(names[number], known)}"
            raise DataError(graph.video, kind, repr(names[number]), expected)
    return {number: known.index(names[number]) for number in used}


def without_object(graph: SceneGraph, asked: Sequence[int]) -> list[str]:
    """A note for each object class that an action of SSG-World needs and the graph has no node of."""
    if (graph.vocabulary.objects, graph.vocabulary.actions) != (VOCABULARY.objects, VOCABULARY.actions):
        return []  # which object an action is done to is known of SSG-World only
    needed = dict.fromkeys(ACTIONS[action].object for action in asked)
    there = set(graph.classes[graph.present.any(0)].tolist())
    return [f"No node of class {VOCABULARY.objects[c]!r} is in the graph." for c in needed if c not in there]


def detected(
    video: str | os.PathLike, detector: Detector, frames: int, vocabulary: Vocabulary, rate: float | None = None
) -> tuple[SceneGraph, list[str]]:
    """A graph of what a detector finds in ``frames`` evenly spread frames, tracked through them; without relations.

    They are spread from the first picture that is there to the end.

    Args:
        rate: frames per second of a folder of pictures; None for a video file.

    Raises:
        DataError: the video cannot be read, or nothing is found that the vocabulary knows.
    """
    info = probe(video, rate)
    times = info.start + (np.arange(frames) + 0.5) * (info.duration - info.start) / frames
    found, dropped = to_vocabulary(detector.detect(read_frames(video, times=times, rate=rate)), vocabulary.objects)
    name = os.fsencode(Path(video).stem).decode("utf-8", "replace")  # a report cannot hold other bytes
    graph, left_out = graph_of_tracks(associate(found, times), times, info.duration, name, vocabulary)
    weights = "random weights, so that its boxes mean nothing" if detector.random else "pretrained weights"
    notes = [f"The graph was made by the detector {detector.name} ({weights}; scores of at least "
             f"{detector.threshold:g} count) in {frames} frames: {graph.num_slots} objects."]  # fmt: skip
    if dropped:
        notes.append(f"Detections without a counterpart among the model's objects were dropped: {_listed(dropped)}.")
    if left_out:
        notes.append(f"Objects that are in the fewest frames have no slot: {_listed(left_out)}.")
    if not graph.num_edges:
        notes.append("No person was found together with an object: the graph has no edges.")
    return graph, notes


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {readable(name)}" for name, count in counts.most_common())


def with_visual(
    graph: SceneGraph, width: int, pictures: Sequence[Picture] | None, features: str | None, device: str,
    download: bool = False, trained_on: Mapping[str, str] | None = None,
) -> tuple[SceneGraph, list[str]]:  # fmt: skip
    """The graph with the visual features that a model reads: those it has, or of its pictures, or none.

    Args:
        width: of the features that the model reads; 0 if it reads none.
        features: name of the CLIP model that makes them.
        trained_on: "encoder" and "weights" (SHA-256) of those that the model was trained on, if that is known.

    Raises:
        DataError: the model reads features of another encoder or width, or none at all; or there is nothing to make
            them from.
    """
    where = f"{graph.video}, features"
    if not width:
        if features is not None:
            raise DataError(where, "--features", repr(features), "none: this model reads no visual features")
        return dataclasses.replace(graph, features=None, frame_features=None), []
    notes = []
    if features is not None:
        if pictures is None:
            raise DataError(where, "video", "none", "a video (--video), of whose frames features are made")
        encoder = ClipEncoder.load(features, device, download)
        if encoder.width != width:
            expected = f"width {width}, which the model was trained on"
            raise DataError(where, encoder.name, f"width {encoder.width}", expected)
        if trained_on is not None and encoder.checksum != trained_on["weights"]:
            expected = f"{trained_on['weights'][:12]} of {trained_on['encoder']}, which the model was trained on"
            raise DataError(where, encoder.name, f"weights {encoder.checksum[:12]}", expected)
        graph = add_features(graph, pictures, encoder)
        weights = "random weights, so that they mean nothing" if encoder.random else "pretrained weights"
        notes.append(f"Visual features: {encoder.name} ({weights}).")
    found = 0 if graph.features is None or graph.frame_features is None else graph.features.shape[-1]
    if found != width:
        expected = f"width {width}: this model reads visual features (--features NAME, and --video)"
        raise DataError(where, "features", f"width {found}", expected)
    return graph, notes
