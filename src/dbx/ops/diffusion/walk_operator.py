"""What operators of random walks on a graph share: their settings, and the transitions of all fitted cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import jax
import numpy as np
from scipy import sparse

from dbx.ops.checks import check_above_zero, check_at_least, check_known, check_share
from dbx.ops.diffusion.host_walks import host_transitions
from dbx.ops.diffusion.markov import row_sums
from dbx.ops.diffusion.walks import Bias, Kernel, Scheme, transitions
from dbx.ops.operator import Constant, Operator
from dbx.ops.values import Codes

padded_transitions = jax.jit(transitions, static_argnums=4)


class WalkOperator(Operator):
    """An operator of a random walk on a graph: by its weights, biased by pseudotime, or by its rows as they are."""

    def __init__(
        self,
        *,
        kernel: Kernel,
        scheme: Scheme,
        frac_to_keep: float,
        b: float,
        nu: float,
        weight_connectivities: float,
    ):
        check_known(kernel, get_args(Kernel), "kernel")
        check_known(scheme, get_args(Scheme), "scheme")
        check_share(frac_to_keep, "frac_to_keep")
        check_share(weight_connectivities, "weight_connectivities")
        check_at_least(b, 0, "b")
        check_above_zero(nu, "nu")
        self.kernel = kernel
        self.scheme = scheme
        self.frac_to_keep = frac_to_keep
        self.b = b
        self.nu = nu
        self.weight_connectivities = weight_connectivities

    @property
    def walk(self) -> tuple[Kernel, Bias, float]:
        """The settings of the walk."""
        return self.kernel, Bias(self.scheme, self.frac_to_keep, self.b, self.nu), self.weight_connectivities

    def fit_scale(self, times: np.ndarray) -> None:
        """Keep how pseudotime is scaled to 0..1."""
        finite = times[np.isfinite(times)]
        if not len(finite):
            msg = "No cell has a finite pseudotime: was the root set (adata.uns['iroot'])?"
            raise ValueError(msg)
        span = float(np.ptp(finite))
        self.origin = Constant(np.float64(finite.min()))
        self.span = Constant(np.float64(span if span > 0 else 1.0))

    def scaled(self, times):
        """Pseudotime on the scale of the fitted cells."""
        return (times - self.origin[...]) / self.span[...]

    def all_transitions(self, graph: sparse.csr_matrix, time: Mapping[str, np.ndarray] | None) -> sparse.csr_matrix:
        """Transitions of all fitted cells."""
        times = None if self.kernel != "pseudotime" else np.asarray(self.scaled(one_column(time)), np.float64)
        return host_transitions(graph, times, times, row_sums(graph.astype(np.float64)), self.walk)


def one_column(columns: Mapping[str, Any] | None) -> Any:
    """The one column of pseudotime.

    Raises
    ------
    ValueError
        There is none, or it does not hold numbers.
    """
    if columns is None:
        msg = 'kernel="pseudotime" needs the input "time".'
        raise ValueError(msg)
    ((name, column),) = columns.items()
    if isinstance(column, Codes):
        msg = f"Pseudotime must be numbers; obs[{name!r}] holds text or categories."
        raise ValueError(msg)
    return column
