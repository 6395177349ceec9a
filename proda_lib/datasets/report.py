"""What a reader found in a source: faults (raised, or collected for ``proda data check``) and accepted quirks."""

from __future__ import annotations

from collections import Counter

from proda_lib.errors import DataError


class Report:
    """Faults and quirks of a source.

    Args:
        collect: ``False`` raises the first fault, ``True`` gathers them all in ``errors``.

    Attributes:
        errors: the faults gathered so far.
        quirks: known oddities of an official release, by name, with how often each was met.
    """

    def __init__(self, collect: bool = False):
        self.collect = collect
        self.errors: list[DataError] = []
        self.quirks: Counter[str] = Counter()

    def fault(self, source: object, where: str, found: object, expected: str) -> None:
        """Record a fault. Raises :class:`DataError` unless faults are being collected."""
        error = DataError(source, where, found, expected)
        if not self.collect:
            raise error
        self.errors.append(error)
