"""The Markov matrix of velocities."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.checks import check_above_zero
from dbx.ops.dynamics.transitions import Kernel, confidence_bound, host_transitions, transitions, with_diagonal
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Edges, Graph, own_rows


class VelocityTransitions(Operator):
    """Rows of exp(scale r) over all correlations r, positive and negative ones, that sum to 1.

    With ``use_negative_cosines`` of exp(scale r) - 1 for positive and 1 - exp(-scale r) for negative correlations;
    their absolute values sum to 1. The confidence of a cell is its largest correlation. With ``self_transitions``,
    what it lacks to the 98th percentile of the fitted cells is like a correlation of the cell with itself.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.utils.get_transition_matrix``.

    New cells: transitions into the reference cells, none to themselves.
    """

    name = "velocity_transitions"
    inputs: ClassVar = {"positive": Input(kind="graph"), "negative": Input(kind="graph")}
    outputs: ClassVar = {"transitions": Output(dtype="float64"), "self_transition": Output()}
    rowwise = True
    host = True

    def __init__(self, *, scale: float = 10.0, self_transitions: bool = True, use_negative_cosines: bool = False):
        self.scale = scale
        self.self_transitions = self_transitions
        self.use_negative_cosines = use_negative_cosines
        check_above_zero(scale, "scale")

    @property
    def kernel(self) -> Kernel:
        """How correlations become probabilities."""
        return Kernel(self.scale, self.self_transitions, self.use_negative_cosines)

    def fit(
        self,
        *,
        positive: sparse.csr_matrix,
        negative: sparse.csr_matrix,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the confidence that few cells exceed."""
        self.bound = Constant(np.asarray(confidence_bound(positive), np.float64))

    def __call__(self, positive: Graph | Edges, negative: Graph | Edges) -> dict[str, Any]:
        """Probabilities of transitions, and of none."""
        if isinstance(positive, Edges) and isinstance(negative, Edges):
            return self._on_host(positive, negative)
        return self._on_device(positive, negative)

    def _on_device(self, positive: Any, negative: Any) -> dict[str, Any]:
        weights = positive.weights
        stay = self.kernel.stay(weights.max(axis=1), self.bound[...].astype(weights.dtype))
        ends, probabilities, staying = transitions(positive, negative, self.kernel, stay)
        own = jnp.asarray(own_rows(positive.rows))
        graph = Graph(
            jnp.concatenate([ends, own[:, None]], axis=1),
            jnp.concatenate([probabilities, staying[:, None]], axis=1),
            positive.rows,
            positive.n_reference,
        )
        return {"transitions": graph, "self_transition": stay}

    def _on_host(self, positive: Edges, negative: Edges) -> dict[str, Any]:
        stay = self.kernel.stay(positive.matrix.max(axis=1).toarray().ravel(), float(self.bound[...]))
        above, below, staying = host_transitions(positive, negative, self.kernel, stay)
        return {
            "transitions": Edges(with_diagonal(above + below, staying, positive.rows), positive.rows),
            "self_transition": stay,
        }
