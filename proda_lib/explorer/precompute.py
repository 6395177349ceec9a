"""What the explorer shows, as plain data: a few videos, and the model's answer to every specification on offer.

A reader is offered n actions of a video, some present and some absent, and asks for any of them: 2ⁿ choices. Each can
be asked in two ways: the chosen actions alone, or filled up with absent ones (distractors) to length K, as in training,
or as far as the absent ones go that are not on offer.
Choice i of n has bit j set if the j-th offered action is in it; the filled-up ones come after, at 2ⁿ + i. Nothing is
asked for by choice 0 alone, so that it has no answer.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from proda_lib.errors import RecipeError
from proda_lib.evaluation.explain import Answer, look
from proda_lib.evaluation.localization import frame_spans
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.plotting.graphs import slot_names
from proda_lib.plotting.style import readable
from proda_lib.specification import specification_length, video_rng

#: Actions offered for a video: 2⁶ choices, in two ways each.
OFFERED = 6
#: Shares and node scores in 0..1 become levels of one byte: rounding moves them by at most 0.002.
LEVELS, ABSENT = 254, 255


def offered_actions(graph: SceneGraph, count: int = OFFERED) -> Int[np.ndarray, "n"]:
    """Up to ``count`` − 1 labels of the video (the first ones), then absent actions: some to get right, one to refuse.

    The absent ones are random, the same in every process; nothing here looks at a model.
    """
    labels = graph.labels[: count - 1]
    absent = video_rng(0, 0, graph.video).permutation(_absent(graph))
    return np.concatenate([labels, np.sort(absent[: count - len(labels)])]).astype(np.int64)


def distractors(graph: SceneGraph, offered: Sequence[int], length: int) -> Int[np.ndarray, "F"]:
    """Random absent actions that are not on offer: ``length`` (K), or all there are where they are fewer."""
    left = np.setdiff1d(_absent(graph), offered)
    return video_rng(0, 1, graph.video).permutation(left)[:length].astype(np.int64)


def specification(
    actions: int, chosen: Sequence[int], fill: Sequence[int] = (), length: int = 0
) -> Bool[np.ndarray, "C"]:
    """The SAP of a choice: the chosen actions, and ``fill`` from its start until there are ``length`` (K) in all."""
    sap = np.zeros(actions, dtype=bool)
    sap[np.asarray(chosen, dtype=np.int64)] = True
    sap[np.asarray(fill[: max(0, length - len(chosen))], dtype=np.int64)] = True
    return sap


def choices(
    actions: int, offered: Int[np.ndarray, "n"], fill: Int[np.ndarray, "F"], length: int
) -> Bool[np.ndarray, "S C"]:
    """The SAPs of all choices, S = 2 · 2ⁿ (2ⁿ without ``fill``), in the order that this module's docstring gives."""
    subsets = [offered[(number >> np.arange(len(offered))) & 1 == 1] for number in range(2 ** len(offered))]
    alone = [specification(actions, chosen) for chosen in subsets]
    filled = [specification(actions, chosen, fill, length) for chosen in subsets] if len(fill) else []
    return np.array(alone + filled)


def ask(model: ProDA, graph: SceneGraph, saps: Bool[np.ndarray, "S C"], device: str = "cpu") -> list[Answer | None]:
    """:func:`~proda_lib.evaluation.explain.look`; None where nothing is asked for."""
    model.eval()
    asked = np.flatnonzero(saps.any(-1))
    answers: list[Answer | None] = [None] * len(saps)
    for row, answer in zip(asked, look(model, graph, saps[asked], device), strict=True):
        answers[row] = answer
    return answers


def video_entry(
    graph: SceneGraph, offered: Int[np.ndarray, "n"], fill: Int[np.ndarray, "F"], answers: dict[int, Answer],
    layer: int = -1,
) -> dict:  # fmt: skip
    """One video as JSON can hold it.

    Args:
        graph: the sampled frames that the model saw. ``offered``, ``fill``: actions.
        answers: by number of the choice.
        layer: of the VGPNN, whose w is kept.
    """
    names, kept = graph.vocabulary.actions, np.flatnonzero(graph.relations.any((0, 1)))
    column = {int(relation): place for place, relation in enumerate(kept)}
    return {
        "name": graph.video,
        "duration": round(graph.duration, 3),
        "times": np.round(graph.times, 3).tolist(),
        "spans": np.round(frame_spans(graph.times, graph.duration), 3).tolist(),
        "slots": slot_names(graph),
        "boxes": [[np.round(box, 4).tolist() if there else None for box, there in zip(*frame, strict=True)]
                  for frame in zip(graph.boxes, graph.present, strict=True)],
        "edges": graph.edges.T.tolist(),
        "relations": [readable(graph.vocabulary.relations[relation]) for relation in kept],
        "held": [[[column[int(r)] for r in np.flatnonzero(edge)] for edge in frame] for frame in graph.relations],
        "actions": [readable(names[action]) for action in offered],
        "present": np.isin(offered, graph.labels).tolist(),
        "segments": [np.round(graph.segments[graph.segment_labels == a], 3).tolist() for a in offered],
        "not_offered": [readable(names[action]) for action in np.setdiff1d(graph.labels, offered)],
        "distractors": [readable(names[action]) for action in fill],
        "answers": {str(number): answer_entry(answer, offered, layer) for number, answer in answers.items()},
    }  # fmt: skip


def answer_entry(answer: Answer, offered: Int[np.ndarray, "n"], layer: int = -1) -> dict:
    """a_s (n + 1, the last is "no-action") and a_t (n) of the offered actions, s (N), w (E, N), node scores (M, N).

    w is packed as a share of ``w_max``, its largest value here: sigmoids of a trained model may all be near 0.
    """
    w = answer.w[layer]
    largest = float(np.nanmax(w, initial=0.0)) or 1.0
    return {
        "a_s": np.round(answer.a_s[[*offered, -1]].astype(float), 3).tolist(),
        "a_t": np.round(answer.a_t[offered].astype(float), 3).tolist(),
        "s": [float(f"{value:.4g}") for value in answer.s],
        "w": pack(w / largest),
        "w_max": float(f"{largest:.4g}"),
        "node": pack(answer.node_score),
    }


def precompute(
    model: ProDA, graphs: Sequence[SceneGraph], device: str = "cpu", *, frames: int | None = None,
    offered: int = OFFERED, spec_length: int = 16, layer: int = -1, about: Sequence[str] = (),
) -> dict:  # fmt: skip
    """Everything that :class:`~proda_lib.explorer.page.Explorer` shows.

    Args:
        graphs: whole videos; the model sees ``frames`` of each, evenly spread (by default as many as it takes).
        offered: n, actions to choose from. ``spec_length``: of the recipe; K is less where there are few actions.
        layer: of the VGPNN, whose w is shown, from 0, or from the end if negative.
        about: sentences on the run and the data, shown on the page.

    Raises:
        RecipeError: no such layer, or a number of offered actions outside 2..8: more choices would not fit a page.
    """
    if not 2 <= offered <= 8:
        raise RecipeError(f"explorer: offered actions: found {offered}, expected 2..8")
    if not -model.config.layers <= layer < model.config.layers:
        raise RecipeError(f"explorer: layer: found {layer}, expected one of the VGPNN's {model.config.layers}")
    videos, length = [], specification_length(model.config.actions, spec_length)
    for graph in graphs:
        graph = graph.sample_frames(frames or model.config.frames)
        actions = offered_actions(graph, offered)
        fill = distractors(graph, actions, length)
        answers = ask(model, graph, choices(len(graph.vocabulary.actions), actions, fill, length), device)
        given = {number: answer for number, answer in enumerate(answers) if answer is not None}
        videos.append(video_entry(graph, actions, fill, given, layer))
    return {"videos": videos, "about": list(about), **facts(model, length, layer)}


def facts(model: ProDA, length: int, layer: int = -1) -> dict:
    """What the page says of the model: K, to which it fills up (``length``); which layer's w is shown, of how many."""
    return {"K": length, "layer": layer % model.config.layers + 1, "layers": model.config.layers}


def pack(values: Float[np.ndarray, "..."]) -> str:
    """Numbers in 0..1, NaN where absent → one byte each, row by row, in URL-safe base64."""
    levels = np.where(np.isnan(values), ABSENT, np.rint(np.nan_to_num(values) * LEVELS)).astype(np.uint8)
    return base64.urlsafe_b64encode(levels.tobytes()).decode()


def unpack(packed: str) -> Float[np.ndarray, "values"]:
    """The numbers of :func:`pack` as the page reads them."""
    levels = np.frombuffer(base64.urlsafe_b64decode(packed), dtype=np.uint8)
    return np.where(levels == ABSENT, np.nan, levels / LEVELS)


def _absent(graph: SceneGraph) -> Int[np.ndarray, "absent"]:
    return np.setdiff1d(np.arange(len(graph.vocabulary.actions)), graph.labels)
