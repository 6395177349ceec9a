"""What book/engineering/architecture.md says of the direction of imports holds for every file."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "proda_lib"
PAGE = (ROOT / "book/engineering/architecture.md").read_text()


def rooms() -> dict[str, int]:
    """Room → its place on the page's line of imports."""
    (line,) = re.findall(r"^> ground → (.*)$", PAGE, re.M)
    return {room: place for place, step in enumerate(line.split(" → "), 1) for room in step.split(", ")}


def imports() -> dict[str, set[str]]:
    """File → the files of the library that it imports, inside of functions too."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    found = {}
    for name, path in names.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                said = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            else:
                said = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            found[name] |= {other for other in said if other in names and other != name}
    return found


def room_of(name: str) -> str:
    return name.split(".")[1]


def test_a_file_imports_only_rooms_that_stand_before_its_own():
    order = rooms()
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {"cli"} == set(order)
    backwards = {
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in others
        if order.get(room_of(other), 0) > order.get(room_of(name), 0)
    }
    assert not backwards


def test_training_and_evaluation_have_no_circle_between_their_files():
    both = {name: others for name, others in imports().items() if room_of(name) in ("training", "evaluation")}
    assert {room_of(other) for others in both.values() for other in others} >= {"training", "evaluation"}
    assert set(TopologicalSorter(both).static_order()) >= set(both)  # raises CycleError
