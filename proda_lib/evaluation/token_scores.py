"""How much a model makes of each token of a scene graph: edge weights, node scores, gradients, attention.

Every score is one number for each node or edge that exists in a frame, in the order of the batch's tokens (slot by slot
or edge by edge, in it frame by frame). :mod:`proda_lib.evaluation.parsing` compares them with the truth.
"""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from proda_lib.batch import SceneGraphBatch, Sequences
from proda_lib.evaluation.explain import listening
from proda_lib.models.controls import EncoderOnly
from proda_lib.models.proda import ProDA
from proda_lib.nn.blocks import SelfAttentionBlock
from proda_lib.nn.video_encoder import EncodedVideos
from proda_lib.specification import one_hot

#: Scores of one question: kind ("edges", "nodes") → measure → a score for each token of that kind.
TokenScores = dict[str, dict[str, np.ndarray]]


def prompted_scores(
    model: ProDA, batch: SceneGraphBatch, encoded: EncodedVideos, actions: Int[np.ndarray, "R"],
    row_video: Int[np.ndarray, "R"],
) -> list[TokenScores]:  # fmt: skip
    """What ProDA does with R questions for one action each; one entry a question."""
    device = batch.labels.device
    sap = torch.from_numpy(one_hot(actions, model.config.actions)).to(device)
    rows, seen = batch.rows(row_video), []
    with torch.no_grad(), listening(model.readout_s.node_score, lambda module, inputs, output: seen.append(output)):
        parsed = model.parse(encoded, rows, sap, ("s",))
        s = model.readout_s(parsed.nodes, rows, batch.frame_mask).s
    node_score = torch.sigmoid(seen[0])[:, 0]
    of_nodes, of_edges = gradient_times_input(model, batch, encoded, sap, row_video, torch.from_numpy(actions))
    edges = {f"w_{layer}": w for layer, w in enumerate(parsed.w, 1)}
    nodes = {"node_score": node_score, "node_weight": node_score * s.flatten()[rows.cell]}
    for measures, found in ((edges, of_edges), (nodes, of_nodes)):
        measures |= {"gradient_sum": found.sum(-1), "gradient_norm": found.norm(dim=-1)}
    return _by_row(edges, np.asarray(batch.edge_counts)[row_video], nodes, np.asarray(batch.node_counts)[row_video])


def gradient_times_input(
    model: ProDA, batch: SceneGraphBatch, encoded: EncodedVideos, sap: Bool[Tensor, "R C"],
    row_video: Int[np.ndarray, "R"], actions: Int[Tensor, "R"],
) -> tuple[Float[Tensor, "Pr D"], Float[Tensor, "Qr D"]]:  # fmt: skip
    """x_d · ∂a_s/∂x_d for each node token and each edge token x of each question (Captum's ``InputXGradient``).

    a_s is the logit of the action asked for. Nodes are F_o and edges are the edge features that the encoder gives, both
    as inputs of their own, before the first prompt. Two ways to make one number of the D channels are in use: their sum
    (large: the token speaks for the action) and their Euclidean norm (large: the token matters, for or against).
    """
    from captum.attr import InputXGradient  # only this measure needs it

    rows = batch.rows(row_video)
    # Every question gets tokens of its own, so that the gradient of a logit is not summed over questions.
    own = dataclasses.replace(rows, node=torch.arange(len(rows.node), device=rows.node.device),
                              edge=torch.arange(len(rows.edge), device=rows.edge.device))  # fmt: skip
    inputs = tuple(x.detach().index_select(0, at).requires_grad_()
                   for x, at in ((encoded.nodes, rows.node), (encoded.edges, rows.edge)))  # fmt: skip

    def logits(nodes: Tensor, edges: Tensor) -> Tensor:
        parsed = model.parse(dataclasses.replace(encoded, nodes=nodes, edges=edges), own, sap, ("s",))
        answer = model.readout_s(parsed.nodes, rows, batch.frame_mask)
        return answer.logits.gather(1, actions.to(answer.logits.device)[:, None])[:, 0]

    of_nodes, of_edges = InputXGradient(logits).attribute(inputs)
    return of_nodes.detach(), of_edges.detach()


@torch.no_grad()
def unprompted_scores(model: EncoderOnly, batch: SceneGraphBatch) -> list[TokenScores]:
    """What the encoder-only model attends to; one entry a video."""
    rows, seen = batch.rows(range(len(batch))), []
    with listening(model.readout.node_score, lambda module, inputs, output: seen.append(output)):
        s = model(batch).s
    nodes = {"attention": attention_received(model, batch),
             "node_weight": torch.sigmoid(seen[0])[:, 0] * s.flatten()[rows.cell]}  # fmt: skip
    object_of_edge = batch.edges.amax(0)  # tokens stand slot by slot, so the later token has the higher slot
    edges = {name: values[object_of_edge] for name, values in nodes.items()}
    return _by_row(edges, batch.edge_counts, nodes, batch.node_counts)


@torch.no_grad()
def attention_received(model: EncoderOnly, batch: SceneGraphBatch) -> Float[Tensor, "P"]:
    """Attention that each node token receives in the encoder, spatial times temporal.

    With A the softmax weights of a block, averaged over heads, a token j receives Σ_i A_ij over all tokens i that may
    attend to it: 1 on average. The spatial factor is the mean of that over the blocks that look over the nodes of a
    frame (its whole-frame node included), the temporal one over the blocks that look over the frames of a track.
    """
    found: dict[bool, list[Tensor]] = {True: [], False: []}

    def note(block: SelfAttentionBlock, inputs: tuple, output: Tensor) -> None:
        x, sequences = inputs
        found[sequences is batch.over_nodes].append(received(block, x, sequences))

    with contextlib.ExitStack() as stack:
        for block in model.encoder.dual_ai.attention:
            stack.enter_context(listening(block, note))
        model.encoder(batch)
    spatial, temporal = (torch.stack(found[over_nodes]).mean(0) for over_nodes in (True, False))
    return (spatial * temporal)[: len(batch.classes)]  # whole frames come after the nodes


def received(block: SelfAttentionBlock, x: Float[Tensor, "P D"], sequences: Sequences) -> Float[Tensor, "P"]:
    """Σ over queries of the attention weights of a block, mean over heads, for each token."""
    q, k, _ = sequences.spread(block.qkv(block.norm1(x)).unflatten(-1, (3, block.heads, -1))).unbind(2)
    logits = torch.einsum("sahd,sbhd->shab", q, k) / q.shape[-1] ** 0.5
    weights = logits.masked_fill(~sequences.visible, -torch.inf).softmax(-1).mean(1)
    return sequences.collect((weights * sequences.mask[..., None]).sum(1))


def _by_row(edges: dict[str, Tensor], edge_counts, nodes: dict[str, Tensor], node_counts) -> list[TokenScores]:
    found: list[TokenScores] = [{"edges": {}, "nodes": {}} for _ in edge_counts]
    for kind, measures, counts in (("edges", edges, edge_counts), ("nodes", nodes, node_counts)):
        ends = np.cumsum(counts)[:-1]
        for name, values in measures.items():
            for entry, own in zip(found, np.split(values.float().cpu().numpy(), ends), strict=True):
                entry[kind][name] = own
    return found
