"""What a well-formed file of :mod:`proda_lib.datasets.own` says, as the arrays of a scene graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from proda_lib.datasets.report import Report
from proda_lib.names import brief, nearest_names
from proda_lib.vocabulary import Vocabulary

#: Numbers in the arrays of one graph at most: so many, or so many for each byte of the file. A frame that lists what
#: is in it takes more than a byte for a number; what is said of few objects of many, or without relations, less.
MAX_NUMBERS, EXPANSION = 2**22, 16
#: So many unknown names get their nearest ones; to find these takes as long as there are names to choose from.
MAX_NEAREST = 10


class Content:
    """Reads a file whose form is right; each fault names its place.

    Args:
        path: the file, for messages. ``data``: what is in it, valid by the schema.
        vocabulary: of the file. ``report``: where faults go. ``size``: bytes of the file, which bound the arrays.
    """

    def __init__(self, path: Path, data: dict, vocabulary: Vocabulary, report: Report, size: int):
        self.most = max(MAX_NUMBERS, EXPANSION * size)
        self.path, self.data, self.vocabulary, self.report = path, data, vocabulary, report
        self.classes: dict[str | int, int] = {}  # id → class, in the order of the slots
        self.numbers = {key: {name: i for i, name in enumerate(getattr(vocabulary, key))}
                        for key in ("objects", "relations", "actions", "scenes")}  # fmt: skip

    def fault(self, where: str, found: object, expected: str) -> None:
        self.report.fault(self.path, where, found, expected)

    def fields(self) -> dict | None:
        """The arrays of the graph; None after a fault."""
        before = len(self.report.errors)
        slots = self._slots()
        times = self._times()
        tokens, links = [], []  # (frame, slot, box) and (frame, lower slot, higher slot, relations)
        for t, frame in enumerate(self.data["frames"]):
            boxes = self._boxes(t, frame["nodes"])
            tokens += [(t, slots[i], box) for i, box in boxes.items()]
            links += self._links(t, frame.get("relations", []), boxes, slots)
        labels, segments = self._segments()
        known = labels
        if "labels" in self.data:
            known = [self._number(f"labels[{i}]", name, "actions") for i, name in enumerate(self.data["labels"])]
        scene = self._number("scene", self.data["scene"], "scenes") if "scene" in self.data else -1
        pairs = sorted({(a, b) for _, a, b, _ in links})
        T, M, E, R = len(times), len(slots), 2 * len(pairs), len(self.vocabulary.relations)
        if T * (4 * M + E * max(R, 1)) > self.most:
            found = f"{T} frames, {M} objects and {E} edges with {R} relations"
            self.fault("frames", found, f"at most {self.most} numbers in all")
        if len(self.report.errors) > before:
            return None
        boxes, present, relations = np.zeros((T, M, 4)), np.zeros((T, M), bool), np.zeros((T, E, R), bool)
        for t, slot, box in tokens:
            boxes[t, slot], present[t, slot] = box, True
        edge_of = {pair: 2 * i for i, pair in enumerate(pairs)}
        for t, a, b, held in links:
            relations[t, edge_of[a, b] : edge_of[a, b] + 2, held] = True
        edges = [end for a, b in pairs for end in ((a, b), (b, a))]
        return {
            "classes": np.array([self.classes[i] for i in slots], dtype=np.int64),
            "boxes": boxes,
            "present": present,
            "edges": np.array(edges, dtype=np.int64).reshape(-1, 2).T,
            "relations": relations,
            "times": times,
            "segment_labels": np.array(labels, dtype=np.int64),
            "segments": np.array(segments, dtype=float).reshape(-1, 2),
            "labels": np.unique(np.array(known, dtype=np.int64)),
            "scene": scene,
        }

    def _number(self, where: str, name: str, kind: str) -> int:
        """Number of a name in the vocabulary; -1 after a fault."""
        if name not in self.numbers[kind]:
            names, few = getattr(self.vocabulary, kind), len(self.report.errors) < MAX_NEAREST
            near = nearest_names(name, names) if few else f"{len(names)} in all"
            self.fault(where, brief(name), f"one of the {kind} of {brief(self.vocabulary.name)}: {near}")
        return self.numbers[kind].get(name, -1)

    def _slots(self) -> dict[str | int, int]:
        """Slot of each id."""
        listed = "slots" in self.data
        for k, slot in enumerate(self.data.get("slots", [])):
            if slot["id"] in self.classes:
                self.fault(f"slots[{k}].id", f"{brief(slot['id'])} again", "each id once")
            self.classes[slot["id"]] = self._number(f"slots[{k}].class", slot["class"], "objects")
        for t, frame in enumerate(self.data["frames"]):
            for i, node in enumerate(frame["nodes"]):
                where = f"frames[{t}].nodes[{i}]"
                own = self._number(f"{where}.class", node["class"], "objects")
                if listed and node["id"] not in self.classes:
                    self.fault(f"{where}.id", brief(node["id"]), "an id that is listed in 'slots'")
                if (first := self.classes.setdefault(node["id"], own)) == -1:  # its name was unknown
                    self.classes[node["id"]] = own
                elif own not in (first, -1):
                    expected = f"{brief(self.vocabulary.objects[first])}, as elsewhere for {brief(node['id'])}"
                    self.fault(f"{where}.class", brief(node["class"]), expected)
        ids = list(self.classes) if listed else sorted(self.classes, key=lambda i: self.classes[i] != 0)
        return {i: slot for slot, i in enumerate(ids)}

    def _times(self) -> np.ndarray:
        times, duration = [float(frame["time"]) for frame in self.data["frames"]], float(self.data["duration"])
        for t, time in enumerate(times):
            if time > duration:
                self.fault(f"frames[{t}].time", time, f"at most the duration, {duration:g} s")
            if t and time < times[t - 1]:
                self.fault(f"frames[{t}].time", time, f"frames in order of time, at least {times[t - 1]:g} s")
        return np.array(times)

    def _boxes(self, t: int, nodes: Sequence[dict]) -> dict[str | int, np.ndarray]:
        """Box of each id that is in frame ``t``, as fractions of the frame."""
        size = np.array([float(side) for side in self.data.get("size", (1, 1))] * 2)
        unit = "pixels of the frame" if "size" in self.data else 'fractions of the frame (for pixels, give "size")'
        boxes: dict[str | int, np.ndarray] = {}
        for i, node in enumerate(nodes):
            where, box = f"frames[{t}].nodes[{i}]", np.array([float(x) for x in node["box"]]) / size
            if node["id"] in boxes:
                self.fault(f"{where}.id", f"{brief(node['id'])} again", "each id once in a frame")
            if (box > 1).any():
                self.fault(f"{where}.box", node["box"], f"{unit}, 0..{size[0]:g} and 0..{size[1]:g}")
            elif not (box[:2] < box[2:]).all():
                self.fault(f"{where}.box", node["box"], "x1 < x2 and y1 < y2")
            boxes[node["id"]] = box
        return boxes

    def _links(self, t: int, relations: Sequence[dict], there: dict, slots: dict) -> list[tuple]:
        links = []
        for i, relation in enumerate(relations):
            where, ends = f"frames[{t}].relations[{i}]", [relation["from"], relation["to"]]
            numbers = [self._number(f"{where}.names[{k}]", name, "relations") for k, name in
                       enumerate(relation["names"])]  # fmt: skip
            absent = [key for key, end in zip(("from", "to"), ends, strict=True) if end not in there]
            for key in absent:
                self.fault(f"{where}.{key}", brief(relation[key]), "the id of a node of the same frame")
            if ends[0] == ends[1]:
                self.fault(where, f"from {brief(ends[0])} to itself", "two different objects")
            elif not absent:
                links.append((t, *sorted(slots[end] for end in ends), numbers))
        return links

    def _segments(self) -> tuple[list[int], list[tuple[float, float]]]:
        labels, segments, duration = [], [], float(self.data["duration"])
        for i, segment in enumerate(self.data.get("segments", [])):
            start, end = float(segment["start"]), float(segment["end"])
            labels.append(self._number(f"segments[{i}].action", segment["action"], "actions"))
            segments.append((start, end))
            if not start < end <= duration:
                self.fault(f"segments[{i}]", f"{start:g} to {end:g} s", f"start < end <= {duration:g} s")
        return labels, segments
