"""CellPhoneDB's p-values: squidpy's, those of many permutations, and of all of them."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops import LigandReceptor
from dbx.ops.differential.group_moments import group_moments
from dbx.ops.signalling.analytic import LabelSums, analytic_pvalues, pair_columns
from dbx.ops.signalling.complexes import Complexes
from dbx.ops.signalling.pair_moments import gene_moments
from dbx.ops.signalling.permuted import Draws, permuted_pvalues
from dbx.ops.signalling.tails import joint_upper_tail, upper_tail
from dbx.ops.values import Codes

REFERENCE = Path(__file__).parents[2] / "reference" / "squidpy_ligrec.npz"


@pytest.fixture(scope="module")
def squidpy():
    """squidpy 1.8.3, 1,000 permutations, on 2,000 PBMC in 8 groups; 160 pairs of the 173 genes that are stored."""
    with np.load(REFERENCE) as file:
        return dict(file)


@pytest.fixture(scope="module")
def ours(squidpy):
    x = sparse.csr_matrix((squidpy["data"], squidpy["indices"].astype(np.int32), squidpy["indptr"]))
    columns = squidpy["pairs"].T
    operator = LigandReceptor(
        ligands=tuple(map(str, columns[0])),
        receptors=tuple(map(str, columns[1])),
        ligand_columns=tuple((int(i),) for i in columns[0]),
        receptor_columns=tuple((int(i),) for i in columns[1]),
        expr_prop=0.01,
    )
    labels = Codes(squidpy["codes"].astype(np.int32), tuple(map(str, squidpy["groups"])))
    operator.fit(x=RowBlocks(x, dtype=np.float64), labels=labels)
    return operator


def test_as_squidpy(squidpy, ours):
    """Means are exact. Its p-values are counts among 1,000, so that four of their standard errors are allowed."""
    mean, pvalue = (squidpy[name].reshape(-1)[np.asarray(ours.rows[...])] for name in ("mean", "pvalue"))
    tested = ~np.isnan(pvalue)
    assert tested.all()
    assert tested.sum() == (~np.isnan(squidpy["pvalue"])).sum()
    table = ours.table.columns
    np.testing.assert_allclose(table["lr_means"], mean, atol=1e-5)
    error = np.sqrt(table["cellphone_pvals"] * (1 - table["cellphone_pvals"]) / 1000)
    near = np.abs(table["cellphone_pvals"] - pvalue) < 4 * error + 1e-3
    assert near.mean() >= 0.999
    assert table["cellphone_pvals"].min() > 0


def test_moments_are_those_of_all_permutations(rng):
    """Mean, variance and third moment of the sum of two group means over all 720 orders of 6 cells."""
    sizes, values = np.array([2, 1, 3]), rng.gamma(1.0, 1.0, (6, 2))
    codes = np.repeat(np.arange(3), sizes)
    member = (codes[:, None] == np.arange(3)) / sizes
    means = np.array([member.T @ values[list(order)] for order in permutations(range(6))])
    moments = gene_moments(
        RowBlocks(values, dtype=np.float64), np.ones(6, bool), values.mean(axis=0), np.array([[0, 1]])
    )
    sums = LabelSums.of(sizes)
    for g, h in np.ndindex(3, 3):
        total = means[:, g, 0] + means[:, h, 1]
        ab, aab, abb = (part[0] for part in moments.mixed(np.array([0]), np.array([1])))
        second = sums.uu[g, h] * moments.second[0] + 2 * sums.uv[g, h] * ab + sums.vv[g, h] * moments.second[1]
        third = sums.uuu[g, h] * moments.third[0] + 3 * sums.uuv[g, h] * aab
        third += 3 * sums.uvv[g, h] * abb + sums.vvv[g, h] * moments.third[1]
        np.testing.assert_allclose(second / 5, total.var(), rtol=1e-10)
        np.testing.assert_allclose(third * 6 / 20, ((total - total.mean()) ** 3).mean(), rtol=1e-8, atol=1e-12)


def test_complexes_as_permutations(rng):
    """Joint tails of up to four sums; 4,000 permutations have a standard error of .008 at most."""
    n, sizes = 600, np.array([300, 180, 120])
    base = rng.gamma(1.0, 1.0, (n, 6)) + 0.5 * rng.gamma(1.0, 1.0, (n, 1))  # correlated and skewed
    x, codes = RowBlocks(base, dtype=np.float64), np.repeat(np.arange(3), sizes)
    ligands, receptors = Complexes.of(((0,), (0, 1), (4, 5))), Complexes.of(((1, 2, 3), (2, 3), (4,)))
    means, mean = group_moments(x, codes, 3).mean, base.mean(axis=0)
    moments = gene_moments(x, np.ones(n, bool), mean, pair_columns(ligands, receptors))
    found = analytic_pvalues(moments, sizes, means, ligands, receptors)
    for whole in (True, False):  # groups represented by fewer cells have the same variance
        draws = Draws(x, np.ones(n, bool), sizes, mean, whole=whole)
        drawn = permuted_pvalues(draws, means, ligands, receptors, 4000, np.random.default_rng(0))
        np.testing.assert_allclose(found, drawn, atol=0.035)
    assert 0.1 < found.mean() < 0.9


def test_tails_of_known_distributions():
    """A gamma and a normal distribution, and two independent variables."""
    from scipy import stats

    z = np.linspace(-2, 6, 9)
    gamma = stats.gamma(4.0)
    expected = gamma.sf(gamma.mean() + z * gamma.std())
    np.testing.assert_allclose(upper_tail(z, np.array(1.0)), expected, rtol=1e-9)
    np.testing.assert_allclose(upper_tail(-z, np.array(-1.0)), 1 - expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(upper_tail(z, np.array(0.0)), stats.norm.sf(z), rtol=1e-9)
    tails = np.array([0.01, 0.2])
    np.testing.assert_allclose(joint_upper_tail(tails, np.eye(2)), 0.002, rtol=1e-9)
    cov = np.array([[1, 0.5], [0.5, 1]])
    both = stats.multivariate_normal(cov=cov).cdf(stats.norm.ppf(tails))
    np.testing.assert_allclose(joint_upper_tail(tails, cov), both, rtol=0.1)  # as if the rest stayed normal
