"""Counts in every kind of array, with empty cells and unexpressed genes, for comparisons with scanpy."""

import anndata as ad
import numpy as np
from scipy import sparse

KINDS = {
    "dense": lambda x: x.astype(np.float32),
    "csr": lambda x: sparse.csr_matrix(x.astype(np.float32)),
    "csc": lambda x: sparse.csc_matrix(x.astype(np.float32)),
    "float64": lambda x: x.astype(np.float64),
    "csr_int64": sparse.csr_matrix,
    "csc_int32": lambda x: sparse.csc_matrix(x.astype(np.int32)),
    "uint16": lambda x: x.astype(np.uint16),
}


def counts(kind: str = "csr") -> ad.AnnData:
    """120 cells x 50 genes."""
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(0.5, 1.5, 50) * rng.uniform(0.2, 2, (120, 1)))
    x[7], x[:, 3] = 0, 0
    data = ad.AnnData(KINDS[kind](x))
    data.obs_names = [f"cell{i}" for i in range(120)]
    data.var_names = [f"{'MT-' if i % 9 == 2 else ''}gene{i}" for i in range(50)]
    data.var["mt"] = data.var_names.str.startswith("MT-")
    return data


def as_dask(x, rows: int = 35):
    """Chunks of rows."""
    import dask.array as da

    dense = x.toarray() if sparse.issparse(x) else x
    lazy = da.from_array(dense, chunks=(rows, dense.shape[1]))
    return lazy.map_blocks(sparse.csr_matrix) if sparse.issparse(x) else lazy
