"""Each way to the principal axes against LAPACK's full SVD in double precision."""

import anndata as ad
import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.components import principal_axes as module
from dbx.ops.components.principal_axes import principal_axes

N_AXES = 6


def counts(n_cells, n_genes, rank=8, seed=0):
    """Log counts of a low-rank Poisson model: leading variances well apart, the rest noise; sparse."""
    rng = np.random.default_rng(seed)
    scores = rng.gamma(0.5, 1.0, (n_cells, rank)) * 3.0 ** -np.arange(rank)
    return np.log1p(rng.poisson(scores @ rng.gamma(0.5, 1.0, (rank, n_genes)))).astype(np.float32)


def textbook(x, n_axes, centre=True):
    """(directions, variance, total variance) from a full SVD in float64, signs as scanpy's and ours."""
    x = x.astype(np.float64)
    rest = x - x.mean(axis=0) * centre
    _, s, vt = np.linalg.svd(rest, full_matrices=False)
    directions = vt[:n_axes].T
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(n_axes)])
    if centre:
        return directions, s[:n_axes] ** 2 / (len(x) - 1), x.var(axis=0, ddof=1).sum()
    return directions, (x @ directions).var(axis=0), x.var(axis=0).sum()


SHAPES = {"more cells": (300, 90), "more genes": (90, 300), "square": (120, 120)}


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("way", ["gram", "products"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_full_svd(shape, way, centre, monkeypatch):
    monkeypatch.setattr(module, "MAX_GRAM", 5_000 if way == "gram" else 10)
    x = counts(*SHAPES[shape])
    directions, variance, total = textbook(x, N_AXES, centre)
    axes = principal_axes(RowBlocks(sparse.csr_matrix(x)), N_AXES, centre=centre)
    # float32 products, relative to the largest variance; the smallest one here is a thousandth of it
    np.testing.assert_allclose(axes.variance, variance, rtol=2e-5)
    np.testing.assert_allclose(axes.directions, directions, atol=2e-4)
    np.testing.assert_allclose(axes.total_variance, total, rtol=1e-6)
    np.testing.assert_allclose(axes.mean, x.mean(axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(axes.directions.T @ axes.directions, np.eye(N_AXES), atol=1e-5)


@pytest.mark.parametrize("way", ["gram", "products"])
def test_double_precision_where_the_blocks_have_it(way, monkeypatch):
    monkeypatch.setattr(module, "MAX_GRAM", 5_000 if way == "gram" else 10)
    x = counts(200, 80)
    directions, variance, _ = textbook(x, N_AXES)
    axes = principal_axes(RowBlocks(sparse.csr_matrix(x), dtype=np.float64), N_AXES)
    np.testing.assert_allclose(axes.variance, variance, rtol=1e-11)
    np.testing.assert_allclose(axes.directions, directions, atol=1e-9)


def test_many_blocks_are_as_one(monkeypatch):
    x = counts(300, 90)
    whole = principal_axes(RowBlocks(x), N_AXES)
    monkeypatch.setattr("dbx.data.blocks.BLOCK_BYTES", 90 * 4 * 32)
    assert len(list(RowBlocks(x))) > 5
    parts = principal_axes(RowBlocks(x), N_AXES)
    np.testing.assert_allclose(parts.directions, whole.directions, atol=1e-5)
    np.testing.assert_allclose(parts.variance, whole.variance, rtol=1e-5)


@pytest.mark.parametrize(("shape", "way"), [("more cells", "gram"), ("more genes", "gram"), ("more cells", "products")])
def test_a_mean_far_from_zero_costs_few_digits(shape, way, monkeypatch):
    """A mean of thousands of standard deviations: in float32, squares about zero would have no digit left."""
    monkeypatch.setattr(module, "MAX_GRAM", 5_000 if way == "gram" else 10)
    # ARPACK's products keep what is left of a score after the mean's share of it has gone
    far, rtol = (10_000, 1e-4) if way == "gram" else (1_000, 1e-2)
    x = counts(*SHAPES[shape]) + np.float32(far)
    directions, variance, _ = textbook(x, 3)
    axes = principal_axes(RowBlocks(x), 3)
    np.testing.assert_allclose(axes.variance, variance, rtol=rtol)
    np.testing.assert_allclose(axes.directions, directions, atol=10 * rtol)


@pytest.mark.parametrize("kind", ["dense", "csc", "csr_array", "dask", "dask_csr", "backed", "int"])
@pytest.mark.parametrize("way", ["cells", "genes", "products"])
def test_every_kind_of_array(kind, way, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_GRAM", 10 if way == "products" else 5_000)
    x = np.rint(3 * counts(*(SHAPES["more genes" if way == "cells" else "more cells"])))
    columns = np.arange(0, x.shape[1], 2)
    if kind == "backed":
        ad.AnnData(sparse.csr_matrix(x)).write(tmp_path / "x.h5ad")
        source = ad.read_h5ad(tmp_path / "x.h5ad", backed="r").X
    else:
        dask = da.from_array(x, chunks=(40, x.shape[1])) if kind.startswith("dask") else None
        source = {
            "dense": lambda: x,
            "csc": lambda: sparse.csc_matrix(x),
            "csr_array": lambda: sparse.csr_array(x),
            "dask": lambda: dask,
            "dask_csr": lambda: dask.map_blocks(sparse.csr_matrix),
            "int": lambda: x.astype(np.int64),
        }[kind]()
    directions, variance, _ = textbook(x[:, columns], 4)
    axes = principal_axes(RowBlocks(source, columns), 4)
    np.testing.assert_allclose(axes.variance, variance, rtol=2e-5)
    np.testing.assert_allclose(axes.directions, directions, atol=2e-4)


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_directions_without_variance_are_orthonormal(shape):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(shape[0], 3)) @ rng.normal(size=(3, shape[1]))).astype(np.float32)
    axes = principal_axes(RowBlocks(x), 6)
    assert (axes.variance[3:] < 1e-5 * axes.variance[0]).all()
    np.testing.assert_allclose(axes.directions.T @ axes.directions, np.eye(6), atol=1e-6)
