"""The losses of section 3.4, eq. (5)–(8).

When several processes hold a part of the batch each, every loss here is this process's share: the shares add up to the
loss of the whole batch, and so do their gradients.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from proda_lib.batch import GraphRows
from proda_lib.distributed import all_count, all_sum, processes
from proda_lib.errors import GraphError


def _mean(samples: Float[Tensor, "G"]) -> Float[Tensor, ""]:
    """This process's share of the mean over the samples of all processes."""
    return samples.sum() / all_count(len(samples), samples)


def correlation(
    unspecified: Float[Tensor, "Pr D"], specified: Float[Tensor, "Pr D"], rows: GraphRows
) -> Float[Tensor, "G"]:
    """Pearson correlation ρ of the flattened F_u and F_s of each sample, over the nodes that exist."""
    count = (rows.node_count.sum(1) * specified.shape[1]).clamp(min=1)

    def total(x: Tensor) -> Tensor:
        return rows.sum_graphs(x.sum(-1))

    def centre(x: Tensor) -> Tensor:
        return x - (total(x) / count).index_select(0, rows.graph)[:, None]

    u, s = centre(unspecified), centre(specified)
    norms = (total(u.square()) * total(s.square())).clamp(min=1e-12).sqrt()
    return total(u * s) / norms


def disentanglement_loss(
    unspecified: Float[Tensor, "Pr D"], specified: Float[Tensor, "Pr D"], rows: GraphRows, margin: float
) -> Float[Tensor, ""]:
    """Eq. (5): mean over samples of ReLU(|:func:`correlation`| − m1).

    Only nodes that exist enter. The paper's φ and ψ are the identity.
    """
    return _mean(torch.relu(correlation(unspecified, specified, rows).abs() - margin))


def disentanglement_loss_released(
    unspecified: Float[Tensor, "Pr D"], specified: Float[Tensor, "Pr D"], rows: GraphRows, margin: float, slots: int
) -> Float[Tensor, ""]:
    """``batch_loss`` (released): ReLU(|mean over the batch of x1·x2| / (σ1 σ2) − m1): one number for the batch.

    x1 and x2 are F_u and F_s as they are (not centred), σ their standard deviations over all elements of the batch;
    absent slots are zeros and count.

    Raises:
        GraphError: a video has more than ``slots`` nodes.
    """
    if rows.max_nodes > slots:
        raise GraphError("batch", "slots", rows.max_nodes, f"at most {slots} slots, as in the model")
    elements = all_count(len(rows) * slots * rows.frames * specified.shape[1], specified)

    def mean(x: Tensor) -> Tensor:
        return all_sum(x.sum()) / elements

    def deviation(x: Tensor) -> Tensor:
        return (mean(x.square()) - mean(x).square()).clamp(min=1e-12).sqrt()

    correlation = mean(unspecified * specified) / (deviation(unspecified) * deviation(specified))
    return torch.relu(correlation.abs() - margin) / processes()


def reconstruction_error(
    original: Float[Tensor, "Pr D"], rebuilt: Float[Tensor, "Pr D"], rows: GraphRows
) -> tuple[Float[Tensor, "G"], Float[Tensor, "G"]]:
    """Per sample: the sum over its nodes of the mean square of F_o − F_r over channels, and the number of its nodes."""
    errors = rows.sum_graphs((original - rebuilt).square().mean(-1))
    return errors, rows.node_count.sum(1).clamp(min=1)


def reconstruction_loss(
    original: Float[Tensor, "Pr D"], rebuilt: Float[Tensor, "Pr D"], rows: GraphRows, margin: float,
    per_sample: bool = True, detach_target: bool = False,
) -> Float[Tensor, ""]:  # fmt: skip
    """Eq. (7): mean over samples of ReLU(‖F_o − F_r‖² − m2), where ‖·‖² is the *mean* square over a sample's elements.

    Only nodes that exist enter. ``per_sample=False`` (``batch_loss``, released): ReLU(batch mean − m2). The paper does
    not say whether F_o may move towards F_r. Here it may; ``detach_target`` is the other reading.
    """
    if detach_target:
        original = original.detach()
    errors, nodes = reconstruction_error(original, rebuilt, rows)
    if per_sample:
        return _mean(torch.relu(errors / nodes - margin))
    return torch.relu(all_sum(errors.sum()) / all_sum(nodes.sum()) - margin) / processes()


def classification_loss(logits: Float[Tensor, "G classes"], target: Float[Tensor, "G classes"]) -> Float[Tensor, ""]:
    """Binary cross-entropy, mean over samples and classes."""
    target = target.to(logits.dtype)
    return _mean(torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(-1))


def graph_supervision_loss(
    class_logits: Float[Tensor, "P objects"], classes: Int[Tensor, "P"], relation_logits: Float[Tensor, "Q R"],
    relations: Float[Tensor, "Q R"],
) -> Float[Tensor, ""]:  # fmt: skip
    """``graph_supervision`` (released): cross-entropy on object classes plus binary cross-entropy on relations.

    Means over the nodes and edges that exist; where there are none, the term is 0.
    """
    per_node = torch.nn.functional.cross_entropy(class_logits, classes, reduction="sum")
    target = relations.to(relation_logits.dtype)
    per_edge = torch.nn.functional.binary_cross_entropy_with_logits(relation_logits, target, reduction="sum")
    nodes, relations = all_count(len(classes), per_node), all_count(relations.numel(), per_edge)
    return per_node / nodes + per_edge / relations
