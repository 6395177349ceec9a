"""Names of the object, relation, action and scene classes of each data set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Vocabulary:
    """What the integers of a scene graph mean.

    Attributes:
        name: data set the names come from.
        objects: object classes; ``SceneGraph.classes`` indexes them.
        relations: relation classes; the last axis of ``SceneGraph.relations`` indexes them (R of them).
        actions: action classes (C of them). "no-action", the auxiliary label of section 3.2, is index C and not listed.
        scenes: scene names; ``SceneGraph.scene`` indexes them, ``-1`` means unknown.
    """

    name: str
    objects: tuple[str, ...]
    relations: tuple[str, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, entry: Any) -> Vocabulary:
        """From what ``dataclasses.asdict`` made of one, as it comes back from JSON.

        Raises:
            ValueError: a name that is no string, names that are no list of different strings, or another field.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(entry, dict) or not known - {"scenes"} <= entry.keys() <= known:
            raise ValueError(f"vocabulary: found {entry!r:.80}, expected an object with {', '.join(sorted(known))}")
        if not isinstance(entry["name"], str):
            raise ValueError(f"vocabulary: name: found {entry['name']!r:.80}, expected a string")
        for key in entry.keys() - {"name"}:
            names = entry[key]
            if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len({*names}) < len(names):
                raise ValueError(f"vocabulary: {key}: found {names!r:.80}, expected a list of different names")
        return cls(**{key: value if key == "name" else tuple(value) for key, value in entry.items()})


#: Action Genome's 36 object classes, person first, in the order of its ``object_classes.txt``.
ACTION_GENOME_OBJECTS = (
    "person", "bag", "bed", "blanket", "book", "box", "broom", "chair", "closet/cabinet", "clothes",
    "cup/glass/bottle", "dish", "door", "doorknob", "doorway", "floor", "food", "groceries", "laptop", "light",
    "medicine", "mirror", "paper/notebook", "phone/camera", "picture", "pillow", "refrigerator", "sandwich", "shelf",
    "shoe", "sofa/couch", "table", "television", "towel", "vacuum", "window",
)  # fmt: skip

#: Action Genome's 26 relations: 3 attention, 6 spatial, 17 contacting.
ATTENTION_RELATIONS = ("looking_at", "not_looking_at", "unsure")
SPATIAL_RELATIONS = ("above", "beneath", "in_front_of", "behind", "on_the_side_of", "in")
CONTACTING_RELATIONS = (
    "carrying", "covered_by", "drinking_from", "eating", "have_it_on_the_back", "holding", "leaning_on", "lying_on",
    "not_contacting", "other_relationship", "sitting_on", "standing_on", "touching", "twisting", "wearing", "wiping",
    "writing_on",
)  # fmt: skip
ACTION_GENOME_RELATIONS = ATTENTION_RELATIONS + SPATIAL_RELATIONS + CONTACTING_RELATIONS

#: The 16 scenes of Charades, by the names that its csv files use.
CHARADES_SCENES = (
    "Basement", "Bathroom", "Bedroom", "Closet / Walk-in closet / Spear closet", "Dining room", "Entryway", "Garage",
    "Hallway", "Home Office / Study", "Kitchen", "Laundry room", "Living room", "Other", "Pantry",
    "Recreation room / Man cave", "Stairs",
)  # fmt: skip
