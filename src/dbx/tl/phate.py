"""PHATE: a layout by potential distances, with the names of scanpy.external and phate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import check_whole
from dbx.ops.components.pca import PCA
from dbx.ops.components.principal_axes import n_axes_of
from dbx.ops.diffusion.decay_graph import DecayGraph
from dbx.ops.diffusion.markov import components
from dbx.ops.diffusion.phate import Metric, Phate, Scaling
from dbx.program import (
    Slot,
    all_or_nothing,
    check_key,
    coordinates_slot,
    log,
    read,
    resolve_seed,
    run_step,
    warn_of_counts,
)
from dbx.program.compat import own_copy

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData

KNN, DECAY, N_LANDMARK = 5, 40.0, 2000


def phate(
    adata: AnnData | MuData,
    n_components: int = 2,
    *,
    knn: int = KNN,
    decay: float = DECAY,
    n_landmark: int | None = N_LANDMARK,
    t: int | Literal["auto"] = "auto",
    gamma: float = 1.0,
    n_pca: int | None = 100,
    knn_dist: str = "euclidean",
    knn_max: int | None = None,
    mds: Scaling = "metric",
    mds_solver: Literal["smacof"] = "smacof",
    mds_dist: Metric = "euclidean",
    use_rep: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    key_added: str | None = None,
    copy: bool = False,
    k: int | None = None,
    a: float | None = None,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Lay cells out by what random walks from them reach (PHATE; Moon et al., Nature Biotechnology, 2019).

    The layout preserves potential distances: Euclidean distances of -log(P^t + 1e-7), where P is the row-normalised
    alpha-decay kernel and t, with ``"auto"``, the knee of the entropy of the powers' singular values
    (:func:`dbx.pl.phate_entropy`). It shows continuous and branching processes. Steps and numbers are those of phate
    2.0, with three differences: distances are fitted by stress majorisation to convergence, which is deterministic and
    ends at less stress than phate's stochastic descent; the layout keeps the scale of the potential distances, which
    phate standardises; and new cells (:func:`dbx.rerun`) are placed at the mean of the reference cells, or of their
    landmarks, weighted by the kernel. If the kernel has several components, each is laid out by its own walks, apart
    from the others.

    Parameters
    ----------
    adata
        Annotated data with logarithmised counts, or with the embedding ``use_rep``.
    n_components
        Number of dimensions of the layout.
    knn
        The bandwidth of a cell is the distance to its knn-th neighbour.
    decay
        Exponent of the kernel's tails. ``scanpy.external`` has 15, phate 40.
    n_landmark
        With more cells than this, walks are between so many spectral clusters of cells. None for no landmarks, up to
        10,000 cells.
    t
        Number of steps of the walks, or ``"auto"``.
    gamma
        1 for logarithms of probabilities, -1 for the probabilities themselves; their powers between, 0 for roots.
    n_pca
        Principal components of ``X`` that the kernel is built in without ``use_rep``; None for the genes themselves.
    knn_dist
        Metric of the kernel's distances.
    knn_max
        Most neighbours of a cell before the kernel is symmetrised; None for all within its reach.
    mds
        ``"metric"`` fits the potential distances, ``"nonmetric"`` their order (minutes from 1,500 cells on),
        ``"classic"`` returns the classical solution from which the other two start.
    mds_solver
        ``"smacof"``.
    mds_dist
        Metric of the potential distances.
    use_rep
        Entry of ``obsm`` in which the kernel is built, or ``"X"``.
    random_state
        Seed of the landmarks, and of the search for neighbours among 20,000 cells or more.
    key_added
        Key of the results instead of ``"X_phate"`` in ``obsm`` and ``"phate"`` elsewhere.
    copy
        Return a copy instead of writing into ``adata``.
    k, a
        Names of ``knn`` and ``decay`` in ``scanpy.external``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_phate" | key_added]``
        Positions of the cells, array of shape (n_cells, n_components), float32.
    ``uns["phate" | key_added]``
        ``t``; ``entropy``, array of shape (100,), whose entry t is that of P^(t + 1), as phate counts; ``stress``, the
        squared differences of distances in the layout and potential distances, over the squares of the latter;
        ``params``.
    ``obsm["phate_landmark"]``
        With landmarks: the position of each cell's landmark, which places new cells.
    ``obsp["phate_connectivities"]``, ``obs["phate_bandwidth"]``, ``obs["phate_reach"]``
        The kernel before row-normalisation, CSR, float64; the bandwidths; and up to which distance they hold.
    ``obsm["phate_components"]``, ``varm["phate_components"]``
        Principal components and loadings, if ``use_rep`` is not named.

    Raises
    ------
    KeyError
        The representation does not exist.
    ValueError
        There are not more than ``knn`` cells, or a setting is out of its range.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.tl.phate(adata)
    >>> adata.obsm["X_phate"].shape
    (100, 2)
    """
    check_key(key_added)
    _check_solver(mds_solver)
    data, seed = own_copy(adata, copy=copy), resolve_seed(random_state, None)
    key, layout = ("phate", "X_phate") if key_added is None else (key_added, key_added)
    knn, decay = _one_of("knn", knn, KNN, "k", k), _one_of("decay", decay, DECAY, "a", a)
    graph = DecayGraph(knn=knn, decay=decay, knn_max=knn_max, metric=knn_dist)
    reduced = use_rep is None and n_pca is not None
    if n_pca is not None and reduced:
        check_whole(n_pca, 1, "n_pca")
    x = "X" if use_rep is None else coordinates_slot(data, use_rep, mod=mod)
    n_cells, n_columns = read(data, Slot.parse(x, mod)).shape
    landmarks = _landmarks(n_landmark, n_cells)
    settings: dict[str, Any] = {"t": t, "gamma": gamma, "mds": mds, "mds_dist": mds_dist}
    operator = Phate(n_components=n_components, n_landmark=landmarks, **settings)
    edges = {"kernel": f"obsp/{key}_connectivities", "bandwidth": f"obs/{key}_bandwidth", "reach": f"obs/{key}_reach"}
    scores = {"z": f"obsm/{key}_components", "loadings": f"varm/{key}_components"} if reduced else {}
    results = {"z": f"obsm/{layout}", "steps": f"uns/{key}/t"}
    results |= {name: f"uns/{key}/{name}" for name in ("entropy", "stress")}
    results |= {} if landmarks is None else {"landmark": f"obsm/{key}_landmark"}
    about = {f"uns/{key}/params": {**graph.config, **settings, "n_landmark": landmarks or n_cells}}
    with all_or_nothing(data, [*scores.values(), *edges.values(), *results.values(), *about], mod):
        if reduced:
            pca = PCA(n_comps=n_axes_of(n_pca, n_cells, n_columns))
            run_step(data, pca, reads={"x": x}, writes=scores, name=f"{key}_pca", seed=seed, mod=mod)
        source = scores.get("z", x)
        run_step(data, graph, reads={"x": source}, writes=edges, name=f"{key}_kernel", seed=seed, mod=mod)
        reads = {"graph": edges["kernel"]}
        if use_rep is None:
            _warn_of_counts(data, x, mod)
        _warn_of_parts(read(data, Slot.parse(reads["graph"], mod)))
        run_step(data, operator, reads=reads, writes=results, constants=about, name=key, seed=seed, mod=mod)
    return data if copy else None


def _check_solver(solver: str) -> None:
    if solver != "smacof":
        msg = (
            f"mds_solver must be 'smacof'; got {solver!r}. Stress majorisation takes less time here than phate's "
            "stochastic descent and ends at less stress."
        )
        raise ValueError(msg)


def _one_of(name: str, value, default, alias: str, other):
    """The value of a setting with two names."""
    if other is None or other == value:
        return value
    if value != default:
        msg = f"{name}={value} and {alias}={other} are two names of one setting: pass one of them."
        raise ValueError(msg)
    return other


def _landmarks(n_landmark: int | None, n_cells: int) -> int | None:
    """Number of landmarks, None where every cell is its own."""
    if n_landmark is None:
        return None
    check_whole(n_landmark, 3, "n_landmark")
    if n_landmark > n_cells and n_landmark != N_LANDMARK:
        log.warn(f"n_landmark={n_landmark} is more than the {n_cells} cells: all of them are used, without landmarks.")
    return n_landmark if n_landmark < n_cells else None


def _warn_of_counts(data, x: str, mod: str | None) -> None:
    otherwise = ", or name an embedding: use_rep='X_pca'"
    warn_of_counts(data, Slot.parse(x, mod), ", whose distances are mostly those of depth", otherwise)


def _warn_of_parts(kernel) -> None:
    parts = components(kernel)
    if parts.n > 1:
        log.warn(
            f"The graph of cells has {parts.described()}, between which no walk passes: each is laid out by its own "
            "walks, apart from the others, and distances between them mean little. A larger knn may connect them."
        )
