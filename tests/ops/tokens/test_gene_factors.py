"""Factors of genes by hand."""

import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.tokens import gene_factors as module
from dbx.ops.tokens.gene_factors import gene_factors


def by_hand(counts, target_sum, how):
    scaled = counts / counts.sum(axis=1, keepdims=True) * target_sum
    return [how(gene[gene > 0]) if (gene > 0).any() else 0 for gene in scaled.T]


@pytest.mark.parametrize(("name", "how"), [("median", np.median), ("mean", np.mean)])
@pytest.mark.parametrize("most", [50_000_000, 40])
def test_factors_are_of_the_values_above_zero(rng, monkeypatch, name, how, most):
    """Also where only a few genes at a time fit into memory."""
    monkeypatch.setattr(module, "MOST_VALUES", most)
    counts = rng.poisson(0.7, (40, 9)).astype(np.float32)
    counts[:, 0] += 1
    counts[:, 4] = 0
    for x in (counts, sparse.csr_matrix(counts)):
        found = gene_factors(RowBlocks(x), 100.0, name)
        np.testing.assert_allclose(found, by_hand(counts.astype(float), 100.0, how), rtol=1e-10)
