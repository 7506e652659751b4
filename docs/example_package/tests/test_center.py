import numpy as np
from dbx_center import center

import dbx


def logged(adata):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    return adata


def test_fitted_cells_have_mean_zero_and_new_ones_the_same_shift():
    counts = dbx.datasets.simulate(60, 20, 2, 1, seed=0)
    query = counts[:10].copy()
    adata = logged(counts)
    center(adata)
    values = np.asarray(adata.X.toarray(), np.float64)
    # means in float64, one subtraction in float32
    np.testing.assert_allclose(adata.layers["centered"], values - values.mean(axis=0), atol=1e-6)
    dbx.rerun(query, adata)
    np.testing.assert_array_equal(query.layers["centered"], adata.layers["centered"][:10])
