"""Tokens beside a loop over cells, new cells, and wrong input."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx


@pytest.fixture
def cells(rng):
    counts = rng.poisson(rng.gamma(0.5, 2, 12), (50, 12)).astype(np.float32)
    counts[:, 0] += 1
    counts[:, 5] = 0
    data = ad.AnnData(sparse.csr_matrix(counts))
    data.var_names = [f"g{i}" for i in range(12)]
    return data


def by_hand(counts, factors, length):
    """Codes of each cell by a loop, after the token of the cell."""
    rows = np.full((len(counts), length + 1), -1)
    rows[:, 0] = counts.shape[1]
    for cell, row in zip(counts, rows, strict=True):
        genes = [g for g in range(len(cell)) if cell[g] > 0 and factors[g] > 0]
        genes = sorted(genes, key=lambda g: (-np.float32(cell[g]) * np.float32(1 / np.float32(factors[g])), g))[:length]
        row[1 : 1 + len(genes)] = genes
    return rows


def medians(counts):
    scaled = counts / counts.sum(axis=1, keepdims=True) * 1e4
    return np.array([np.median(gene[gene > 0]) if (gene > 0).any() else 0 for gene in scaled.T])


def test_tokens_are_genes_by_their_value_over_the_median(cells):
    dbx.pp.gene_tokens(cells, max_length=5)
    counts = cells.X.toarray().astype(float)
    np.testing.assert_array_equal(cells.obsm["X_tokens"], by_hand(counts, medians(counts), 5))
    assert cells.obsm["X_tokens"].dtype == np.int32
    vocabulary = cells.uns["gene_tokens"]["vocabulary"]
    assert list(vocabulary["gene"]) == list(cells.var_names)
    np.testing.assert_allclose(vocabulary["factor"], medians(counts), rtol=1e-6)


def test_new_cells_have_the_factors_and_codes_of_the_reference(cells):
    reference, query = cells[:30].copy(), cells[30:, ::-1].copy()
    dbx.pp.gene_tokens(reference, max_length=5)
    dbx.rerun(query, reference)
    factors = medians(reference.X.toarray().astype(float))
    expected = by_hand(cells[30:].X.toarray().astype(float), factors, 5)
    np.testing.assert_array_equal(query.obsm["X_tokens"], expected)


def test_factors_of_a_frame_are_found_by_name(cells):
    table = pd.DataFrame({"median": np.arange(1.0, 11.0)}, index=[f"g{i}" for i in range(10)])
    dbx.pp.gene_tokens(cells, gene_factors=table.iloc[::-1], max_length=12)
    factors = np.append(np.arange(1.0, 11.0), [0, 0])
    np.testing.assert_array_equal(cells.obsm["X_tokens"], by_hand(cells.X.toarray(), factors, 12))


def test_versions_of_ensembl_identifiers_are_ignored_with_a_word(cells):
    cells.var_names = [f"ENSG{i:011d}.{i}" for i in range(12)]
    table = pd.DataFrame({"median": np.ones(12)}, index=[f"ENSG{i:011d}" for i in range(12)])
    with pytest.warns(UserWarning, match="Versions of Ensembl"):
        dbx.pp.gene_tokens(cells, gene_factors=table)
    assert (cells.uns["gene_tokens"]["vocabulary"]["factor"] == 1).all()


def test_soft_ranks_go_to_a_layer_and_agree_with_the_tokens(cells):
    dbx.pp.gene_tokens(cells, soft=True, temperature=1e-6, key_added="X_soft")
    factor = cells.uns["X_soft"]["vocabulary"]["factor"].to_numpy(np.float32)
    for rank, count in zip(cells.layers["X_soft_ranks"], cells.X.toarray(), strict=True):
        value = (count * (1 / np.where(factor > 0, factor, 1)))[count > 0]
        np.testing.assert_allclose(rank[count > 0], pd.Series(-value).rank(), atol=1e-3)
        assert (rank[count == 0] == 0).all()
    assert cells.uns["X_soft"]["vocabulary"].shape == (12, 2)


def test_wrong_input_is_refused_in_words_and_nothing_is_written(cells):
    wrong = [
        ({"max_length": 0}, ValueError, "max_length must be at least 1"),
        ({"temperature": 0}, ValueError, "temperature must be above 0"),
        ({"target_sum": -1}, ValueError, "target_sum must be above 0"),
        ({"gene_factors": "mode"}, ValueError, "gene_factors must be one of"),
        ({"gene_factors": [1, 2]}, TypeError, "DataFrame with one column"),
        ({"gene_factors": pd.DataFrame({"a": ["x"] * 12}, index=cells.var_names)}, TypeError, "one column of numbers"),
        ({"gene_factors": pd.DataFrame({"a": -np.ones(12)}, index=cells.var_names)}, ValueError, "that of 'g0' is -1"),
        ({"gene_factors": pd.DataFrame({"a": [1.0] * 5}, index=cells.var_names[:5])}, ValueError, r"5 of the 12 genes"),
        ({"gene_factors": pd.DataFrame({"a": [1.0] * 2}, index=["g1", "g1"])}, ValueError, "more than once"),
    ]
    for arguments, error, message in wrong:
        with pytest.raises(error, match=message):
            dbx.pp.gene_tokens(cells, **arguments)
    log = cells.copy()
    log.X = log.X.log1p()
    with pytest.raises(ValueError, match="counts"):
        dbx.pp.gene_tokens(log)
    empty = cells.copy()
    empty.X = sparse.csr_matrix((50, 12), dtype=np.float32)
    with pytest.raises(ValueError, match="no counts"):
        dbx.pp.gene_tokens(empty)
    assert not cells.obsm
    assert not cells.uns


def test_new_cells_with_few_of_the_genes_are_refused_also_as_zero(cells):
    reference = cells[:30].copy()
    dbx.pp.gene_tokens(reference)
    query = cells[30:].copy()
    for there, error in ((6, None), (5, r"knows 12 genes, of which the data have 5 \(42%\)")):
        some = query[:, :there].copy()
        if error:
            with pytest.raises(ValueError, match=error):
                dbx.rerun(some, reference, missing_genes="zero")
            assert not some.obsm
        else:
            with pytest.warns(UserWarning, match="6 of its 12 genes"):
                dbx.rerun(some, reference, missing_genes="zero")
            assert some.obsm["X_tokens"].max() == 12


def test_few_known_genes_are_warned_of(cells):
    table = pd.DataFrame({"a": [1.0] * 8}, index=cells.var_names[:8])
    with pytest.warns(UserWarning, match=r"8 of the 12 genes \(67%\)"):
        dbx.pp.gene_tokens(cells, gene_factors=table)
