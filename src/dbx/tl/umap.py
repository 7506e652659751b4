"""UMAP of the graph of neighbours, with scanpy's signature and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.sparse.csgraph import connected_components

from dbx.ops.checks import listed
from dbx.ops.layout.parametric_umap import ParametricUMAP
from dbx.ops.layout.umap import UMAP
from dbx.program import (
    Slot,
    check_key,
    exists,
    graph_slot,
    holder,
    log,
    owner_written,
    read,
    representation_slot,
    resolve_seed,
    run_step,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def umap(
    adata: AnnData | MuData,
    *,
    min_dist: float = 0.5,
    spread: float = 1.0,
    n_components: int = 2,
    maxiter: int | None = None,
    alpha: float = 1.0,
    gamma: float = 1.0,
    negative_sample_rate: int = 5,
    init_pos: Literal["paga", "spectral", "random"] | str | np.ndarray | None = "spectral",
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    a: float | None = None,
    b: float | None = None,
    method: Literal["umap", "parametric", "rapids"] = "umap",
    key_added: str | None = None,
    neighbors_key: str = "neighbors",
    copy: bool = False,
    n_hidden: int | None = None,
    n_layers: int | None = None,
    max_epochs: int | None = None,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Lay out the graph of neighbours by UMAP (McInnes et al., arXiv, 2018).

    As :func:`scanpy.tl.umap`, which calls umap-learn: the same objective, learning rates and number of epochs, but all
    cells move at once in each step, not edge by edge. Layouts are as faithful, but not identical. The same seed gives
    identical results on the same machine. New cells are placed among their neighbours in the fixed layout.

    Parameters
    ----------
    adata
        The annotated data, with neighbours.
    min_dist
        Minimum distance of cells in the layout.
    spread
        The scale of the layout, in whose units ``min_dist`` is.
    n_components
        Dimensions of the layout.
    maxiter
        Epochs; by default 500 for up to 10,000 cells, 200 for more.
    alpha
        Learning rate at the start; it falls to 0.
    gamma
        Weight of the repulsion from cells that are not neighbours.
    negative_sample_rate
        Number of such cells sampled for each neighbour.
    init_pos
        Initial positions: ``"spectral"`` (leading eigenvectors of the graph), ``"random"``, ``"paga"`` (after
        :func:`scanpy.pl.paga`), a key of ``adata.obsm``, or an array of shape (n_cells, n_components).
    random_state, rng
        Seed of everything random.
    a, b
        Parameters of the likelihood of an edge at distance d, ``1 / (1 + a d^(2b))``; found from ``min_dist`` and
        ``spread`` by default.
    method
        ``"umap"``, or ``"parametric"`` (Sainburg et al., Neural Computation, 2021): a network learns the layout from
        the matrix in which neighbours were found, and is then trained by the same objective. It maps new cells from
        their own values. scanpy's ``"rapids"`` is not available.
    key_added
        Key for ``obsm`` and ``uns`` instead of ``"X_umap"`` and ``"umap"``.
    neighbors_key
        Key of ``uns`` with the neighbours.
    copy
        Return a copy instead of writing into ``adata``.
    n_hidden, n_layers
        Units of each hidden layer of the network (128), and hidden layers (3). For ``method="parametric"``.
    max_epochs
        Passes over the edges after the network has learned the layout; by default as many as give 3,000 minibatches.
        For ``method="parametric"``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_umap" | key_added]``
        Positions of the cells, array of shape (n_cells, n_components), float32.
    ``uns["umap" | key_added]``
        ``params``: a, b and, if it is not 0, random_state. Of a network also ``history``: ``loss``, the mean
        cross-entropy of the edges, array of shape (n_epochs,).

    Raises
    ------
    KeyError
        There are no neighbours.
    ValueError
        ``init_pos`` or ``method`` is unknown, the initial positions have another shape, or a setting of the network
        was passed for the ordinary layout.
    """
    check_key(key_added)
    network: dict[str, Any] = {"n_hidden": n_hidden, "n_layers": n_layers, "max_epochs": max_epochs}
    network = {name: value for name, value in network.items() if value is not None}
    _check_method(method, network)
    seed = resolve_seed(random_state, rng)
    neighbors_key = neighbors_key or "neighbors"
    graph = graph_slot(adata, neighbors_key, mod=mod)
    extra, start, starter = _start(adata, init_pos, neighbors_key, seed, mod)
    if start == "spectral":
        extra = _places_of_parts(adata, graph, neighbors_key, n_components, mod)
    settings: dict[str, Any] = {
        "n_components": n_components,
        **({"min_dist": min_dist, "spread": spread} if a is None or b is None else {"a": a, "b": b}),
        "gamma": gamma,
        "alpha": alpha,
        "negative_sample_rate": negative_sample_rate,
        "n_epochs": maxiter,
        "start": start,
    }
    obsm, uns = ("X_umap", "umap") if key_added is None else (key_added, key_added)
    writes = {"z": f"obsm/{obsm}"}
    if method == "parametric":
        extra["x"], settings["n_dims"] = _neighbours_matrix(adata, neighbors_key, mod)
        writes["history"] = f"uns/{uns}/history"
    operator = UMAP(**settings) if method == "umap" else ParametricUMAP(**settings, **network)
    operator.starter = starter
    curve = operator.curve
    params = {"a": curve.a, "b": curve.b, **({"random_state": seed} if seed != 0 else {})}
    return run_step(
        adata,
        operator,
        reads={"graph": graph, **extra},
        writes=writes,
        constants={f"uns/{uns}": {"params": params}},
        seed=seed,
        copy=copy,
        mod=mod,
    )


def _check_method(method: str, network: dict[str, Any]) -> None:
    if method not in ("umap", "parametric"):
        msg = f"method must be 'umap' or 'parametric'; got {method!r}. With jax[cuda12] both run on a GPU."
        raise ValueError(msg)
    if method == "umap" and network:
        msg = f"{', '.join(network)} needs method='parametric': the ordinary layout has no network."
        raise ValueError(msg)


def _neighbours_matrix(data, neighbors_key: str, mod: str | None) -> tuple[str, int | None]:
    """(slot, number of its leading columns or None for all) of the matrix in which neighbours were found."""
    settings = read(data, Slot.parse(f"uns/{neighbors_key}", mod)).get("params", {})
    slot, n_dims = representation_slot(data, settings.get("use_rep"), settings.get("n_pcs"), mod=mod)
    if slot is None:
        msg = (
            "method='parametric' maps cells from the matrix in which neighbours were found, but that no longer exists: "
            'run dbx.pp.neighbors(adata, use_rep="X_pca").'
        )
        raise ValueError(msg)
    return slot, n_dims


def _start(data, init_pos, neighbors_key: str, seed: int, mod: str | None):
    """(further reads, kind of initial positions, function that returns the positions or None)."""
    if init_pos is None or (isinstance(init_pos, str) and init_pos in ("spectral", "random")):
        return {}, init_pos or "spectral", None
    if not isinstance(init_pos, str):
        positions = np.asarray(init_pos)
        return {}, "given", lambda: positions
    owner = holder(data, Slot("obs", mod=mod))
    if init_pos in owner.obsm:
        return {"init": f"obsm/{init_pos}"}, "given", None
    if init_pos == "paga":
        positions = _paga_positions(owner, seed)
        return {}, "given", lambda: positions
    msg = (
        f"init_pos={init_pos!r} is not known: 'spectral', 'random', 'paga', or a key of {owner_written(mod)}.obsm, "
        f"which has {listed(owner.obsm) or 'nothing'}."
    )
    raise ValueError(msg)


def _places_of_parts(data, graph: str, neighbors_key: str, n_components: int, mod: str | None) -> dict[str, str]:
    """The matrix in which neighbours were found, which positions the components of a graph with many of them."""
    settings = read(data, Slot.parse(f"uns/{neighbors_key}", mod)).get("params", {})
    if settings.get("method", "umap") != "umap":
        log.info(f"    the edges were weighted by method={settings['method']!r}, not by 'umap'")
    connectivities = read(data, Slot.parse(graph, mod))
    if connected_components(connectivities, directed=False, return_labels=False) <= 2 * n_components:
        return {}
    try:
        slot, _ = representation_slot(data, settings.get("use_rep"), settings.get("n_pcs"), mod=mod)
    except (KeyError, ValueError):
        slot = None
    return {"x": slot} if slot is not None and exists(data, Slot.parse(slot, mod)) else {}


def _paga_positions(owner: AnnData, seed: int) -> np.ndarray:
    """Cells around the position of their group in PAGA's layout, towards the group it is connected to most."""
    paga: Any = owner.uns.get("paga", {})
    if "pos" not in paga:
        calls = "dbx.tl.paga(adata) and dbx.pl.paga(adata, plot=False)"
        msg = f"init_pos='paga' needs the groups' positions: call {calls} first."
        raise ValueError(msg)
    places = np.asarray(paga["pos"], np.float64)
    codes = owner.obs[paga["groups"]].cat.codes.to_numpy()
    weights = paga["connectivities"].toarray()
    nearest = weights.argmax(axis=1)
    step = np.where(weights.max(axis=1, keepdims=True) > 0, places - places[nearest], 0)
    return places[codes] + (np.random.default_rng(seed).random((len(codes), 2)) - 0.5) * step[codes]
