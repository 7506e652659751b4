"""Leading eigenpairs of a sparse operator by ARPACK, the same bits at each call."""

from __future__ import annotations

from typing import Any

import numpy as np
from packaging.version import Version
from scipy import __version__, sparse
from scipy.sparse.linalg import LinearOperator, eigs, eigsh

GENERATOR: dict[str, Any] = {"rng": 0} if Version(__version__) >= Version("1.17.0.dev0") else {}
"""From SciPy 1.17 on ARPACK's restarts draw from a generator of NumPy's: one of the operating system's, unless it is
given."""


def lanczos(
    operator: LinearOperator | sparse.csr_matrix,
    k: int,
    *,
    start: np.ndarray,
    which: str = "LA",
    ncv: int | None = None,
    maxiter: int | None = None,
    tol: float = 0.0,
    threads: int | None = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """``k`` eigenvalues and eigenvectors in the order of :func:`scipy.sparse.linalg.eigsh`, whose arguments these are.

    ``start`` is the first vector of the iteration, of shape (n,). On one BLAS thread, as threads wait for each other in
    many small products, or on all with ``threads=None``. An :class:`~scipy.sparse.linalg.ArpackNoConvergence` is passed
    on.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, "blas"):
        return eigsh(operator, k=k, which=which, v0=start, ncv=ncv, maxiter=maxiter, tol=tol, **GENERATOR)


def arnoldi(
    operator: LinearOperator | sparse.csr_matrix,
    k: int,
    *,
    start: np.ndarray,
    which: str = "LR",
    ncv: int | None = None,
    maxiter: int | None = None,
    tol: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """``k`` eigenvalues and right eigenvectors of an operator that need not be symmetric, complex.

    The arguments are those of :func:`scipy.sparse.linalg.eigs` and of :func:`lanczos`; on one BLAS thread.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        return eigs(operator, k=k, which=which, v0=start, ncv=ncv, maxiter=maxiter, tol=tol, **GENERATOR)
