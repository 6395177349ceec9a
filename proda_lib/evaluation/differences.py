"""Two groups of runs, seed by seed: their difference in a metric, and sentences on it."""

from __future__ import annotations

from collections.abc import Sequence

from proda_lib.evaluation.cells import Interval, Spread
from proda_lib.evaluation.report import Key, spread
from proda_lib.training.runs import Run


def differences(first: Sequence[Run], second: Sequence[Run], key: Key, other: Key | None = None) -> Spread:
    """``first`` − ``second`` in a metric, seed by seed (seeds that only one of them has are left out)."""
    values = {}
    for group, wanted in ((first, key), (second, other or key)):
        for run in group:
            values.setdefault(run.recipe.seed, []).extend(spread([run], wanted).values)
    return Spread(tuple(pair[0] - pair[1] for _, pair in sorted(values.items()) if len(pair) == 2))


def compare(name: str, other: str, measure: str, difference: Spread) -> str:
    """A sentence on which of two is higher, as the numbers have it."""
    count = len(difference.values)
    if not count:
        return f"{measure}: {name} and {other} have no seed in common."
    higher = sum(value > 0 for value in difference.values)
    sign = "+" if difference.mean >= 0 else "−"
    size = f"{sign}{abs(difference.mean):.{difference.digits}f}"
    if count == 1:
        return f"{measure}: {name} − {other} = {size} points (one seed, so without a spread)."
    size += f" ± {difference.sd:.{difference.digits}f}"
    return f"{measure}: {name} − {other} = {size} points; {name} is higher with {higher} of {count} seeds."


def ordering(difference: Spread, expected: float, interval: Interval | None = None) -> str:
    """Whether the sign of ``expected`` (the paper's difference) is that of ours, seed by seed; and whether the interval
    of ours over test videos, if there is one for all seeds, contains 0."""
    count = len(difference.values)
    same, other = (sum(sign * value * expected > 0 for value in difference.values) for sign in (1, -1))
    if not count:
        return "nothing to compare"
    if not same and not other:
        return "no difference"
    if count == 1:
        words = "the same ordering as the paper's, with one seed" if same else "the other ordering, with one seed"
    elif same == count:
        words = f"the paper's ordering holds with all {count} seeds"
    elif other == count:
        words = f"reversed with all {count} seeds"
    else:
        words = f"open: the paper's ordering with {same} of {count} seeds"
    return f"{words}; the interval contains 0" if interval and interval.contains_0 else words
