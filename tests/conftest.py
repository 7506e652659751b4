"""Data that several test modules share: small, real where it matters."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scanpy as sc

import dbx

MAPS = Path("/proc/self/maps")
ENOUGH_MAPS = 15_000


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A file is one worker's (`--dist loadgroup`), unless its tests are in groups of their own."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


class CurrentStderr:
    """Whatever ``sys.stderr`` is when it is written to: of a test that captures it, the test's own."""

    closed = False

    def write(self, text):
        sys.stderr.write(text)

    def flush(self):
        sys.stderr.flush()


@pytest.fixture(scope="session", autouse=True)
def _messages_can_be_captured():
    sc.settings.logfile = CurrentStderr()


@pytest.fixture(scope="session")
def counts():
    """Simulated raw counts: 150 cells x 200 genes, 3 groups, 2 batches."""
    return dbx.datasets.simulate(150, 200, 3, 2, seed=0)


@pytest.fixture(scope="session")
def _analysed(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.highly_variable_genes(adata, n_top_genes=80)
    dbx.pp.pca(adata, n_comps=5)
    dbx.tl.harmony(adata, "batch")
    dbx.pp.neighbors(adata, use_rep="X_pca_harmony", n_neighbors=10)
    dbx.tl.leiden(adata, flavor="igraph", n_iterations=2)
    dbx.tl.umap(adata, maxiter=50)
    return adata


@pytest.fixture
def analysed(_analysed):
    """A whole program on simulated counts: normalised, logged, genes chosen, PCA, Harmony, neighbours, Leiden, UMAP."""
    return _analysed.copy()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def _keep_below_the_limit_of_memory_maps():
    """Compiled functions hold memory maps, of which Linux gives a process 65,530: all tests together need more."""
    yield
    if memory_maps() > ENOUGH_MAPS:
        jax.clear_caches()


def memory_maps():
    return len(MAPS.read_bytes().splitlines()) if MAPS.exists() else 0
