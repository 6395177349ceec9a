"""Random valid scene graphs of odd sizes, and small tools to look at packed tensors densely."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from proda_lib.batch import GraphRows, SceneGraphBatch, collate
from proda_lib.graph import SceneGraph
from proda_lib.vocabulary import Vocabulary

torch.set_num_threads(1)  # for tensors as small as these, threads on a busy machine mostly wait for each other

VOCABULARY = Vocabulary(
    name="test",
    objects=("person", "cup", "book", "door", "dish"),
    relations=("holding", "touching", "above"),
    actions=("take", "put", "open", "close", "read", "drink", "sit"),
    scenes=("kitchen", "hall"),
)
C, R = len(VOCABULARY.actions), len(VOCABULARY.relations)


def make_graph(
    seed: int = 0, frames: int = 5, slots: int = 4, edges: int = 5, segments: int = 2, visual: int = 0,
    absent: tuple[int, ...] = (),
) -> SceneGraph:  # fmt: skip
    """A random graph. Slots go missing in some frames, and the slots in ``absent`` are never there.

    Edges are any ordered pairs of slots, object-object ones and one-way ones among them.
    """
    rng = np.random.default_rng([seed, frames, slots, edges])
    present = rng.random((frames, slots)) < 0.75
    present[:, list(absent)] = False
    corners = np.sort(rng.random((frames, slots, 2, 2)), axis=2) * 0.9 + [[0.0], [0.05]]
    boxes = corners.reshape(frames, slots, 4) * present[..., None]
    pairs = np.array([(a, b) for a in range(slots) for b in range(slots) if a != b]).reshape(-1, 2)
    edge_list = rng.permutation(pairs)[:edges].T
    edge_present = present[:, edge_list[0]] & present[:, edge_list[1]]
    relations = (rng.random((frames, edge_list.shape[1], R)) < 0.4) & edge_present[..., None]
    return SceneGraph(
        video=f"video-{seed}",
        vocabulary=VOCABULARY,
        classes=rng.integers(len(VOCABULARY.objects), size=slots),
        boxes=boxes,
        present=present,
        edges=edge_list,
        relations=relations,
        times=np.sort(rng.random(frames)) * 10,
        duration=10.0,
        segment_labels=rng.integers(C, size=segments),
        segments=np.sort(rng.random((segments, 2)), axis=1) * 9 + [0.0, 0.5],
        scene=int(rng.integers(2)),
        features=rng.normal(size=(frames, slots, visual)).astype(np.float32) if visual else None,
        frame_features=rng.normal(size=(frames, visual)).astype(np.float32) if visual else None,
        carriers=(rng.random((frames, edge_list.shape[1], segments)) < 0.3) & edge_present[..., None],
    )


def make_graphs(visual: int = 0) -> list[SceneGraph]:
    """Three videos that differ in every size."""
    return [
        make_graph(1, frames=5, slots=4, edges=5, visual=visual),
        make_graph(2, frames=3, slots=2, edges=2, segments=1, visual=visual),
        make_graph(3, frames=4, slots=5, edges=9, segments=4, visual=visual, absent=(2,)),
    ]


def make_full(frames: int, slots: int, edges=((), ())) -> SceneGraph:
    """A graph in which every slot is there in every frame, without relations."""
    edges = np.array(edges, dtype=int)
    return dataclasses.replace(
        make_graph(frames=frames, slots=slots), present=np.ones((frames, slots), dtype=bool), edges=edges,
        boxes=np.tile([0.1, 0.1, 0.9, 0.9], (frames, slots, 1)),
        relations=np.zeros((frames, edges.shape[1], R), dtype=bool), carriers=None,
    )  # fmt: skip


def without_nodes(graph: SceneGraph, frame: int) -> SceneGraph:
    """The same video with nobody there in one frame, if it has that frame."""
    kept = (np.arange(graph.num_frames) != frame)[:, None]
    return dataclasses.replace(graph, present=graph.present & kept, boxes=graph.boxes * kept[..., None],
                               relations=graph.relations & kept[..., None],
                               carriers=graph.carriers & kept[..., None])  # fmt: skip


def add_empty_slots(graph: SceneGraph, extra: int) -> SceneGraph:
    """The same video with more slots that are never there, and edges from and to them."""
    M = graph.num_slots

    def pad(array: np.ndarray, axis: int, value: float = 0) -> np.ndarray:
        return np.pad(array, [(0, extra if a == axis else 0) for a in range(array.ndim)], constant_values=value)

    new = np.arange(M, M + extra)
    edges = np.concatenate([graph.edges, [new, new * 0], [new * 0, new]], axis=1)
    edge_pad = [(0, 0), (0, 2 * extra), (0, 0)]
    return dataclasses.replace(
        graph, classes=pad(graph.classes, 0), boxes=pad(graph.boxes, 1), present=pad(graph.present, 1), edges=edges,
        relations=np.pad(graph.relations, edge_pad), carriers=np.pad(graph.carriers, edge_pad),
        features=None if graph.features is None else pad(graph.features, 1, 3.0),
    )  # fmt: skip


def double(batch: SceneGraphBatch) -> SceneGraphBatch:
    """The batch with every floating tensor in double precision."""
    floats = {f.name: v.double() for f in dataclasses.fields(batch)
              if isinstance(v := getattr(batch, f.name), Tensor) and v.is_floating_point()}  # fmt: skip
    return dataclasses.replace(batch, **floats)


def random_rows(row_video=(0, 1, 2, 1)) -> tuple[list[SceneGraph], SceneGraphBatch, GraphRows]:
    """The three videos, their batch, and rows that copy some videos more than once."""
    graphs = make_graphs()
    batch = double(collate(graphs))
    return graphs, batch, batch.rows(row_video)


def randomize(module: nn.Module, seed: int = 0, scale: float = 0.4) -> nn.Module:
    """Double precision, evaluation mode, and random values in every parameter and buffer that has a neutral start."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale)
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    return module


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unpack(values: Tensor, rows: GraphRows, slots: int) -> list[np.ndarray]:
    """Values of node tokens (P', ...) → one dense array (N, slots, ...) per graph, zeros where there is no token."""
    dense = [np.zeros((rows.frames, slots, *values.shape[1:])) for _ in range(len(rows))]
    places = zip(rows.graph.tolist(), rows.frame.tolist(), rows.slot.tolist(), strict=True)
    for value, (graph, frame, slot) in zip(values.detach().numpy(), places, strict=True):
        dense[graph][frame, slot] = value
    return dense


def unpack_edges(values: Tensor, rows: GraphRows, edges: int) -> list[np.ndarray]:
    """The same for edge tokens: (Q', ...) → one array (N, edges, ...) per graph."""
    dense = [np.zeros((rows.frames, edges, *values.shape[1:])) for _ in range(len(rows))]
    places = zip(rows.edge_graph.tolist(), rows.edge_frame.tolist(), rows.edge_slot.tolist(), strict=True)
    for value, (graph, frame, edge) in zip(values.detach().numpy(), places, strict=True):
        dense[graph][frame, edge] = value
    return dense


def dense_masks(rows: GraphRows, slots: int) -> list[np.ndarray]:
    """Which (frame, slot) of each graph exists: (N, slots) bool."""
    return [mask.astype(bool) for mask in unpack(torch.ones(len(rows.node)), rows, slots)]


def check_gradients(module: nn.Module, function, *inputs: Tensor) -> bool:
    """``torch.autograd.gradcheck`` of ``function(*inputs)`` in the inputs and in every parameter of the module."""
    names, parameters = zip(*module.named_parameters(), strict=True)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, *inputs):
            return function(*inputs)

    wrapped = Wrapped()

    def call(*arguments: Tensor):
        given = {f"module.{n}": p for n, p in zip(names, arguments[len(inputs) :], strict=True)}
        return torch.func.functional_call(wrapped, given, arguments[: len(inputs)])

    arguments = [a.detach().clone().requires_grad_() for a in (*inputs, *parameters)]
    return torch.autograd.gradcheck(call, arguments, fast_mode=True)
