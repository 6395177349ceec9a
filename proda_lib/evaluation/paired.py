"""Paired differences with an interval: two models on the same test videos, bootstrapped over the videos.

Needs the scores of finished runs, which the run store has and the committed records do not; so what was found is kept
in ``results/paired.json``, by the names of the runs, and pages read it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from proda_lib.evaluation.cells import Interval, Spread, Table
from proda_lib.evaluation.differences import differences, ordering
from proda_lib.evaluation.grid import Recorded
from proda_lib.evaluation.protocols import PARTITIONS
from proda_lib.evaluation.report import Key
from proda_lib.evaluation.tables import Rows, detached_norms, detached_target, table01, table03, table04, table05
from proda_lib.files import read_json, write_json
from proda_lib.paths import results_root
from proda_lib.training.runs import Run

#: Names in a run's ``scores.safetensors``: of the scores (several: the mean of their mAPs counts), and of the truth and
#: the video of each row (none: a row is a video).
Choice = tuple[tuple[str, ...], str, str | None]
#: What a model without questions has.
_ONE_ANSWER: Choice = (("a_t",), "labels", None)
#: Measure → choices. The first that a run has is taken, so a control's one answer stands beside a_s and a_m.
MEASURES: dict[str, tuple[Choice, ...]] = {
    "a_t": ((("paper/a_t",), "paper/labels", "paper/video"), (("trained/a_t",), "trained/labels", "trained/video")),
    "a_s by partition": ((tuple(f"partition/{i}/a_s" for i in PARTITIONS), "labels", None), _ONE_ANSWER),
    "a_m": ((("a_m",), "labels", None), _ONE_ANSWER),
}
#: The same in a run's metrics: the paper's protocol over both kinds of specification, and video scores.
KEYS: dict[str, Key] = {
    "a_t": ("paper/both/a_t", "trained/both/a_t"),
    "a_s by partition": ("label_free/partition/a_s/map", "a_t/map"),
    "a_m": ("a_m/map", "a_t/map"),
}
#: Table → the pairs of rows that its page compares: (this, minus that).
PAIRS: dict[Callable[..., Rows], list[tuple[str, str]]] = {
    table01: [("ProDA", other) for other in ("encoder_only", "token_transformer", "frame_gcn", "gpnn", "relation_lstm",
                                             "no_prompt", "prompt_only")],
    table03: [("DPM", other) for other in ("SimplePrompt", "no_prompt", "prompt_only")],
    table04: [("VGNorm", other) for other in ("LayerNorm", "BatchNorm", "GraphNorm")],
    detached_norms: [(f"VGNorm{target}", f"BatchNorm{target}") for target in ("", ", detached")],
    # what section 4.3 of the paper compares, and the default against every other row
    table05: [("②", "①"), ("③", "①"), ("④", "①"), *(("⑤", other) for other in "①②③④⑥")],
    detached_target: [(f"{row}{target}", "①") for row in "②④⑤" for target in ("", ", detached")],
}  # fmt: skip
SAMPLES = 300


def weighted_map(
    order: Int[np.ndarray, "R C"], truth: Bool[np.ndarray, "R C"], weights: Float[np.ndarray, "R"]
) -> float:
    """mAP (0..1) of rows that count ``weights`` times; classes without positives are skipped.

    AP of a class = Σ w·y·(Σ w·y so far / Σ w so far) / Σ w·y over rows in falling order of score; with all weights 1 it
    is the official average precision. ``order``: rows of each class, best first.
    """
    w = weights[order]
    hits = w * np.take_along_axis(truth, order, 0)
    found, seen = hits.cumsum(0), w.cumsum(0)
    total = found[-1]
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    return float(((hits * precision).sum(0)[total > 0] / total[total > 0]).mean())


def bootstrap(
    base: Sequence[Float[np.ndarray, "R C"]],
    other: Sequence[Float[np.ndarray, "R C"]],
    truth: Sequence[Bool[np.ndarray, "R C"]],
    video: Sequence[Int[np.ndarray, "R"]],
    fold: Int[np.ndarray, "videos"] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """``base`` − ``other`` in mAP, seed by seed, resampling the videos with all their rows.

    The basic bootstrap interval: percentiles of the samples, reflected about the difference itself, because the mAP of
    a sample is biased (several copies of a video rank as one, and rare classes drop out).

    One entry a training seed in each of the first four; the same videos are drawn for all seeds and for both models.
    Rows without a true class do not count. With several folds, videos are drawn within each and the mAP of the folds is
    averaged, as in the tables.
    """
    fold = np.zeros(1 + max(int(v.max()) for v in video), int) if fold is None else fold
    rng = np.random.default_rng(seed)
    places = [np.flatnonzero(fold == f) for f in np.unique(fold)]
    found = np.zeros((samples + 1, len(places)))
    for f, place in enumerate(places):
        rows = [np.flatnonzero((fold[v] == f) & t.any(1)) for v, t in zip(video, truth, strict=True)]
        orders = [[np.argsort(-s[r], axis=0, kind="stable") for s, r in zip(side, rows, strict=True)]
                  for side in (base, other)]  # fmt: skip
        inside = [np.searchsorted(place, v[r]) for v, r in zip(video, rows, strict=True)]
        n = len(place)
        drawn = (np.bincount(rng.integers(n, size=n), minlength=n).astype(float) for _ in range(samples))
        for i, counts in enumerate((np.ones(n), *drawn)):
            each = zip(*orders, (t[r] for t, r in zip(truth, rows, strict=True)), inside, strict=True)
            found[i, f] = np.mean([weighted_map(a, t, counts[v]) - weighted_map(b, t, counts[v])
                                   for a, b, t, v in each])  # fmt: skip
    means = found.mean(1)
    high, low = 2 * means[0] - np.percentile(means[1:], [2.5, 97.5])
    return Interval(*(100 * float(x) for x in (means[0], low, high)))


def _pairs(base: Sequence[Run], other: Sequence[Run]) -> list[tuple[Run, Run]]:
    by_seed = {run.recipe.seed: run for run in other}
    return [(run, by_seed[run.recipe.seed]) for run in base if run.recipe.seed in by_seed]


def _key(pairs: Iterable[tuple[Run, Run]], measure: str) -> str:
    return " ".join([measure, *(f"{a.name}:{b.name}" for a, b in pairs)])


def _nearest(have: dict[str, list[float]], pairs: Sequence[tuple[Run, Run]], measure: str) -> str | None:
    """The key among those known that has all these pairs, else the one with most of the first ones."""
    return next((key for n in range(len(pairs), 0, -1) if (key := _key(pairs[:n], measure)) in have), None)


def known() -> dict[str, list[float]]:
    """What was found so far: key → difference, low, high.

    Raises:
        DataError: the file is there, but damaged.
    """
    path = results_root() / "paired.json"
    if not path.exists():
        return {}

    def check(content: dict) -> dict[str, list[float]]:
        return {key: [float(x) for x in (difference, low, high)] for key, (difference, low, high) in content.items()}

    return read_json(path, check, "JSON with three numbers a key")


def measured(base: Sequence[Run], other: Sequence[Run]) -> dict[str, list[float]]:
    """Intervals of two rows: those that are known, and those that the run store lets us measure now.

    One that cannot be measured for all seeds, since the store lacks some scores, stays as it was for the first ones.
    """
    pairs, have, found = _pairs(base, other), known(), {}
    for measure, choices in MEASURES.items():
        key, nearest = _key(pairs, measure), _nearest(have, pairs, measure)
        if nearest:
            found[nearest] = have[nearest]
        if not pairs or key == nearest or any(run.folder is None for pair in pairs for run in pair):
            continue
        answers = [[_chosen(run, choices) for run in pair] for pair in pairs]
        if not all(side for pair in answers for side in pair):
            continue
        lined_up = [line for pair in answers for line in _lined_up(*pair)]
        (ours, truth, rows), (theirs, *_) = (zip(*side, strict=True) for side in zip(*lined_up, strict=True))
        fold = pairs[0][0].scores().get("fold")
        interval = bootstrap(ours, theirs, truth, rows, None if fold is None else fold.astype(int))
        found.pop(nearest, None)
        found[key] = [interval.difference, interval.low, interval.high]
    return found


def _chosen(run: Run, choices: Sequence[Choice]) -> list[tuple[np.ndarray, ...]]:
    """Scores, truth and video of each row, of the first choice that the run has; an entry for each of its scores."""
    have = run.scores()
    for names, labels, video in choices:
        if {*names, labels} <= set(have):
            rows = have[labels].astype(bool), have[video] if video else np.arange(len(have[labels]))
            return [(have[name], *rows) for name in names]
    return []


def _lined_up(this: list[tuple], that: list[tuple]) -> Iterable[tuple[tuple, tuple]]:
    """Entries of two models side by side; one entry stands against each of several."""
    several = max(len(this), len(that))
    return zip(*(side * (several // len(side)) for side in (this, that)), strict=True)


def write(found: dict[str, list[float]]) -> None:
    """Keep these intervals, and no others, in ``results/paired.json``."""
    write_json(results_root() / "paired.json", dict(sorted(found.items())))


def interval(have: dict[str, list[float]], found: Recorded, this: str, that: str, measure: str) -> Interval | None:
    """What is known (``have``, of :func:`known`) of the difference of two rows, for the seeds that both have.

    If it is known for the first of them only, that, and the interval says for how many.
    """
    pairs = _pairs(found.runs.get(this, []), found.runs.get(that, []))
    if not (nearest := _nearest(have, pairs, measure)):
        return None
    count = nearest.count(":")
    return Interval(*have[nearest], seeds="" if count == len(pairs) else f"({count} of {len(pairs)} seeds)")


def difference_table(
    found: Recorded, pairs: Sequence[tuple[str, str]], quoted: dict[str, dict[str, float]],
    keys: dict[str, Key] = KEYS,
) -> Table:  # fmt: skip
    """This row minus that one: the paper's difference, ours over seeds, its interval, and whether the sign is the same.

    Args:
        quoted: measure → row → the paper's number. ``keys``: measure → where it stands in a run's metrics.
    """
    have = known()
    cells: dict[tuple[str, str], list] = {}
    for measure, key in keys.items():
        paper, columns = quoted.get(measure, {}), {"paper": [], "ours": [], "95 %": [], "ordering": []}
        for this, that in pairs:
            groups = found.runs.get(this, []), found.runs.get(that, [])
            ours = differences(*groups, key)
            range_ = interval(have, found, this, that, measure)
            expected = paper[this] - paper[that] if this in paper and that in paper else None
            columns["paper"].append("–" if expected is None else f"{expected:+.2f}".replace("-", "−"))
            columns["ours"].append(Spread(ours.values, blank="–" if all(groups) else "not run", signed=True))
            columns["95 %"].append(range_.range if range_ else "–")
            columns["ordering"].append("–" if expected is None else ordering(ours, expected, range_))
        cells |= {(measure, name): column for name, column in columns.items()
                  if any(str(cell) != "–" for cell in column)}  # fmt: skip
    frame = pd.DataFrame(cells, index=pd.Index([f"{this} − {that}" for this, that in pairs], name="difference"))
    note = (
        f"{found.note} Points of mAP, seed by seed. 95 %: of {SAMPLES} bootstrap samples of the test videos, mean over "
        "the seeds, with the trained weights as they are; – where the scores of a run are not at hand."
    )
    return Table(frame, note, words="ordering")
