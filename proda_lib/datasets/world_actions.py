"""The actions of SSG-World: programs of relations over time between the person and one object.

A *kit* is three relations A, B, C of one channel (attention, spatial or contacting) and the verbs that they spell when
they follow one another: A B C ("take": not_contacting, touching, holding), its reverse C B A ("put down"), C in the
middle ("hold": A C B or B C A), and A in the middle ("throw": B A C or C A B). Every verb of a kit shows the same three
relations, and a verb and its reverse show them for the same share of time: a frame names the kit but not the verb, and
a histogram of relations cannot tell "take" from "put down".

What a channel of one object goes through in a video is a *sentence*: the words of its actions. What was before a word
and what comes after it is what the word begins and ends with: who puts down a cup held it before. Sentences are
filtered so that they spell their own actions and no other action of that object; a sentence without any action, which
``WorldConfig.distraction`` asks for, uses the same relations in an order that means nothing.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

from proda_lib.vocabulary import (
    ACTION_GENOME_OBJECTS,
    ACTION_GENOME_RELATIONS,
    ATTENTION_RELATIONS,
    CHARADES_SCENES,
    SPATIAL_RELATIONS,
    Vocabulary,
)

#: The three kinds of relation. Each object has one track (a sentence) in each of them.
CHANNELS = ("attention", "spatial", "contacting")

#: Kit: relations A, B, C, and the verbs for A B C, C B A, C in the middle and (in two kits) A in the middle.
KITS = {
    "gaze": ("not_looking_at unsure looking_at", "notice look_away_from glance_at"),
    "lift": ("beneath in_front_of above", "raise lower wave"),
    "walk": ("in_front_of on_the_side_of behind", "walk_past come_back_to go_round"),
    "enter": ("in_front_of on_the_side_of in", "go_into come_out_of hide_in"),
    "grip": ("not_contacting touching holding", "take put_down hold throw"),
    "carry": ("touching holding carrying", "pick_up set_down move tidy"),
    "drink": ("touching holding drinking_from", "start_drinking_from stop_drinking_from sip_from"),
    "eat": ("touching holding eating", "start_eating stop_eating taste"),
    "write": ("touching holding writing_on", "start_writing_on stop_writing_on jot_on"),
    "wear": ("touching holding wearing", "put_on take_off try_on"),
    "pack": ("touching holding have_it_on_the_back", "shoulder unload swing"),
    "cover": ("touching holding covered_by", "wrap_up_in unwrap_from hide_under"),
    "open": ("not_contacting touching twisting", "open close try_to_open"),
    "wipe": ("not_contacting touching wiping", "start_wiping stop_wiping dust"),
    "use": ("not_contacting touching other_relationship", "switch_on switch_off adjust"),
    "sit": ("not_contacting leaning_on sitting_on", "sit_down_on stand_up_from perch_on"),
    "lie": ("leaning_on sitting_on lying_on", "lie_down_on get_up_from nap_on"),
    "climb": ("touching leaning_on standing_on", "climb_onto step_off stand_on"),
    "greet": ("not_contacting touching holding", "hug let_go_of shake_hands_with"),
}

#: Object: its word in action names, its usual size (fraction of the frame's side) and its verbs. Objects that are not
#: listed only distract.
OBJECTS = {
    "person": ("person", 0.45, "hug let_go_of shake_hands_with notice look_away_from walk_past"),
    "bag": ("bag", 0.15, "shoulder unload swing raise lower wave"),
    "bed": ("bed", 0.45, "lie_down_on get_up_from nap_on walk_past come_back_to go_round"),
    "blanket": ("blanket", 0.18, "wrap_up_in unwrap_from hide_under raise lower wave"),
    "book": ("book", 0.10, "take put_down hold throw raise lower notice look_away_from glance_at"),
    "box": ("box", 0.18, "pick_up set_down move tidy raise lower"),
    "chair": ("chair", 0.25, "sit_down_on stand_up_from perch_on walk_past come_back_to go_round"),
    "closet/cabinet": ("closet", 0.45, "go_into come_out_of hide_in notice look_away_from glance_at"),
    "clothes": ("clothes", 0.15, "put_on take_off try_on raise lower wave"),
    "cup/glass/bottle": ("cup", 0.07, "start_drinking_from stop_drinking_from sip_from raise lower wave"),
    "door": ("door", 0.40, "open close try_to_open walk_past come_back_to go_round"),
    "food": ("food", 0.08, "start_eating stop_eating taste raise lower wave notice look_away_from glance_at"),
    "laptop": ("laptop", 0.15, "switch_on switch_off adjust notice look_away_from glance_at"),
    "mirror": ("mirror", 0.20, "start_wiping stop_wiping dust notice look_away_from glance_at"),
    "paper/notebook": ("notebook", 0.10, "start_writing_on stop_writing_on jot_on raise lower wave"),
    "table": ("table", 0.40, "climb_onto step_off stand_on walk_past come_back_to go_round"),
}  # fmt: skip

#: Objects at least this large stand on the floor: the person moves around them instead of lifting them.
LARGE = 0.2
DEFAULT_SIZE = 0.15

Word = tuple[int, int, int]


@dataclass(frozen=True)
class Kit:
    """Three relations and the verbs they spell.

    Attributes:
        channel: the kind of relation, one of ``CHANNELS``.
        relations: relation numbers of A, B and C.
        words: for each verb, the orders of the three relations that mean it.
    """

    channel: str
    relations: Word
    words: dict[str, tuple[Word, ...]]


@dataclass(frozen=True)
class Action:
    """One action class.

    Attributes:
        name: ``VERB_OBJECT``.
        object: object class that it is done to.
        kit: key of ``KITS``.
        channel: the kind of relation that carries it.
        words: the orders of three relations that mean it.
    """

    name: str
    object: int
    kit: str
    channel: str
    words: tuple[Word, ...]


def _kit(relations: str, verbs: str) -> Kit:
    names = relations.split()
    kind = [names[0] in ATTENTION_RELATIONS, names[0] in SPATIAL_RELATIONS, True].index(True)
    a, b, c = (ACTION_GENOME_RELATIONS.index(name) for name in names)
    orders = (((a, b, c),), ((c, b, a),), ((a, c, b), (b, c, a)), ((b, a, c), (c, a, b)))
    return Kit(CHANNELS[kind], (a, b, c), dict(zip(verbs.split(), orders, strict=False)))


_KITS = {name: _kit(*entry) for name, entry in KITS.items()}
_KIT_OF_VERB = {verb: name for name, kit in _KITS.items() for verb in kit.words}


def _actions() -> tuple[Action, ...]:
    actions = []
    for name, (word, _, verbs) in OBJECTS.items():
        for verb in verbs.split():
            kit = _KIT_OF_VERB[verb]
            entry = _KITS[kit]
            actions.append(Action(f"{verb}_{word}", ACTION_GENOME_OBJECTS.index(name), kit, entry.channel,
                                  entry.words[verb]))  # fmt: skip
    return tuple(actions)


#: Every action class, in the order of ``VOCABULARY.actions``. Those of object 0 need a second person.
ACTIONS: tuple[Action, ...] = _actions()

VOCABULARY = Vocabulary(
    name="world",
    objects=ACTION_GENOME_OBJECTS,
    relations=ACTION_GENOME_RELATIONS,
    actions=tuple(action.name for action in ACTIONS),
    scenes=CHARADES_SCENES,
)

#: Usual size of each object class, as a fraction of the frame's side.
SIZES = tuple(OBJECTS[name][1] if name in OBJECTS else DEFAULT_SIZE for name in ACTION_GENOME_OBJECTS)


@functools.cache
def kits_of(object_class: int, channel: str) -> tuple[Kit, ...]:
    """The kits that an object moves through in a channel: those of its actions, else what suits its size."""
    names = {a.kit: None for a in ACTIONS if a.object == object_class and a.channel == channel}
    if not names:
        spatial = "walk" if SIZES[object_class] >= LARGE else "lift"
        names = {{"attention": "gaze", "spatial": spatial, "contacting": "grip"}[channel]: None}
    return tuple(_KITS[name] for name in names)


@functools.cache
def alphabet(object_class: int, channel: str) -> tuple[int, ...]:
    """All relations that an object shows in a channel."""
    return tuple(sorted({relation for kit in kits_of(object_class, channel) for relation in kit.relations}))


def spelled(object_class: int, channel: str, relations: tuple[int, ...]) -> set[int]:
    """The actions that a sequence of relations spells: those with a word in it, once repeats are merged."""
    merged = [relation for relation, _ in itertools.groupby(relations)]
    triples = set(zip(merged, merged[1:], merged[2:], strict=False))
    return {
        number
        for number, action in enumerate(ACTIONS)
        if action.object == object_class and action.channel == channel and not triples.isdisjoint(action.words)
    }


@dataclass(frozen=True)
class Sentence:
    """What one channel of one object goes through.

    Attributes:
        actions: the actions it spells, in order of time.
        relations: before, the three relations of the first word, between, the three of the next word, ..., after.
            Length 1 + 4 * words.
    """

    actions: tuple[int, ...]
    relations: tuple[int, ...]


@functools.cache
def sentences(object_class: int, channel: str, actions: frozenset[int] = frozenset()) -> tuple[Sentence, ...]:
    """All sentences that spell exactly these actions (at most two); empty if there are none.

    Without actions: every order of a kit's three relations that spells nothing, so that the same relations are seen
    without meaning.
    """
    found = []
    if actions:
        for order in itertools.permutations(actions):
            for chosen in itertools.product(*(ACTIONS[number].words for number in order)):
                between = ({one[-1], two[0]} for one, two in itertools.pairwise(chosen))
                for fill in itertools.product({chosen[0][0]}, *between, {chosen[-1][-1]}):
                    relations = [fill[0]]
                    for word, gap in zip(chosen, fill[1:], strict=True):
                        relations += [*word, gap]
                    if spelled(object_class, channel, tuple(relations)) == actions:
                        found.append(Sentence(order, tuple(relations)))
    else:
        for kit in kits_of(object_class, channel):
            idle = [
                Sentence((), (a, a, b, c, c))
                for a, b, c in itertools.product(kit.relations, repeat=3)
                if len({a, b, c}) > 1 and not spelled(object_class, channel, (a, b, c))
            ]
            # All three relations of the kit, as in an action, unless every such order means something.
            found += [s for s in idle if len(set(s.relations)) == 3] or idle
    return tuple(found)
