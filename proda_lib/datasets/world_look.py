"""What is seen and written down of a video of SSG-World: annotated relations, boxes, visual features.

Below, T is frames, O objects (slots 1..O; the first person is slot 0), R relations, F feature size.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Bool, Float, Int

from proda_lib.datasets.world_actions import CHANNELS, LARGE, SIZES, VOCABULARY, alphabet
from proda_lib.datasets.world_plan import SPLITS, WorldConfig

#: Shortest side of a box, as a fraction of the frame.
MIN_SIDE = 0.02
FEATURE_SIZE = 512
#: Standard deviations of what a visual feature is made of: class, relations, appearance of the object, scene, noise.
FEATURE_MIX = {"class": 1.0, "state": 0.5, "appearance": 0.7, "scene": 0.5, "noise": 1.0}

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

R = len(VOCABULARY.relations)

_LETTER_COUNTS = np.array([[len(alphabet(o, c)) for c in CHANNELS] for o in range(len(VOCABULARY.objects))])
#: (objects, channels, letters) the relations that an object shows in a channel, then zeros.
_LETTERS = np.zeros((*_LETTER_COUNTS.shape, _LETTER_COUNTS.max()), dtype=np.int64)
for _object, _channel in np.ndindex(_LETTER_COUNTS.shape):
    _LETTERS[_object, _channel, : _LETTER_COUNTS[_object, _channel]] = alphabet(_object, CHANNELS[_channel])


def _table(entries: dict[str, tuple[float, ...]], rest: tuple[float, ...]) -> Float[np.ndarray, "R 3"]:
    return np.array([entries.get(name, rest) for name in VOCABULARY.relations])


_FOLLOWS = _table(FOLLOWS, (0.0, 0.0, 0.0))
_SHIFTS = _table(SHIFTS, (0.0, 0.0, 1.0))


def annotate(
    config: WorldConfig, objects: list[int], true: Int[np.ndarray, "T O 3"], rng: np.random.Generator
) -> Bool[np.ndarray, "T O R"]:
    """What an annotator writes down: one relation per channel, sometimes a wrong one, sometimes a second one."""
    guess = (rng.random(true.shape) * _LETTER_COUNTS[objects]).astype(np.int64)
    other = _LETTERS[np.array(objects, np.int64)[:, None], np.arange(len(CHANNELS)), guess]
    luck = rng.random(true.shape)
    wrong = luck < config.relation_noise
    second = luck > 1 - config.extra_relations
    second[..., CHANNELS.index("attention")] = False
    first = np.where(wrong, other, true)
    noted = np.zeros((*true.shape[:2], R), dtype=bool)
    frames, slots = np.arange(len(true))[:, None, None], np.arange(len(objects))[:, None]
    noted[frames, slots, first] = True
    noted[frames, slots, np.where(second, other, first)] = True
    return noted


def _smooth(values: Float[np.ndarray, "T ..."]) -> Float[np.ndarray, "T ..."]:
    """Weighted mean with the frames before and after: nothing jumps."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]


def draw_boxes(
    config: WorldConfig, objects: list[int], true: Int[np.ndarray, "T O 3"], clock: Float[np.ndarray, "T"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "T 1+O 4"]:  # fmt: skip
    """Boxes of the person and the objects, x1 y1 x2 y2 in 0..1."""
    count = len(objects)
    waves = np.sin(2 * np.pi * (rng.uniform(0.3, 1.5, 2) * clock[:, None] + rng.random(2)))  # (T, 2)
    person = rng.uniform((0.35, 0.5), (0.65, 0.6)) + (0.15, 0.04) * waves
    person_size = rng.uniform((0.18, 0.5), (0.3, 0.75))
    size = np.array([SIZES[o] for o in objects])
    spatial, contacting = true[..., CHANNELS.index("spatial")], true[..., CHANNELS.index("contacting")]
    follows, shifts = _FOLLOWS[contacting], _SHIFTS[spatial]  # (T, O, 3)
    weight = _smooth(follows[..., :1]) * np.where(size >= LARGE, LARGE_FOLLOWS, 1.0)[:, None]
    side = rng.choice((-1.0, 1.0), (count, 1)) * (1.0, 0.0) + (0.0, 1.0)  # left-handed or right-handed, per object
    place = rng.uniform(0.15, 0.85, (count, 2))
    target = person[:, None] + _smooth(follows[..., 1:]) * person_size * side
    centre = place + weight * (target - place) + _smooth(shifts[..., :2]) * side
    half = 0.5 * (size * rng.uniform(0.8, 1.25, count))[:, None] * rng.uniform(0.7, 1.4, (count, 2)) * shifts[..., 2:]
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
    counts = (len(VOCABULARY.objects), R, len(VOCABULARY.scenes))
    return tuple(rng.standard_normal((count, FEATURE_SIZE), dtype=np.float32) for count in counts)


def draw_features(
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
