"""Tables of samples, and recipes that fit them."""

import numpy as np
import pytest

from dbx.data import RowBlocks
from dbx.ops.de import fit_table as fitting
from dbx.ops.de.design.tables import matrix_table, one_table, summed_tables
from dbx.ops.de.fit_table import Recipe, checked_factors, find_factors, fit_table
from dbx.ops.de.results.result_table import COLUMNS
from dbx.ops.de.results.result_table import Test as Question
from dbx.ops.values import Codes

N = 16
TREATED, BATCH = np.arange(N) % 2, np.arange(N) // 8
DESIGN = np.column_stack([np.ones(N), BATCH, TREATED]).astype(float)
SIZE = np.random.default_rng(5).lognormal(0, 0.3, N)


@pytest.fixture(scope="module")
def counts():
    """Forty genes, every count at least one."""
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(1.5, 50, (40, 1)) * SIZE) + 1.0


COLUMN = {"treated": Codes(TREATED.astype(np.int32), ("n", "y")), "depth": SIZE, "zero": SIZE * 0, "nan": SIZE * np.nan}


def table(counts, contrast=None, reduced=None):
    return one_table("~ treated", RowBlocks(counts.T, dtype=np.float64), COLUMN, contrast, reduced)


def test_floors():
    assert [Recipe().floor(n) for n in (2, 499, 500)] == [0.5, 0.5, 1e-6]
    assert [Recipe(min_mu=0.1).floor(n) for n in (2, 500)] == [0.1, 0.1]


def test_settings_of_a_recipe(counts):
    recipe = Recipe(fit_type="mean", dispersion="exact")
    settings = recipe.settings(table(counts), SIZE)
    assert (settings.fit_type, settings.dispersion, settings.min_mu) == ("mean", "exact", 0.5)
    assert settings.replace_outliers
    assert not Recipe(cooks=False).settings(table(counts), SIZE).replace_outliers
    assert not Recipe().settings(table(counts), np.ones(500)).replace_outliers  # cells
    np.testing.assert_array_equal(settings.design, DESIGN[:, [0, 2]])


def test_given_size_factors_are_checked(counts):
    np.testing.assert_array_equal(checked_factors(COLUMN, "depth"), SIZE)
    for name in ("zero", "nan", "treated"):
        with pytest.raises(ValueError, match=f"{name!r} must be positive"):
            checked_factors(COLUMN, name)
    with pytest.raises(ValueError, match="'umi' must be one of 'ratio', 'poscounts', 'iterate', 'deges', or"):
        checked_factors(COLUMN, "umi")
    references, factors = find_factors("depth", table(counts), fitting.silent)
    assert references is None
    np.testing.assert_array_equal(factors, SIZE)


@pytest.fixture
def called(monkeypatch):
    """A fit that calls what it is told to, round by round; the size factors it was given."""
    rounds, given = [], []

    def fit(table, recipe, factors, references, progress):
        given.append((factors, references))
        padj = np.ones(table.counts.n_columns)
        padj[rounds[min(len(given), len(rounds)) - 1]] = recipe.test.alpha / 2
        values = np.full((table.counts.n_columns, 6), np.nan)
        values[:, COLUMNS.index("padj")] = padj
        results = fitting.Results(values, 0.0, 0.0)
        return fitting.Found(factors, references, None, {}, {"round": len(given)}, results)

    monkeypatch.setattr(fitting, "_fit", fit)
    return rounds, given


def test_deges_goes_on_until_the_calls_are_the_same(called, counts):
    rounds, _ = called
    rounds += [[0, 1], [0, 1, 2], [0, 1, 2], [9]]
    found = fit_table(table(counts), Recipe("deges", test=Question(alpha=0.2)))
    assert found.facts["round"] == 3
    kept = np.delete(counts, [0, 1, 2], axis=0)
    logs = np.log(kept)
    np.testing.assert_allclose(
        found.factors, np.exp(np.median(logs - logs.mean(axis=1, keepdims=True), axis=0)), rtol=1e-12
    )
    assert np.isnan(found.references[:3]).all()
    assert np.isfinite(found.references[3:]).all()
    assert fit_table(table(counts), Recipe("ratio")).facts["round"] == 4  # one more, and no other


def test_deges_gives_up_on_changing_its_mind(called, counts):
    rounds, given = called
    rounds += [[i] for i in range(20)]
    fit_table(table(counts), Recipe("deges"))
    assert len(given) == 6


def test_deges_needs_genes_that_are_not_called(called, counts):
    rounds, _ = called
    rounds += [list(range(31))]
    with pytest.raises(ValueError, match='Nearly all genes are called.*size_factors="ratio"'):
        fit_table(table(counts), Recipe("deges"))


def test_genes_without_counts_in_what_is_compared(counts):
    y = counts + 1
    y[3] = 0
    y[4, TREATED == 0] = 0
    arms = Codes(np.array([0, 1, 2, 1] * 4, np.int32), ("a", "b", "c"))
    blocks = RowBlocks(y.T, dtype=np.float64)
    compared = one_table("~ arm", blocks, {"arm": arms}, ("arm", "a", "c"), None)
    np.testing.assert_array_equal(np.flatnonzero(compared.no_counts()), [3, 4])  # a and c are the untreated ones
    assert np.flatnonzero(one_table("~ arm", blocks, {"arm": arms}, ("arm", "b", "a"), None).no_counts()).tolist() == [
        3
    ]
    assert not one_table("~ arm", blocks, {"arm": arms}, "arm[T.c]", None).no_counts().any()


def test_matrices_of_ones_own(counts):
    blocks = RowBlocks(counts.T, dtype=np.float64)
    found = matrix_table(DESIGN, ("one", "batch", "treated"), blocks, {}, "treated", ["one", "batch"])
    assert found.weights.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(found.reduced.matrix, DESIGN[:, :2])
    assert found.compared is None
    with pytest.raises(ValueError, match="no column 'x' that could stay"):
        matrix_table(DESIGN, ("one", "batch", "treated"), blocks, {}, None, ["x"])
    with pytest.raises(ValueError, match="nothing to test"):
        matrix_table(DESIGN, ("one", "batch", "treated"), blocks, {}, None, ["one", "batch", "treated"])


def test_tables_of_groups():
    rng = np.random.default_rng(0)
    sample, group = np.repeat(np.arange(6), 10), (np.arange(60) % 3 > 0).astype(int)
    group[sample == 5] = 0
    counts = rng.poisson(5, (60, 4)).astype(float)
    columns = {"arm": Codes((sample % 2).astype(np.int32), ("a", "b")), "age": sample * 1.0}
    codes = [Codes(x.astype(np.int32), levels) for x, levels in ((sample, tuple("uvwxyz")), (group, ("T", "B")))]
    args = ("~ arm", RowBlocks(counts), columns)
    tables, skipped = summed_tables(*args, *codes, "kind", ("arm", "b", "a"), None, 1)
    assert [table.group for table in tables] == ["T", "B"]
    assert not skipped
    assert tables[1].samples == tuple("uvwxy")
    np.testing.assert_array_equal(tables[1].n_cells, [((sample == s) & (group == 1)).sum() for s in range(5)])
    for k, table in enumerate(tables):
        sums = [counts[(sample == s) & (group == k)].sum(axis=0) for s in range(len(table.samples))]
        np.testing.assert_array_equal(table.counts.dense(), sums)
        np.testing.assert_array_equal(table.columns["age"], np.arange(len(table.samples)))
    whole, _ = summed_tables(*args, codes[0], None, None, None, None, 1)
    np.testing.assert_array_equal(whole[0].counts.dense(), [counts[sample == s].sum(axis=0) for s in range(6)])
    assert whole[0].group is None
    np.testing.assert_array_equal(whole[0].n_cells, [10] * 6)
