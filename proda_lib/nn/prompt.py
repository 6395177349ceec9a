"""Prompts (section 3.2): the Dynamic Prompt Module and the static SimplePrompt that table 3 compares it with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from proda_lib.batch import GraphRows


@dataclass(eq=False)
class Candidates:
    """What depends on the specification alone, computed once per graph: ``shift`` (G, D) = W_y v, ``q`` (G, T, D)."""

    shift: Float[Tensor, "G D"]
    q: Float[Tensor, "G T D"]


class DynamicPrompt(nn.Module):
    """Eq. (1)–(2): α = sigmoid(W_w (W_y v + f)) in R^T, prompt p = Σ_t α_t q_t, result f + p.

    v (multi-hot over C) is the SAP or UAP; q_t is the t-th D-slice of W_q v. Sigmoid, not softmax: the T weights are
    independent. ``candidates`` is called once per graph, ``forward`` before the VGPNN and before each of its layers
    (the paper does not say whether these places share one module; here they do).

    Shapes: specifications (G, C); nodes (P', D) → (P', D).
    """

    def __init__(self, actions: int, width: int, candidates: int):
        super().__init__()
        self.T = candidates
        self.wq = nn.Linear(actions, candidates * width, bias=False)
        self.wy = nn.Linear(actions, width, bias=False)
        self.ww = nn.Linear(width, candidates)

    def candidates(self, specifications: Float[Tensor, "G C"]) -> Candidates:
        return Candidates(self.wy(specifications), self.wq(specifications).unflatten(-1, (self.T, -1)))

    def weights(self, nodes: Float[Tensor, "Pr D"], given: Candidates, rows: GraphRows) -> Float[Tensor, "Pr T"]:
        """α of eq. (1). W_w is applied to W_y v per graph and to f per node, which is the same sum."""
        per_graph = nn.functional.linear(given.shift, self.ww.weight)
        return torch.sigmoid(self.ww(nodes) + per_graph.index_select(0, rows.graph))

    def forward(self, nodes: Float[Tensor, "Pr D"], given: Candidates, rows: GraphRows) -> Float[Tensor, "Pr D"]:
        alpha = self.weights(nodes, given, rows)
        # Σ_t α_t q_t as one matrix product per graph.
        return nodes + rows.by_graph.collect(rows.by_graph.spread(alpha) @ given.q)


class SimplePrompt(nn.Module):
    """f + W_y v: the same shift for every node of a graph. (P', D) → (P', D)."""

    def __init__(self, actions: int, width: int):
        super().__init__()
        self.wy = nn.Linear(actions, width, bias=False)

    def candidates(self, specifications: Float[Tensor, "G C"]) -> Candidates:
        shift = self.wy(specifications)
        return Candidates(shift, shift[:, None, :0])

    def forward(self, nodes: Float[Tensor, "Pr D"], given: Candidates, rows: GraphRows) -> Float[Tensor, "Pr D"]:
        return nodes + given.shift.index_select(0, rows.graph)
