"""What a run's record says about localisation: the questions of tables 8 and 9, and the summary of all measures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from proda_lib.evaluation.localization import (
    THRESHOLDS,
    FrameScores,
    HitRates,
    LabelQuestions,
    alone,
    frame_scores,
    hit_rates,
    timed_labels,
)
from proda_lib.evaluation.localization_map import at_every_point, point_map, point_scores
from proda_lib.evaluation.protocols import EVALUATION_EPOCH, LabelFree
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.specification import specification_length, video_rng
from proda_lib.training.recipe import Recipe

#: Distractors of table 8 are drawn once per seed, as if in this epoch: independently of the paper's protocol.
DISTRACTOR_EPOCH = EVALUATION_EPOCH + 1


def not_measurable(graphs: Sequence[SceneGraph]) -> dict[str, float]:
    """Why localisation says nothing about these videos, as counts; empty if it does.

    No video has a segment, or every segment is as long as its video (CAD-120's clips): then every frame is true.
    """
    timed = [graph for graph in graphs if len(graph.segments)]
    if not timed:
        return {"videos": float(len(graphs)), "videos with a segment": 0.0}
    if all((g.segments[:, 0] <= 0).all() and (g.segments[:, 1] >= g.duration).all() for g in timed):
        return {"videos": float(len(graphs)), "videos as long as each of their segments": float(len(timed))}
    return {}


def among_absent(length: int, seed: int) -> LabelQuestions:
    """Each action with ``length`` − 1 random absent ones, or all there are (table 8, distractor-injected)."""

    def questions(graph: SceneGraph, actions: Int[np.ndarray, "S"]) -> Bool[np.ndarray, "S C"]:
        rng, absent = video_rng(seed, DISTRACTOR_EPOCH, graph.video), np.flatnonzero(~graph.multi_hot())
        saps = alone(graph, actions)
        for sap in saps:
            sap[rng.permutation(absent)[: length - 1]] = True
        return saps

    return questions


def frame_scores_of(scanned: LabelFree, graphs: Sequence[SceneGraph]) -> list[FrameScores]:
    """What :func:`~proda_lib.evaluation.localization.frame_scores` gives for each label alone, taken from a scan."""
    frames, found = scanned.s.shape[-1], []
    for graph, s, a_s in zip(graphs, scanned.s, scanned.a_s, strict=True):
        if len(actions := timed_labels(graph)):
            found.append(FrameScores(graph.sample_frames(frames), actions, s[actions], a_s[actions]))
    return found


def ask_about_labels(
    model: ProDA, graphs: Sequence[SceneGraph], recipe: Recipe, scanned: LabelFree | None, device="cpu"
) -> dict[str, list[FrameScores]]:
    """Rows of table 8 ("distractor") and of table 9 ("non_distractor"), the latter from the scan if there is one."""
    length = specification_length(len(graphs[0].vocabulary.actions), recipe.spec_length)
    drawn = among_absent(length, recipe.seed)
    if scanned is None:
        single = frame_scores(model, graphs, recipe.frames, device)
    else:
        single = frame_scores_of(scanned, graphs)
    return {"distractor": frame_scores(model, graphs, recipe.frames, device, drawn), "non_distractor": single}


def of_any_question(scores: Sequence[FrameScores]) -> list[FrameScores]:
    """Control: s is the mean over the questions about its video, so it does not know which of the actions is meant.

    A video with one question keeps its s.
    """
    return [replace(entry, s=_everywhere(entry.s.mean(0), entry)) for entry in scores]


def of_any_video(scores: Sequence[FrameScores]) -> list[FrameScores]:
    """Control: s is the mean over all rows, so it knows the place of a frame in its video, and nothing of the video."""
    mean = np.concatenate([entry.s for entry in scores]).mean(0)
    return [replace(entry, s=_everywhere(mean, entry)) for entry in scores]


def variation(folds: Sequence[Sequence[FrameScores]]) -> dict[str, float]:
    """What s varies with over the frames, in percent of Σ (s − its mean over the frames)²; the three add up to 100.

    Over the videos with L > 1 questions. "place": the mean over all rows of a fold, which depends on the frame's place
    in its video alone. "question": the squares about the mean over a video's questions, times L / (L − 1), since that
    mean holds each of them. "video": what is left. All 0 where s is the same in all frames.
    """
    place = question = total = 0.0
    for scores in folds:
        rows = [entry.s.astype(float) - entry.s.mean(1, keepdims=True, dtype=float)
                for entry in scores if len(entry.actions) > 1]  # fmt: skip
        if not rows:
            continue
        mean = np.concatenate(rows).mean(0)
        total += sum(float(np.square(s).sum()) for s in rows)
        place += sum(map(len, rows)) * float(np.square(mean).sum())
        question += sum(float(np.square(s - s.mean(0)).sum()) * len(s) / (len(s) - 1) for s in rows)
    parts = {"place": place, "video": total - place - question, "question": question}
    return {name: 100 * part / total if total else 0.0 for name, part in parts.items()}


def _everywhere(s: Float[np.ndarray, "N"], entry: FrameScores) -> Float[np.ndarray, "S N"]:
    return np.tile(s, (len(entry.actions), 1))


def hit_summary(folds: Sequence[Sequence[FrameScores]]) -> dict[str, dict]:
    """Tables 8 and 9 in percent: ``["hit" or "ranked"][θ][t]``, for θ also "every_frame", the control.

    Hits are counted over all folds together; "ranked" is each fold's, averaged, for its scores are those of its model.

    "mean" in place of θ or t is the mean over them, as in the margins of the paper's tables. ``["all_found"][θ]``:
    percent of the rows in which the model marks every frame itself. ``["any_question"]`` and ``["any_video"]``: hits of
    s averaged over the questions about a video, and over all rows of a fold. ``["variation"]``: :func:`variation`.
    ``["rows"]``: how many (video, label) pairs there are, of how many classes, and in how many the action falls
    between the sampled frames.
    """
    plain, names = hit_rates([*itertools.chain(*folds)]), [f"{value:g}" for value in THRESHOLDS]
    ranked = [hit_rates(scores, ranked=True) for scores in folds]
    return {
        "hit": _lines([plain], names),
        "ranked": _lines(ranked, names),
        **{
            name: _lines([hit_rates([*itertools.chain(*map(less, folds))])], names)
            for name, less in {"any_question": of_any_question, "any_video": of_any_video}.items()
        },
        "variation": variation(folds),
        "all_found": dict(zip(names, plain.all_found.tolist(), strict=True)),
        "rows": {"all": float(plain.rows), "classes": float(plain.classes), "unseen": float(plain.unseen)},
    }


def _lines(rates: Sequence[HitRates], names: Sequence[str]) -> dict[str, dict[str, float]]:
    model, every_frame = (np.mean([getattr(fold, name) for fold in rates], 0) for name in ("model", "every_frame"))
    lines = {**dict(zip(names, model, strict=True)), "mean": model.mean(0), "every_frame": every_frame}
    return {line: {**dict(zip(names, values.tolist(), strict=True)), "mean": float(values.mean())}
            for line, values in lines.items()}  # fmt: skip


def map_summary(
    graphs: Sequence[SceneGraph], video: Mapping[str, Float[np.ndarray, "V C"]],
    frames: Mapping[str, Float[np.ndarray, "V C N"]],
) -> dict[str, dict[str, float]]:  # fmt: skip
    """25-point localisation mAP in percent by protocol, mean over the three partitions.

    Args:
        video: scores of whole videos by name: ``PROTOCOL/a_s`` for each of ``frames``, and "frequency", the control's.
        frames: frame scores s by protocol.

    Returns:
        ``[protocol]["s"]``; with s² / max s² in its place ``["scaled"]``; and a_s alone, the same at every point,
        ``["without_s"]``. ``["any_class"]`` and ``["any_video"]``: s averaged over the classes of a video, and over
        the videos too. ``["frequency"]["without_s"]``: the class frequencies at every point.
    """
    parts: dict[str, list[dict[str, float]]] = {}
    for name, s in frames.items():
        a_s = video[f"{name}/a_s"]
        parts.setdefault(name.partition("/")[0], []).append({
            "s": point_map(graphs, point_scores(graphs, a_s, s)),
            "scaled": point_map(graphs, point_scores(graphs, a_s, s, scaled=True)),
            "any_class": point_map(graphs, point_scores(graphs, a_s, _mean(s, 1))),
            "any_video": point_map(graphs, point_scores(graphs, a_s, _mean(s, (0, 1)))),
            "without_s": point_map(graphs, at_every_point(a_s)),
        })  # fmt: skip
    if "frequency" in video:
        parts["frequency"] = [{"without_s": point_map(graphs, at_every_point(video["frequency"]))}]
    return {name: {key: float(np.mean([part[key] for part in found])) for key in found[0]}
            for name, found in parts.items()}  # fmt: skip


def _mean(s: Float[np.ndarray, "V C N"], axis: int | tuple[int, ...]) -> Float[np.ndarray, "V C N"]:
    return np.broadcast_to(s.mean(axis, keepdims=True), s.shape)
