"""Your own video as a scene graph: one JSON file, described by ``own_schema.json`` (JSON Schema, draft 2020-12).

A file in full; ``labels``, ``segments``, ``scene``, ``size`` and ``slots`` may be left out::

    {"video": "kitchen", "duration": 4.0, "vocabulary": "world", "size": [640, 480],
     "frames": [{"time": 0.5,
                 "nodes": [{"id": "anna", "class": "person", "box": [200, 40, 380, 470]},
                           {"id": "mug", "class": "cup/glass/bottle", "box": [350, 210, 390, 260]}],
                 "relations": [{"from": "anna", "to": "mug", "names": ["looking_at", "holding"]}]}],
     "segments": [{"action": "raise_cup", "start": 0.0, "end": 2.0}], "scene": "Kitchen"}

- ``vocabulary``: "world", "action_genome" or "cad120", or lists of names of your own.
- ``size``: boxes are in pixels of frames of this size. Without it they are fractions of the frame.
- The same ``id`` is the same slot in every frame. Slots are ordered as in ``slots``; without it, objects of the first
  class (the person) come first, the others follow as they occur.
- Two objects are joined if a relation names them in any frame, also with an empty list of ``names``. Both directions of
  a pair share the relations: what is said from a to b and from b to a is put together. Edges are ordered by slots.
- ``action_genome`` has Charades' actions if their list is installed (data/README.md), else none.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import reprlib
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from proda_lib.datasets import cad120_files, charades, world_actions
from proda_lib.datasets.action_genome import action_genome_vocabulary
from proda_lib.datasets.official import CHARADES_CLASSES, charades_folder
from proda_lib.datasets.own_content import Content
from proda_lib.datasets.report import Report
from proda_lib.errors import DataError
from proda_lib.files import write_atomically
from proda_lib.graph import SceneGraph
from proda_lib.paths import data_root
from proda_lib.vocabulary import Vocabulary

NAMED = ("world", "action_genome", "cad120")


def named_vocabulary(name: str) -> Vocabulary:
    """The vocabulary of a data set by its name in a file, one of :data:`NAMED`."""
    if name == "world":
        return world_actions.VOCABULARY
    if name == "cad120":
        return cad120_files.VOCABULARY
    if name != "action_genome":
        raise DataError("named_vocabulary", "name", repr(name), f"one of {', '.join(NAMED)}")
    folder = charades_folder(data_root())
    return action_genome_vocabulary(() if folder is None else charades.read_classes(folder / CHARADES_CLASSES))


def read_own(path: str | os.PathLike) -> SceneGraph:
    """The scene graph in a JSON file (see the module's docstring).

    Raises:
        DataError: the first fault, with its place in the file, such as ``frames[2].nodes[0].box``.
    """
    return _read(Path(path), Report())


def check_own(path: str | os.PathLike) -> Report:
    """All faults of a file at once, in ``.errors``.

    Faults of form come first; only a file without any is searched for faults of content (unknown names, empty boxes).
    """
    report = Report(collect=True)
    _read(Path(path), report)
    return report


def frame_size(path: str | os.PathLike) -> tuple[float, float] | None:
    """Width and height in pixels that a sound file states for its frames, if it does."""
    size = json.loads(Path(path).read_bytes().decode("utf-8-sig")).get("size")
    return None if size is None else tuple(size)


def write_own(graph: SceneGraph, path: str | os.PathLike) -> None:
    """Write a graph as a JSON file, boxes as fractions. Reading it gives the graph again, with its edges in order.

    The format has no place for visual features, ``carriers``, and edges that are in no frame: these are left out.

    Raises:
        DataError: an edge has no opposite, or one with other relations: the format cannot hold this.
    """
    data = own_bytes(graph, path)
    write_atomically(Path(path), lambda partial: partial.write_bytes(data))


def own_bytes(graph: SceneGraph, path: str | os.PathLike) -> bytes:
    """What :func:`write_own` writes to the path, which errors name."""
    content = _as_json(graph)
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        return text.encode()
    except (ValueError, TypeError) as error:
        raise DataError(path, repr(graph.video), error, "a graph whose names are texts") from error


def _as_json(graph: SceneGraph) -> dict:
    vocabulary = graph.vocabulary
    ids = [f"{vocabulary.objects[c]} {slot}" for slot, c in enumerate(graph.classes)]
    nodes = [{"id": i, "class": vocabulary.objects[c]} for i, c in zip(ids, graph.classes, strict=True)]
    pairs = _pairs(graph)
    frames = []
    for t in range(graph.num_frames):
        there, meets = np.flatnonzero(graph.present[t]), graph.edge_present[t]
        frames.append({
            "time": float(graph.times[t]),
            "nodes": [{**nodes[slot], "box": [float(x) for x in graph.boxes[t, slot]]} for slot in there],
            "relations": [
                {"from": ids[a], "to": ids[b], "names": [vocabulary.relations[r] for r in
                                                         np.flatnonzero(graph.relations[t, edge])]}
                for (a, b), edge in pairs.items() if meets[edge]
            ],
        })  # fmt: skip
    name = next((n for n in NAMED if named_vocabulary(n) == vocabulary), None)
    content = {
        "video": graph.video,
        "duration": float(graph.duration),
        "vocabulary": name or dataclasses.asdict(vocabulary),
        "slots": nodes,
        "frames": frames,
        "labels": [vocabulary.actions[label] for label in graph.labels],
        "segments": [{"action": vocabulary.actions[label], "start": float(start), "end": float(end)}
                     for label, (start, end) in zip(graph.segment_labels, graph.segments, strict=True)],
    }  # fmt: skip
    return content | ({"scene": vocabulary.scenes[graph.scene]} if graph.scene >= 0 else {})


def _pairs(graph: SceneGraph) -> dict[tuple[int, int], int]:
    """(lower slot, higher slot) → edge from the lower one, of graphs that the format can hold."""
    edge_of = {(int(a), int(b)): edge for edge, (a, b) in enumerate(graph.edges.T)}
    for (a, b), edge in edge_of.items():
        other = edge_of.get((b, a))
        if other is None or (graph.relations[:, edge] != graph.relations[:, other]).any():
            found = "no edge back" if other is None else "other relations on the edge back"
            raise DataError(graph.video, f"edges[{edge}]", found, "both directions with the same relations")
    return {(a, b): edge_of[a, b] for a, b in sorted(edge_of) if a < b}


def _read(path: Path, report: Report) -> SceneGraph | None:
    data = _parse(path, report)
    before = len(report.errors)
    if data is None or not _well_formed(path, data, report):
        return None
    vocabulary = data["vocabulary"]
    if isinstance(vocabulary, dict):
        lists = {key: tuple(vocabulary.get(key, ())) for key in ("objects", "relations", "actions", "scenes")}
        vocabulary = Vocabulary(vocabulary.get("name", data["video"]), **lists)
    else:
        vocabulary = named_vocabulary(vocabulary)
    fields = Content(path, data, vocabulary, report, path.stat().st_size).fields()
    if len(report.errors) > before:
        return None
    try:
        return SceneGraph(video=data["video"], vocabulary=vocabulary, duration=float(data["duration"]), **fields)
    except DataError as error:  # such as a box whose sides are too short for a float
        report.fault(path, error.where, error.found, error.expected)
        return None


def _parse(path: Path, report: Report) -> object:
    """The file as Python values, or None after a fault. NaN, a key given twice and broken texts are refused."""

    def once(pairs: list[tuple[str, object]]) -> dict:
        found = dict(pairs)
        if len(found) < len(pairs):
            (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise ValueError(f"the key {reprlib.repr(key)} twice in one object")
        return found

    def refuse(name: str) -> None:
        raise ValueError(f"{name}, which is no number")

    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=once, parse_constant=refuse)
        json.dumps(data, ensure_ascii=False).encode()  # half a character (a lone surrogate) can be escaped in JSON
        return data if data is not None else {}
    except OSError as error:
        report.fault(path, "file", error.strerror or error, "a JSON file that can be read")
    except RecursionError:
        report.fault(path, "file", "lists or objects nested too deeply", "the format of own_schema.json")
    except UnicodeError as error:
        report.fault(path, "file", f"text that is not UTF-8 ({error.reason})", "JSON in UTF-8")
    except ValueError as error:
        report.fault(path, "file", error, "JSON")


def _unique(validator: object, unique: bool, found: object, schema: dict) -> Iterator[ValidationError]:
    """ "uniqueItems" in linear time: lists of texts alone, since the schema's lists hold nothing else."""
    if isinstance(found, list) and all(isinstance(item, str) for item in found) and len(set(found)) < len(found):
        yield ValidationError("repeated")


@functools.cache
def _validator() -> Draft202012Validator:
    schema = json.loads((files("proda_lib.datasets") / "own_schema.json").read_text("utf-8"))
    return extend(Draft202012Validator, {"uniqueItems": _unique})(schema)


def _well_formed(path: Path, data: object, report: Report) -> bool:
    seen = set()
    try:
        for error in _validator().iter_errors(data):
            where, found, expected = error.json_path.removeprefix("$").removeprefix(".") or "file", *_fault(error)
            if (where, found) not in seen:  # each missing key is an error of its own, with the same text here
                seen.add((where, found))
                report.fault(path, where, found, expected)
    except RecursionError:
        report.fault(path, "file", "lists or objects nested too deeply", "the format of own_schema.json")
        return False
    return not seen


def _fault(error: ValidationError) -> tuple[str, str]:
    """What was found and what was expected, in words."""
    if error.validator == "required":
        missing = [key for key in error.schema["required"] if key not in error.instance]
        return f"no {', '.join(map(repr, missing))}", f"the keys {', '.join(map(repr, error.schema['required']))}"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = [key for key in error.instance if key not in known]
        return f"the unknown key {reprlib.repr(unknown[0])}", f"keys among {', '.join(map(repr, known))}"
    if error.validator == "enum":
        return reprlib.repr(error.instance), f"one of {', '.join(map(repr, error.schema['enum']))}"
    return reprlib.repr(error.instance), error.schema["description"]
