"""SSG-World: a simulator of spatio-temporal scene graphs whose truth is known.

How a video comes about:

1. A scene is drawn, then the number of labels (Charades' spread), then a few objects and actions on them that suit the
   scene. Some objects come without an action.
2. Every object has three tracks: attention, spatial and contacting relation to the person. Each track goes through a
   sentence of :mod:`proda_lib.datasets.world_actions`: it spells the track's actions (at most two, one after the
   other), or stands still (or, with ``distraction``, moves without meaning). Tracks are independent, so actions overlap
   in time, on one object and on several.
3. An object is in view around its actions, as in Action Genome, and is missed in a few of those frames.
4. Boxes follow the contacting and spatial relations: what is held moves with the person, what is not stays where it
   is. Attention leaves no trace in the boxes.
5. Noise: relations are replaced or added, boxes jitter. Labels and segments are exact.

Time runs from 0 to 1 while a video is planned and is turned into seconds at the end. Below, T is frames, O objects
(slots 1..O; the person is slot 0), R relations, K segments.
"""

from __future__ import annotations

import numpy as np

from proda_lib.datasets.world_actions import ACTIONS, CHANNELS, VOCABULARY
from proda_lib.datasets.world_look import annotate, draw_boxes, draw_features
from proda_lib.datasets.world_plan import (
    SPLITS,
    WorldConfig,
    draw_actions,
    draw_tracks,
    held_out_pairs,
    relations_over_time,
    scene_weights,
)
from proda_lib.errors import RecipeError
from proda_lib.graph import SceneGraph

__all__ = ["ACTIONS", "SPLITS", "VOCABULARY", "WORLD_VERSION", "WorldConfig", "held_out_pairs", "make_video",
           "make_videos", "scene_weights"]  # fmt: skip

#: Raised whenever any video of any configuration changes; part of a run's hash.
WORLD_VERSION = "1"

FRAMES = (24, 40)
SECONDS = (20.0, 40.0)


def make_video(config: WorldConfig, index: int, split: str = "train") -> SceneGraph:
    """Video ``index`` of a split; any video can be made alone, and is the same every time.

    Slot 0 is the person, slots 1..O the objects (O <= 9; a second person, if any, is slot 1). Edges run from the person
    to each object and back, (0, 1), (1, 0), (0, 2), ...; both directions share relations. ``carriers`` marks both
    edges of the object that a segment's action is done to, in the frames inside the segment.

    Args:
        config: the knobs.
        index: number of the video, from 0.
        split: "train", "val" or "test"; held-out action-scene pairs occur in "test" only.

    Raises:
        RecipeError: there is no such split.
    """
    if split not in SPLITS:
        raise RecipeError(f"make_video: split: found {split!r}, expected one of {', '.join(SPLITS)}")
    key = [config.seed, SPLITS.index(split), index]
    rng = np.random.default_rng(key)
    scene = int(rng.integers(len(VOCABULARY.scenes)))
    duration = float(rng.uniform(*SECONDS))
    T = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    gaps = np.cumsum(0.3 + rng.random(T + 1))
    clock = gaps[:-1] / gaps[-1]  # (T,) in 0..1, unevenly spaced
    objects, busy = draw_actions(config, scene_weights(config, split)[scene], rng)
    tracks, view = draw_tracks(config, objects, busy, rng)
    count = len(objects)
    classes = np.array([0, *objects])
    true = relations_over_time(tracks, clock)

    present = np.ones((T, 1 + count), dtype=bool)
    present[:, 1:] = (view[:, 0] <= clock[:, None]) & (clock[:, None] <= view[:, 1])
    present[:, 1:] &= rng.random((T, count)) >= config.missing
    relations = annotate(config, objects, true, rng) & present[:, 1:, None]
    boxes = draw_boxes(config, objects, true, clock, rng) * present[..., None]
    slots = np.arange(1, count + 1)
    to_object = np.stack([np.zeros_like(slots), slots], 1)
    edges = np.stack([to_object, to_object[:, ::-1]], 1).reshape(2 * count, 2).T  # (0, 1), (1, 0), (0, 2), ...

    segments = sorted(
        (start, end, action, row // len(CHANNELS))
        for row, track in enumerate(tracks)
        for action, start, end in track.segments
    )
    spans = np.array([segment[:2] for segment in segments], np.float64).reshape(-1, 2) * duration
    times = clock * duration
    on = (spans[:, 0] <= times[:, None]) & (times[:, None] <= spans[:, 1])  # (T, K)
    owner = np.array([segment[3] for segment in segments], np.int64)
    carriers = on[:, None] & (owner == np.arange(count)[:, None]) & present[:, 1:, None]  # (T, O, K)

    features = frame_features = None
    if config.features:  # a generator of its own, so that the rest of the video does not depend on features
        own = np.random.default_rng([*key, 1])
        features, frame_features = draw_features(config.seed, classes, true, scene, present, own)
    return SceneGraph(
        video=f"world-{config.seed}-{split}-{index:06d}",
        vocabulary=VOCABULARY,
        classes=classes,
        boxes=boxes,
        present=present,
        edges=edges,
        relations=relations.repeat(2, axis=1),
        times=times,
        duration=duration,
        segment_labels=np.array([segment[2] for segment in segments], np.int64),
        segments=spans,
        scene=scene,
        features=features,
        frame_features=frame_features,
        carriers=carriers.repeat(2, axis=1),
    )


def make_videos(config: WorldConfig, split: str, count: int) -> list[SceneGraph]:
    """Videos 0..count-1 of a split; see :func:`make_video`."""
    return [make_video(config, index, split) for index in range(count)]
