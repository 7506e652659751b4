"""The operator of negative binomial regressions: its state, and what it answers from it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import sparse, stats

from dbx.data import RowBlocks
from dbx.ops.de import nb_glm
from dbx.ops.de.nb_glm import NBGLM
from dbx.ops.state import rebuild, state_arrays
from dbx.ops.values import Codes

N, N_GENES = 24, 50
ARM, BATCH = np.arange(N) % 3, np.arange(N) // 12
SAMPLE = np.arange(N)


@pytest.fixture(scope="module")
def counts():
    """Counts of shape (n_samples, n_genes); gene 5 has none."""
    rng = np.random.default_rng(0)
    mean = rng.gamma(2, 60, N_GENES) * rng.lognormal(0, 0.3, (N, 1)) * np.exp(rng.normal(0, 0.5, (3, N_GENES)))[ARM]
    dispersion = 0.05 + 5 / mean.mean(axis=0)
    counts = rng.negative_binomial(1 / dispersion, 1 / (1 + dispersion * mean)).astype(float)
    counts[:, 5] = 0
    return counts


def codes(values, levels):
    return Codes(np.asarray(values, np.int32), tuple(levels))


COLUMNS = {"arm": codes(ARM, "ABC"), "batch": codes(BATCH, "pq")}


def fitted(counts, frame=COLUMNS, sample=None, group=None, **config):
    operator = NBGLM(**{"design": "~ batch + arm", "contrast": ("arm", "B", "A"), **config})
    operator.fit(counts=RowBlocks(counts, dtype=np.float64), frame=frame, sample=sample, group=group)
    return operator


@pytest.fixture(scope="module")
def operator(counts):
    return fitted(counts)


def asked(operator, counts, frame=COLUMNS, sample=None, group=None, **config):
    """Another question of a copy of the state."""
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in operator.config.items()}
    again = rebuild(NBGLM, {**settings, **config}, state_arrays(operator))
    again.fit(counts=RowBlocks(counts, dtype=np.float64), frame=frame, sample=sample, group=group)
    return again


def frame_of(table):
    return {
        name: [c.levels[i] for i in np.asarray(c.codes)] if isinstance(c, Codes) else np.asarray(c)
        for name, c in table.columns.items()
    }


def assert_same_table(a, b, rtol=0):
    a, b = frame_of(a), frame_of(b)
    assert list(a) == list(b)
    for name in a:
        if isinstance(a[name], list):
            assert a[name] == b[name]
        else:
            np.testing.assert_allclose(a[name], b[name], rtol=rtol, err_msg=name)


def test_the_state_is_arrays_of_models(operator):
    arrays = {name: array for name, (_, array) in state_arrays(operator).items()}
    assert arrays["coefficients"].shape == (1, N_GENES, 4)
    assert arrays["covariance"].shape == (1, N_GENES, 4, 4)
    assert arrays["results"].shape == (1, N_GENES, 6)
    assert arrays["reference"].shape == (N_GENES,)
    assert "factors" not in arrays
    kinds = {name: kind for name, (kind, _) in state_arrays(operator).items()}
    assert [name for name, kind in kinds.items() if kind == "parameter"] == ["coefficients"]
    for attribute in ("long_table", "samples", "own_size_factors"):
        assert not hasattr(operator, attribute)


def test_facts_are_kept_as_text(operator):
    kind, array = state_arrays(operator)["text"]
    assert (kind, array.dtype) == ("text", np.uint8)
    assert json.loads(array.tobytes().decode())["facts"][0]["coefficients"][-1] == "arm[T.C]"


def test_programs_that_kept_facts_in_a_constant_still_load(operator, counts):
    """As dbx recorded them before states had a kind for text."""
    arrays = state_arrays(operator)
    before = rebuild(NBGLM, operator.config, {**arrays, "text": ("constant", arrays["text"][1])})
    assert_same_table(before.table, operator.table)
    assert before.facts["note"] == operator.facts["note"]
    again = rebuild(NBGLM, {**operator.config, "contrast": ("arm", "C", "A")}, state_arrays(before))
    again.fit(counts=RowBlocks(counts, dtype=np.float64), frame=COLUMNS)
    assert state_arrays(again)["text"][0] == "text"
    assert_same_table(again.table, asked(operator, counts, contrast=("arm", "C", "A")).table)


# --- derivatives -----------------------------------------------------------------------------------------------------


def by_statsmodels(counts, operator, factors, column):
    """log2 coefficients of a column, refitted with the operator's dispersions."""
    design = np.column_stack([np.ones(N), BATCH, ARM == 1, ARM == 2]).astype(float)
    found = []
    for g, dispersion in enumerate(frame_of(operator.fit_table)["dispersion"]):
        if np.isnan(dispersion):
            found.append(np.nan)
            continue
        model = sm.GLM(
            counts[:, g], design, family=sm.families.NegativeBinomial(alpha=dispersion), offset=np.log(factors)
        )
        found.append(model.fit(tol=1e-14, maxiter=200).params[column] / np.log(2))
    return np.array(found)


def test_fold_changes_are_those_of_the_table(operator, counts):
    with jax.enable_x64(True):
        found = np.asarray(operator.fold_changes(counts, COLUMNS))
        of_design = np.column_stack([np.ones(N), BATCH, ARM == 1, ARM == 2]).astype(float)
        by_matrix = NBGLM(design=("i", "b", "x", "y"), contrast="x - y")
        by_matrix.fit(counts=RowBlocks(counts, dtype=np.float64), matrix=RowBlocks(of_design, dtype=np.float64))
        difference = np.asarray(by_matrix.fold_changes(counts, matrix=of_design))
    table = frame_of(operator.table)
    off = np.abs(found - table["log2FoldChange"]) / table["lfcSE"]
    assert np.isnan(off).sum() == 1  # the gene without counts
    assert np.nanmax(off) < 5e-3  # the fit ends when the deviance changes by 1e-8 of itself
    other = frame_of(by_matrix.table)
    assert np.nanmax(np.abs(difference - other["log2FoldChange"]) / other["lfcSE"]) < 5e-3


def test_fold_changes_move_as_refits_do(operator, counts):
    """Differences of statsmodels' fits to moved counts and moved size factors, the dispersions held."""
    rng = np.random.default_rng(3)
    moved = {"counts": counts * rng.normal(size=counts.shape) / 3, "size_factors": rng.normal(size=N) / 3}
    start = {"counts": counts, "size_factors": np.asarray(operator(counts)["size_factors"])}
    for name, direction in moved.items():

        def change(value, name=name):
            return operator.fold_changes(frame=COLUMNS, **{**start, name: value})

        with jax.enable_x64(True):
            derivative = np.asarray(jax.jvp(change, (start[name],), (direction,))[1])
        ahead, behind = (
            by_statsmodels(at["counts"], operator, at["size_factors"], column=2)
            for at in ({**start, name: start[name] + step * direction} for step in (1e-3, -1e-3))
        )
        numeric = (ahead - behind) / 2e-3
        assert derivative[5] == 0  # no counts, no fold change
        np.testing.assert_allclose(np.delete(derivative, 5), np.delete(numeric, 5), rtol=1e-3, atol=1e-5)
        assert np.nanmax(np.abs(numeric)) > 0.1


def test_fold_changes_take_their_size_factors_from_the_counts(operator, counts):
    """Twice the counts of a sample are no change: its size factor moves with them."""
    deeper = counts * np.where(np.arange(N) == 4, 1.0, 0)[:, None]
    with jax.enable_x64(True):
        moves = [
            np.asarray(
                jax.jvp(lambda c, s=s: operator.fold_changes(c, COLUMNS, size_factors=s), (counts,), (deeper,))[1]
            )
            for s in (None, np.asarray(operator(counts)["size_factors"]))
        ]
    # not exactly none: a deeper sample weighs more
    assert np.nanmedian(np.abs(moves[0])) < np.nanmedian(np.abs(moves[1])) / 5


@pytest.mark.parametrize("size_factors", ["ratio", "iterate", "deges", "depth"])
def test_fold_changes_take_a_table_of_samples(counts, size_factors):
    """As ``adata.obs`` has it, with any kind of size factors."""
    depth = np.exp(np.random.default_rng(4).normal(0, 0.3, N))
    operator = fitted(counts, {**COLUMNS, "depth": depth}, size_factors=size_factors)
    names = {"arm": np.array(list("ABC"))[ARM], "batch": np.array(list("pq"))[BATCH]}
    obs = pd.DataFrame({name: pd.Categorical(column) for name, column in names.items()}).assign(depth=depth)
    with jax.enable_x64(True):
        found = np.asarray(operator.fold_changes(counts, obs))
        as_text = np.asarray(operator.fold_changes(counts, {**names, "depth": depth}))
    np.testing.assert_array_equal(found, as_text)
    table = frame_of(operator.table)
    assert np.nanmax(np.abs(found - table["log2FoldChange"]) / table["lfcSE"]) < 5e-3


def test_fold_changes_of_summed_cells(cells):
    stacked, frame, sample, _ = cells
    operator = fitted(stacked, frame, sample)
    sums = np.array([stacked[sample.codes == i].sum(axis=0) for i in range(N)])
    with jax.enable_x64(True):
        found = np.asarray(operator.fold_changes(sums, COLUMNS))
    table = frame_of(operator.table)
    assert np.nanmax(np.abs(found - table["log2FoldChange"]) / table["lfcSE"]) < 5e-3


def test_fold_changes_that_cannot_be_are_refused(operator, counts, cells):
    with pytest.raises(ValueError, match="float64"):
        operator.fold_changes(counts, COLUMNS)
    with jax.enable_x64(True):
        with pytest.raises(ValueError, match="needs the columns 'arm'"):
            operator.fold_changes(counts, {"batch": COLUMNS["batch"]})
        with pytest.raises(ValueError, match="the levels of the fit, in their order"):
            operator.fold_changes(counts, {**COLUMNS, "arm": codes(ARM, "BAC")})
        with pytest.raises(AttributeError, match="one model"):
            fitted(*cells, group_key="kind").fold_changes(counts, COLUMNS)


# --- size factors and other questions --------------------------------------------------------------------------------


def test_size_factors_are_computed_row_by_row(operator, counts):
    logs = np.log(np.where((counts > 0).all(axis=0), counts, np.nan))
    factors = np.exp(np.nanmedian(logs - logs.mean(axis=0), axis=1))
    np.testing.assert_allclose(operator(counts)["size_factors"], factors, rtol=1e-12)
    np.testing.assert_allclose(operator(2 * counts[:3])["size_factors"], 2 * factors[:3], rtol=1e-12)
    np.testing.assert_allclose(operator(jnp.asarray(counts))["size_factors"], factors, rtol=1e-5)
    assert operator(counts, sample=codes(SAMPLE, map(str, SAMPLE))) == {}


def test_size_factors_of_ones_own_are_passed_on(counts):
    depth = np.linspace(0.5, 2, N)
    frame = {**COLUMNS, "depth": depth}
    operator = fitted(counts, frame, size_factors="depth")
    np.testing.assert_array_equal(operator(counts, frame)["size_factors"], depth)
    assert operator(counts[:3]) == {}
    np.testing.assert_allclose(frame_of(operator.table)["baseMean"], (counts / depth[:, None]).mean(axis=0), rtol=1e-12)


def test_size_factors_by_likelihood_belong_to_the_fitted_samples(counts):
    operator = fitted(counts, size_factors="iterate")
    assert operator(counts[:3]) == {}
    scaled = counts / operator.own_size_factors[:, None]
    np.testing.assert_allclose(frame_of(operator.table)["baseMean"], scaled.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(np.log(operator.own_size_factors).mean(), 0, atol=1e-9)


ASKED = [
    {"contrast": ("arm", "C", "B")},
    {"contrast": None},
    {"contrast": (0.0, 0.0, 1.0, -1.0)},
    {"lfc_threshold": 0.5, "alternative": "less"},
    {"alpha": 0.3, "independent_filtering": False},
]


@pytest.mark.parametrize("question", ASKED, ids=str)
def test_a_rebuilt_operator_answers_without_a_fit(operator, counts, monkeypatch, question):
    expected = fitted(counts, **question)
    monkeypatch.setattr(nb_glm, "fit_table", None)
    again = asked(operator, counts, **question)
    assert_same_table(again.table, expected.table)
    assert_same_table(again.fit_table, expected.fit_table)
    assert {k: np.asarray(v).tolist() for k, v in again.facts.items()} == {
        k: np.asarray(v).tolist() for k, v in expected.facts.items()
    }
    assert again.fit_config == operator.fit_config


def test_what_a_fit_depends_on():
    config = NBGLM(design="~ arm").fit_config
    assert not {"contrast", "lfc_threshold", "alternative", "alpha", "independent_filtering"} & set(config)
    assert {"design", "test", "reduced", "size_factors", "fit_type", "dispersion", "min_mu", "cooks"} <= set(config)
    for settings in ({"shrink": "apeglm"}, {"size_factors": "deges"}):
        operator = NBGLM(design="~ arm", **settings)
        assert operator.fit_config == operator.config


def test_one_count_more_is_another_fit(operator, counts, monkeypatch):
    """Also where it moves between samples of a gene."""
    fits, fit_table = [], nb_glm.fit_table
    monkeypatch.setattr(nb_glm, "fit_table", lambda *given: fits.append(given) or fit_table(*given))
    asked(operator, counts)
    asked(operator, sparse.csr_matrix(counts))
    assert not fits
    more = counts.copy()
    more[7, 3] += 1
    moved = more.copy()
    moved[8, 3] -= 1
    for other in (more, moved, counts[::-1]):
        again = asked(operator, other)
        assert len(fits) == 1
        assert_same_table(again.table, fitted(other).table)
        fits.clear()


def test_likelihood_ratios_are_kept(counts, monkeypatch):
    given = {"test": "lrt", "reduced": "~ batch"}
    operator, expected = fitted(counts, **given), fitted(counts, **given, contrast=("arm", "C", "A"), alpha=0.01)
    monkeypatch.setattr(nb_glm, "fit_table", None)
    again = asked(operator, counts, contrast=("arm", "C", "A"), alpha=0.01)
    assert_same_table(again.table, expected.table)
    table = frame_of(again.table)
    there = np.arange(N_GENES) != 5
    np.testing.assert_allclose(table["pvalue"][there], stats.chi2.sf(table["stat"][there], 2), rtol=1e-9)
    np.testing.assert_array_equal(table["stat"], frame_of(operator.table)["stat"])


@pytest.mark.parametrize("design", ["~ batch + arm", "~ batch"])
def test_outliers_stand_in_other_answers(counts, design):
    """Flagged where four samples share a row of the design, replaced where twelve do."""
    x = counts.copy()
    x[2, 9] = 50_000
    x[:, 11] = 0
    x[3, 11] = 500  # nothing is left of it when it is replaced
    operator = fitted(x, design=design, contrast=None)
    again = asked(operator, x, alpha=0.3)
    assert_same_table(again.table, fitted(x, design=design, contrast=None, alpha=0.3).table)
    pvalue = frame_of(again.table)["pvalue"]
    assert np.isnan(pvalue[9]) == (design == "~ batch + arm")
    assert (pvalue[11] == 1) == (design == "~ batch")
    if design == "~ batch + arm":
        left = asked(fitted(x, design=design, contrast=None, cooks=False), x, alpha=0.3)
        assert np.isfinite(frame_of(left.table)["pvalue"][9])


# --- sums of cells ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells(counts):
    """Two cells of type T and one of type B for each sample; none of type B in arm C; few of type R."""
    parts = [np.floor(counts * share) for share in (0.5, 0.3, 0.6, 0.2)]
    kept = [np.arange(N), np.arange(N), np.flatnonzero(ARM != 2), np.flatnonzero((ARM == 0) & (BATCH == 0))]
    sample = np.concatenate(kept)
    kind = np.repeat([0, 0, 1, 2], [len(rows) for rows in kept])
    frame = {"arm": codes(ARM[sample], "ABC"), "batch": codes(BATCH[sample], "pq")}
    stacked = np.vstack([part[rows] for part, rows in zip(parts, kept, strict=True)])
    return stacked, frame, codes(sample, [f"s{i:02}" for i in range(N)]), codes(kind, "TBR")


def test_groups_with_fewer_coefficients_are_padded(cells, monkeypatch):
    operator = fitted(*cells, group_key="kind")
    arrays = {name: array for name, (_, array) in state_arrays(operator).items()}
    assert arrays["coefficients"].shape == (2, N_GENES, 4)
    assert np.isnan(arrays["coefficients"][1, :, 3]).all()
    assert np.isfinite(arrays["coefficients"][0, 0]).all()
    assert np.isnan(arrays["covariance"][1, :, 3]).all()
    assert np.isnan(arrays["covariance"][1, :, :, 3]).all()
    for attribute in ("table", "fit_table", "own_size_factors"):
        assert not hasattr(operator, attribute)
    assert operator(cells[0], sample=cells[2]) == {}
    facts = frame_of(operator.facts)
    assert facts["group"] == ["T", "B", "R"]
    assert facts["n_samples"][:2].tolist() == [24, 16]
    assert len(frame_of(operator.samples)["sample"]) == 40
    stacked, _, sample, kind = cells
    whole = np.array([stacked[(sample.codes == i) & (kind.codes == 0)].sum(axis=0) for i in range(N)])
    alone = frame_of(fitted(whole).table)
    table = frame_of(operator.long_table)
    mine = np.array(table["group"]) == "T"
    np.testing.assert_array_equal(operator.long_table.gene[mine], np.delete(np.arange(N_GENES), 5))
    for name, column in alone.items():
        np.testing.assert_allclose(table[name][mine], np.delete(column, 5), rtol=1e-9)
    # of the same groups another question needs no fit, and the reasons are those of the question
    with monkeypatch.context() as patch:
        patch.setattr(nb_glm, "fit_table", None)
        again = asked(operator, *cells, contrast=("batch", "q", "p"))
    assert_same_table(again.long_table, fitted(*cells, group_key="kind", contrast=("batch", "q", "p")).long_table)


def test_reasons_are_those_of_the_question(cells):
    stacked, frame, sample, kind = cells
    both = codes(np.where(kind.codes == 2, 0, kind.codes), "TB")
    operator = fitted(stacked, frame, sample, both, group_key="kind", contrast=("arm", "C", "A"))
    first = frame_of(operator.facts)
    again = asked(operator, stacked, frame, sample, both, contrast="arm[T.C]")
    second = frame_of(again.facts)
    assert first["trend"] == second["trend"]
    assert first["trend"][1] == "none"
    assert "no level 'C'" in first["note"][1]
    assert "no coefficient 'arm[T.C]'" in second["note"][1]


def test_progress_counts_the_groups(cells):
    told = []
    operator = NBGLM(design="~ batch + arm", contrast=("arm", "B", "A"), group_key="kind")
    stacked, frame, sample, group = cells
    blocks = RowBlocks(stacked)
    operator.fit(counts=blocks, frame=frame, sample=sample, group=group, progress=lambda *given: told.append(given))
    assert [done for done, _, _ in told] == list(range(10))
    assert {total for _, total, _ in told} == {10}
    assert told[0][2] == "T: counts"
    assert told[-1][2] == "B: outliers"


# --- calibration -----------------------------------------------------------------------------------------------------


def test_the_null_is_calibrated():
    """Thirty samples a side: normal theory should be nearly right, dispersions estimated."""
    rng = np.random.default_rng(0)
    n_genes, n = 1500, 60
    mean = rng.gamma(2, 10, (n_genes, 1)) * rng.lognormal(0, 0.3, n)
    counts = rng.negative_binomial(1 / 0.4, 1 / (1 + 0.4 * mean)).T.astype(float)
    operator = NBGLM(design="~ side", fit_type="mean")
    operator.fit(counts=RowBlocks(counts, dtype=np.float64), frame={"side": codes(np.arange(n) % 2, "ab")})
    pvalue = frame_of(operator.table)["pvalue"]
    assert 0.035 < (pvalue < 0.05).mean() < 0.07  # 0.05 with a standard error of 0.0056, and the Wald test's own excess
    assert stats.kstest(pvalue, "uniform").statistic < 0.05
