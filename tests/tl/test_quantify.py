"""Abundances of transcripts beside plain expectation maximisation, salmon, and written files."""

import gzip

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import beta, kstest

import dbx
from dbx.losses.objectives import Cells
from dbx.ops.abundance import components
from dbx.ops.abundance.classes import EquivalenceClasses
from dbx.ops.abundance.estimates import Settings, estimated
from dbx.ops.abundance.implicit import pulled_back
from dbx.program.record.registry import load

# 21 classes of 10,000 error-free pairs of 15 human transcripts (GENCODE names by number), effective lengths
MEMBERS = [
    *("10", "0,1,2", "13", "6,11", "4", "0,1", "3,12", "1,2", "9,14", "6,12,14"),
    *("9", "6", "5", "7", "8", "1", "3", "0", "11", "2", "12"),
]
COUNTS = [4881, 1061, 962, 750, 664, 470, 346, 170, 137, 129, 91, 77, 55, 47, 42, 40, 37, 14, 12, 9, 6]
LENGTHS = [
    *(2105.159, 2207.159, 1675.159, 1503.159, 1363.159, 1859.159, 2122.159, 1781.159, 2218.159, 1434.159),
    *(2110.159, 1488.159, 1894.159, 671.159, 1462.159),
]
# plain expectation maximisation in NumPy to a change of 1e-14; salmon 1.10.1 --eqclasses with and without --useEM
EM = [
    *(158.60237761922565, 1503.5105240226414, 101.8870983581328, 330.57395557414185, 664.0, 55.0, 590.1649683597883),
    *(47.0, 42.0, 228.0, 4881.0, 361.87190661078836, 74.38916945527218, 962.0, 0.0),
]
SALMON_EM = [158.673, 1503.412, 101.915, 330.56, 664, 55, 590.145, 47, 42, 228, 4881, 361.888, 74.407, 962, 0]
SALMON_VB = [154.646, 1511.2, 98.154, 333.234, 664, 55, 593.065, 47, 42, 228, 4881, 359.774, 70.927, 962, 0]


def transcripts():
    return pd.DataFrame({"effective_length": LENGTHS}, index=[f"t{i}" for i in range(15)])


def table(counts=COUNTS):
    names = [",".join(f"t{i}" for i in row.split(",")) for row in MEMBERS]
    return pd.DataFrame({"transcripts": names, "count": counts})


@pytest.mark.parametrize("acceleration", [True, False])
@pytest.mark.parametrize("widest", [64, 0], ids=["newton", "passes"])
def test_maximum_likelihood(acceleration, widest, monkeypatch):
    monkeypatch.setattr(components, "WIDEST", widest)
    tx = dbx.tl.quantify(table(), transcripts=transcripts(), acceleration=acceleration)
    np.testing.assert_allclose(tx.X[0], EM, rtol=1e-5, atol=1e-5)  # its own stop is 1e-5 counts from the maximum
    np.testing.assert_allclose(tx.X[0], SALMON_EM, rtol=1e-3, atol=1e-3)  # salmon stops at a change of 1%
    assert tx.X.sum() == pytest.approx(10_000, abs=1e-6)
    rate = np.array(EM) / LENGTHS
    np.testing.assert_allclose(tx.layers["tpm"][0], rate / rate.sum() * 1e6, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("widest", [64, 0], ids=["newton", "passes"])
def test_variational_bayes_as_salmon(widest, monkeypatch):
    monkeypatch.setattr(components, "WIDEST", widest)
    tx = dbx.tl.quantify(table(), transcripts=transcripts(), method="vb")
    np.testing.assert_allclose(tx.X[0], SALMON_VB, rtol=1e-3, atol=1e-3)


def test_several_samples_and_rerun(tmp_path):
    frame = table().rename(columns={"count": "one"})
    frame["two"] = np.roll(COUNTS, 3)
    tx = dbx.tl.quantify(frame, transcripts=transcripts())
    alone = dbx.tl.quantify(frame[["transcripts", "two"]], transcripts=transcripts())
    np.testing.assert_allclose(tx["two"].X, alone.X, rtol=1e-6, atol=1e-6)
    for kind in ("h5ad", "zarr"):
        getattr(tx, f"write_{kind}")(tmp_path / f"tx.{kind}")
        back = getattr(ad, f"read_{kind}")(tmp_path / f"tx.{kind}")
        query = ad.AnnData(np.zeros((1, 15)), var=back.var[[]])
        query.obsm["classes"], query.layers["effective_length"] = np.array([np.roll(COUNTS, 3)]), np.array([LENGTHS])
        with pytest.warns(dbx.DbxWarning, match="no names: they are taken to be those that step 'quantify'"):
            dbx.rerun(query, back)
        np.testing.assert_allclose(query.X, alone.X, rtol=1e-6, atol=1e-6)


def quantified(frame):
    """Samples by themselves, with the transcripts in another order."""
    tx = dbx.tl.quantify(frame, transcripts=transcripts().iloc[::-1])
    del tx.uns["dbx"]
    return tx


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_rerun_finds_classes_and_transcripts_by_name(kind, tmp_path):
    tx = dbx.tl.quantify(table(), transcripts=transcripts())
    getattr(tx, f"write_{kind}")(tmp_path / f"tx.{kind}")
    tx = getattr(ad, f"read_{kind}")(tmp_path / f"tx.{kind}")
    others = np.roll(COUNTS, 5)
    names = [",".join(reversed(text.split(","))) for text in table()["transcripts"]]  # members in another order
    query = quantified(pd.DataFrame({"transcripts": names, "count": others}).sample(frac=1, random_state=0))
    expected = query[:, tx.var_names].X
    assert query.uns["quantify"]["classes"].tolist() != tx.uns["quantify"]["classes"].tolist()
    assert np.abs(expected - tx.X).max() > 100
    query.X = np.zeros(query.shape)
    dbx.rerun(query, tx)
    np.testing.assert_allclose(query[:, tx.var_names].X, expected, rtol=1e-6, atol=1e-6)
    frame = pd.DataFrame([others], query.obs_names, table()["transcripts"]).iloc[:, ::-1]
    by_frame = ad.AnnData(np.zeros((1, 15)), obs=query.obs[[]], var=tx.var[[]], obsm={"classes": frame})
    frame.columns = [",".join(sorted(name.split(","))) for name in frame.columns]
    with pytest.warns(dbx.DbxWarning, match="effective_length'] is missing: 'quantify' uses what it stored"):
        dbx.rerun(by_frame, tx)
    np.testing.assert_allclose(by_frame.X, expected, rtol=1e-6, atol=1e-6)


def test_classes_that_samples_lack_or_have_besides():
    tx = dbx.tl.quantify(table(), transcripts=transcripts())
    fewer = quantified(table().iloc[:18])
    expected = fewer[:, tx.var_names].X
    dbx.rerun(fewer, tx)  # in the last three are no fragments
    np.testing.assert_allclose(fewer[:, tx.var_names].X, expected, rtol=1e-6, atol=1e-6)
    more = quantified(pd.concat([table(), pd.DataFrame({"transcripts": ["t7,t8"], "count": [5]})]))
    before = more.copy()
    with pytest.raises(ValueError, match="counts in 1 columns that step 'quantify' was not fitted on: t7,t8"):
        dbx.rerun(more, tx)
    np.testing.assert_array_equal(more.X, before.X)
    more.obsm["classes"][:, -1] = 0
    dbx.rerun(more, tx)
    np.testing.assert_allclose(more[:, tx.var_names].X, tx.X, rtol=1e-6, atol=1e-6)
    weighted = table().assign(weights=[",".join("1" for _ in row.split(",")) for row in MEMBERS])
    with pytest.raises(ValueError, match=r"not fitted on: t10:1, "):
        dbx.rerun(quantified(weighted), tx)
    lacking = quantified(table())[:, :0:-1].copy()  # without the last transcript
    with pytest.raises(ValueError, match="the data lack 1: t14"):
        dbx.rerun(lacking, tx)
    with pytest.warns(dbx.DbxWarning, match="1 of its 15 genes"):
        dbx.rerun(lacking, tx, missing_genes="zero")
    np.testing.assert_allclose(lacking.X, tx[:, lacking.var_names].X, rtol=1e-6, atol=1e-6)
    lacking.obsm["classes"].data[0] = -1
    with pytest.raises(ValueError, match="at least 0; got -1"), pytest.warns(dbx.DbxWarning, match="1 of its 15"):
        dbx.rerun(lacking, tx, missing_genes="zero")
    del more.uns["quantify"]
    with pytest.raises(ValueError, match="22 columns without names, but step 'quantify' needs 21"):
        dbx.rerun(more, tx)


def test_forms_of_classes(tmp_path):
    rng = np.random.default_rng(0)
    members = [[0], [0, 1], [1, 2], [0, 2]]
    reads = np.zeros((60, 3))
    which = rng.integers(0, 4, 60)
    for read, c in zip(reads, which, strict=True):
        read[members[c]] = 1
    counts = np.bincount(which)
    names, lengths = ["a", "b", "c"], pd.DataFrame({"effective_length": [900.0, 400.0, 700.0]}, index=list("abc"))
    frame = pd.DataFrame({"transcripts": [";".join(names[t] for t in m) for m in members], "count": counts})
    expected = dbx.tl.quantify(frame, transcripts=lengths).X
    compatibility = sparse.csr_matrix([[float(t in m) for t in range(3)] for m in members])
    given = ad.AnnData(counts[None].astype(float), varm={"compatibility": compatibility}, uns={"transcripts": names})
    lines = [f"{len(m)} {' '.join(map(str, m))} {n}" for m, n in zip(members, counts, strict=True)]
    salmon = tmp_path / "sample1"
    (salmon / "aux_info").mkdir(parents=True)
    with gzip.open(salmon / "aux_info" / "eq_classes.txt.gz", "wt") as file:
        file.write("\n".join(["3", "4", *names, *(line.replace(" ", "\t") for line in lines)]) + "\n")
    sf = "Name\tLength\tEffectiveLength\tTPM\tNumReads\nc\t800\t700\t0\t0\na\t1000\t900\t0\t0\nb\t500\t400\t0\t0\n"
    (salmon / "quant.sf").write_text(sf)
    kallisto = tmp_path / "kallisto"
    kallisto.mkdir()
    (kallisto / "transcripts.txt").write_text("a\nb\nc\n")
    (kallisto / "matrix.ec").write_text("".join(f"{i}\t{','.join(map(str, m))}\n" for i, m in enumerate(members)))
    entries = "".join(f"1 {i + 1} {n}\n" for i, n in enumerate(counts))
    (kallisto / "matrix.mtx").write_text(f"%%MatrixMarket matrix coordinate real general\n1 4 4\n{entries}")
    for form in (reads, sparse.csr_matrix(reads), given, salmon, kallisto):
        found = dbx.tl.quantify(form, transcripts=lengths)
        np.testing.assert_allclose(found.X, expected, rtol=1e-6)
    both = dbx.tl.quantify([salmon, kallisto], transcripts=lengths)
    np.testing.assert_allclose(both.X, np.vstack([expected, expected]), rtol=1e-6)
    rows = "a\t1000\t900\t0\t0\nb\t500\t400\t0\t0\nc\t800\t700\t0\t0\n"
    (kallisto / "abundance.tsv").write_text("target_id\tlength\teff_length\test_counts\ttpm\n" + rows)
    for folder in (salmon, kallisto):  # effective lengths of quant.sf and abundance.tsv
        own = dbx.tl.quantify(folder)
        np.testing.assert_allclose(own.X, expected, rtol=1e-6)
        assert own.var["length"].tolist() == [1000, 500, 800]
    assert dbx.tl.quantify([salmon, kallisto]).var["length"].tolist() == [1000, 500, 800]
    np.testing.assert_allclose(dbx.read_quant(kallisto, requantify=True, kind="kallisto").X, expected, rtol=1e-6)
    with pytest.raises(FileNotFoundError, match="has no matrix.ec .kallisto. to quantify from"):
        dbx.read_quant(salmon, requantify=True, kind="kallisto")
    with pytest.raises(ValueError, match="paths is empty"):
        dbx.read_quant([])
    weights = [",".join(str(1 / lengths["effective_length"].iloc[t]) for t in m) for m in members]
    weighted = dbx.tl.quantify(frame.assign(weights=weights), transcripts=lengths)
    np.testing.assert_allclose(weighted.X, expected, rtol=1e-6)


def test_variance_of_repeats():
    one = pd.DataFrame({"transcripts": ["a", "b", "a,b"], "count": [300, 100, 400]})
    lengths = pd.DataFrame({"effective_length": [500.0, 500.0]}, index=["a", "b"])
    # of shares p, 1 - p from n unique and m shared fragments: counts of a are N p with p = x / n, x binomial
    expected = 800**2 * 0.75 * 0.25 / 400
    for method in ("em", "vb"):
        tx = dbx.tl.quantify(one, transcripts=lengths, method=method, n_bootstrap=400)
        draws = tx.uns["quantify"]["bootstrap"]
        assert draws.shape == (1, 400, 2)
        np.testing.assert_allclose(draws.sum(axis=2), 800, rtol=1e-6)
        np.testing.assert_allclose(tx.layers["variance"][0], draws[0].var(axis=0, ddof=1), rtol=1e-4)
        # 400 repeats: 7% relative error of a variance
        np.testing.assert_allclose(tx.layers["variance"][0], expected, rtol=0.25)
        ratio = np.maximum(tx.layers["variance"] - draws.mean(axis=1), 0) / (draws.mean(axis=1) + 5) + 0.01
        np.testing.assert_allclose(tx.layers["inferential_relative_variance"], ratio, rtol=1e-4)


@pytest.mark.parametrize("weights", [None, ["1", "2", "2", "3,3", "3,3,1"]])
def test_posterior_of_transcripts_that_no_class_tells_apart(weights):
    frame = pd.DataFrame({"transcripts": ["a", "b", "e", "c,d", "c,d,e"], "count": [3000, 100, 40, 4000, 10]})
    if weights is not None:
        frame["weights"] = weights
    lengths = pd.DataFrame({"effective_length": 500.0}, index=[*"abcde"])
    draws = dbx.tl.quantify(frame, transcripts=lengths, method="vb", n_bootstrap=1000).uns["quantify"]["bootstrap"][0]
    share = draws[:, 2] / draws[:, 2:4].sum(axis=1)  # that of the prior, Beta(1/2, 1/2)
    assert kstest(share, beta(0.5, 0.5).cdf).pvalue > 0.01
    certain = draws[:, 0] / draws.sum(axis=1)
    exact = beta(3000.5, 7150 - 3000 + 4 * 0.5)
    assert certain.mean() == pytest.approx(exact.mean(), abs=4 * exact.std() / np.sqrt(1000))
    assert certain.std() == pytest.approx(exact.std(), rel=0.1)


def test_posterior_of_shared_fragments():
    frame = pd.DataFrame({"transcripts": ["a", "b", "a,b"], "count": [3, 5, 200]})
    lengths = pd.DataFrame({"effective_length": [500.0, 500.0]}, index=["a", "b"])
    draws = dbx.tl.quantify(frame, transcripts=lengths, method="vb", n_bootstrap=1000).uns["quantify"]["bootstrap"][0]
    share = draws[:, 0] / draws.sum(axis=1)
    # the shared fragments say nothing of shares; a chain of 16 rounds is correlated, so that 1000 draws are about 125
    exact = beta(3.5, 5.5)
    assert share.mean() == pytest.approx(exact.mean(), abs=4 * exact.std() / np.sqrt(125))
    assert share.std() == pytest.approx(exact.std(), rel=0.2)


@pytest.mark.parametrize("method", ["em", "vb"])
def test_repeats_of_a_sample_do_not_depend_on_others(method):
    counts = np.array([[30, 4, 50, 9], [3, 40, 5, 0], [10, 4, 0, 20], [30, 9, 50, 4]])
    frame = pd.DataFrame({"transcripts": ["a", "b", "a,b", "b,c"], **{f"s{i}": row for i, row in enumerate(counts)}})
    lengths = pd.DataFrame({"effective_length": [500.0, 300.0, 200.0]}, index=[*"abc"])
    how = {"transcripts": lengths, "method": method, "n_bootstrap": 3}
    together = dbx.tl.quantify(frame, **how).uns["quantify"]["bootstrap"]
    for i in range(len(counts)):
        alone = dbx.tl.quantify(frame[["transcripts", f"s{i}"]], **how).uns["quantify"]["bootstrap"]
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-6)


def test_loss_is_the_negative_log_likelihood_of_scipy():
    from scipy.stats import multinomial

    tx = dbx.tl.quantify(table(), transcripts=transcripts())
    share = np.zeros(21)
    for c, row in enumerate(MEMBERS):
        share[c] = sum(EM[int(t)] / 1e4 / LENGTHS[int(t)] for t in row.split(","))
    # up to the factor that the number of orders is, and the sum of shares over classes
    known = multinomial(10_000, share / share.sum()).logpmf(COUNTS) - multinomial(10_000, np.ones(21) / 21).logpmf(
        COUNTS
    )
    expected = known + 1e4 * (np.log(share.sum()) - np.log(21))
    assert tx.uns["quantify"]["log_likelihood"][0] == pytest.approx(expected, rel=1e-8)
    operator = load(tx)["quantify"].build()
    inputs = {"x": np.array([COUNTS], float), "lengths": np.array([LENGTHS])}
    cells = Cells(z=None, read={}, rows=None, run=lambda _: (operator, inputs, operator(**inputs)))
    with jax.enable_x64(True):
        loss = dbx.losses.ExpectedFragments("quantify").of_cells(cells)
    np.testing.assert_allclose(loss, [-expected / 1e4], rtol=1e-8)


def test_effective_lengths_from_a_distribution():
    p = np.zeros(301)
    p[[100, 200, 300]] = 0.5, 0.3, 0.2
    frame = pd.DataFrame({"transcripts": ["a", "a,b"], "count": [5, 7]})
    lengths = pd.DataFrame({"length": [1000, 150]}, index=["a", "b"])
    tx = dbx.tl.quantify(frame, transcripts=lengths, fragment_length=p)
    by_hand = [sum(q * (n - size + 1) for size, q in enumerate(p) if size <= n) for n in (1000, 150)]
    np.testing.assert_allclose(tx.var["effective_length"], by_hand, rtol=1e-12)
    tx = dbx.tl.quantify(frame, transcripts=lengths, fragment_length=200)
    assert tx.var["effective_length"].tolist() == [801, 1]


def test_transcripts_that_no_class_tells_apart():
    frame = pd.DataFrame({"transcripts": ["a", "b,c", "a,b,c"], "count": [5, 8, 7]})
    lengths = pd.DataFrame({"effective_length": [500.0, 400.0, 400.0]}, index=["a", "b", "c"])
    tx = dbx.tl.quantify(frame, transcripts=lengths)
    assert tx.var["identifiability"].tolist() == [-1, 0, 0]
    assert tx.uns["quantify"]["unidentified"].tolist() == ["b,c"]
    assert tx.X[0, 1] == pytest.approx(tx.X[0, 2])


def test_derivatives_of_a_large_part_agree_with_those_of_small_ones(monkeypatch):
    rng = np.random.default_rng(0)
    indices = np.array([int(t) for row in MEMBERS for t in row.split(",")])
    indptr = np.append(0, np.cumsum([row.count(",") + 1 for row in MEMBERS]))
    classes = EquivalenceClasses(15, indptr, indices)
    given = (np.array([COUNTS], float), np.array([LENGTHS]))
    a = estimated(classes, *given, Settings(tol=1e-14)).counts
    expected = pulled_back(classes, *given, a, rng.normal(size=a.shape), Settings())
    monkeypatch.setattr(components, "WIDEST", 0)
    found = pulled_back(classes, *given, a, np.random.default_rng(0).normal(size=a.shape), Settings())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transcripts": ["t0", "nobody"]}, "not in transcripts.index: 'nobody'"),
        ({"count": [1, -2]}, "at least 0; got -2"),
        ({"transcripts": ["t0", ""]}, "no transcript"),
        ({"transcripts": ["t0,t1", "t1,t0"]}, "there twice, in rows 0 and 1"),
        ({"weights": ["1", "1,2"]}, "1 transcripts and 2 weights"),
        ({"weights": ["1", "x"]}, "The weights must be numbers; got 'x'"),
        ({"count": ["1", "many"]}, "The counts of 'count' must be numbers; got 'many'"),
        ({"count": [1, np.nan]}, "at least 0; got nan"),
    ],
)
def test_wrong_tables(change, message):
    frame = pd.DataFrame({"transcripts": ["t0", "t1"], "count": [1, 2]}).assign(**change)
    with pytest.raises(ValueError, match=message):
        dbx.tl.quantify(frame, transcripts=transcripts())


def test_wrong_kinds_of_classes():
    two = pd.concat([table(), table()[["count"]]], axis=1)
    with pytest.raises(ValueError, match="columns twice: 'count'"):
        dbx.tl.quantify(two, transcripts=transcripts())
    with pytest.raises(TypeError, match="Row 1 of the classes must have names joined by commas; got nan"):
        dbx.tl.quantify(pd.DataFrame({"transcripts": ["t0", np.nan], "count": [1, 2]}), transcripts=transcripts())
    with pytest.raises(TypeError, match="classes must be a DataFrame, .*; got dict"):
        dbx.tl.quantify({"t0": 1}, transcripts=transcripts())
    with pytest.raises(TypeError, match="paths must be a folder, .*; got int"):
        dbx.read_quant(5)
    with pytest.raises(ValueError, match="a single repeat has no variance"):
        dbx.tl.quantify(table(), transcripts=transcripts(), n_bootstrap=1)
    with pytest.raises(ValueError, match="The effective lengths must be numbers; got 'long'"):
        dbx.tl.quantify(table(), transcripts=transcripts().astype(object).replace(LENGTHS[0], "long"))


def test_wrong_lengths_and_unseen_transcripts():
    lengths = transcripts()
    lengths.iloc[3] = 0
    with pytest.raises(ValueError, match="must be above 0; those of 't3'"):
        dbx.tl.quantify(table(), transcripts=lengths)
    with pytest.raises(ValueError, match="Effective lengths are missing"):
        dbx.tl.quantify(table())
    with pytest.raises(ValueError, match="fragment_length must be the mean length .*; got dict"):
        dbx.tl.quantify(
            table(), transcripts=transcripts().rename(columns={"effective_length": "length"}), fragment_length={200: 1}
        )
    lengths = transcripts()
    lengths.loc["extra"] = 500.0
    with pytest.warns(dbx.DbxWarning, match="1 transcripts are in no class, their counts are 0: 'extra'"):
        tx = dbx.tl.quantify(table(), transcripts=lengths)
    assert tx.X[0, -1] == 0
    with pytest.warns(dbx.DbxWarning, match="did not converge in 3"):
        dbx.tl.quantify(table(), transcripts=transcripts(), acceleration=False, max_iter=3)


def test_nothing_to_quantify():
    with pytest.raises(ValueError, match="no classes with fragments"):
        dbx.tl.quantify(table().iloc[:0], transcripts=transcripts())
    with pytest.raises(ValueError, match="0 samples"):
        dbx.tl.summarize_to_gene(dbx.tl.quantify(table(), transcripts=transcripts(), genes=["x"] * 15)[:0])


def test_a_missing_gene_stays_missing(tmp_path):
    classes = pd.DataFrame({"transcripts": ["a", "a,b", "b,c"], "count": [20, 30, 10]})
    lengths = pd.DataFrame({"effective_length": [900.0, 400.0, 700.0], "gene": ["x", "x", None]}, index=[*"abc"])
    by_table = dbx.tl.quantify(classes, transcripts=lengths)
    by_name = dbx.tl.quantify(
        classes, transcripts=lengths[["effective_length"]], genes={"a": "x", "b": "x", "c": np.nan}
    )
    by_table.write_h5ad(tmp_path / "tx.h5ad")
    for tx in (by_table, by_name, ad.read_h5ad(tmp_path / "tx.h5ad")):
        assert tx.var["gene"].isna().tolist() == [False, False, True]
        with pytest.raises(ValueError, match="1 transcripts have no gene: 'c'"):
            dbx.tl.summarize_to_gene(tx)
