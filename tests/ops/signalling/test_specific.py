"""Both sides raised: the largest of SciPy's one-sided p-values; scores and their gradient."""

import jax
import numpy as np
import pytest
from scipy import stats

from dbx.data import RowBlocks
from dbx.ops.differential.group_moments import group_moments
from dbx.ops.signalling.complexes import Complexes
from dbx.ops.signalling.specific import largest_pvalues, one_sided_pvalues, pair_scores, standardised_changes

LIGANDS, RECEPTORS = Complexes.of(((0,), (1, 2))), Complexes.of(((3, 1), (4,)))


@pytest.fixture
def cells(rng):
    codes = np.repeat([0, 1, 2, -1], [20, 12, 8, 5])
    x = np.log1p(rng.poisson(rng.gamma(1.0, 2.0, (3, 5))[codes]))
    return x, codes


def test_largest_of_scipys_pvalues(cells):
    x, codes = cells
    found = one_sided_pvalues(RowBlocks(x, dtype=np.float64), codes, _moments(x, codes))
    used, kept = codes[codes >= 0], x[codes >= 0]
    for group, gene in np.ndindex(3, 5):
        a, b = kept[used == group, gene], kept[used != group, gene]
        expected = stats.mannwhitneyu(a, b, alternative="greater", method="asymptotic", use_continuity=False).pvalue
        np.testing.assert_allclose(found[group, gene], expected, rtol=1e-10)
    largest = largest_pvalues(found, LIGANDS, RECEPTORS)
    assert largest[0, 2, 0] == max(found[0, 0], found[2, 3], found[2, 1])
    assert largest[1, 1, 1] == max(found[1, 1], found[1, 2], found[1, 4])


def test_scores_by_hand_and_differentiable(cells):
    x, codes = cells
    kept, used = x[codes >= 0], codes[codes >= 0]
    change = np.array([kept[used == g].mean(axis=0) - kept[used != g].mean(axis=0) for g in range(3)]) / kept.std(
        axis=0
    )
    np.testing.assert_allclose(standardised_changes(_moments(x, codes)), change, rtol=1e-10)
    expected = change[0, 0] + min(change[2, 3], change[2, 1])
    with jax.enable_x64(True):
        score = lambda values: pair_scores(values, codes, 3, LIGANDS, RECEPTORS)  # noqa: E731
        np.testing.assert_allclose(score(x)[0, 2, 0], expected, rtol=1e-10)
        weights = np.random.default_rng(1).normal(size=(3, 3, 2))
        gradient = jax.grad(lambda values: (weights * score(values)).sum())(x)
        step = 1e-6 * np.random.default_rng(2).normal(size=x.shape)
        change = ((weights * (score(x + step) - score(x - step))).sum()) / 2
        np.testing.assert_allclose((gradient * step).sum(), change, rtol=1e-5)


def test_a_constant_gene_has_no_change():
    x, codes = np.ones((6, 5)), np.repeat([0, 1], 3)
    assert (standardised_changes(_moments(x, codes)) == 0).all()
    gradient = jax.grad(lambda values: pair_scores(values, codes, 2, LIGANDS, RECEPTORS).sum())(x.astype(np.float32))
    assert np.isfinite(gradient).all()


def _moments(x, codes):
    return group_moments(RowBlocks(x, dtype=np.float64), codes, codes.max() + 1)
