"""Abundances with intervals: what is drawn is what is stored."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import dbx


@pytest.fixture(scope="module")
def tx():
    members = ["a", "b", "a,b", "c,d", "e"]
    frame = pd.DataFrame({"transcripts": members, "one": [60, 20, 40, 50, 30], "two": [10, 30, 50, 0, 5]})
    lengths = pd.DataFrame({"effective_length": 500.0, "gene": ["x", "x", "y", "y", "z"]}, index=[*"abcde"])
    return dbx.tl.quantify(frame, transcripts=lengths, n_bootstrap=50)


def test_intervals(tx):
    table = dbx.get.quantify(tx, gene="x", level=0.9)
    assert list(table["name"]) == ["a", "b", "a", "b"]
    assert list(table["sample"]) == ["one", "one", "two", "two"]
    draws = tx.uns["quantify"]["bootstrap"][:, :, :2]
    np.testing.assert_allclose(table["count"], tx.X[:, :2].ravel())
    np.testing.assert_allclose(table["sd"], draws.std(axis=1, ddof=1).ravel(), rtol=1e-5)
    np.testing.assert_allclose(table["upper"], np.quantile(draws, 0.95, axis=1).ravel(), rtol=1e-5)
    np.testing.assert_allclose(table["lower"], np.quantile(draws, 0.05, axis=1).ravel(), rtol=1e-5)
    ax = dbx.pl.quantify(tx, gene="x", level=0.9, show=False)
    for sample, container in zip(["one", "two"], ax.containers, strict=True):
        some = table[table["sample"] == sample]
        points, _, (bars,) = container.lines
        np.testing.assert_allclose(np.asarray(points.get_ydata(), float), some["count"])
        ends = np.array([segment[:, 1] for segment in bars.get_segments()], float)
        np.testing.assert_allclose(ends, some[["lower", "upper"]], rtol=1e-9, atol=1e-9)


def test_intervals_without_repeats_and_beside_the_estimate(tx):
    some = tx[:, :2].copy()  # repeats of all transcripts do not fit
    table = dbx.get.quantify(some, level=0.9)
    half = stats.norm.ppf(0.95) * np.sqrt(some.layers["variance"].ravel())
    np.testing.assert_allclose(table["upper"], some.X.ravel() + half)
    np.testing.assert_allclose(table["lower"], np.maximum(some.X.ravel() - half, 0))
    far = tx.copy()
    far.X[0, 0] = 1e4
    assert dbx.get.quantify(far, samples="one", names="a")["upper"].item() == 1e4


def test_relative_variance_over_counts(tx):
    ax = dbx.pl.quantify(tx, show=False)
    table = dbx.get.quantify(tx)
    several = table["identifiability"] >= 0
    assert list(table["name"][several]) == ["c", "d"] * 2
    for points, chosen in zip(ax.collections, (~several, several), strict=True):
        drawn, some = np.asarray(points.get_offsets()), table[chosen]
        np.testing.assert_allclose(drawn[:, 0], np.maximum(some["count"], 0.1))
        np.testing.assert_allclose(drawn[:, 1], some["inferential_relative_variance"])


def test_of_genes(tx):
    genes = dbx.tl.summarize_to_gene(tx)
    table = dbx.get.quantify(genes, names=["x", "z"], samples="two")
    np.testing.assert_allclose(table["count"], [90, 5])
    assert {"sd", "lower", "upper"} <= set(table)
    dbx.pl.quantify(genes, names="x", show=False)


def test_wrong_uses(tx):
    with pytest.raises(KeyError, match="There is no sample 'ones'.*Did you mean 'one'"):
        dbx.get.quantify(tx, samples="ones")
    with pytest.raises(KeyError, match="There is no gene 'w'"):
        dbx.pl.quantify(tx, gene="w")
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        dbx.get.quantify(tx, level=95)
    bare = tx.copy()
    del bare.layers["variance"]
    with pytest.raises(KeyError, match="n_bootstrap=100"):
        dbx.pl.quantify(bare)
    del bare.layers["tpm"]
    with pytest.raises(KeyError, match="lacks 'tpm'"):
        dbx.get.quantify(bare)
