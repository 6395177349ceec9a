"""How a prompted model is asked: the paper's protocol, and protocols that never look at the test labels.

In the paper's protocol the specifications are built from the test labels, so the prompt itself carries part of the
answer; :mod:`proda_lib.evaluation.prompt_only` measures how much. The label-free protocols are
``partition``, ``self``, ``scan`` and ``none``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from proda_lib.batch import SceneGraphBatch, collate_for
from proda_lib.distributed import each_its_part
from proda_lib.evaluation.charades import mean_average_precision
from proda_lib.evaluation.scan import rows_of_both, scan_frames
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.specification import branch_targets, partition, sample_specifications, specification_length, video_rng
from proda_lib.training.recipe import Recipe

#: Seeds of the splits of all actions that the protocol ``partition`` averages.
PARTITIONS = range(3)

#: Specifications of the evaluation are drawn once per seed, as if in this epoch, which training never reaches.
EVALUATION_EPOCH = 1_000_000
#: Videos, and at most so many rows of SAP and UAP together, that go through the model at a time.
VIDEOS_AT_ONCE, ROWS_AT_ONCE = 16, 256


def batches(
    model: nn.Module, graphs: Sequence[SceneGraph], frames: int, device
) -> Iterator[tuple[range, SceneGraphBatch]]:
    """Videos in groups: which they are, and the batch of their ``frames`` evenly spread frames, as the model has it."""
    for start in range(0, len(graphs), VIDEOS_AT_ONCE):
        part = range(start, min(start + VIDEOS_AT_ONCE, len(graphs)))
        yield part, collate_for(model, [graphs[i].sample_frames(frames) for i in part], device)


@torch.no_grad()
def predict(model: nn.Module, graphs: Sequence[SceneGraph], recipe: Recipe, device="cpu") -> Float[np.ndarray, "V C"]:
    """Scores (videos, C) of a control model, which takes no prompt."""
    model.eval()

    def scores(part: Sequence[SceneGraph]) -> np.ndarray:
        return np.concatenate(
            [model(b).logits.float().cpu().numpy() for _, b in batches(model, part, recipe.frames, device)]
        )

    return np.concatenate(each_its_part(graphs, scores))


def recognition(scores: Float[np.ndarray, "V C"], graphs: Sequence[SceneGraph]) -> float:
    """mAP (percent, classes without positives skipped) of video scores, over videos that have a label."""
    labelled = np.array([len(g.labels) > 0 for g in graphs])
    truth = np.stack([g.multi_hot() for g in graphs])
    return _percent(scores[labelled], truth[labelled])


def _percent(scores: np.ndarray, truth: np.ndarray) -> float:
    return 100 * mean_average_precision(scores, truth, empty="skip").map


@dataclass(frozen=True, eq=False)
class PaperProtocol:
    """Scores of every (video, specification) row; ``distractor`` tells the kind."""

    video: Int[np.ndarray, "R"]
    sap: Bool[np.ndarray, "R C"]
    distractor: Bool[np.ndarray, "R"]
    labels: Bool[np.ndarray, "R C"]
    a_s: Float[np.ndarray, "R C1"]
    a_u: Float[np.ndarray, "R C1"]
    a_t: Float[np.ndarray, "R C"]
    a_m: Float[np.ndarray, "V C"]

    def summary(self) -> dict[str, dict[str, float]]:
        """mAP in percent over rows: both kinds of specification, and each kind alone.

        ``a_s`` and ``a_u`` count "no-action" as a class (as the released code does); ``a_s_actions`` and
        ``a_u_actions`` leave it out. Classes without positives are skipped; a_t, which has no such class, leaves videos
        without actions out, as the official classification does.
        """
        kinds = {
            "both": np.ones_like(self.distractor),
            "distractor": self.distractor,
            "non_distractor": ~self.distractor,
        }
        return {kind: self._summary(rows) for kind, rows in kinds.items() if rows.any()}

    def _summary(self, rows: np.ndarray) -> dict[str, float]:
        labels, sap = torch.from_numpy(self.labels[rows]), torch.from_numpy(self.sap[rows])
        labelled = rows & self.labels.any(1)
        found = {"a_t": _percent(self.a_t[labelled], self.labels[labelled])} if labelled.any() else {}
        for name, scores, asked in (("a_s", self.a_s, sap), ("a_u", self.a_u, ~sap)):
            truth = branch_targets(labels, asked).numpy()
            found[name] = _percent(scores[rows], truth)
            found[f"{name}_actions"] = _percent(scores[rows, :-1], truth[:, :-1])
        return found

    @classmethod
    def concatenate(cls, parts: Sequence[PaperProtocol]) -> PaperProtocol:
        """The rows of several folds as one; ``video`` counts on from fold to fold."""
        if len(parts) == 1:
            return parts[0]
        offsets = np.cumsum([0, *(len(p.a_m) for p in parts)])
        video = np.concatenate([p.video + offset for p, offset in zip(parts, offsets, strict=False)])
        names = ("sap", "distractor", "labels", "a_s", "a_u", "a_t", "a_m")
        return cls(video=video, **{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def evaluation_rows(
    graphs: Sequence[SceneGraph], recipe: Recipe
) -> tuple[Int[np.ndarray, "R"], Bool[np.ndarray, "R C"], Bool[np.ndarray, "R"]]:
    """Video, SAP and kind of every row of the paper's protocol, drawn once per seed. Uses the videos' labels."""
    actions = len(graphs[0].vocabulary.actions)
    length = specification_length(actions, recipe.spec_length)
    rngs = [video_rng(recipe.seed, EVALUATION_EPOCH, g.video) for g in graphs]
    both = zip(graphs, rngs, strict=True)
    drawn = [sample_specifications(g.labels, actions, length, rng, recipe.absent_row) for g, rng in both]
    video = np.repeat(np.arange(len(graphs)), [len(sap) for sap, _ in drawn])
    return video, np.concatenate([s for s, _ in drawn]), np.concatenate([d for _, d in drawn])


@torch.no_grad()
def paper_protocol(model: ProDA, graphs: Sequence[SceneGraph], recipe: Recipe, device="cpu") -> PaperProtocol:
    """Score all specifications of each video. The SAPs are made from the labels of ``graphs``."""
    model.eval()
    return PaperProtocol.concatenate(each_its_part(graphs, lambda part: _paper_protocol(model, part, recipe, device)))


def _paper_protocol(model: ProDA, graphs: Sequence[SceneGraph], recipe: Recipe, device) -> PaperProtocol:
    video, sap, distractor = evaluation_rows(graphs, recipe)
    found: dict[str, list[np.ndarray]] = {"a_s": [], "a_u": [], "a_t": [], "a_m": []}
    for part, batch in batches(model, graphs, recipe.frames, device):
        rows = np.flatnonzero((video >= part.start) & (video < part.stop))
        encoded, step = model.encode(batch), rows_of_both(model.config, batch, ROWS_AT_ONCE)
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            out = model(batch, torch.from_numpy(sap[chunk]).to(device), video[chunk] - part.start, encoded)
            for name in ("a_s", "a_u", "a_t"):
                found[name].append(getattr(out, name).logits.float().cpu().numpy())
        found["a_m"].append(out.a_m.logits.float().cpu().numpy())
    scores = {name: np.concatenate(parts) for name, parts in found.items()}
    labels = np.stack([g.multi_hot() for g in graphs])[video]
    return PaperProtocol(video=video, sap=sap, distractor=distractor, labels=labels, **scores)


#: A label-free protocol: for the videos of a batch, given a_m (B, C), its questions, as (video, SAP) rows.
FreeProtocol = Callable[[Tensor], tuple[np.ndarray, Bool[np.ndarray, "R C"]]]


@dataclass(frozen=True, eq=False)
class LabelFree:
    """What a label-free protocol answers about each video and class.

    Attributes:
        a_s: (V, C) logit of the class in the question that holds it, minus infinity if there is none.
        a_t: (V, C) averaged over the questions of the video; None for ``scan``, which leaves the UAP branch out.
        s: (V, C, N) frame scores of a_s for the question that holds the class, 0 if there is none.
    """

    a_s: Float[np.ndarray, "V C"]
    a_t: Float[np.ndarray, "V C"] | None
    s: Float[np.ndarray, "V C N"]

    @classmethod
    def concatenate(cls, parts: Sequence[LabelFree]) -> LabelFree:
        """The videos of all parts, in order."""
        a_t = None if parts[0].a_t is None else np.concatenate([p.a_t for p in parts])
        return cls(np.concatenate([p.a_s for p in parts]), a_t, np.concatenate([p.s for p in parts]))


@torch.no_grad()
def ask(model: ProDA, graphs: Sequence[SceneGraph], questions: FreeProtocol, frames: int, device="cpu") -> LabelFree:
    """Ask label-free questions and give each class its a_s from the question that holds it."""
    return ask_every(model, graphs, {"asked": questions}, frames, device)["asked"]


@torch.no_grad()
def ask_every(
    model: ProDA, graphs: Sequence[SceneGraph], protocols: Mapping[str, FreeProtocol], frames: int, device="cpu"
) -> dict[str, LabelFree]:
    """:func:`ask` for several protocols by name; each video is encoded once for all of them."""
    model.eval()

    def answers(part: Sequence[SceneGraph]) -> dict[str, LabelFree]:
        return _joined([_ask(model, batch, protocols) for _, batch in batches(model, part, frames, device)])

    return _joined(each_its_part(graphs, answers))


def _joined(parts: Sequence[dict[str, LabelFree]]) -> dict[str, LabelFree]:
    return {name: LabelFree.concatenate([part[name] for part in parts]) for name in parts[0]}


def _ask(model: ProDA, batch: SceneGraphBatch, protocols: Mapping[str, FreeProtocol]) -> dict[str, LabelFree]:
    device, step = batch.labels.device, rows_of_both(model.config, batch, ROWS_AT_ONCE)
    encoded, found = model.encode(batch), {}
    a_m = model.unprompted(batch, encoded).logits
    for name, questions in protocols.items():
        row_video, saps = questions(a_m)
        a_s = np.full((len(batch), saps.shape[1]), -np.inf, dtype=np.float32)
        a_t, s = np.zeros_like(a_s), np.zeros((*a_s.shape, batch.frame_mask.shape[1]), dtype=np.float32)
        for start in range(0, len(saps), step):
            sap, video = (values[start : start + step] for values in (saps, row_video))
            out = model(batch, torch.from_numpy(sap).to(device), video, encoded)
            row, action = np.nonzero(sap)
            a_s[video[row], action] = out.a_s.logits.float().cpu().numpy()[row, action]
            s[video[row], action] = out.a_s.s.float().cpu().numpy()[row]
            np.add.at(a_t, video, out.a_t.logits.float().cpu().numpy())
        asked = np.bincount(row_video, minlength=len(batch))[:, None]
        found[name] = LabelFree(a_s, a_t / asked, s)
    return found


@torch.no_grad()
def ask_each_alone(model: ProDA, graphs: Sequence[SceneGraph], frames: int, device="cpu") -> LabelFree:
    """Protocol ``scan``: :func:`~proda_lib.evaluation.scan.scan_frames` of every video."""
    model.eval()

    def answers(part: Sequence[SceneGraph]) -> LabelFree:
        scanned = [scan_frames(model, batch) for _, batch in batches(model, part, frames, device)]
        a_s, s = (torch.cat(values).float().cpu().numpy() for values in zip(*scanned, strict=True))
        return LabelFree(a_s, None, s)

    return LabelFree.concatenate(each_its_part(graphs, answers))


def partition_questions(actions: int, length: int, seed: int) -> FreeProtocol:
    """The main protocol: all actions, split at random into ⌈C/K⌉ SAPs of K, the same split for every video."""
    groups = partition(actions, length, np.random.default_rng([seed, 5]))
    return lambda a_m: (np.repeat(np.arange(len(a_m)), len(groups)), np.tile(groups, (len(a_m), 1)))


def best_actions(scores: Float[Tensor, "V C"], length: int) -> Bool[Tensor, "V C"]:
    """:func:`~proda_lib.specification.best_of` as a multi-hot, for scores that stay on their device."""
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :length]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True)


def self_questions(length: int) -> FreeProtocol:
    """One SAP per video: the K best actions of a_m."""
    return lambda a_m: (np.arange(len(a_m)), best_actions(a_m, length).cpu().numpy())


def none_questions(actions: int) -> FreeProtocol:
    """One SAP of all ones: nothing is singled out. Out of distribution, since training never shows it."""
    return lambda a_m: (np.arange(len(a_m)), np.ones((len(a_m), actions), dtype=bool))


def label_free(model: ProDA, graphs: Sequence[SceneGraph], recipe: Recipe, device="cpu") -> dict[str, LabelFree]:
    """Every label-free protocol: ``partition/0..2``, ``self``, ``none``, and ``scan`` if the recipe has it."""
    actions = len(graphs[0].vocabulary.actions)
    length = specification_length(actions, recipe.spec_length)
    questions = {f"partition/{i}": partition_questions(actions, length, i) for i in PARTITIONS}
    questions |= {"self": self_questions(length), "none": none_questions(actions)}
    found = ask_every(model, graphs, questions, recipe.frames, device)
    if recipe.scan:
        found["scan"] = ask_each_alone(model, graphs, recipe.frames, device)
    return found
