"""Products of float32 matrices keep their digits on a GPU: dbx asks for them wherever it fits, applies or trains."""

from unittest import mock

import anndata as ad
import jax
import numpy as np
import pytest

import dbx
from dbx.ops.components.pca import PCA


@pytest.fixture
def asked():
    """Precisions asked for in the order of fits and of compiled calls."""
    found: dict[str, list] = {"fit": [], "__call__": []}

    def noting(name):
        method = getattr(PCA, name)

        def noted(self, *args, **kwargs):
            found[name].append(jax.config.jax_default_matmul_precision)
            return method(self, *args, **kwargs)

        return mock.patch.object(PCA, name, noted)

    with noting("fit"), noting("__call__"):
        yield found


def test_fits_calls_reruns_and_training_ask_for_full_precision(asked):
    x = np.random.default_rng(0).normal(size=(61, 13)).astype(np.float32)  # a shape of its own
    adata = ad.AnnData(x, {"group": ["a", "b"] * 30 + ["a"]}, {"index": [f"g{i}" for i in range(13)]})
    dbx.pp.pca(adata, n_comps=3)
    assert asked == {"fit": ["highest"], "__call__": ["highest"]}
    dbx.rerun(ad.AnnData(x[:59], {"group": ["a"] * 59}, adata.var), adata)
    dbx.optimize(adata, dbx.losses.Compactness("group"), max_epochs=1)
    pipeline = dbx.Pipeline.from_adata(adata)
    pipeline(pipeline.parameters, dict.fromkeys(pipeline.inputs, x))
    assert len(asked["__call__"]) > 3
    assert set(asked["__call__"]) == {"highest"}
    assert jax.config.jax_default_matmul_precision is None
