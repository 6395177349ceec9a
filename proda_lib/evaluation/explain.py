"""What happens inside a trained ProDA, for figures 9 to 11 and the pages on its blocks.

The model is only listened to (forward hooks); nothing here changes what it computes. Arrays are NumPy, over the slots
and edges of the graph that was asked about; NaN stands where a slot or an edge is absent.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from proda_lib.batch import GraphRows, SceneGraphBatch, collate
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.nn.norm import VGNorm, make_norm
from proda_lib.specification import one_hot


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model did with one video (N frames, M slots, E edges) and one specification.

    Attributes:
        sap: (C,) the actions asked for.
        alpha: (places, M, N, T) α of eq. (1): before the VGPNN, then before each of its layers. No places with
            SimplePrompt, which has no α.
        w: (layers, E, N) edge weights of eq. (10).
        node_score: (M, N), s: (N,) the readout's weights for a_s. ``delta``: (M, N) share of F_u in F_t, eq. (6).
        a_s: (C + 1,), a_t: (C,) probabilities.
    """

    sap: Bool[np.ndarray, "C"]
    alpha: Float[np.ndarray, "P M N T"]
    w: Float[np.ndarray, "layers E N"]
    node_score: Float[np.ndarray, "M N"]
    s: Float[np.ndarray, "N"]
    delta: Float[np.ndarray, "M N"]
    a_s: Float[np.ndarray, "C1"]
    a_t: Float[np.ndarray, "C"]


@contextlib.contextmanager
def listening(module: nn.Module, note):
    """Within the block, call ``note(module, inputs, output)`` after each call of ``module``."""
    handle = module.register_forward_hook(lambda *call: note(*call))  # its value must be None: the output stays
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def look(model: ProDA, graph: SceneGraph, saps: Bool[np.ndarray, "S C"], device="cpu") -> list[Answer]:
    """Ask S specifications about one graph (of at most as many frames as the model takes)."""
    batch = collate([graph], keep_absent=True).to(device)
    S, M, N, E = len(saps), graph.num_slots, graph.num_frames, graph.num_edges
    alphas: list[Tensor] = []
    scores: list[Tensor] = []

    def note_alpha(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if hasattr(module, "weights"):
            alphas.append(module.weights(*inputs)[: S * M].unflatten(0, (S, M)))  # the UAP's rows come after

    def note_score(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        scores.append(torch.sigmoid(output)[..., 0].unflatten(0, (S, M)))

    with listening(model.prompts[0], note_alpha), listening(model.readout_s.node_score, note_score):
        out = model(batch, torch.as_tensor(saps, dtype=torch.bool, device=device), [0] * S)
    absent, no_edge = ~graph.present.T, ~graph.edge_present.T
    places = torch.stack(alphas, 1) if alphas else scores[0].new_zeros(S, 0, M, N, 0)
    alpha = np.where(absent[..., None], np.nan, _numpy(places))
    w = np.where(no_edge, np.nan, _numpy(out.w.unflatten(1, (S, E)).transpose(0, 1)))
    node_score, delta = (np.where(absent, np.nan, _numpy(x)) for x in (scores[0], out.delta.unflatten(0, (S, M))))
    a_s, a_t = _numpy(torch.sigmoid(out.a_s.logits)), _numpy(torch.sigmoid(out.a_t.logits))
    rows = zip(np.asarray(saps), alpha, w, node_score, _numpy(out.a_s.s), delta, a_s, a_t, strict=True)
    return [Answer(*row) for row in rows]


def alpha_change(one: Answer, other: Answer) -> Float[np.ndarray, "P"]:
    """Mean |Δα| at each place of the prompt, over nodes, frames and candidates."""
    return np.nanmean(np.abs(one.alpha - other.alpha), axis=(1, 2, 3))


def choose_video(graphs: Sequence[SceneGraph], labels: int = 3) -> SceneGraph:
    """A video to show: ``labels`` labels (or nearly so), on as many different edges as possible, few slots."""

    def key(graph: SceneGraph) -> tuple:
        spread = 0 if graph.carriers is None else len({graph.carriers[..., k].any(0).tobytes()
                                                       for k in range(len(graph.segments))})  # fmt: skip
        return abs(len(graph.labels) - labels), -spread, graph.num_slots

    return min(graphs, key=key)


def carrier_weights(
    model: ProDA, graphs: Sequence[SceneGraph], frames: int, device="cpu"
) -> list[dict[str, float | int]]:
    """Does the VGPNN keep the edges that carry the action asked for? One row for each layer.

    Each label of each video is asked for alone. Every (edge, frame) that exists is then one of three: it carries the
    action asked for, it carries another action of the video, or it carries none.

    Returns:
        Per layer: mean w of the three groups; ``auc``, the chance that a random edge that carries the action asked for
        has a larger w than a random one of the others; ``other_auc``, the same against edges with another action, 0.5
        if the prompt makes no difference.

    Raises:
        ValueError: no graph has ``carriers`` (only SSG-World knows them).
    """
    groups: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for graph in graphs:
        graph = graph.sample_frames(frames)
        if graph.carriers is None or not len(graph.labels):
            continue
        carried = graph.carriers.swapaxes(0, 1)  # (E, N, K)
        exists = graph.edge_present.T
        for label, answer in zip(graph.labels, _look_at_each(model, graph, device), strict=True):
            own = carried[..., graph.segment_labels == label].any(-1)
            group = np.where(own, 0, np.where(carried.any(-1), 1, 2))
            groups.append(group[exists])
            weights.append(answer.w[:, exists])
    if not groups:
        raise ValueError("carrier_weights: found no graph with carriers, expected graphs of SSG-World")
    group, w = np.concatenate(groups), np.concatenate(weights, axis=1)
    rows = []
    for layer, values in enumerate(w, 1):
        means = {f"w_{name}": float(values[group == i].mean()) if (group == i).any() else float("nan")
                 for i, name in enumerate(("asked", "other", "none"))}  # fmt: skip
        kept = group < 2
        rows.append({"layer": layer, **means, "auc": _auc(group == 0, values), "other_auc":
                     _auc(group[kept] == 0, values[kept]), "edges": len(group)})  # fmt: skip
    return rows


def _look_at_each(model: ProDA, graph: SceneGraph, device) -> list[Answer]:
    return look(model, graph, one_hot(graph.labels, len(graph.vocabulary.actions)), device)


def _auc(truth: np.ndarray, values: np.ndarray) -> float:
    return float(roc_auc_score(truth, values)) if truth.any() and not truth.all() else float("nan")


@torch.no_grad()
def attention(model: ProDA, graph: SceneGraph, device="cpu") -> tuple[np.ndarray, np.ndarray]:
    """Attention weights of the encoder's first spatial and first temporal block, averaged over heads.

    Returns:
        (N, X, X) who (row) listens to whom (column) in each frame, (X, N, N) the same between the frames of each track;
        X = the M slots and, last, the whole frame.
    """
    batch = collate([graph], keep_absent=True).to(device)
    blocks, seen = model.encoder.dual_ai.attention[:2], []
    with contextlib.ExitStack() as stack:
        for block in blocks:
            stack.enter_context(listening(block.qkv, lambda module, inputs, output: seen.append(output)))
        model.encode(batch)
    mask = torch.cat([batch.node_mask, batch.frame_mask])  # (X, N)
    found = []
    for block, qkv, over in zip(blocks, seen, ("nodes", "frames"), strict=True):
        q, k, _ = qkv.unflatten(-1, (3, block.heads, -1)).unbind(2)  # (X, N, heads, d)
        if over == "nodes":
            q, k, here = q.transpose(0, 1), k.transpose(0, 1), mask.T
        else:
            here = mask
        logits = torch.einsum("gahd,gbhd->ghab", q, k) / q.shape[-1] ** 0.5
        weights = logits.masked_fill(~here[:, None, None], -torch.inf).softmax(-1).mean(1)
        found.append(np.where(_numpy(here)[..., None], _numpy(weights), np.nan))
    return found[0], found[1]


@torch.no_grad()
def influence(model: ProDA, graph: SceneGraph, device="cpu") -> Float[np.ndarray, "M M"]:
    """How much F_o of each slot (column) changes when a slot (row) is hidden: mean over frames of ‖ΔF_o‖ / ‖F_o‖."""
    hidden = [without_slot(graph, slot) for slot in range(graph.num_slots)]
    M = graph.num_slots
    nodes = model.encode(collate([graph, *hidden], keep_absent=True).to(device)).nodes.unflatten(0, (M + 1, M))
    there = torch.from_numpy(graph.present.T).to(nodes.device)  # (M, N)
    change = (nodes[1:] - nodes[0]).norm(dim=-1) / nodes[0].norm(dim=-1).clamp(min=1e-6)
    mean = (change * there).sum(-1) / there.sum(-1).clamp(min=1)
    return np.where(np.eye(M, dtype=bool), np.nan, _numpy(mean))


def without_slot(graph: SceneGraph, slot: int) -> SceneGraph:
    """The same graph with one slot absent in every frame."""
    kept = np.arange(graph.num_slots) != slot
    edges = (graph.edges != slot).all(0)
    changes = {"present": graph.present & kept, "boxes": graph.boxes * kept[:, None],
               "relations": graph.relations & edges[:, None]}  # fmt: skip
    if graph.features is not None:
        changes["features"] = graph.features * kept[:, None].astype(graph.features.dtype)
    if graph.carriers is not None:
        changes["carriers"] = graph.carriers & edges[:, None]
    return dataclasses.replace(graph, **changes)


@torch.no_grad()
def before_norm(model: ProDA, batch: SceneGraphBatch, sap: Bool[Tensor, "R C"], layer: int = -1):
    """What reaches the norm of a VGPNN layer: features (V', N, D) and rows, of the SAP branch, one row per video."""
    seen: list[tuple] = []
    with listening(model.vgpnn.layers[layer].norm, lambda module, inputs, output: seen.append(inputs)):
        rows = batch.rows(range(len(batch)))
        model.parse(model.encode(batch), rows, sap, "s")
    return seen[0]


@torch.no_grad()
def compare_norms(
    x: Float[Tensor, "Vr N D"], rows: GraphRows, slots: int, mean: Float[Tensor, "N"] | None = None
) -> dict[str, Tensor]:
    """The same features through fresh copies of VGNorm and its rivals (their parameters as at the start of training).

    Args:
        mean: VGNorm's running mean; by default the mean of ``x`` itself, which is where it would settle.
    """
    found = {"before": x * rows.node_mask[..., None]}
    for title, name in (("VGNorm", "vgnorm"), ("LayerNorm", "layer"), ("BatchNorm", "batch"), ("GraphNorm", "graph")):
        norm = make_norm(name, x.shape[1], x.shape[2], slots).to(x.device)
        if isinstance(norm, VGNorm):
            count = (rows.node_mask.sum(0) * x.shape[-1]).clamp(min=1)
            own = (x.sum(-1) * rows.node_mask).sum(0) / count
            norm.running_mean.copy_(own if mean is None else mean[: x.shape[1]])
            norm.eval()
        found[title] = norm(x, rows)
    return found


@torch.no_grad()
def frame_statistics(x: Float[Tensor, "Vr N D"], rows: GraphRows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the features that each video (row) has in each frame: (G, N) and (G, N)."""
    mask = rows.node_mask[..., None]
    count = (rows.sum_nodes(rows.node_mask.float()) * x.shape[-1]).clamp(min=1)
    mean = rows.sum_nodes((x * mask).sum(-1)) / count
    centred = (x - mean.index_select(0, rows.graph)[..., None]) * mask
    spread = (rows.sum_nodes(centred.square().sum(-1)) / (count - 1).clamp(min=1)).sqrt()
    return _numpy(mean), _numpy(spread)


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
