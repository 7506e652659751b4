"""Leiden clusters, with scanpy's signature, keys and partitions; new cells are assigned by a vote."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from packaging.version import Version

from dbx.ops.checks import listed
from dbx.ops.clusters.leiden import Leiden, partition_class
from dbx.ops.operator import frozen
from dbx.program import Slot, assigned, check_key, graph_slot, holder, log, read, resolve_seed, run_step
from dbx.program.compat import SCANPY, own_copy

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse

Flavor = Literal["leidenalg", "igraph"]


def leiden(
    adata: AnnData | MuData,
    resolution: float = 1,
    *,
    restrict_to: tuple[str, Sequence[str]] | None = None,
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    key_added: str = "leiden",
    adjacency: sparse.spmatrix | None = None,
    directed: bool | None = None,
    use_weights: bool = True,
    n_iterations: int = -1,
    partition_type: type | None = None,
    neighbors_key: str | None = None,
    obsp: str | None = None,
    copy: bool = False,
    flavor: Literal["leidenalg", "igraph"] | None = None,
    mod: str | None = None,
    **clustering_args: Any,
) -> AnnData | MuData | None:
    """Cluster cells by the Leiden algorithm (Traag, Waltman and van Eck, Scientific Reports, 2019).

    The partition is that of :func:`scanpy.tl.leiden`: the same library is called on the same graph with the same seed.
    A new cell joins the cluster with the largest total weight of its edges to reference cells.

    Parameters
    ----------
    adata
        The annotated data, with neighbours.
    resolution
        Higher values give more clusters. None for a ``partition_type`` without one.
    restrict_to
        ``(column of obs, categories)``: cluster only the cells of these categories.
    random_state, rng
        Seed.
    key_added
        Key for ``obs``, ``obsm`` and ``uns``; the default becomes ``"leiden_R"`` with ``restrict_to``.
    adjacency
        Sparse matrix of shape (n_cells, n_cells) to cluster instead of the neighbours' connectivities. So that the step
        can be recorded, it is kept in ``obsp[f"{key_added}_adjacency"]``.
    directed
        Whether edges have a direction: by default yes for leidenalg, and never for igraph.
    use_weights
        Use the weights of edges.
    n_iterations
        Passes of the algorithm, -1 until nothing changes.
    partition_type
        One of leidenalg's classes, :class:`leidenalg.RBConfigurationVertexPartition` by default.
    neighbors_key
        Cluster the connectivities of ``uns[neighbors_key]``.
    obsp
        Cluster this entry of ``obsp``; not together with ``neighbors_key``.
    copy
        Return a copy instead of writing into ``adata``.
    flavor
        ``"leidenalg"`` or ``"igraph"``, which is much faster. None means leidenalg, as in scanpy 1.x, or igraph if
        leidenalg is not installed.
    mod
        Modality of a MuData to work on.
    **clustering_args
        Further plain arguments of :func:`leidenalg.find_partition` or :meth:`igraph.Graph.community_leiden`.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs[key_added]``
        Cluster of each cell, categorical: ``"0"``, ``"1"``, ...
    ``obsm[f"{key_added}_probabilities"]``
        Fraction of the cell's edge weight that goes to each cluster, array of shape (n_cells, n_clusters), float32,
        clusters in the order of the categories. A cell without neighbours has 1 for its own cluster.
    ``uns[key_added]``
        ``params`` and, as in scanpy from 1.12 on, ``modularity``.

    Raises
    ------
    ValueError
        An argument is not available with the flavor; ``adjacency`` is not of shape (n_cells, n_cells); a category is
        missing.
    ImportError
        leidenalg is requested but not installed.
    """
    check_key(key_added)
    flavor = _flavor(flavor, directed=directed, partition_type=partition_type)
    column, categories = _restriction(adata, restrict_to, mod)
    if restrict_to is not None and key_added == "leiden":
        key_added = "leiden_R"
    operator = Leiden(
        resolution=resolution,
        flavor=flavor,
        n_iterations=n_iterations,
        directed=directed,
        use_weights=use_weights,
        partition_type=_partition_name(partition_type),
        restrict_to=categories,
        clustering_args=_plain_arguments(clustering_args),
    )
    seed = resolve_seed(random_state, rng)
    data = own_copy(adata, copy=copy)
    writes = {"labels": f"obs/{key_added}", "probabilities": f"obsm/{key_added}_probabilities"}
    if Version("1.12.0.dev0") <= SCANPY:
        writes["modularity"] = f"uns/{key_added}/modularity"
    params = {"resolution": resolution, "random_state": seed, "n_iterations": n_iterations}
    with _in_obsp(data, f"{key_added}_adjacency", adjacency, mod) as kept:
        graph = kept or graph_slot(data, neighbors_key, obsp, mod=mod)
        run_step(
            data,
            operator,
            reads={"graph": graph} if column is None else {"graph": graph, "groups": column},
            writes=writes,
            constants={f"uns/{key_added}/params": params},
            seed=seed,
            mod=mod,
        )
    return data if copy else None


def _plain_arguments(arguments: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    values = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in arguments.items()}
    return frozen(sorted(values.items()))


def _flavor(flavor: Flavor | None, *, directed: bool | None, partition_type: type | None) -> Flavor:
    installed = importlib.util.find_spec("leidenalg") is not None
    if flavor is None:
        flavor = "leidenalg" if installed else "igraph"
        log.hint(f"clustering with {flavor}")
    if flavor not in ("leidenalg", "igraph"):
        msg = f'flavor must be "leidenalg" or "igraph"; got {flavor!r}.'
        raise ValueError(msg)
    if flavor == "igraph" and (directed or partition_type is not None):
        msg = 'directed=True and partition_type= need flavor="leidenalg" (pip install leidenalg).'
        raise ValueError(msg)
    if flavor == "leidenalg" and not installed:
        msg = 'flavor="leidenalg" needs leidenalg: pip install leidenalg, or pass flavor="igraph".'
        raise ImportError(msg)
    return flavor


def _partition_name(partition_type: type | None) -> str | None:
    if partition_type is None:
        return None
    name = partition_type.__name__
    if partition_class(name) is not partition_type:
        msg = f"partition_type={partition_type!r} is not a class of leidenalg itself: the step cannot be recorded."
        raise ValueError(msg)
    return name


def _restriction(data, restrict_to, mod: str | None) -> tuple[str | None, tuple[str, ...] | None]:
    """(slot of the column, categories of the cells to cluster)."""
    if restrict_to is None:
        return None, None
    column, categories = restrict_to
    values = read(data, Slot.parse(f"obs/{column}", mod)).astype(str)
    present = set(values)
    missing = [category for category in categories if category not in present] if len(values) else []
    if missing or isinstance(categories, str):
        msg = (
            f"restrict_to=({column!r}, {categories!r}): {column!r} has no category {listed(missing)}; "
            f"its categories are {listed(sorted(present)) or 'none'}. "
            'Pass a list of them, such as ("leiden", ["0", "1"]).'
        )
        raise ValueError(msg)
    return f"obs/{column}", tuple(categories)


@contextmanager
def _in_obsp(data, key: str, adjacency, mod: str | None) -> Iterator[str | None]:
    """The user's adjacency matrix as an entry of obsp, which is restored if the step fails."""
    if adjacency is None:
        yield None
        return
    owner = holder(data, Slot("obsp", (key,), mod))
    if adjacency.shape != (owner.n_obs, owner.n_obs):
        n_cells = owner.n_obs
        msg = f"adjacency must have shape {(n_cells, n_cells)}, cells x cells; got {adjacency.shape}."
        raise ValueError(msg)
    slot = Slot("obsp", (key,), mod)
    with assigned(data, {slot: adjacency}):
        yield slot
