"""The losses of section 3.4, eq. (5)–(8)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from proda_lib.batch import GraphRows


def correlation(
    unspecified: Float[Tensor, "Vr N D"], specified: Float[Tensor, "Vr N D"], rows: GraphRows
) -> Float[Tensor, "G"]:
    """Pearson correlation ρ of the flattened F_u and F_s of each sample, over the nodes that exist."""
    mask = rows.node_mask[..., None].to(specified.dtype)

    def total(x: Tensor) -> Tensor:
        return rows.sum_nodes((x * mask).sum((1, 2)))

    count = total(torch.ones_like(specified)).clamp(min=1)

    def centre(x: Tensor) -> Tensor:
        return (x - (total(x) / count).index_select(0, rows.graph)[:, None, None]) * mask

    u, s = centre(unspecified), centre(specified)
    norms = (total(u.square()) * total(s.square())).clamp(min=1e-12).sqrt()
    return total(u * s) / norms


def disentanglement_loss(
    unspecified: Float[Tensor, "Vr N D"], specified: Float[Tensor, "Vr N D"], rows: GraphRows, margin: float
) -> Float[Tensor, ""]:
    """Eq. (5): mean over samples of ReLU(|:func:`correlation`| − m1).

    Only nodes that exist enter. The paper's φ and ψ are the identity.
    """
    return torch.relu(correlation(unspecified, specified, rows).abs() - margin).mean()


def disentanglement_loss_released(
    unspecified: Float[Tensor, "Vr N D"], specified: Float[Tensor, "Vr N D"], rows: GraphRows, margin: float, slots: int
) -> Float[Tensor, ""]:
    """The public code's ReLU(|mean over the batch of x1·x2| / (σ1 σ2) − m1): one number for the batch.

    x1 and x2 are F_u and F_s as they are (not centred), σ their standard deviations over all elements of the batch;
    absent slots are zeros and count.
    """
    N, D = specified.shape[1:]
    elements = len(rows) * slots * N * D

    def mean(x: Tensor) -> Tensor:
        return (x * rows.node_mask[..., None]).sum() / elements

    def deviation(x: Tensor) -> Tensor:
        return (mean(x.square()) - mean(x).square()).clamp(min=1e-12).sqrt()

    correlation = mean(unspecified * specified) / (deviation(unspecified) * deviation(specified))
    return torch.relu(correlation.abs() - margin)


def reconstruction_error(
    original: Float[Tensor, "Vr N D"], rebuilt: Float[Tensor, "Vr N D"], rows: GraphRows
) -> tuple[Float[Tensor, "G"], Float[Tensor, "G"]]:
    """Per sample: the sum over its nodes of the mean square of F_o − F_r over channels, and the number of its nodes."""
    errors = rows.sum_nodes(((original - rebuilt).square().mean(-1) * rows.node_mask).sum(1))
    return errors, rows.sum_nodes(rows.node_mask.to(errors.dtype).sum(1)).clamp(min=1)


def reconstruction_loss(
    original: Float[Tensor, "Vr N D"], rebuilt: Float[Tensor, "Vr N D"], rows: GraphRows, margin: float,
    per_sample: bool = True,
) -> Float[Tensor, ""]:  # fmt: skip
    """Eq. (7): mean over samples of ReLU(‖F_o − F_r‖² − m2), where ‖·‖² is the *mean* square over a sample's elements.

    Only nodes that exist enter. ``per_sample=False`` (released): ReLU(batch mean − m2). No gradient is stopped.
    """
    errors, nodes = reconstruction_error(original, rebuilt, rows)
    if per_sample:
        return torch.relu(errors / nodes - margin).mean()
    return torch.relu(errors.sum() / nodes.sum() - margin)


def classification_loss(logits: Float[Tensor, "G classes"], target: Float[Tensor, "G classes"]) -> Float[Tensor, ""]:
    """Binary cross-entropy, mean over samples and classes."""
    # A target of single precision would round the loss of double-precision logits.
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))


def graph_supervision_loss(
    class_logits: Float[Tensor, "V N objects"], classes: Int[Tensor, "V"], node_mask: Tensor,
    relation_logits: Float[Tensor, "E N R"], relations: Float[Tensor, "E N R"], edge_mask: Tensor,
) -> Float[Tensor, ""]:  # fmt: skip
    """``graph_supervision`` (released): cross-entropy on object classes plus binary cross-entropy on relations."""
    target = classes[:, None].expand(node_mask.shape)
    per_node = torch.nn.functional.cross_entropy(class_logits.transpose(1, 2), target, reduction="none")
    per_edge = torch.nn.functional.binary_cross_entropy_with_logits(relation_logits, relations, reduction="none")
    nodes, edges = node_mask.sum().clamp(min=1), edge_mask.sum().clamp(min=1)
    return (per_node * node_mask).sum() / nodes + (per_edge.mean(-1) * edge_mask).sum() / edges
