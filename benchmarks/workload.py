"""What is timed: batches in the shape of Action Genome, and the training step and scan of any of the models."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.dense import DenseBatch
from benchmarks.reference_model import ReferenceProDA, losses
from proda_lib.batch import collate
from proda_lib.evaluation.scan import scan, two_step
from proda_lib.graph import SceneGraph
from proda_lib.models.config import ModelConfig
from proda_lib.models.proda import ProDA
from proda_lib.specification import one_hot, sample_specifications
from proda_lib.training.data import Rows
from proda_lib.training.loop import make_optimizer
from proda_lib.training.recipe import Recipe
from proda_lib.training.stages import pretrain_losses
from proda_lib.vocabulary import ACTION_GENOME_OBJECTS, ACTION_GENOME_RELATIONS, Vocabulary

VIDEOS, SPECIFICATIONS, FRAMES, SLOTS, ACTIONS, LABELS = 4, 4, 16, 10, 157, 7
#: Questions of a scan in two steps.
BEST = 16
VOCABULARY = Vocabulary("benchmark", ACTION_GENOME_OBJECTS, ACTION_GENOME_RELATIONS,
                        tuple(f"action {i}" for i in range(ACTIONS)))  # fmt: skip
#: Frames in which each object of a sparse video is present: 32 in all, so two objects a frame on average.
STRETCHES = (4, 6, 10, 12)


def config_of(width: int, visual: int = 0) -> ModelConfig:
    """The default model (3 layers of depth 2, T = 10) at width 768 (12 heads), or with 8 heads for a laptop."""
    return ModelConfig(ACTIONS, len(VOCABULARY.objects), len(VOCABULARY.relations), visual, FRAMES, SLOTS, width,
                       heads=12 if width == 768 else 8)  # fmt: skip


def make_video(
    seed: int, density: str | int, visual: int = 0, frames: int = FRAMES, slots: int = SLOTS, labels: int = LABELS
) -> SceneGraph:  # fmt: skip
    """A random video: ``slots`` slots, ``labels`` different labels, and the star of person ↔ object edges, both ways.

    "sparse" is Action Genome's sparsity: the person in every frame, four different objects in a video and two of them
    in a frame on average; five of ten slots stay empty. "dense": the person and an object in every other slot, in every
    frame. A number: the person and so many objects in every frame.
    """
    if density not in ("sparse", "dense") and density not in range(1, slots):
        raise ValueError(f"density: found {density!r}, expected 'sparse', 'dense' or 1 to {slots - 1}")
    rng = np.random.default_rng([seed, density == "dense"])
    present = np.ones((frames, slots), dtype=bool)
    if density == "sparse":
        present[:, 1:] = False
        for slot, length in enumerate(rng.permutation(STRETCHES), 1):
            present[rng.choice(frames, round(length * frames / FRAMES), replace=False), slot] = True
    elif density != "dense":
        present[:, 1 + density :] = False
    corners = np.sort(rng.random((frames, slots, 2, 2)), axis=2) * 0.9 + [[0.0], [0.05]]
    objects, person = np.arange(1, slots), np.zeros(slots - 1, dtype=int)
    edges = np.stack([np.concatenate([objects, person]), np.concatenate([person, objects])])
    relations = rng.random((frames, slots - 1, len(VOCABULARY.relations))) < 0.12
    relations = (
        np.concatenate([relations, relations], axis=1) & (present[:, edges[0]] & present[:, edges[1]])[..., None]
    )
    segments = np.sort(rng.random((labels, 2)), axis=1) * 28 + [0.0, 1.0]
    return SceneGraph(
        video=f"{density}-{seed}",
        vocabulary=VOCABULARY,
        classes=np.concatenate([[0], 1 + rng.permutation(len(VOCABULARY.objects) - 1)[: slots - 1]]),
        boxes=corners.reshape(frames, slots, 4) * present[..., None],
        present=present,
        edges=edges,
        relations=relations,
        times=np.linspace(0, 30, frames),
        duration=30.0,
        segment_labels=rng.choice(ACTIONS, labels, replace=False),
        segments=segments,
        features=rng.normal(size=(frames, slots, visual)).astype(np.float32) if visual else None,
        frame_features=rng.normal(size=(frames, visual)).astype(np.float32) if visual else None,
    )


def trim(graph: SceneGraph) -> SceneGraph:
    """The video without the slots and edges that no frame has."""
    kept, edges = np.flatnonzero(graph.present.any(0)), graph.edge_present.any(0)
    return dataclasses.replace(
        graph, classes=graph.classes[kept], boxes=graph.boxes[:, kept], present=graph.present[:, kept],
        edges=np.searchsorted(kept, graph.edges[:, edges]), relations=graph.relations[:, edges],
        features=None if graph.features is None else graph.features[:, kept],
        carriers=None if graph.carriers is None else graph.carriers[:, edges],
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Workload:
    """One batch, for the library (``rows``) and for the yardsticks (``dense``), and the videos it is made of.

    ``dense`` has the slots and edges that a data set allows, as the paper's M has it; :meth:`trimmed` has fewer.
    """

    graphs: list[SceneGraph]
    rows: Rows
    dense: DenseBatch

    @classmethod
    def make(
        cls, density: str | int, device: str = "cpu", videos: int = VIDEOS, specifications: int = SPECIFICATIONS,
        visual: int = 0, frames: int = FRAMES, slots: int = SLOTS, labels: int = LABELS,
    ) -> Workload:  # fmt: skip
        """``videos`` videos with ``specifications`` specifications each, as one training step sees them."""
        graphs = [make_video(seed, density, visual, frames, slots, labels) for seed in range(videos)]
        saps = []
        for seed, graph in enumerate(graphs):
            rng = np.random.default_rng(seed)
            drawn, _ = sample_specifications(graph.labels, ACTIONS, 16, rng)
            saps.append(drawn[rng.permutation(len(drawn))[:specifications]])
        row_video = tuple(np.repeat(np.arange(videos), specifications).tolist())
        rows = Rows(collate(graphs), torch.from_numpy(np.concatenate(saps)), row_video)
        return cls(graphs, rows.to(device), DenseBatch.of(graphs, slots).to(device))

    def trimmed(self) -> Workload:
        """The same batch, its dense side padded to the slots and edges that its largest video really has."""
        graphs = [trim(graph) for graph in self.graphs]
        dense = DenseBatch.of(graphs, max(graph.num_slots for graph in graphs))
        return dataclasses.replace(self, dense=dense.to(self.rows.sap.device))


class TrainStep:
    """One training step of stage 1 as the library's loop does it: forward, losses, backward, clip, fused AdamW.

    ``optimizer``: that of another step, when the two models share their parameters.
    """

    def __init__(self, model: ProDA | ReferenceProDA, optimizer: torch.optim.Optimizer | None = None):
        self.model, self.recipe = model.train(), Recipe()
        model.readout_m.requires_grad_(False)  # stage 1 trains everything but the a_m head
        trained = [module for name, module in model.named_children() if name != "readout_m"]
        self.optimizer = optimizer or make_optimizer(trained, self.recipe.pretrain_lr, self.recipe.weight_decay)

    def clear(self) -> None:
        """Let go of the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def losses(self, work: Workload) -> dict[str, Tensor]:
        """The terms of eq. (8)."""
        rows, recipe = work.rows, self.recipe
        if isinstance(self.model, ProDA):
            return pretrain_losses(self.model, rows, 0.0, recipe=recipe, inner=self.model)
        output = self.model(work.dense, rows.sap, rows.row_video)
        return losses(output, work.dense, rows.sap, rows.row_video, recipe.margin_dis, recipe.margin_rec)

    def __call__(self, work: Workload, bf16: bool = False) -> None:
        self.clear()
        device = work.rows.sap.device.type
        with torch.autocast(device, torch.bfloat16) if bf16 else contextlib.nullcontext():
            terms = self.losses(work)
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()


def compile_parts(model: ProDA, backend: str = "inductor") -> None:
    """``torch.compile`` on every part of ProDA that calls more than a layer or two, for batches of any size, in place.

    Rows are laid out on the host from the batch's own counts, so the whole model as one graph would be compiled again
    for every batch.
    """
    prompts, branches = model.prompts, model.branch_ffn.values()
    readouts = (model.readout_s, model.readout_u, model.readout_t)
    for part in (model.encoder, *prompts, *branches, *model.vgpnn.layers, model.fusion, *readouts):
        part.compile(dynamic=True, fullgraph=True, backend=backend)


def scan_library(model: ProDA, work: Workload, actions: Sequence[int]) -> Tensor:
    """The library's scan: the encoder once, then the questions in chunks."""
    return scan(model, work.rows.batch, actions)[0]


def scan_bf16(model: ProDA, work: Workload, actions: Sequence[int]) -> Tensor:
    """The library's scan with bf16 matrix products."""
    with torch.autocast(work.rows.sap.device.type, torch.bfloat16):
        return scan_library(model, work, actions)


def scan_two_step(model: ProDA, work: Workload, actions: Sequence[int]) -> Tensor:
    """The library's scan in two steps: of all actions, only the :data:`BEST` best of a_m are asked for."""
    return two_step(model, work.rows.batch, BEST)[1][0, list(actions)]


@torch.no_grad()
def scan_reference(model: ReferenceProDA, work: Workload, actions: Sequence[int]) -> Tensor:
    """One forward of encoder and SAP branch per question."""
    sap = torch.from_numpy(one_hot(actions, model.config.actions)).to(work.rows.sap.device)
    return torch.cat([model.ask(work.dense, question, [0]).logits for question in sap.split(1)])


@torch.no_grad()
def scan_fair(model: ReferenceProDA, work: Workload, actions: Sequence[int], chunk: int = 16) -> Tensor:
    """Dense, but the encoder runs once and the questions go in chunks, as in the library."""
    sap = torch.from_numpy(one_hot(actions, model.config.actions)).to(work.rows.sap.device)
    encoded, answers = model.encoder(work.dense), []
    for part in sap.split(chunk):
        rows = torch.zeros(len(part), dtype=torch.long, device=sap.device)
        taken = work.dense.take(rows)
        nodes = model.parse(*model.spread(rows, *encoded), taken, {"s": part})[0]
        answers.append(model.readout_s(nodes, taken).logits)
    return torch.cat(answers)
