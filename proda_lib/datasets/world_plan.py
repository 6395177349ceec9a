"""What happens in a video of SSG-World: scene, actions, objects, and when each relation holds.

Time runs from 0 to 1 here. Below, T is frames, O objects (the first person is none of them), C actions, S scenes.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from proda_lib.datasets.world_actions import ACTIONS, CHANNELS, VOCABULARY, alphabet, sentences
from proda_lib.errors import RecipeError

SPLITS = ("train", "val", "test")

#: Charades' training videos with 1, 2, ..., 16 labels.
LABEL_COUNTS = (102, 389, 785, 1088, 1232, 1032, 955, 740, 464, 372, 248, 148, 96, 56, 44, 26)
MAX_OBJECTS = 9
#: Fewer labels per object: more objects in a video, each of which says less about the labels.
LABELS_PER_OBJECT = 1.6
#: A second action on a track is drawn so many times less readily than the first.
CROWDING = 6.0
#: Shortest and longest share of the video that an action takes: alone on its track, and one of two on a track.
ALONE = (0.28, 0.59)
SHARED = (0.30, 0.47)
#: The three phases of an action take 1..1 + PHASE_SPREAD shares of it, whatever their order.
PHASE_SPREAD = 0.8
#: An object is in view up to this share of the video before its first and after its last action.
MARGIN = 0.3
#: Of the 16 scenes, each action is at home in this many.
HOME_SCENES = 4

C = len(VOCABULARY.actions)
S = len(VOCABULARY.scenes)


@dataclass(frozen=True)
class WorldConfig:
    """The knobs of the world; all but ``seed``, ``features`` and ``distractors`` are between 0 and 1.

    Attributes:
        seed: another seed is another set of videos; also picks the held-out pairs and the feature projections.
        features: add 512-d visual features of boxes and frames. The rest of the video stays the same.
        scene_bias: 0, scene and actions are independent; 1, actions occur in the scenes they are at home in only.
        held_out: share of the (action, home scene) pairs that occur in the test split only.
        second_person: probability of a second person; at 0 the six person-person actions of the vocabulary never occur.
        distraction: probability that a track without an action moves all the same; at 0 such tracks stand still.
        distractors: up to so many objects that are drawn without regard to actions.
        missing: probability that an object in view is missed in a frame.
        relation_noise: probability, per frame and track, that the relation is replaced by a random one of the track's.
        extra_relations: probability, per frame and track, of a second spatial or contacting relation.
        box_noise: standard deviation of a box coordinate, as a fraction of the frame.
    """

    seed: int = 0
    features: bool = False
    scene_bias: float = 0.5
    held_out: float = 0.15
    second_person: float = 0.0
    distraction: float = 0.0
    distractors: int = 2
    missing: float = 0.02
    relation_noise: float = 0.02
    extra_relations: float = 0.02
    box_noise: float = 0.02

    def __post_init__(self) -> None:
        for name in ("scene_bias", "held_out", "second_person", "distraction", "missing", "relation_noise",
                     "extra_relations", "box_noise"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"WorldConfig: {name}: found {getattr(self, name)}, expected a number in 0..1")
        if self.seed < 0:
            raise RecipeError(f"WorldConfig: seed: found {self.seed}, expected an integer from 0 on")
        if not 0 <= self.distractors < MAX_OBJECTS:
            expected = f"an integer from 0 to {MAX_OBJECTS - 1}"
            raise RecipeError(f"WorldConfig: distractors: found {self.distractors}, expected {expected}")


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
_CHANNEL_OF_ACTION = np.array([CHANNELS.index(action.channel) for action in ACTIONS])
_TRACK_OF_ACTION = len(CHANNELS) * _OBJECT_OF_ACTION + _CHANNEL_OF_ACTION
_OBJECT_HAS_ACTION = (_OBJECT_OF_ACTION[:, None] == np.arange(len(VOCABULARY.objects))).astype(float)
_LABEL_COUNT_STEPS = np.cumsum(LABEL_COUNTS) / sum(LABEL_COUNTS)

Tracks = dict[tuple[int, int], list[int]]  # (object class, channel) to the actions on that track


def draw_actions(
    config: WorldConfig, weights: Float[np.ndarray, "C"], rng: np.random.Generator
) -> tuple[list[int], Tracks]:
    """Object classes of a video (without the first person), and its actions by track.

    A video gets fewer labels than drawn only if its scene allows too few actions (``scene_bias`` near 1).
    """
    count = int(np.searchsorted(_LABEL_COUNT_STEPS, rng.random(), side="right")) + 1
    person = rng.random() < config.second_person
    # Gumbel noise on log weights draws without replacement, in proportion to the weights.
    with np.errstate(divide="ignore"):
        object_keys = np.log(weights @ _OBJECT_HAS_ACTION) + rng.gumbel(size=_OBJECT_HAS_ACTION.shape[1])
        action_keys = np.log(weights) + rng.gumbel(size=C)
    best = np.full(len(CHANNELS) * len(VOCABULARY.objects), -np.inf)
    np.maximum.at(best, _TRACK_OF_ACTION, action_keys)
    action_keys -= np.log(CROWDING) * (action_keys < best[_TRACK_OF_ACTION])
    object_keys[0] = np.inf if person else -np.inf
    rank = (-object_keys).argsort().argsort()
    wanted = min(max(round(count / LABELS_PER_OBJECT), 1), MAX_OBJECTS)
    # Actions on the wanted objects come first; actions on others only where those have no room.
    group = rank[_OBJECT_OF_ACTION] // wanted
    objects = np.flatnonzero((rank < wanted) & (object_keys > -np.inf)).tolist()
    tracks: Tracks = {}
    left = count
    for action in np.lexsort((-action_keys, group)).tolist():
        object_class = ACTIONS[action].object
        if action_keys[action] == -np.inf or (object_class == 0 and not person):
            continue
        if object_class not in objects:
            if len(objects) == MAX_OBJECTS:
                continue
            objects.append(object_class)
        track = tracks.setdefault((object_class, int(_CHANNEL_OF_ACTION[action])), [])
        if len(track) < 2:
            track.append(action)
            left -= 1
        if left == 0:
            break
    extra = min(int(rng.integers(config.distractors + 1)), MAX_OBJECTS - len(objects))
    others = [o for o in range(1, len(VOCABULARY.objects)) if o not in objects]
    objects += rng.choice(others, extra, replace=False).tolist()
    rng.shuffle(objects)
    if person:  # next to the first one
        objects.remove(0)
        objects.insert(0, 0)
    return objects, tracks


@dataclass
class Track:
    """Relations of one track over time: ``relations[i]`` from ``starts[i - 1]`` to ``starts[i]``."""

    relations: tuple[int, ...]
    starts: list[float]
    segments: list[tuple[int, float, float]]  # action, start, end


def _draw_track(
    object_class: int, channel: str, actions: list[int], low: float, high: float, config: WorldConfig,
    rng: np.random.Generator,
) -> Track:  # fmt: skip
    """One track of an object, with its words between ``low`` and ``high``."""
    if not actions and rng.random() >= config.distraction:
        relations = alphabet(object_class, channel)
        return Track((relations[rng.integers(len(relations))],), [], [])
    options = sentences(object_class, channel, frozenset(actions))
    sentence = options[rng.integers(len(options))]
    words = len(sentence.relations) // 4
    shortest, longest = ALONE if words == 1 else SHARED
    luck = rng.random((words, 5)).tolist()  # plain numbers: a track is too short for arrays to pay
    lengths = [min(shortest + (longest - shortest) * row[0], (high - low) / words) for row in luck]
    room = high - low - sum(lengths)
    gaps = sorted(row[1] * room for row in luck)
    starts, segments, used = [], [], low
    for word, (row, length, gap) in enumerate(zip(luck, lengths, gaps, strict=True)):
        begin = used + gap
        phases = [1 + PHASE_SPREAD * share for share in row[2:]]
        ends = [min(begin + length * done / sum(phases), high) for done in itertools.accumulate(phases)]
        starts += [begin, *ends]
        used += length
        if sentence.actions:
            segments.append((sentence.actions[word], begin, ends[-1]))
    return Track(sentence.relations, starts, segments)


def draw_tracks(
    config: WorldConfig, objects: list[int], tracks: Tracks, rng: np.random.Generator
) -> tuple[list[Track], Float[np.ndarray, "O 2"]]:
    """All tracks, three per object in the order of ``CHANNELS``, and when each object is in view."""
    drawn, view = [], np.empty((len(objects), 2))
    for slot, object_class in enumerate(objects):
        busy = [tracks.get((object_class, channel), []) for channel in range(len(CHANNELS))]
        mine: dict[int, Track] = {}
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


def relations_over_time(tracks: list[Track], clock: Float[np.ndarray, "T"]) -> Int[np.ndarray, "T O 3"]:
    """The true relation of each track at each frame."""
    most = max((len(track.starts) for track in tracks), default=0)
    starts = np.full((len(tracks), most), np.inf)
    relations = np.zeros((len(tracks), most + 1), dtype=np.int64)
    for row, track in enumerate(tracks):
        starts[row, : len(track.starts)] = track.starts
        relations[row, : len(track.relations)] = track.relations
    phase = (clock[:, None, None] >= starts).sum(-1)  # (T, 3 O)
    return relations[np.arange(len(tracks)), phase].reshape(len(clock), -1, len(CHANNELS))
