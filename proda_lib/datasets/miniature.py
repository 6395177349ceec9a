"""Invented miniatures of real data sets in their official layouts, to try pages and readers without the real ones."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from proda_lib.datasets.cad120_files import HEIGHT, WIDTH
from proda_lib.graph import SceneGraph
from proda_lib.vocabulary import (
    ACTION_GENOME_OBJECTS,
    ACTION_GENOME_RELATIONS,
    ATTENTION_RELATIONS,
    CONTACTING_RELATIONS,
    SPATIAL_RELATIONS,
)

SIZE = (480, 270)  #: pixels of a frame of the Action Genome miniature
RATE = 29.97  #: its frames per second
GROUPS = {"attention": ATTENTION_RELATIONS, "spatial": SPATIAL_RELATIONS, "contacting": CONTACTING_RELATIONS}


def write_action_genome(folder: str | os.PathLike, graphs: Sequence[SceneGraph], split: str = "train") -> None:
    """Write graphs with Action Genome's objects and relations (such as SSG-World's) as its files would say them.

    The layout is the one that ``data/README.md`` describes; each object class may occur once a video.
    """
    folder = Path(folder)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    objects: dict[str, list[dict]] = {}
    persons: dict[str, dict] = {}
    rows = []
    for graph in graphs:
        for t, time in enumerate(graph.times):
            key = f"{graph.video}.mp4/{round(time * RATE):06d}.png"
            boxes = graph.boxes[t].astype(np.float64) * np.tile(SIZE, 2)
            persons[key] = {"bbox": boxes[:1].astype(np.float32), "bbox_score": np.ones(1, np.float32),
                            "bbox_size": SIZE, "bbox_mode": "xyxy"}  # fmt: skip
            objects[key] = [_object(graph, t, slot, boxes[slot], split) for slot in range(1, graph.num_slots)]
        spans = zip(graph.segment_labels, graph.segments, strict=True)
        actions = ";".join(f"c{label:03d} {start:.2f} {end:.2f}" for label, (start, end) in spans)
        scene = graph.vocabulary.scenes[graph.scene] if graph.scene >= 0 else ""
        rows.append(f"{graph.video},{scene},{actions},{graph.duration:.2f}")
    rates = {f"{graph.video}.mp4": RATE for graph in graphs}
    pickles = {"annotations/object_bbox_and_relationship.pkl": objects, "annotations/person_bbox.pkl": persons,
               "star_video_fps": rates}  # fmt: skip
    for name, content in pickles.items():
        (folder / name).write_bytes(pickle.dumps(content, 2))
    texts = {
        "annotations/frame_list.txt": list(objects),
        "annotations/object_classes.txt": [name.replace("/", "") for name in ACTION_GENOME_OBJECTS],
        "annotations/relationship_classes.txt": [name.replace("_", "") for name in ACTION_GENOME_RELATIONS],
        "Charades_v1_classes.txt": [f"c{i:03d} {name}" for i, name in enumerate(graphs[0].vocabulary.actions)],
        f"Charades_v1_{split}.csv": ["id,scene,actions,length", *rows],
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _object(graph: SceneGraph, t: int, slot: int, box: np.ndarray, split: str) -> dict:
    """One object of one frame, as the pickle has it: box (x, y, w, h), or None where it is not visible."""
    there = bool(graph.present[t, slot])
    edge = np.flatnonzero((graph.edges.T == [0, slot]).all(1))[0]
    held = {graph.vocabulary.relations[r] for r in np.flatnonzero(graph.relations[t, edge])}
    x1, y1, x2, y2 = (float(side) for side in box)
    found = {f"{group}_relationship": [n.replace("_", "") for n in names if n in held] if there else None
             for group, names in GROUPS.items()}  # fmt: skip
    return {"class": graph.vocabulary.objects[graph.classes[slot]], "visible": there,
            "bbox": (x1, y1, x2 - x1, y2 - y1) if there else None, **found,
            "metadata": {"tag": "", "set": split}}  # fmt: skip


#: The story of the CAD-120 miniature, as (clip, seconds): a cup is picked up, drunk from and placed again.
STORY = (("null", 0.6), ("pick", 1.0), ("drink", 1.6), ("place", 1.0), ("null", 0.4))


def write_cad120(folder: str | os.PathLike, subjects: Sequence[str] = ("S1", "S2", "S3", "S4"), fps: int = 30) -> None:
    """One invented video for each subject, in the layout of CAD-120's ``annotations.zip``."""
    root, clips = Path(folder) / "annotations", []
    for number, subject in enumerate(subjects):
        video = f"{number + 1:010d}"
        path = root / "all" / subject / "drinking" / f"{video}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        lengths = [round(seconds * fps * (1 + 0.1 * number)) for _, seconds in STORY]
        ends = np.cumsum(lengths)
        for (action, _), last, length in zip(STORY, ends, lengths, strict=True):
            clips.append(f"{subject}, drinking, {video}, {last - length + 1}, {last}, {action}")
        path.write_text(json.dumps({"person_id": subject, "video_label": "drinking", "video_id": video,
                                    **_cad120_tracks(ends)}), encoding="utf-8")  # fmt: skip
    (root / "video_clips.txt").write_text("\n".join(clips) + "\n")
    (root / "splits").mkdir(exist_ok=True)
    for k, held_out in enumerate(subjects, 1):
        others = [subject for subject in subjects if subject != held_out]
        (root / "splits" / f"trainlist{k:02d}.txt").write_text("\n".join(others) + "\n")
        (root / "splits" / f"testlist{k:02d}.txt").write_text(held_out + "\n")


def _cad120_tracks(ends: np.ndarray) -> dict:
    """Boxes x, y, w, h in pixels and the state of each pair; ``ends``: last frame of each clip of the story."""
    clock = np.arange(1, ends[-1] + 1)
    lift = np.interp(clock, [ends[0], ends[1], ends[2], ends[3]], [0.0, 1.0, 1.0, 0.0])  # 0 table, 1 mouth
    head, table = np.array([300.0, 70.0]), np.array([360.0, 300.0])
    cup = table + lift[:, None] * (head + (20, 60) - table)
    reach = np.interp(clock, [1, ends[0], ends[3], ends[4]], [0.0, 1.0, 1.0, 0.0])[:, None]
    right = np.array([440.0, 260.0]) * (1 - reach) + (cup + (25, 10)) * reach
    held = (clock > ends[0]) & (clock <= ends[3])
    drinks = (clock > ends[1]) & (clock <= ends[2])
    still = np.ones((len(clock), 1))
    places = {"head_1": (head * still, 80), "hand_1": ((180, 260) * still, 40), "hand_2": (right, 40),
              "cup_1": (cup, 35), "book_1": ((140, 330) * still, 70)}  # fmt: skip
    locations = [{"obj_id": name, "loc_list": [
        [round(float(x)), round(float(y)), size, size] for x, y in np.clip(at, 0, (WIDTH - size, HEIGHT - size))]}
        for name, (at, size) in places.items()]  # fmt: skip

    def states(on: np.ndarray, yes: str, no: str) -> list[str]:
        return [yes if value else no for value in on]

    never = np.zeros_like(held)
    pairs = {("head_1", "cup_1"): states(drinks, "contacting", "apart"),
             ("head_1", "book_1"): states(never, "contacting", "apart"),
             ("hand_1", "cup_1"): states(never, "holding", "not_holding"),
             ("hand_2", "cup_1"): states(held, "holding", "not_holding"),
             ("hand_1", "book_1"): states(never, "holding", "not_holding"),
             ("hand_2", "book_1"): states(never, "holding", "not_holding")}  # fmt: skip
    return {
        "locations": locations,
        "relations": [{"obj_ids": list(pair), "rel_list": track} for pair, track in pairs.items()],
        "attributes": [{"obj_id": "book_1", "attr_list": states(never, "open", "closed")}],
    }
