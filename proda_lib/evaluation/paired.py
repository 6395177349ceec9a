"""Paired differences with an interval: two models on the same test videos, bootstrapped over the videos.

Needs the scores of finished runs, which the run store has and the committed records do not; so what was found is kept
in ``results/paired.json``, by the names of the runs, and pages read it there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from proda_lib.evaluation.grid import Recorded
from proda_lib.evaluation.report import Table
from proda_lib.files import write_atomically
from proda_lib.paths import results_root
from proda_lib.training.runs import Run

#: Label → names of the scores, and of the truth and the video of each row, in a run's ``scores.safetensors``.
MEASURES = {"a_t": ("paper/a_t", "paper/labels", "paper/video"), "a_m": ("a_m", "labels", None)}
SAMPLES = 300


@dataclass(frozen=True)
class Interval:
    """``difference`` of mAP in points (mean over seeds), and the 2.5 and 97.5 percentiles over bootstrap samples."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.1f} [{self.low:+.1f}, {self.high:+.1f}]".replace("-", "−")


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
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """``base`` − ``other`` in mAP, seed by seed, resampling the videos with all their rows.

    One entry a training seed in every argument; the same videos are drawn for all seeds and for both models.
    """
    orders = [[np.argsort(-scores, axis=0, kind="stable") for scores in side] for side in (base, other)]
    videos = 1 + max(int(v.max()) for v in video)
    rng = np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(videos, size=videos), minlength=videos).astype(float) for _ in range(samples))
    found = []
    for counts in (np.ones(videos), *drawn):
        pairs = zip(*orders, truth, video, strict=True)
        found.append(np.mean([weighted_map(a, t, counts[v]) - weighted_map(b, t, counts[v]) for a, b, t, v in pairs]))
    low, high = np.percentile(found[1:], [2.5, 97.5])
    return Interval(*(100 * float(x) for x in (found[0], low, high)))


def _pairs(base: Sequence[Run], other: Sequence[Run]) -> list[tuple[Run, Run]]:
    by_seed = {run.recipe.seed: run for run in other}
    return [(run, by_seed[run.recipe.seed]) for run in base if run.recipe.seed in by_seed]


def _key(pairs: Iterable[tuple[Run, Run]], measure: str) -> str:
    return " ".join([measure, *(f"{a.name}:{b.name}" for a, b in pairs)])


def known() -> dict[str, list[float]]:
    """What was found so far: key → difference, low, high."""
    path = results_root() / "paired.json"
    return json.loads(path.read_text()) if path.exists() else {}


def measured(base: Sequence[Run], other: Sequence[Run]) -> dict[str, list[float]]:
    """Intervals of two rows: those that are known, and those that the run store lets us measure now."""
    pairs, have, found = _pairs(base, other), known(), {}
    for measure, (scores, labels, video) in MEASURES.items():
        key = _key(pairs, measure)
        if key in have:
            found[key] = have[key]
        if not pairs or key in have or any(run.folder is None for pair in pairs for run in pair):
            continue
        sides = [[run.scores() for run in side] for side in zip(*pairs, strict=True)]
        if not all(name in s for side in sides for s in side for name in (scores, labels)):
            continue
        truth = [s[labels].astype(bool) for s in sides[0]]
        rows = [s[video] if video else np.arange(len(s[labels])) for s in sides[0]]
        interval = bootstrap([s[scores] for s in sides[0]], [s[scores] for s in sides[1]], truth, rows)
        found[key] = [interval.difference, interval.low, interval.high]
    return found


def write(found: dict[str, list[float]]) -> None:
    """Keep these intervals, and no others, in ``results/paired.json``."""
    text = json.dumps(dict(sorted(found.items())), indent=1) + "\n"
    write_atomically(results_root() / "paired.json", lambda path: path.write_text(text))


def table(found: Recorded, base: str, variants: Sequence[str]) -> Table:
    """``base`` minus each variant: mAP difference with its 95 % interval over test videos."""
    have, cells = known(), {measure: [] for measure in MEASURES}
    others = [row for row in variants if row != base]
    for measure, column in cells.items():
        for other in others:
            entry = have.get(_key(_pairs(found.runs.get(base, []), found.runs.get(other, [])), measure))
            column.append(str(Interval(*entry)) if entry else "not measured")
    frame = pd.DataFrame(cells, index=pd.Index([f"{base} − {other}" for other in others], name="difference"))
    note = f"Points of mAP, mean over the seeds both have; in brackets 95 % of {SAMPLES} bootstrap samples of the test"
    folds = any(len(run.record["videos"]) > 1 for group in found.runs.values() for run in group)
    which = "videos (of all folds, in one ranking)" if folds else "videos"
    return Table(frame, f"{note} {which}, with the trained weights as they are.")
