"""The one exception family of the library: every message names the place, what was found and what was expected."""

from __future__ import annotations


class ProdaError(Exception):
    """Base of every error that the library raises on purpose."""


class DataError(ProdaError, ValueError):
    """A file or graph is broken.

    Args:
        source: file (or video) in which the fault lies.
        where: row, key or field inside it.
        found: what is there.
        expected: what should be there.
    """

    def __init__(self, source: object, where: str, found: object, expected: str):
        self.source, self.where, self.found, self.expected = str(source), where, str(found), expected
        super().__init__(f"{self.source}: {where}: found {self.found}, expected {expected}")

    def __reduce__(self):
        return type(self), (self.source, self.where, self.found, self.expected)


class DataErrors(ProdaError, ValueError):
    """All the faults of a source at once (``proda data check``). ``.errors`` is the list of :class:`DataError`."""

    def __init__(self, errors: list[DataError]):
        self.errors = errors
        super().__init__(f"{len(errors)} faults:\n" + "\n".join(str(e) for e in errors))


class GraphError(DataError):
    """A :class:`~proda_lib.graph.SceneGraph` breaks one of its invariants."""


class RecipeError(ProdaError, ValueError):
    """A recipe asks for something that does not exist or does not fit together."""


class CheckpointError(ProdaError, RuntimeError):
    """A checkpoint or saved model cannot be used: missing, broken, or made by another recipe."""


class TrainingError(ProdaError, RuntimeError):
    """Training cannot go on, for example because a loss term is not finite."""
