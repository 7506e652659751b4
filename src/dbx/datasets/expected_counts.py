"""Expected counts of the simulator as a differentiable function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from dbx.datasets.draws import draw_truth
from dbx.datasets.splat import CELLS_PER_DRAW, Truth
from dbx.ops.checks import UnknownNameError

if TYPE_CHECKING:
    from anndata import AnnData

NODES = np.linspace(-8, 6, 57)
"""Standard deviations of the logarithm of a mean at which dropout is averaged."""


def truth(adata: AnnData) -> dict[str, Any]:
    """Collect the parameters of the expected counts of a simulation, for :func:`expected_counts`.

    Parameters
    ----------
    adata
        What :func:`simulate` returned; the parameters are drawn again from ``uns["simulate"]``.

    Returns
    -------
    A dict of arrays: ``mean`` (n_genes,), ``group`` and ``batch`` (n_cells,), codes, ``group_factors`` (n_groups,
    n_genes), ``batch_factors`` (n_batches, n_genes), ``library_size`` (n_cells,), and ``dispersion`` and ``bcv_trend``
    (n_genes,). With paths or classes of distributions also ``cell_factors`` (n_cells, n_genes), which take the place of
    ``group_factors``; with dropout ``dropout_mid`` and ``dropout_shape``.

    Raises
    ------
    KeyError
        The counts are not those of :func:`simulate`.

    Examples
    --------
    >>> import dbx
    >>> params = dbx.datasets.truth(dbx.datasets.simulate(100, 50, 3, 2))
    >>> params["group_factors"].shape
    (3, 50)
    """
    if "simulate" not in adata.uns:
        msg = "adata.uns['simulate'] is missing: these are not counts of dbx.datasets.simulate."
        raise UnknownNameError(msg)
    given = adata.uns["simulate"]
    found = draw_truth(given)
    params: dict[str, Any] = {
        "mean": found.mean,
        "group": found.group.astype(np.int32),
        "batch": found.batch.astype(np.int32),
        "group_factors": found.group_factors,
        "batch_factors": found.batch_factors,
        "library_size": found.library_size,
        "dispersion": found.bcv.dispersion,
        "bcv_trend": found.bcv.trend,
    }
    if found.paths is not None or found.distributions is not None:
        params["cell_factors"] = _cell_factors(found, int(given["seed"]))
    if found.dropout is not None:
        params["dropout_mid"], params["dropout_shape"] = found.dropout
    return params


def expected_counts(params: Mapping[str, Any]) -> jax.Array:
    """Compute the expected counts of simulated cells: a differentiable function of all means, factors and sizes.

    The library size of a cell, divided among the genes in proportion to mean x group factor x batch factor. With
    dropout the counts that are expected to remain: the probability of a loss depends on the cell's own mean, which
    varies with the gene's coefficient of variation, and is averaged over it.

    Parameters
    ----------
    params
        As :func:`truth` returns them, or others of these shapes; factors that are left out are 1. Arrays of JAX can be
        traced: ``jax.grad(lambda mean: expected_counts({**params, "mean": mean})[0, 0])``.

    Returns
    -------
    Array of shape (n_cells, n_genes), in the dtype of the parameters under JAX's settings.

    Raises
    ------
    ValueError
        Means or library sizes are missing.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 2)
    >>> expected = dbx.datasets.expected_counts(dbx.datasets.truth(adata))
    >>> expected.shape
    (100, 50)
    """
    missing = [name for name in ("mean", "library_size") if not isinstance(params, Mapping) or name not in params]
    if missing:
        msg = f"params must be a dict of arrays as dbx.datasets.truth(adata) returns it; {missing[0]!r} is not there."
        raise ValueError(msg)
    library_size = jnp.asarray(params["library_size"])
    relative = jnp.asarray(params["mean"])
    if "cell_factors" in params:
        relative = relative * params["cell_factors"]
    elif "group_factors" in params:
        relative = relative * jnp.asarray(params["group_factors"])[params["group"]]
    if "batch_factors" in params:
        relative = relative * jnp.asarray(params["batch_factors"])[params["batch"]]
    relative = jnp.broadcast_to(relative, (len(library_size), relative.shape[-1]))
    expected = library_size[:, None] * relative / relative.sum(axis=1, keepdims=True)
    return expected * _kept(expected, params) if "dropout_mid" in params else expected


def _kept(expected, params: Mapping[str, Any]):
    """Fraction of the expected counts that dropout leaves, an array of shape (n_cells, n_genes).

    A count is as likely as its cell's mean is large, so that the mean of a counted molecule has the gamma distribution
    with one more degree of freedom; over its logarithm, which has nearly normal tails, this is a sum.
    """
    mid, shape = params["dropout_mid"], params["dropout_shape"]
    some = expected > 0
    mean = jnp.where(some, expected, 1)
    bcv = jnp.sqrt(jnp.asarray(params.get("dispersion", 0.0))) + params.get("bcv_trend", 0.0) / jnp.sqrt(mean)
    size = 1 / jnp.clip(bcv**2, 1e-5, 1e5)
    freedom = size + 1
    centre = jax.scipy.special.digamma(freedom) - jnp.log(size)
    spread = jnp.sqrt(jax.scipy.special.polygamma(1, freedom))

    def add(sums, node):
        log_ratio = centre + node * spread
        # relative to the mode, log_ratio = log(freedom / size), so that nothing overflows
        level = log_ratio - jnp.log(freedom / size)
        weight = jnp.exp(freedom * (level - jnp.expm1(level)))
        kept = jax.nn.sigmoid(-shape * (jnp.log(mean) + log_ratio - mid))
        return (sums[0] + weight * kept, sums[1] + weight), None

    (kept, total), _ = jax.lax.scan(add, (jnp.zeros_like(mean), jnp.zeros_like(mean)), jnp.asarray(NODES, mean.dtype))
    return jnp.where(some, kept / total, 0)


def _cell_factors(found: Truth, seed: int) -> np.ndarray:
    """Factors of the means of each cell by paths and by components, as they are drawn."""
    blocks = [
        found.cell_factors(slice(start, start + CELLS_PER_DRAW), seed)
        for start in range(0, len(found.group), CELLS_PER_DRAW)
    ]
    return np.concatenate(blocks)
