"""t-SNE by scanpy, recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from packaging.version import Version

from dbx.program import check_key, resolve_seed
from dbx.program.compat import SCANPY
from dbx.tl._scanpys import conclude, representation

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

N_COMPONENTS = 2
"""Dimensions that every version of scanpy computes."""


def tsne(
    adata: AnnData | MuData,
    n_pcs: int | None = None,
    *,
    n_components: int = N_COMPONENTS,
    use_rep: str | None = None,
    perplexity: float = 30,
    metric: str = "euclidean",
    early_exaggeration: float = 12,
    learning_rate: float = 1000,
    random_state: int | np.random.RandomState | None = 0,
    use_fast_tsne: bool = False,
    n_jobs: int | None = None,
    key_added: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Lay cells out by t-SNE: :func:`scanpy.tl.tsne`, recorded (van der Maaten and Hinton, 2008).

    On new cells it is skipped, as a conclusion about the cells it was run on; :func:`dbx.tl.umap` maps new cells.

    Parameters
    ----------
    adata
        The annotated data, with components (:func:`dbx.pp.pca`) or at most 50 genes.
    n_pcs
        Number of leading components to use.
    n_components
        Dimensions of the layout; others than 2 need scanpy 1.12.
    use_rep
        Key of ``obsm``, or ``"X"``.
    perplexity
        Effective number of neighbours of a cell, less than the number of cells.
    metric
        Distance, as in :class:`sklearn.manifold.TSNE`.
    early_exaggeration, learning_rate
        As in :class:`sklearn.manifold.TSNE`.
    random_state
        Seed.
    use_fast_tsne
        Not available: use :func:`scanpy.tl.tsne`.
    n_jobs
        Threads, by default ``scanpy.settings.n_jobs``.
    key_added
        Key for ``obsm`` and ``uns``, by default ``"X_tsne"`` and ``"tsne"``.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_tsne" | key_added]``
        Layout, array of shape (n_cells, n_components).
    ``uns["tsne" | key_added]``
        ``params``.

    Raises
    ------
    SlotError
        There are no components, or no such key.
    ValueError
        The perplexity is not less than the number of cells, or the metric is not known.
    NotImplementedError
        ``use_fast_tsne=True``, or other dimensions than 2 with an older scanpy.
    """
    check_key(key_added)
    if use_fast_tsne:
        msg = "dbx.tl.tsne has no use_fast_tsne; sc.tl.tsne(adata, use_fast_tsne=True) works on the same object."
        raise NotImplementedError(msg)
    settings: dict[str, Any] = {
        "n_pcs": n_pcs,
        "use_rep": use_rep,
        "perplexity": perplexity,
        "metric": metric,
        "early_exaggeration": early_exaggeration,
        "learning_rate": learning_rate,
        "random_state": resolve_seed(random_state),
        "n_jobs": n_jobs,
        "key_added": key_added,
    }
    if n_components != N_COMPONENTS:
        if Version("1.12.0.dev0") > SCANPY:
            msg = f"n_components={n_components} needs scanpy 1.12 or newer; {SCANPY} is installed."
            raise NotImplementedError(msg)
        settings["n_components"] = n_components
    return conclude(
        adata,
        "tl.tsne",
        settings,
        reads=representation(adata, use_rep, n_pcs, mod),
        writes=[f"obsm/{key_added or 'X_tsne'}", f"uns/{key_added or 'tsne'}"],
        copy=copy,
        mod=mod,
    )
