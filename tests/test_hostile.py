"""Hostile pickles, archives, tensor files and JSON are refused, do nothing, and take little memory and time."""

import pytest

from stress.children import DIED, LATE, OTHER, READ, REFUSED, in_child
from stress.hostile import read_hostile


@pytest.mark.parametrize(("kind", "every", "few"), [("pickle", 1, 60), ("archive", 1, 20), ("tensors", 5, 10),
                                                    ("JSON", 5, 7)])  # fmt: skip
def test_hostile_files_are_refused_and_do_nothing(kind, every, few):
    """All of them: ``workflow/reliability.py``."""
    found = list(read_hostile([kind], every))
    assert len(found) > few
    for hostile, ending, acted in found:
        assert ending.outcome == REFUSED, f"{hostile.name}: {ending}"
        assert not acted, f"{hostile.name} made or removed a file"
        assert ending.memory < 200e6, f"{hostile.name}: {ending}"


def test_the_harness_sees_what_it_should_see():
    def fill():
        return bytearray(2**40)

    def loop():
        while True:
            pass

    assert in_child(lambda: 1).outcome == READ
    assert in_child(fill).message.startswith("MemoryError")
    assert in_child(lambda: {}["x"]).outcome == OTHER
    assert in_child(loop, seconds=0.5).outcome == LATE
    died = in_child(lambda: __import__("ctypes").string_at(0))
    assert (died.outcome, died.message) == (DIED, "SIGSEGV")
