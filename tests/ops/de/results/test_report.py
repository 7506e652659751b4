"""Fitted models as tables."""

import numpy as np

from dbx.ops.de.results.report import (
    coefficient_columns,
    facts_of_groups,
    long_table,
    result_columns,
    samples_table,
    shared_facts,
)

SHARED = {"prior_variance": 0.3, "var_log_dispersions": 0.5, "cooks_cutoff": 6.9, "min_mu": 0.5, "note": ""}


def fact(group, samples, trend="parametric", **others):
    sizes = np.arange(1.0, len(samples) + 1)
    return {
        "group": group,
        "samples": list(samples),
        "n_cells": [10 * n for n in range(len(samples))],
        "size_factors": sizes.tolist(),
        "n_samples": len(samples),
        "trend": trend,
        "trend_coefficients": [0.1, 2.0],
        **SHARED,
        **others,
    }


def text(column):
    return [column.levels[code] for code in np.asarray(column.codes)]


def test_columns_have_deseq2_s_names_and_order():
    results = np.arange(12.0).reshape(2, 6)
    columns = result_columns(np.array([5.0, 6]), results, shrunken=True)
    assert list(columns) == ["baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj", "svalue"]
    np.testing.assert_array_equal(columns["svalue"], [5, 11])
    assert "svalue" not in result_columns(np.array([5.0, 6]), results, shrunken=False)


def test_coefficients_are_log2():
    beta, covariance = np.array([[1.0, 2]]), np.array([[[4.0, 1], [1, 9]]])
    columns = coefficient_columns(["a", "b:c"], beta, covariance)
    assert list(columns) == ["beta:a", "beta:b:c", "SE:a", "SE:b:c"]
    values = [float(column[0]) * np.log(2) for column in columns.values()]
    np.testing.assert_allclose(values, [1, 2, 2, 3], rtol=1e-12)


def test_groups_stand_below_each_other_without_silent_genes():
    tables = [
        {"baseMean": np.array([1.0, 0, 2]), "padj": np.array([0.1, np.nan, 0.3])},
        {"baseMean": np.array([0.0, 4, 5]), "padj": np.array([np.nan, 0.5, np.nan])},
    ]
    frame = long_table(["T", "B"], tables)
    assert text(frame.columns["group"]) == ["T", "T", "B", "B"]
    assert frame.columns["group"].levels == ("T", "B")
    np.testing.assert_array_equal(frame.gene, [0, 2, 1, 2])
    np.testing.assert_array_equal(frame.columns["padj"], [0.1, 0.3, 0.5, np.nan])
    assert list(frame.columns) == ["group", "baseMean", "padj"]
    assert frame.rows is None


def test_samples():
    frame = samples_table([fact("T", "uv"), fact("B", "vuw")])
    assert list(frame.columns) == ["group", "sample", "n_cells", "size_factor"]
    assert text(frame.columns["group"]) == ["T", "T", "B", "B", "B"]
    assert text(frame.columns["sample"]) == ["u", "v", "v", "u", "w"]
    np.testing.assert_array_equal(frame.columns["n_cells"], [0, 10, 0, 10, 20])
    assert frame.columns["n_cells"].dtype == np.int64
    np.testing.assert_array_equal(frame.columns["size_factor"], [1, 2, 1, 2, 3])
    assert list(samples_table([fact(None, "uv")]).columns) == ["sample", "n_cells", "size_factor"]


def test_what_one_model_shares():
    facts = shared_facts(fact(None, "uv", note="doubtful"), np.array([3.5, 0.2]))
    assert facts.pop("trend_coefficients").tolist() == [0.1, 2.0]
    expected = {**SHARED, "trend": "parametric", "n_samples": 2, "filter_threshold": 3.5, "filter_theta": 0.2}
    assert facts == {**expected, "note": "doubtful"}


def test_what_the_models_of_groups_share():
    facts = [fact("T", "uv", "local", prior_variance=0.7), fact("B", "uvw", note="doubtful")]
    frame = facts_of_groups(facts, np.array([[1.0, 0.1], [2.0, 0.2]]), {"rare": "too few"})
    columns = {name: text(c) if hasattr(c, "levels") else c.tolist() for name, c in frame.columns.items()}
    assert columns["group"] == ["T", "B", "rare"]
    assert columns["trend"] == ["local", "parametric", "none"]
    assert columns["note"] == ["", "doubtful", "too few"]
    assert columns["prior_variance"][:2] == [0.7, 0.3]
    assert columns["n_samples"][:2] == [2, 3]
    assert columns["filter_threshold"][:2] == [1, 2]
    assert columns["filter_theta"][:2] == [0.1, 0.2]
    for name in ("prior_variance", "filter_threshold", "filter_theta", "n_samples"):
        assert np.isnan(columns[name][2])
