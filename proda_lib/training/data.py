"""Batches of (video, specification) rows, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from proda_lib.batch import SceneGraphBatch, collate, map_tensors
from proda_lib.distributed import processes, rank
from proda_lib.errors import RecipeError
from proda_lib.graph import SceneGraph
from proda_lib.specification import sample_specifications, specification_length, video_rng
from proda_lib.training.recipe import Recipe

#: Share of the training videos that pick the epoch.
VALIDATION = 0.1
#: SAPs (S, C) of each video; None: drawn from its labels.
Questions = Sequence[Bool[np.ndarray, "S C"]] | None


@dataclass(frozen=True, eq=False)
class Rows:
    """A batch: videos, and R rows of specifications. ``row_video`` stays on the host."""

    batch: SceneGraphBatch
    sap: Bool[Tensor, "R C"]
    row_video: tuple[int, ...]

    def to(self, device: torch.device | str) -> Rows:
        return Rows(self.batch.to(device, True), self.sap.to(device, non_blocking=True), self.row_video)

    def pin_memory(self) -> Rows:
        """The same batch in memory that a GPU can copy from while the processor goes on; the loader calls it."""
        return map_tensors(self, Tensor.pin_memory)

    @property
    def labels(self) -> Bool[Tensor, "R C"]:
        """Labels of each row's video."""
        rows = torch.as_tensor(self.row_video).to(self.batch.labels.device, non_blocking=True)
        return self.batch.labels.bool().index_select(0, rows)


class EpochRows(Dataset):
    """Every (video, specification) pair once, S specifications of a video at a time.

    Item i is one visit to a video: ``frames`` random frames and its next S specifications. Both depend on
    (seed, epoch, video, visit) only, so any item can be made alone and in any process.

    Args:
        questions: SAPs (S, C) of each video; by default they are drawn from its labels.
    """

    def __init__(self, graphs: Sequence[SceneGraph], recipe: Recipe, epoch: int, questions: Questions = None):
        self.graphs, self.recipe, self.epoch, self.questions = graphs, recipe, epoch, questions
        rows = [specifications(graph, recipe) for graph in graphs] if questions is None else map(len, questions)
        visits = [-(-count // recipe.specs_per_video) for count in rows]
        self.items = [(video, visit) for video, count in enumerate(visits) for visit in range(count)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[SceneGraph, Bool[np.ndarray, "S C"]]:
        video, visit = self.items[index]
        graph, recipe = self.graphs[video], self.recipe
        rng = video_rng(recipe.seed, self.epoch if recipe.redraw else 0, graph.video)
        saps = draw_specifications(graph, recipe, rng) if self.questions is None else self.questions[video]
        saps = saps[rng.permutation(len(saps))][visit * recipe.specs_per_video : (visit + 1) * recipe.specs_per_video]
        frames = np.random.default_rng([*rng.integers(2**31, size=2), self.epoch, visit])
        if recipe.window:
            graph, frames = graph.window(recipe.frames, frames), None
        return graph.sample_frames(recipe.frames, frames), saps


def specifications(graph: SceneGraph, recipe: Recipe) -> int:
    """S, how many SAPs :func:`draw_specifications` gives: one of a single absent action needs an absent action."""
    absent = len(graph.labels) < len(graph.vocabulary.actions)
    return 2 * len(graph.labels) + 1 + absent * (recipe.absent_row + recipe.absent_singles)


def draw_specifications(graph: SceneGraph, recipe: Recipe, rng: np.random.Generator) -> Bool[np.ndarray, "S C"]:
    """The SAPs of a video under a recipe; ``absent_singles`` adds one of a single absent action, if there is one."""
    actions = len(graph.vocabulary.actions)
    length = specification_length(actions, recipe.spec_length)
    saps, _ = sample_specifications(graph.labels, actions, length, rng, recipe.absent_row)
    absent = np.flatnonzero(~graph.multi_hot())
    if recipe.absent_singles and len(absent):
        single = np.zeros((1, actions), dtype=bool)
        single[0, rng.choice(absent)] = True
        saps = np.concatenate([saps, single])
    return saps


def collate_rows(items: Sequence[tuple[SceneGraph, Bool[np.ndarray, "S C"]]]) -> Rows:
    """Videos with their specifications → one batch."""
    saps = [sap for _, sap in items]
    row_video = np.repeat(np.arange(len(items)), [len(sap) for sap in saps])
    return Rows(collate([g for g, _ in items]), torch.from_numpy(np.concatenate(saps)), tuple(row_video.tolist()))


def leave_signals(worker: int) -> None:
    """In a worker of the loader: leave Ctrl-C and SIGTERM, which may reach all processes, to the training process.

    It goes on to its next checkpoint, for which it needs its workers, and ends them itself: its SIGTERM is obeyed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return

    def obey() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=obey, daemon=True).start()


def epoch_loader(
    graphs: Sequence[SceneGraph], recipe: Recipe, epoch: int, start: int = 0, workers: int = 0,
    questions: Questions = None, pin: bool = False,
) -> tuple[DataLoader, int]:  # fmt: skip
    """Batches of one epoch from batch ``start`` on, and the number of batches in the whole epoch.

    Batches are as nearly as possible of ``batch_videos`` and of equal size. With ``accumulate`` a batch comes as so
    many parts, as nearly as possible of equal size too. Each of several processes gets its share of every part, and
    the shares together are the part that one process would get.

    Args:
        questions: see :class:`EpochRows`.
        pin: give batches in pinned memory, from a thread of its own; for a GPU.

    Returns:
        The parts (``accumulate`` of them for each step of the optimiser), and the number of steps in the epoch.

    Raises:
        RecipeError: a batch has fewer videos than one for each process in each part.
    """
    dataset = EpochRows(graphs, recipe, epoch, questions)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(dataset))
    batches = np.array_split(order, max(1, round(len(order) / recipe.batch_videos)))
    N, parts = processes(), recipe.accumulate
    if len(batches[-1]) < N * parts:
        found = f"{len(batches[-1])} videos in a batch"
        raise RecipeError(f"batch_videos: found {found}, expected one for each of {N} processes x {parts} parts")
    mine = [np.array_split(part, N)[rank()].tolist() for batch in batches for part in np.array_split(batch, parts)]
    own = torch.Generator()  # a loader draws a seed when it starts; the global stream must not depend on restarts
    loader = DataLoader(dataset, batch_sampler=mine[start * parts :], collate_fn=collate_rows, num_workers=workers,
                        generator=own, worker_init_fn=leave_signals, pin_memory=pin)  # fmt: skip
    return loader, len(batches)


def trainable(graphs: Sequence[SceneGraph], recipe: Recipe) -> Sequence[SceneGraph]:
    """The videos to train on: ``long_videos="drop"`` leaves those with L > K out.

    Raises:
        RecipeError: no video is left.
    """
    if recipe.long_videos == "cap":
        return graphs
    length = specification_length(len(graphs[0].vocabulary.actions), recipe.spec_length)
    kept = [g for g in graphs if len(g.labels) <= length]
    if not kept:
        raise RecipeError(f"Recipe.long_videos: found 'drop' and no video with at most {length} labels, expected 'cap'")
    return kept


def share_size(count: int, share: float) -> int:
    """How many of ``count`` videos a share is: at least one."""
    return max(1, round(share * count))


def first_share(graphs: Sequence[SceneGraph], share: float, seed: int) -> list[SceneGraph]:
    """A random share of the videos, at least one, in their order; a smaller share is inside a larger one."""
    chosen = np.random.default_rng([seed, 78]).permutation(len(graphs))[: share_size(len(graphs), share)]
    return [graphs[i] for i in sorted(chosen)]


def evaluation_videos(graphs: Sequence[SceneGraph], recipe: Recipe) -> list[SceneGraph]:
    """What an evaluation sees of the videos: all of each, or its central window."""
    return [graph.window(recipe.frames) for graph in graphs] if recipe.window else list(graphs)


def split_validation(graphs: Sequence[SceneGraph], seed: int) -> tuple[list[SceneGraph], list[SceneGraph]]:
    """Split by video into training and validation graphs. The clips VIDEO#0, VIDEO#1, ... of a video stay together.

    Raises:
        RecipeError: there is one video only.
    """
    videos = list(dict.fromkeys(graph.video.partition("#")[0] for graph in graphs))
    if len(videos) < 2:
        found = f"'validation' and {len(videos)} video to train on"
        raise RecipeError(f"Recipe.select: found {found}, expected at least 2 videos, or 'test'")
    chosen = np.random.default_rng([seed, 77]).permutation(len(videos))[: share_size(len(videos), VALIDATION)]
    held = {videos[i] for i in chosen}
    kept, left = [], []
    for graph in graphs:
        (left if graph.video.partition("#")[0] in held else kept).append(graph)
    return kept, left
