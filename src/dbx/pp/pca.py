"""Principal component analysis, exact, with scanpy's signature and keys."""

from __future__ import annotations

import warnings
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from packaging.version import Version

from dbx.ops.components.pca import PCA
from dbx.program import Slot, check_key, compute_array, exists, matrix_slot, resolve_seed, run_step, warn_of_counts
from dbx.program.compat import SCANPY

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse

Solver = Literal["auto", "full", "tsqr", "randomized", "arpack", "covariance_eigh", "lobpcg"]
SOLVERS = get_args(Solver)


class GeneMask(Enum):
    """The mask used by default."""

    HIGHLY_VARIABLE = "var['highly_variable'] if it exists"


def pca(
    data: AnnData | MuData | np.ndarray | sparse.spmatrix,
    n_comps: int | None = None,
    *,
    layer: str | None = None,
    obsm: str | None = None,
    zero_center: bool = True,
    svd_solver: Solver | None = None,
    chunked: bool = False,
    chunk_size: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    return_info: bool = False,
    mask_var: np.ndarray | str | GeneMask | None = GeneMask.HIGHLY_VARIABLE,
    use_highly_variable: bool | None = None,
    dtype: Any = "float32",
    key_added: str | None = None,
    copy: bool = False,
    projection: Literal["free", "orthonormal", "gated"] = "free",
    mod: str | None = None,
) -> AnnData | MuData | np.ndarray | tuple[np.ndarray, ...] | None:
    """Principal component analysis (Pearson, Philosophical Magazine, 1901).

    As :func:`scanpy.pp.pca`. The components are always exact: LAPACK's eigenvectors of the Gram matrix of the shorter
    side, summed over blocks of rows; ARPACK on products with the blocks if there are more than 5,000 cells and more
    than 5,000 genes. The loading of largest absolute value is positive in each component, as in scanpy. Only a block of
    a matrix is dense at a time. New cells are projected with the means and components stored here.

    Parameters
    ----------
    data
        The annotated data, or an array of shape (n_cells, n_genes): dense, sparse or dask.
    n_comps
        Number of components; 50 by default, or one less than there are cells or genes.
    layer
        Layer to use instead of X.
    obsm
        Entry of ``obsm`` to use instead of X; its columns are not masked.
    zero_center
        Subtract the genes' means first. Without, components are the leading right singular vectors (truncated SVD).
    svd_solver
        Accepted for compatibility with scanpy; has no effect: dbx has one solver for each shape, and it is exact.
    chunked
        Accepted for compatibility with scanpy; has no effect: dbx always reads by blocks.
    chunk_size
        Accepted for compatibility with scanpy; has no effect: blocks take up to 32 MiB.
    random_state, rng
        Seed of ARPACK's starting vector, if ARPACK is used.
    return_info
        For an array: return also the components, their fraction of the variance, and their variance.
    mask_var
        Genes to use: a boolean column of ``var``, a boolean array of shape (n_genes,), or None for all genes. By
        default ``var["highly_variable"]`` if it exists.
    use_highly_variable
        Deprecated in scanpy; True stands for ``mask_var="highly_variable"``, False for ``mask_var=None``.
    dtype
        ``"float32"``, or ``"float64"`` to compute everything in double precision.
    key_added
        Key for ``obsm``, ``varm`` and ``uns`` instead of ``"X_pca"``, ``"PCs"`` and ``"pca"``.
    copy
        Return a copy instead of writing into ``data``.
    projection
        How :func:`dbx.optimize` may train the loadings; until then all three are the same. ``"free"``: without
        constraint. ``"orthonormal"``: components stay orthonormal. ``"gated"``: each has a hard concrete gate (Louizos,
        Welling and Kingma, ICLR 2018), penalised by ``dbx.losses.OpenGates("pca")``: gates that do not pay off close,
        so that the number of components is learned; scores and loadings of closed ones are zero.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_pca" | key_added]``
        Scores of the cells, array of shape (n_cells, n_comps), ``dtype``.
    ``varm["PCs" | key_added]``
        Loadings, array of shape (n_genes, n_comps), float64; zero for genes outside the mask. With ``obsm``, the
        loadings of its columns are in ``uns["pca" | key_added]["components"]`` instead.
    ``uns["pca" | key_added]``
        ``params``; ``variance``, array of shape (n_comps,): variance along each component; ``variance_ratio``: its
        fraction of the variance of all genes used.

    For an array: the scores or, with ``return_info=True``, (scores, components of shape (n_comps, n_genes), variance
    ratio, variance).

    Raises
    ------
    ValueError
        ``n_comps`` is more than the data have; the mask is not boolean or selects no gene; values are NaN or infinite;
        the projection is unknown.
    """
    check_key(key_added)
    if svd_solver is not None and svd_solver not in SOLVERS:
        msg = f"svd_solver must be one of {', '.join(map(repr, SOLVERS))} or None; got {svd_solver!r}."
        raise ValueError(msg)
    operator = PCA(n_comps=n_comps, zero_center=zero_center, dtype=float_name(dtype), projection=projection)
    seed = resolve_seed(random_state, rng)
    if not hasattr(data, "obs_names"):
        return _of_array(operator, data, mask_var, seed=seed, return_info=return_info)
    mask = gene_mask(data, mask_var, use_highly_variable, obsm=obsm, mod=mod)
    if obsm is None:
        warn_of_counts(data, Slot.parse(matrix_slot(layer), mod), ", whose components are mostly those of depth")
    x_pca, loadings, key = (
        ("X_pca", "varm/PCs", "pca") if key_added is None else (key_added, f"varm/{key_added}", key_added)
    )
    writes = {
        "z": f"obsm/{x_pca}",
        "loadings": loadings if obsm is None else f"uns/{key}/components",
        "variance": f"uns/{key}/variance",
        "variance_ratio": f"uns/{key}/variance_ratio",
    }
    return run_step(
        data,
        operator,
        reads={"x": matrix_slot(layer, obsm)},
        writes=writes,
        constants={f"uns/{key}/params": pca_params(zero_center, mask, layer, obsm)},
        select=f"var/{mask}" if isinstance(mask, str) else mask,
        seed=seed,
        copy=copy,
        mod=mod,
    )


def float_name(dtype) -> Literal["float32", "float64"]:
    """The name of a floating-point dtype.

    Raises
    ------
    ValueError
        It is another one.
    """
    name = np.dtype(dtype).name
    if name == "float32":
        return "float32"
    if name == "float64":
        return "float64"
    msg = f'dtype must be "float32" or "float64"; got {name!r}.'
    raise ValueError(msg)


def _of_array(operator: PCA, x, mask, *, seed: int, return_info: bool):
    if isinstance(mask, str):
        msg = (
            f"mask_var={mask!r} names a column of var, but data is an array: pass a boolean array of shape (n_genes,)."
        )
        raise ValueError(msg)
    x = x if mask is None or isinstance(mask, GeneMask) else x[:, np.flatnonzero(mask)]
    found = compute_array(operator, x=x, seed=seed)
    if not return_info:
        return found["z"]
    return found["z"], found["loadings"].T, found["variance_ratio"], found["variance"]


def gene_mask(data, mask_var, use_highly_variable: bool | None, *, obsm: str | None, mod: str | None):
    """The mask as scanpy records it: a column's name, an array, or None."""
    given = not isinstance(mask_var, GeneMask)
    if use_highly_variable is not None:
        hint = 'pass mask_var="highly_variable" for use_highly_variable=True, and mask_var=None for False.'
        warnings.warn(f"`use_highly_variable` is deprecated: {hint}", FutureWarning, stacklevel=3)
        if given:
            msg = f"Pass only `mask_var`: {hint}"
            raise ValueError(msg)
        mask_var = "highly_variable" if use_highly_variable else None
    elif not given:
        present = obsm is None and exists(data, Slot.parse("var/highly_variable", mod))
        return "highly_variable" if present else None
    if obsm is not None and mask_var is not None:
        msg = "`mask_var` selects genes and cannot be used with `obsm`, which has none: pass one of the two."
        raise ValueError(msg)
    return mask_var


def pca_params(zero_center: bool, mask, layer: str | None, obsm: str | None) -> dict[str, Any]:
    """The arguments that the installed scanpy stores."""
    params = {"zero_center": zero_center}
    if Version("1.13.0.dev0") > SCANPY:
        params["use_highly_variable"] = isinstance(mask, str) and mask == "highly_variable"
    return {**params, "mask_var": mask, **{k: v for k, v in (("layer", layer), ("obsm", obsm)) if v is not None}}
