"""Products of float32 matrices keep their digits on a GPU: dbx asks for them wherever an operator computes."""

from itertools import chain
from unittest import mock

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbx
from dbx.data.blocks import RowBlocks
from dbx.ops.components import pca
from dbx.ops.components.pca import PCA

X = np.random.default_rng(0).normal(size=(61, 13)).astype(np.float32)  # a shape of its own


@pytest.fixture
def asked():
    """Precision that JAX was set to: in fits of PCA, in its calls, and where its loadings are read."""
    found: dict[str, list] = {}

    def noting(owner, name):
        function = getattr(owner, name)

        def noted(*args, **kwargs):
            found.setdefault(name, []).append(jax.config.jax_default_matmul_precision)
            return function(*args, **kwargs)

        return mock.patch.object(owner, name, noted)

    with noting(pca, "principal_axes"), noting(PCA, "_mean"), noting(pca, "orthonormal"):
        yield found


def test_an_operator_multiplies_in_full_precision():
    operator = PCA(n_comps=3)
    operator.fit(x=RowBlocks(X))
    loss = jax.grad(lambda x: operator.loss({"x": x}, operator(x)).sum())
    products = [line for line in jax.jit(loss).lower(X).as_text().splitlines() if "dot_general" in line]
    assert len(products) > 3  # those of the gradient as well
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
    assert "HIGHEST" not in jax.jit(lambda x: x @ x.T).lower(X).as_text()


def test_fits_calls_reruns_and_training_ask_for_full_precision(asked):
    adata = ad.AnnData(X, {"group": ["a", "b"] * 30 + ["a"]}, {"index": [f"g{i}" for i in range(13)]})
    dbx.pp.pca(adata, n_comps=3, projection="orthonormal")
    assert asked == {"principal_axes": ["highest"], "_mean": ["highest"], "orthonormal": ["highest"] * 2}
    dbx.rerun(ad.AnnData(X[:59], {"group": ["a"] * 59}, adata.var), adata)
    of_loss = []

    def loss(z):
        of_loss.append(jax.config.jax_default_matmul_precision)
        return jnp.square(z).sum(axis=1)

    dbx.optimize(adata, dbx.losses.Function(loss), max_epochs=1)
    pipeline = dbx.Pipeline.from_adata(adata)
    pipeline(pipeline.parameters, dict.fromkeys(pipeline.inputs, X))
    assert len(asked["_mean"]) > 3
    assert {*of_loss, *chain(*asked.values())} == {"highest"}
    assert jax.config.jax_default_matmul_precision is None
