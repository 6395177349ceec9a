"""Domain shift by scene (table 10, after LaIAR): five ways to divide Charades' 16 scenes into training and test."""

from __future__ import annotations

from collections.abc import Sequence

from proda_lib.errors import RecipeError
from proda_lib.vocabulary import CHARADES_SCENES

#: Scenes of the test videos, by scenario; all other scenes are those of the training videos.
TEST_SCENES: dict[int, tuple[str, ...]] = {
    1: ("Living room", "Closet", "Kitchen", "Bathroom", "Garage", "Recreation room", "Basement", "Other"),
    2: ("Bedroom", "Living room", "Kitchen", "Home Office", "Hallway", "Stairs", "Basement", "Dining room"),
    3: ("Living room", "Closet", "Kitchen", "Home Office", "Garage", "Hallway", "Pantry", "Dining room"),
    4: ("Living room", "Closet", "Garage", "Hallway", "Recreation room", "Entryway", "Basement", "Other"),
    5: ("Bedroom", "Home Office", "Bathroom", "Garage", "Stairs", "Recreation room", "Entryway", "Pantry"),
}


def scenes_of(scenario: int, part: str, scenes: Sequence[str] = CHARADES_SCENES) -> frozenset[int]:
    """Numbers of the scenes that ``part`` ("train" or "test") of a scenario (1..5) is made of.

    Raises:
        RecipeError: no such scenario, or a vocabulary that does not have Charades' scenes.
    """
    if scenario not in TEST_SCENES:
        raise RecipeError(f"scenario: found {scenario}, expected one of {', '.join(map(str, TEST_SCENES))}")
    short = [name.split(" / ")[0] for name in scenes]  # the csv says "Home Office / Study"
    if missing := sorted(set(TEST_SCENES[scenario]) - set(short)):
        raise RecipeError(f"scenario {scenario}: found no scene {', '.join(missing)}, expected the 16 of Charades")
    test = frozenset(short.index(name) for name in TEST_SCENES[scenario])
    return test if part == "test" else frozenset(range(len(scenes))) - test
