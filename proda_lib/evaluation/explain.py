"""What happens inside a trained ProDA, for figures 9 to 11 and the pages on its blocks.

The model is only listened to (forward hooks); nothing here changes what it computes. Arrays are NumPy, over the slots
and edges of the graph that was asked about; NaN stands where a slot or an edge is absent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from proda_lib.batch import GraphRows, SceneGraphBatch, collate_for
from proda_lib.datasets.transforms import keep_nodes
from proda_lib.errors import DataError
from proda_lib.evaluation.scan import rows_of_both
from proda_lib.graph import SceneGraph
from proda_lib.models.proda import ProDA
from proda_lib.nn.norm import VGNorm, make_norm
from proda_lib.nn.video_encoder import EncodedVideos
from proda_lib.specification import one_hot

#: At most so many specifications are asked at a time.
ROWS_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model did with one video (N frames, M slots, E edges) and one specification.

    Attributes:
        sap: (C,) the actions asked for.
        alpha: (places, M, N, T) α of eq. (1): before the VGPNN, then before each of its layers. No places with
            SimplePrompt, which has no α.
        w: (layers, E, N) edge weights of eq. (10).
        node_score: (M, N), s: (N,) the readout's weights for a_s. ``delta``: (M, N) share of F_u in F_t, eq. (6).
        a_s: (C + 1,), a_t: (C,) probabilities. ``a_m``: (C,) those without any specification.
    """

    sap: Bool[np.ndarray, "C"]
    alpha: Float[np.ndarray, "P M N T"]
    w: Float[np.ndarray, "layers E N"]
    node_score: Float[np.ndarray, "M N"]
    s: Float[np.ndarray, "N"]
    delta: Float[np.ndarray, "M N"]
    a_s: Float[np.ndarray, "C1"]
    a_t: Float[np.ndarray, "C"]
    a_m: Float[np.ndarray, "C"]


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
    """Ask S specifications about one graph (of at most as many frames as the model takes), encoded once."""
    batch = collate_for(model, [graph], device)
    encoded, step = model.encode(batch), rows_of_both(model.config, batch, ROWS_AT_ONCE)
    parts = [saps[start : start + step] for start in range(0, len(saps), step)]
    return [answer for part in parts for answer in _look(model, graph, batch, encoded, part)]


def _look(
    model: ProDA, graph: SceneGraph, batch: SceneGraphBatch, encoded: EncodedVideos, saps: Bool[np.ndarray, "S C"]
) -> list[Answer]:
    device = batch.labels.device
    S, M, N, E = len(saps), graph.num_slots, graph.num_frames, graph.num_edges
    alphas: list[Tensor] = []
    scores: list[Tensor] = []

    def note_alpha(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if hasattr(module, "weights"):
            alphas.append(module.weights(*inputs))

    def note_score(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        scores.append(torch.sigmoid(output)[:, 0])

    with listening(model.prompts[0], note_alpha), listening(model.readout_s.node_score, note_score):
        out = model(batch, torch.as_tensor(saps, dtype=torch.bool, device=device), [0] * S, encoded)
    rows = out.rows
    node_place = tuple(_numpy(x) for x in (rows.graph, rows.slot, rows.frame))
    edge_place = tuple(_numpy(x) for x in (rows.edge_graph, rows.edge_slot, rows.edge_frame))

    def dense(tokens: Tensor, place: tuple, shape: tuple) -> np.ndarray:
        """(tokens, ...) → ``shape`` + (...), NaN where there is no token."""
        laid = np.full((*shape, *tokens.shape[1:]), np.nan, dtype=np.float32)
        laid[place] = _numpy(tokens)
        return laid

    # The UAP's rows come after those of the SAPs.
    places = (
        torch.stack([a[: len(rows.node)] for a in alphas], 1) if alphas else out.delta.new_zeros(len(rows.node), 0, 0)
    )
    alpha = dense(places, node_place, (S, M, N)).transpose(0, 3, 1, 2, 4)
    w = dense(out.w.T, edge_place, (S, E, N)).transpose(0, 3, 1, 2)
    node_score, delta = (dense(x, node_place, (S, M, N)) for x in (scores[0], out.delta))
    a_s, a_t, a_m = (_numpy(torch.sigmoid(head.logits)) for head in (out.a_s, out.a_t, out.a_m))
    a_m = np.broadcast_to(a_m, a_t.shape)
    answers = zip(np.asarray(saps), alpha, w, node_score, _numpy(out.a_s.s), delta, a_s, a_t, a_m, strict=True)
    return [Answer(*answer) for answer in answers]


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
        DataError: no graph has ``carriers`` (only SSG-World knows them).
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
        raise DataError("carrier_weights", "graphs", "none with carriers", "graphs of SSG-World, which have carriers")
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
    batch = collate_for(model, [graph], device)
    blocks, seen = model.encoder.dual_ai.attention[:2], []
    with contextlib.ExitStack() as stack:
        for block in blocks:
            stack.enter_context(listening(block.qkv, lambda module, inputs, output: seen.append(output)))
        model.encode(batch)
    N, X = graph.num_frames, graph.num_slots + 1
    slot = np.concatenate([_numpy(batch.node_slot), np.full(N, X - 1)])
    frame = np.concatenate([_numpy(batch.node_frame), np.arange(N)])
    here = np.zeros((N, X), dtype=bool)
    here[frame, slot] = True
    found = []
    for block, qkv, over in zip(blocks, seen, ("nodes", "frames"), strict=True):
        laid = np.zeros((N, X, qkv.shape[1]), dtype=np.float32)
        laid[frame, slot] = _numpy(qkv)
        laid, there = (laid, here) if over == "nodes" else (laid.swapaxes(0, 1), here.T)
        q, k, _ = torch.from_numpy(laid).unflatten(-1, (3, block.heads, -1)).unbind(2)
        logits = torch.einsum("gahd,gbhd->ghab", q, k) / q.shape[-1] ** 0.5
        weights = logits.masked_fill(~torch.from_numpy(there)[:, None, None], -torch.inf).softmax(-1).mean(1)
        found.append(np.where(there[..., None], _numpy(weights), np.nan))
    return found[0], found[1]


@torch.no_grad()
def influence(model: ProDA, graph: SceneGraph, device="cpu") -> Float[np.ndarray, "M M"]:
    """How much F_o of each slot (column) changes when a slot (row) is hidden: mean over frames of ‖ΔF_o‖ / ‖F_o‖.

    NaN on the diagonal, and where a slot is in no frame.
    """
    M = graph.num_slots
    batch = collate_for(model, [graph, *(without_slot(graph, slot) for slot in range(M))], device)
    nodes = model.encode(batch).nodes
    laid = nodes.new_full((M + 1, graph.num_frames, M, nodes.shape[1]), torch.nan)
    laid[batch.node_video, batch.node_frame, batch.node_slot] = nodes
    change = (laid[1:] - laid[0]).norm(dim=-1) / laid[0].norm(dim=-1).clamp(min=1e-6)
    return _numpy(change.nanmean(1))


def without_slot(graph: SceneGraph, slot: int) -> SceneGraph:
    """The same graph with one slot absent in every frame."""
    return keep_nodes(graph, graph.present & (np.arange(graph.num_slots) != slot))


@torch.no_grad()
def before_norm(model: ProDA, batch: SceneGraphBatch, sap: Bool[Tensor, "R C"]):
    """What reaches the norm of the last VGPNN layer: features (P', D) and rows, of the SAP branch, a row per video."""
    seen: list[tuple] = []
    with listening(model.vgpnn.layers[-1].norm, lambda module, inputs, output: seen.append(inputs)):
        rows = batch.rows(range(len(batch)))
        model.parse(model.encode(batch), rows, sap, ("s",))
    return seen[0]


@torch.no_grad()
def compare_norms(x: Float[Tensor, "Pr D"], rows: GraphRows, slots: int) -> dict[str, Tensor]:
    """The same features through fresh copies of VGNorm and its rivals (their parameters as at the start of training).

    VGNorm's running mean is the mean of ``x`` itself, which is where it would settle.
    """
    found = {"before": x}
    for title, name in (("VGNorm", "vgnorm"), ("LayerNorm", "layer"), ("BatchNorm", "batch"), ("GraphNorm", "graph")):
        norm = make_norm(name, rows.frames, x.shape[1], slots).to(x.device)
        if isinstance(norm, VGNorm):
            count = (rows.node_count.sum(0) * x.shape[1]).clamp(min=1)
            norm.running_mean.copy_(rows.sum_nodes(x.sum(-1)).sum(0) / count)
            norm.eval()
        found[title] = norm(x, rows)
    return found


@torch.no_grad()
def frame_statistics(x: Float[Tensor, "Pr D"], rows: GraphRows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the features that each video (row) has in each frame: (G, N) and (G, N)."""
    count = (rows.node_count * x.shape[1]).clamp(min=1)
    mean = rows.sum_nodes(x.sum(-1)) / count
    centred = x - mean.flatten().index_select(0, rows.cell)[:, None]
    spread = (rows.sum_nodes(centred.square().sum(-1)) / (count - 1).clamp(min=1)).sqrt()
    return _numpy(mean), _numpy(spread)


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
