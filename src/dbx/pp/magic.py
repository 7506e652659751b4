"""MAGIC: imputation by random walks between similar cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import UnknownNameError, as_names, check_whole, did_you_mean, listed
from dbx.ops.components.pca import PCA
from dbx.ops.components.principal_axes import n_axes_of
from dbx.ops.diffusion.decay_graph import DecayGraph
from dbx.ops.diffusion.magic import Magic
from dbx.program import (
    Slot,
    all_or_nothing,
    check_key,
    exists,
    gene_names,
    has_negative,
    log,
    looks_like_counts,
    matrix_slot,
    operators_behind,
    read,
    representation_slot,
    resolve_seed,
    run_step,
)
from dbx.program.compat import own_copy

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

FARTHEST = 3
"""Most neighbours in a row of the kernel before symmetrising, as a multiple of ``knn``."""


def magic(
    adata: AnnData | MuData,
    name_list: Literal["all_genes", "pca_only"] | Sequence[str] | None = None,
    *,
    knn: int = 5,
    decay: float = 1.0,
    knn_max: int | None = None,
    t: int | Literal["auto"] = 3,
    n_pca: int | None = 100,
    solver: Literal["exact", "approximate"] = "exact",
    knn_dist: str = "euclidean",
    layer: str | None = None,
    use_rep: str | None = None,
    key_added: str = "magic",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Average expression over similar cells by random walks between them (van Dijk et al., Cell, 2018).

    As ``scanpy.external.pp.magic``, whose names these are, and magic-impute: the result is M^t X, where M is the
    row-normalised alpha-decay kernel with a bandwidth of its own for each cell. ``X`` itself stays as it is. Neither
    the powers of M nor more than a block of dense genes are computed beside the result.

    Which cells are similar and what is averaged are two questions, and here two arguments: the kernel is built in
    ``use_rep``, and the values of ``layer`` are averaged. Distances are meaningful between logarithms, where few highly
    expressed genes do not outweigh all others; but the mean of logarithms or of square roots is not that of the
    expression. On a simulated landscape the kernel in components of log counts with averages of normalised, *linear*
    counts is closer to the true means than one matrix for both, be it of linear counts or of roots; where the strongest
    genes carry the differences between cells, linear counts for both do as well::

        dbx.pp.normalize_total(adata)
        adata.layers["linear"] = adata.X.copy()
        dbx.pp.log1p(adata)
        dbx.pp.pca(adata, n_comps=50)
        dbx.pp.magic(adata, layer="linear", use_rep="X_pca")

    ``t="auto"`` stops where further steps no longer change the values, and takes one step more, as magic-impute does.
    It smooths too much: on simulated cells genes keep 83% of their variation (94% with ``t=3``, 58% with magic-impute),
    and counts held out of the same cells are predicted less well than with ``t=3``.
    Choosing t by counts held out of the same cells (molecular cross-validation) is no remedy: both halves have the
    deviations of their cell in common, so that t=1 looks best. :func:`dbx.pl.magic_t` shows the curve.

    New cells (:func:`dbx.rerun`) are connected to the reference cells by the same kernel, and average M^(t - 1) X of
    those, which is kept for the genes asked for.

    Parameters
    ----------
    adata
        Annotated data, size-normalised.
    name_list
        Names of the genes to impute; ``"pca_only"`` for the components that the kernel is built in; by default, or with
        ``"all_genes"``, all genes.
    knn
        The bandwidth of a cell is the distance to its knn-th neighbour.
    decay
        Exponent of the kernel's tails.
    knn_max
        Most neighbours of a cell before the kernel is symmetrised; ``3 * knn`` by default.
    t
        Number of steps, or ``"auto"``.
    n_pca
        Principal components of ``layer`` that the kernel is built in without ``use_rep``, and that the approximate
        solver diffuses; None for the genes themselves.
    solver
        ``"approximate"`` averages the principal components of ``layer`` and projects them back. The small negative
        values that result are set to 0 if ``layer`` has none.
    knn_dist
        Metric of the distances.
    layer
        Layer with the values instead of ``X``.
    use_rep
        Entry of ``obsm`` in which the kernel is built, or ``"X"``.
    key_added
        Key of the results instead of ``"magic"``.
    random_state
        Seed of the genes by which ``t="auto"`` is chosen, if there are more than 500, and of the search for neighbours
        among 20,000 cells or more.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``layers["magic"]``
        Imputed values of all genes, dense array of shape (n_cells, n_genes), float32.
    ``obsm["X_magic"]``
        With names of genes, instead: their values, in the order of ``uns["magic"]["genes"]``, which is that of ``var``.
    ``obsm["X_magic_pca"]``
        With ``"pca_only"``, instead: diffused components.
    ``layers["magic_reference"]``, ``obsm["X_magic_reference"]`` or ``obsm["X_magic_pca_reference"]``
        M^(t - 1) X, which places new cells. Nothing else needs it. With the approximate solver it is that of
        components, in ``obsm``.
    ``obsp["magic_connectivities"]``, ``obs["magic_bandwidth"]``, ``obs["magic_reach"]``
        The kernel before row-normalisation, CSR, float64; the bandwidths; and up to which distance they hold.
    ``obsm["magic_components"]``, ``varm["magic_components"]``
        Principal components, if ``use_rep`` is not named.
    ``uns["magic"]``
        ``t``, the number of steps; ``powers``, the weights of M^0 X to M^(2 t) X in the result, all of it at t unless
        :func:`dbx.optimize` trained them; ``t_error``, the Procrustes disparity of the values before and after each
        step, if ``t="auto"``; ``scale`` of the values, ``"sqrt"`` or ``"log1p"`` if recorded steps made them so, else
        ``"linear"``: they stay on it; ``params``.

    Raises
    ------
    KeyError
        A gene, the layer or the representation does not exist.
    ValueError
        There are not more than ``knn`` cells, or a setting is out of its range.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(adata)
    >>> adata.layers["linear"] = adata.X.copy()
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata, n_comps=10)
    >>> dbx.pp.magic(adata, layer="linear", use_rep="X_pca")
    >>> adata.layers["magic"].shape
    (100, 50)
    """
    check_key(key_added)
    data, seed, x = own_copy(adata, copy=copy), resolve_seed(random_state, None), matrix_slot(layer)
    most = FARTHEST * knn if knn_max is None else knn_max
    kernel = DecayGraph(knn=knn, decay=decay, knn_max=most, metric=knn_dist)
    components = _components(data, x, use_rep, n_pca, key_added, mod)
    asked = _asked(data, name_list, x, components, solver, key_added, mod)
    operator = Magic(t=t, solver=asked.solver, n_pca=n_pca, columns=asked.columns)
    edges = {"kernel": f"obsp/{key_added}_connectivities"}
    edges |= {"bandwidth": f"obs/{key_added}_bandwidth", "reach": f"obs/{key_added}_reach"}
    scores = {}
    if components == f"obsm/{key_added}_components":
        scores = {"z": components, "loadings": f"varm/{key_added}_components"}
    results = {"steps": f"uns/{key_added}/t", "errors": f"uns/{key_added}/t_error"}
    results["powers"] = f"uns/{key_added}/powers"
    results |= {"imputed": asked.slot, "previous": asked.previous}
    about = {
        f"uns/{key_added}/scale": _scale(data, x, mod),
        f"uns/{key_added}/params": {**kernel.config, "solver": asked.solver},
        **({} if asked.names is None else {f"uns/{key_added}/genes": asked.names}),
    }
    settings: dict[str, Any] = {"seed": seed, "mod": mod}
    with all_or_nothing(data, [*scores.values(), *edges.values(), *results.values(), *about], mod):
        if scores:
            pca = PCA(n_comps=n_axes_of(n_pca, *read(data, Slot.parse(x, mod)).shape))
            run_step(data, pca, reads={"x": x}, writes=scores, name=f"{key_added}_pca", **settings)
        run_step(data, kernel, reads={"x": components}, writes=edges, name=f"{key_added}_kernel", **settings)
        reads = {"values": asked.values, "graph": edges["kernel"]}
        run_step(
            data,
            operator,
            reads=reads,
            writes=results,
            constants=about,
            select=asked.select,
            name=key_added,
            **settings,
        )
        _warn_of_values(data, x, mod)
    return data if copy else None


class _Asked(NamedTuple):
    """What is diffused, and where it goes."""

    values: str
    slot: str
    previous: str
    solver: Literal["exact", "approximate"] = "exact"
    select: np.ndarray | None = None
    """Mask of the genes that are diffused."""
    columns: tuple[int, ...] | None = None
    """Genes that are returned after the diffusion of components."""
    names: np.ndarray | None = None


def _asked(data, name_list, x: str, components: str, solver, key: str, mod: str | None) -> _Asked:
    if isinstance(name_list, str) and name_list == "pca_only":
        if components == x:
            msg = 'name_list="pca_only" needs components: pass their number n_pca, or an entry of obsm as use_rep.'
            raise ValueError(msg)
        return _Asked(components, f"obsm/X_{key}_pca", f"obsm/X_{key}_pca_reference")
    in_obsm = f"obsm/X_{key}_reference"
    if name_list is None or (isinstance(name_list, str) and name_list == "all_genes"):
        return _Asked(x, f"layers/{key}", f"layers/{key}_reference" if solver == "exact" else in_obsm, solver)
    known = gene_names(data, Slot.parse(x, mod))
    mask = _mask(known, name_list)
    asked = _Asked(x, f"obsm/X_{key}", in_obsm, solver, names=known[mask].to_numpy().astype(str))
    if solver == "exact":
        return asked._replace(select=mask)
    return asked._replace(columns=tuple(np.flatnonzero(mask).tolist()))


def _mask(known: pd.Index, name_list: str | Sequence[str]) -> np.ndarray:
    """Which genes are named: array of shape (n_genes,), bool.

    Raises
    ------
    KeyError
        A gene does not exist.
    ValueError
        No gene is named.
    """
    names = as_names(name_list, "name_list")
    if not names:
        msg = "name_list names no gene: leave it out for all genes."
        raise ValueError(msg)
    absent = [name for name in names if name not in known]
    if absent:
        msg = f"name_list names genes that do not exist: {listed(absent)}.{did_you_mean(absent[0], known)}"
        raise UnknownNameError(msg)
    return np.asarray(known.isin(names))


def _components(data, x: str, use_rep: str | None, n_pca: int | None, key: str, mod: str | None) -> str:
    """The slot of what the kernel is built in; it may still have to be computed."""
    if use_rep is not None:
        return str(representation_slot(data, use_rep, None, mod=mod)[0])
    if n_pca is None:
        return x
    check_whole(n_pca, 1, "n_pca")
    return f"obsm/{key}_components"


def _scale(data, x: str, mod: str | None) -> str:
    """``"sqrt"`` or ``"log1p"`` if a recorded step, or scanpy's by its note, took roots or logarithms; else linear."""
    behind = list(operators_behind(data, x, mod))
    noted = x == "X" and not behind and exists(data, Slot.parse("uns/log1p", mod))
    return next((name for name in behind if name in ("sqrt", "log1p")), "log1p" if noted else "linear")


def _warn_of_values(data, x: str, mod: str | None) -> None:
    slot = Slot.parse(x, mod)
    if has_negative(RowBlocks(read(data, slot))):
        log.warn(
            f"{slot.written()} has negative values, as scaled values have, whose means are not those of expression: "
            "pass layer=... with counts of dbx.pp.normalize_total(adata), and scaled values only as use_rep."
        )
    if looks_like_counts(read(data, slot)):
        log.warn(
            f"{slot.written()} seems to hold raw counts: cells of similar depth would count as similar, and depth "
            "would be averaged with expression. Run dbx.pp.normalize_total(adata) first."
        )
