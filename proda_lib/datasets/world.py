"""SSG-World: a simulator of spatio-temporal scene graphs whose truth is known.

How a video comes about:

1. A scene is drawn, then the number of labels (Charades' spread), then a few objects and actions on them that suit the
   scene. Some objects come without an action.
2. Every object has three tracks: attention, spatial and contacting relation to the person. Each track goes through a
   sentence of :mod:`proda_lib.datasets.world_actions`: it spells the track's actions (at most two, one after the
   other), or moves without meaning, or stands still. Tracks are independent, so actions overlap in time, on one object
   and on several.
3. An object is in view around its actions only, as in Action Genome, and is missed in some of those frames.
4. Boxes follow the contacting and spatial relations: what is held moves with the person, what is not stays where it
   is. Attention leaves no trace in the boxes.
5. Noise: relations are replaced or added, boxes jitter. Labels and segments are exact.

Time runs from 0 to 1 while a video is planned and is turned into seconds at the end. Below, T is frames, O objects
(slots 1..O; the person is slot 0), R relations, K segments.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from proda_lib.datasets.world_actions import ACTIONS, CHANNELS, LARGE, SIZES, VOCABULARY, alphabet, sentences
from proda_lib.errors import RecipeError
from proda_lib.graph import SceneGraph

__all__ = ["ACTIONS", "SPLITS", "VOCABULARY", "WORLD_VERSION", "WorldConfig", "held_out_pairs", "make_video",
           "make_videos", "scene_weights"]  # fmt: skip

#: Raised whenever any video of any configuration changes; part of a run's hash.
WORLD_VERSION = "1"

SPLITS = ("train", "val", "test")

#: Charades' training videos with 1, 2, ..., 16 labels.
LABEL_COUNTS = (102, 389, 785, 1088, 1232, 1032, 955, 740, 464, 372, 248, 148, 96, 56, 44, 26)
MAX_OBJECTS = 9
#: Fewer labels per object: more objects in a video, each of which says less about the labels.
LABELS_PER_OBJECT = 1.6
FRAMES = (24, 40)
SECONDS = (20.0, 40.0)
#: Shortest and longest share of the video that an action takes: alone on its track, and one of two on a track.
ALONE = (0.32, 0.66)
SHARED = (0.30, 0.47)
#: The three phases of an action take 1..1 + PHASE_SPREAD shares of it, whatever their order.
PHASE_SPREAD = 0.8
#: An object is in view up to this share of the video before its first and after its last action.
MARGIN = 0.08
#: Of the 16 scenes, each action is at home in this many.
HOME_SCENES = 4
#: Shortest side of a box, as a fraction of the frame.
MIN_SIDE = 0.02
FEATURE_SIZE = 512
#: Standard deviations of what a visual feature is made of: class, relations, appearance of the object, scene, noise.
FEATURE_MIX = {"class": 1.0, "state": 0.5, "appearance": 0.7, "scene": 0.5, "noise": 1.0}

R = len(VOCABULARY.relations)
C = len(VOCABULARY.actions)
S = len(VOCABULARY.scenes)

#: Contacting relation: how far the object follows the person (0..1), and where it then is, from the person's centre
#: in widths and heights of the person (y down).
FOLLOWS = {
    "touching": (0.45, 0.6, 0.0), "holding": (0.9, 0.5, -0.05), "carrying": (0.95, 0.1, 0.05),
    "drinking_from": (1.0, 0.1, -0.35), "eating": (1.0, 0.1, -0.35), "writing_on": (0.7, 0.3, 0.1),
    "wearing": (1.0, 0.0, 0.0), "have_it_on_the_back": (1.0, -0.3, -0.1), "covered_by": (1.0, 0.0, 0.1),
    "twisting": (0.5, 0.5, 0.0), "wiping": (0.6, 0.5, 0.1), "other_relationship": (0.5, 0.6, 0.0),
    "leaning_on": (0.5, 0.5, 0.2), "sitting_on": (0.8, 0.0, 0.3), "lying_on": (0.9, 0.0, 0.2),
    "standing_on": (0.8, 0.0, 0.5),
}  # fmt: skip
#: Spatial relation: shift of the object in x and y (fractions of the frame), and its size beside the usual one.
SHIFTS = {
    "above": (0.0, -0.12, 1.0), "beneath": (0.0, 0.12, 1.0), "in_front_of": (0.0, 0.03, 1.15),
    "behind": (0.0, -0.03, 0.85), "on_the_side_of": (0.12, 0.0, 1.0), "in": (0.0, 0.0, 0.9),
}  # fmt: skip
#: Large things give way to the person less than small ones do.
LARGE_FOLLOWS = 0.4


def _table(entries: dict[str, tuple[float, ...]], rest: tuple[float, ...]) -> Float[np.ndarray, "R 3"]:
    return np.array([entries.get(name, rest) for name in VOCABULARY.relations])


_LETTER_COUNTS = np.array([[len(alphabet(o, c)) for c in CHANNELS] for o in range(len(VOCABULARY.objects))])
#: (objects, channels, letters) the relations that an object shows in a channel, then zeros.
_LETTERS = np.zeros((*_LETTER_COUNTS.shape, _LETTER_COUNTS.max()), dtype=np.int64)
for _object, _channel in np.ndindex(_LETTER_COUNTS.shape):
    _LETTERS[_object, _channel, : _LETTER_COUNTS[_object, _channel]] = alphabet(_object, CHANNELS[_channel])

_FOLLOWS = _table(FOLLOWS, (0.0, 0.0, 0.0))
_SHIFTS = _table(SHIFTS, (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class WorldConfig:
    """The knobs of the world; all but ``seed``, ``features`` and ``distractors`` are between 0 and 1.

    Attributes:
        seed: another seed is another set of videos; also picks the held-out pairs and the feature projections.
        features: add 512-d visual features of boxes and frames. The rest of the video stays the same.
        scene_bias: 0, scene and actions are independent; 1, actions occur in the scenes they are at home in only.
        held_out: share of the (action, home scene) pairs that occur in the test split only.
        second_person: probability of a second person, with person-person actions.
        distraction: probability that a track without an action moves all the same.
        distractors: up to so many objects that are drawn without regard to actions.
        missing: probability that an object in view is missed in a frame.
        relation_noise: probability, per frame and track, that the relation is replaced by another one of the track's.
        extra_relations: probability, per frame and track, of a second spatial or contacting relation.
        box_noise: standard deviation of a box coordinate, as a fraction of the frame.
    """

    seed: int = 0
    features: bool = False
    scene_bias: float = 0.5
    held_out: float = 0.15
    second_person: float = 0.0
    distraction: float = 0.6
    distractors: int = 2
    missing: float = 0.1
    relation_noise: float = 0.1
    extra_relations: float = 0.1
    box_noise: float = 0.02

    def __post_init__(self) -> None:
        for name in ("scene_bias", "held_out", "second_person", "distraction", "missing", "relation_noise",
                     "extra_relations", "box_noise"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"WorldConfig: {name}: found {getattr(self, name)}, expected a number in 0..1")
        for name, most in (("seed", None), ("distractors", MAX_OBJECTS - 1)):
            value = getattr(self, name)
            if value < 0 or (most is not None and value > most):
                raise RecipeError(f"WorldConfig: {name}: found {value}, expected an integer from 0 to {most}")


def _home_scenes() -> Bool[np.ndarray, "S C"]:
    """Where each action is at home: part of the world, the same for every seed."""
    ranks = np.random.default_rng(0).random((S, C)).argsort(0).argsort(0)
    return ranks < HOME_SCENES


_HOME = _home_scenes()


@functools.lru_cache(maxsize=16)
def _held_out(config: WorldConfig) -> Bool[np.ndarray, "S C"]:
    pairs = np.argwhere(_HOME)
    rng = np.random.default_rng([config.seed, len(SPLITS)])
    out = np.zeros((S, C), dtype=bool)
    out[tuple(pairs[rng.permutation(len(pairs))[: round(config.held_out * len(pairs))]].T)] = True
    return out


def held_out_pairs(config: WorldConfig) -> Int[np.ndarray, "P 2"]:
    """The (action, scene) pairs that occur in the test split only."""
    return np.argwhere(_held_out(config).T)


@functools.lru_cache(maxsize=64)
def scene_weights(config: WorldConfig, split: str) -> Float[np.ndarray, "S C"]:
    """How often each action is drawn in each scene, relative to an action that does not care (1)."""
    weights = 1 - config.scene_bias + config.scene_bias * _HOME * (S / HOME_SCENES)
    return weights if split == "test" else weights * ~_held_out(config)


_OBJECT_OF_ACTION = np.array([action.object for action in ACTIONS])
_CHANNEL_OF_ACTION = tuple(CHANNELS.index(action.channel) for action in ACTIONS)
_OBJECT_HAS_ACTION = (_OBJECT_OF_ACTION[:, None] == np.arange(len(VOCABULARY.objects))).astype(float)
_LABEL_COUNT_STEPS = np.cumsum(LABEL_COUNTS) / sum(LABEL_COUNTS)

Tracks = dict[tuple[int, int], list[int]]  # (object class, channel) to the actions on that track


def _draw_actions(
    config: WorldConfig, weights: Float[np.ndarray, "C"], rng: np.random.Generator
) -> tuple[list[int], Tracks]:
    """Object classes of a video (without the first person), and its actions by track."""
    count = int(np.searchsorted(_LABEL_COUNT_STEPS, rng.random(), side="right")) + 1
    person = rng.random() < config.second_person
    # Gumbel noise on log weights draws without replacement, in proportion to the weights.
    with np.errstate(divide="ignore"):
        object_keys = np.log(weights @ _OBJECT_HAS_ACTION) + rng.gumbel(size=_OBJECT_HAS_ACTION.shape[1])
        action_keys = np.log(weights) + rng.gumbel(size=C)
    object_keys[0] = np.inf if person else -np.inf
    rank = (-object_keys).argsort().argsort()
    wanted = min(max(round(count / LABELS_PER_OBJECT), 1), MAX_OBJECTS)
    # Actions on the wanted objects come first; actions on others only where those have no room.
    group = rank[_OBJECT_OF_ACTION] // wanted
    objects = np.flatnonzero((rank < wanted) & (object_keys > -np.inf)).tolist()
    tracks: Tracks = {}
    left = count
    for action in np.lexsort((-action_keys, group)).tolist():
        if left == 0 or action_keys[action] == -np.inf:
            break
        object_class = ACTIONS[action].object
        if object_class == 0 and not person:
            continue
        if object_class not in objects:
            if len(objects) == MAX_OBJECTS:
                continue
            objects.append(object_class)
        track = tracks.setdefault((object_class, _CHANNEL_OF_ACTION[action]), [])
        pair = frozenset((*track, action))
        if len(track) < 2 and sentences(object_class, ACTIONS[action].channel, pair):
            track.append(action)
            left -= 1
    extra = min(int(rng.integers(config.distractors + 1)), MAX_OBJECTS - len(objects))
    others = [o for o in range(1, len(VOCABULARY.objects)) if o not in objects]
    objects += rng.choice(others, extra, replace=False).tolist()
    rng.shuffle(objects)
    if person:  # next to the first one
        objects.remove(0)
        objects.insert(0, 0)
    return objects, tracks


@dataclass
class _Track:
    """Relations of one track over time: ``relations[i]`` from ``starts[i - 1]`` to ``starts[i]``."""

    relations: tuple[int, ...]
    starts: list[float]
    segments: list[tuple[int, float, float]]  # action, start, end


def _draw_track(
    object_class: int, channel: str, actions: list[int], low: float, high: float, config: WorldConfig,
    rng: np.random.Generator,
) -> _Track:  # fmt: skip
    """One track of an object, with its words between ``low`` and ``high``."""
    if not actions and rng.random() >= config.distraction:
        relations = alphabet(object_class, channel)
        return _Track((relations[rng.integers(len(relations))],), [], [])
    options = sentences(object_class, channel, frozenset(actions))
    sentence = options[rng.integers(len(options))]
    words = len(sentence.relations) // 4
    shortest, longest = ALONE if words == 1 else SHARED
    lengths = np.minimum(rng.uniform(shortest, longest, words), (high - low) / words)
    free = np.sort(rng.random(words)) * (high - low - lengths.sum())
    shares = 1 + PHASE_SPREAD * rng.random((words, 3))
    shares = np.cumsum(shares, 1) / shares.sum(1, keepdims=True)
    starts, segments, start = [], [], low
    for i in range(words):
        begin = start + free[i]
        starts += [begin, *(begin + lengths[i] * shares[i])]
        start += lengths[i]
        if sentence.actions:
            segments.append((sentence.actions[i], begin, starts[-1]))
    return _Track(sentence.relations, starts, segments)


def _draw_tracks(
    config: WorldConfig, objects: list[int], tracks: Tracks, rng: np.random.Generator
) -> tuple[list[_Track], Float[np.ndarray, "O 2"]]:
    """All tracks, three per object in the order of ``CHANNELS``, and when each object is in view."""
    drawn, view = [], np.empty((len(objects), 2))
    for slot, object_class in enumerate(objects):
        busy = [tracks.get((object_class, channel), []) for channel in range(len(CHANNELS))]
        mine: dict[int, _Track] = {}
        for channel, actions in enumerate(busy):
            if actions:
                mine[channel] = _draw_track(object_class, CHANNELS[channel], actions, 0.0, 1.0, config, rng)
        times = [time for track in mine.values() for _, start, end in track.segments for time in (start, end)]
        if not times:
            length = rng.uniform(*ALONE)
            start = rng.random() * (1 - length)
            times = [start, start + length]
        low, high = min(times), max(times)
        for channel, actions in enumerate(busy):
            if not actions:
                mine[channel] = _draw_track(object_class, CHANNELS[channel], [], low, high, config, rng)
        view[slot] = low - MARGIN * rng.random(), high + MARGIN * rng.random()
        drawn += [mine[channel] for channel in range(len(CHANNELS))]
    return drawn, view


def _relations_over_time(tracks: list[_Track], clock: Float[np.ndarray, "T"]) -> Int[np.ndarray, "T O 3"]:
    """The true relation of each track at each frame."""
    most = max(len(track.starts) for track in tracks)
    starts = np.full((len(tracks), most), np.inf)
    relations = np.zeros((len(tracks), most + 1), dtype=np.int64)
    for row, track in enumerate(tracks):
        starts[row, : len(track.starts)] = track.starts
        relations[row, : len(track.relations)] = track.relations
    phase = (clock[:, None, None] >= starts).sum(-1)  # (T, 3 O)
    return relations[np.arange(len(tracks)), phase].reshape(len(clock), -1, len(CHANNELS))


def _annotate(
    config: WorldConfig, objects: list[int], true: Int[np.ndarray, "T O 3"], rng: np.random.Generator
) -> Bool[np.ndarray, "T O R"]:
    """What an annotator writes down: one relation per channel, sometimes a wrong one, sometimes a second one."""
    T, O, _ = true.shape
    guess = (rng.random(true.shape) * _LETTER_COUNTS[objects]).astype(np.int64)
    other = _LETTERS[np.array(objects)[:, None], np.arange(len(CHANNELS)), guess]
    luck = rng.random(true.shape)
    wrong = luck < config.relation_noise
    second = luck > 1 - config.extra_relations
    second[..., CHANNELS.index("attention")] = False
    noted = np.zeros((T, O, R), dtype=bool)
    frames, slots = np.arange(T)[:, None, None], np.arange(O)[:, None]
    noted[frames, slots, np.where(wrong, other, true)] = True
    noted[frames, slots, np.where(second, other, np.where(wrong, other, true))] = True
    return noted


def _smooth(values: Float[np.ndarray, "T ..."]) -> Float[np.ndarray, "T ..."]:
    """Weighted mean with the frames before and after: nothing jumps."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]


def _draw_boxes(
    config: WorldConfig, objects: list[int], true: Int[np.ndarray, "T O 3"], clock: Float[np.ndarray, "T"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "T 1+O 4"]:  # fmt: skip
    """Boxes of the person and the objects, x1 y1 x2 y2 in 0..1."""
    O = len(objects)
    waves = np.sin(2 * np.pi * (rng.uniform(0.3, 1.5, 2) * clock[:, None] + rng.random(2)))  # (T, 2)
    person = rng.uniform((0.35, 0.5), (0.65, 0.6)) + (0.15, 0.04) * waves
    person_size = rng.uniform((0.18, 0.5), (0.3, 0.75))
    size = np.array([SIZES[o] for o in objects])
    spatial, contacting = true[..., CHANNELS.index("spatial")], true[..., CHANNELS.index("contacting")]
    follows, shifts = _FOLLOWS[contacting], _SHIFTS[spatial]  # (T, O, 3)
    weight = _smooth(follows[..., :1]) * np.where(size >= LARGE, LARGE_FOLLOWS, 1.0)[:, None]
    side = rng.choice((-1.0, 1.0), (O, 1)) * (1.0, 0.0) + (0.0, 1.0)  # left-handed or right-handed, per object
    place = rng.uniform(0.15, 0.85, (O, 2))
    target = person[:, None] + _smooth(follows[..., 1:]) * person_size * side
    centre = place + weight * (target - place) + _smooth(shifts[..., :2]) * side
    half = 0.5 * (size * rng.uniform(0.8, 1.25, O))[:, None] * rng.uniform(0.7, 1.4, (O, 2)) * shifts[..., 2:]
    centre = np.concatenate([person[:, None], centre], 1)
    half = np.concatenate([np.broadcast_to(0.5 * person_size, (len(clock), 1, 2)), half], 1)
    boxes = np.concatenate([centre - half, centre + half], -1)
    boxes += config.box_noise * rng.standard_normal(boxes.shape)
    boxes[..., :2] = boxes[..., :2].clip(0.0, 1 - MIN_SIDE)
    boxes[..., 2:] = np.maximum(boxes[..., 2:].clip(0.0, 1.0), boxes[..., :2] + MIN_SIDE)
    return boxes.astype(np.float32)


@functools.lru_cache(maxsize=4)
def _projections(seed: int) -> tuple[Float[np.ndarray, "N F"], Float[np.ndarray, "R F"], Float[np.ndarray, "S F"]]:
    """Directions of object classes, relations and scenes in feature space."""
    rng = np.random.default_rng([seed, len(SPLITS) + 1])
    return tuple(
        rng.standard_normal((count, FEATURE_SIZE), dtype=np.float32)
        for count in (len(VOCABULARY.objects), R, S)
    )  # fmt: skip


def _draw_features(
    seed: int, classes: Int[np.ndarray, "M"], true: Int[np.ndarray, "T O 3"], scene: int,
    present: Bool[np.ndarray, "T M"], rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "T M F"], Float[np.ndarray, "T F"]]:  # fmt: skip
    """Visual features of boxes (zeros where absent) and of whole frames."""
    mix = {name: np.float32(value) for name, value in FEATURE_MIX.items()}
    of_class, of_relation, of_scene = _projections(seed)
    T, M = present.shape
    features = rng.standard_normal((T, M, FEATURE_SIZE), dtype=np.float32) * mix["noise"]
    features += mix["class"] * of_class[classes] + mix["scene"] * of_scene[scene]
    features += mix["appearance"] * rng.standard_normal((M, FEATURE_SIZE), dtype=np.float32)
    # Only what touches or moves an object shows on it; where the person looks does not.
    features[:, 1:] += mix["state"] * of_relation[true[..., 1:]].sum(2)
    features *= present[..., None]
    frame = features.sum(1) / np.sqrt(present.sum(1, keepdims=True), dtype=np.float32)
    frame += mix["noise"] * rng.standard_normal((T, FEATURE_SIZE), dtype=np.float32)
    return features, frame


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
    scene = int(rng.integers(S))
    duration = float(rng.uniform(*SECONDS))
    T = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    gaps = np.cumsum(0.3 + rng.random(T + 1))
    clock = gaps[:-1] / gaps[-1]  # (T,) in 0..1, unevenly spaced
    objects, busy = _draw_actions(config, scene_weights(config, split)[scene], rng)
    tracks, view = _draw_tracks(config, objects, busy, rng)
    O = len(objects)
    classes = np.array([0, *objects])
    true = _relations_over_time(tracks, clock)

    present = np.ones((T, 1 + O), dtype=bool)
    present[:, 1:] = (view[:, 0] <= clock[:, None]) & (clock[:, None] <= view[:, 1])
    present[:, 1:] &= rng.random((T, O)) >= config.missing
    relations = _annotate(config, objects, true, rng) & present[:, 1:, None]
    boxes = _draw_boxes(config, objects, true, clock, rng) * present[..., None]
    slots = np.arange(1, O + 1)
    edges = np.stack([np.zeros_like(slots), slots, slots, np.zeros_like(slots)], 1).reshape(2 * O, 2).T  # (0, o), (o, 0)

    segments = sorted(
        (start, end, action, row // len(CHANNELS))
        for row, track in enumerate(tracks)
        for action, start, end in track.segments
    )
    spans = np.array([segment[:2] for segment in segments]) * duration
    times = clock * duration
    on = (spans[:, 0] <= times[:, None]) & (times[:, None] <= spans[:, 1])  # (T, K)
    owner = np.array([segment[3] for segment in segments])
    carriers = on[:, None] & (owner == np.arange(O)[:, None]) & present[:, 1:, None]  # (T, O, K)

    features = frame_features = None
    if config.features:  # a generator of its own, so that the rest of the video does not depend on features
        own = np.random.default_rng([*key, 1])
        features, frame_features = _draw_features(config.seed, classes, true, scene, present, own)
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
        segment_labels=np.array([segment[2] for segment in segments]),
        segments=spans,
        scene=scene,
        features=features,
        frame_features=frame_features,
        carriers=carriers.repeat(2, axis=1),
    )


def make_videos(config: WorldConfig, split: str, count: int) -> list[SceneGraph]:
    """Videos 0..count-1 of a split; see :func:`make_video`."""
    return [make_video(config, index, split) for index in range(count)]
