"""tl.copy_number on cells with planted gains and losses; tl.hmm along genes."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.data.blocks import RowBlocks
from dbx.ops.hmm.gene_markov import GeneHMM
from dbx.ops.hmm.smoothing import Windows

N, GENES = 120, 1200


def planted(seed: int, depth: float = 3000) -> tuple[ad.AnnData, np.ndarray]:
    """Half of the cells have a chromosome three times and lack a copy of half of another."""
    rng = np.random.default_rng(seed)
    copies = np.full((N, GENES), 2)
    copies[N // 2 :, 200:400], copies[N // 2 :, 700:800] = 3, 1
    means = np.random.default_rng(99).gamma(0.8, 1.0, GENES) * copies / 2
    means = means / means.sum(axis=1, keepdims=True) * rng.lognormal(np.log(depth), 0.3, (N, 1))
    data = ad.AnnData(rng.poisson(means).astype(np.float32))
    data.var["chromosome"] = np.repeat([f"chr{i}" for i in range(1, 7)], GENES // 6)
    data.obs["kind"] = pd.Categorical(np.repeat(["normal", "tumour"], N // 2))
    dbx.pp.normalize_total(data)
    dbx.pp.log1p(data)
    return data, np.sign(copies - 2) + 1


def test_planted_copies_are_found_and_normal_cells_are_neutral():
    data, truth = planted(0)
    dbx.tl.copy_number(data, reference_key="kind", reference="normal")
    states, tumour = data.layers["copy_number_state"], data.obs["kind"] == "tumour"
    assert (states[~tumour] != 1).mean() <= 0.05
    assert (states[tumour] == truth[tumour]).mean() > 0.9
    assert data.obs["cnv_score"][tumour].min() > data.obs["cnv_score"][~tumour].median()
    assert data.uns["copy_number"]["reference_altered"] == pytest.approx((states[~tumour] != 1).mean(), abs=0.01)
    runs = dbx.get.segments(data, "copy_number")
    assert runs.groupby("row")["length"].sum().eq(GENES).all()
    of_last = runs[runs["row"] == data.obs_names[-1]].reset_index(drop=True)
    longest = of_last.loc[of_last[of_last["state"] == "2"]["length"].idxmax()]
    assert longest["sequence"] == "chr2"
    track = data.layers["copy_number"][-1, longest["start"] : longest["end"] + 1]
    assert longest["mean"] == pytest.approx(track.mean(), rel=1e-5)
    shuffled = data[:, np.random.default_rng(0).permutation(GENES)].copy()
    shuffled.var["start"] = shuffled.var_names.astype(int)
    dbx.tl.copy_number(shuffled, reference_key="kind", reference="normal")
    order = np.argsort(shuffled.var["start"].to_numpy())
    np.testing.assert_allclose(shuffled.layers["copy_number"][:, order], data.layers["copy_number"], atol=1e-5)


def test_new_normal_cells_are_neutral_too():
    data, _ = planted(0)
    new, truth = planted(1)
    both = ad.concat([data, new], keys=["a", "b"], index_unique="-", merge="same")
    both.uns = {}
    both.obs["known"] = ["reference" if k == "normal" and i < N else "other" for i, k in enumerate(both.obs["kind"])]
    dbx.tl.copy_number(both, reference_key="known", reference="reference")
    states = both.layers["copy_number_state"][N:]
    assert (states[: N // 2] != 1).mean() <= 0.05
    assert (states[N // 2 :] == truth[N // 2 :]).mean() > 0.9


def test_clusters_share_a_profile_that_is_less_noisy():
    data, truth = planted(0)
    dbx.tl.copy_number(data, reference_key="kind", reference="normal", cluster_key="kind")
    states = data.layers["copy_number_state"]
    assert (states[:60] == states[0]).all()
    assert (states[0] == 1).all()
    assert (states[60] == truth[60]).mean() > 0.93


def test_clusters_find_what_single_cells_do_not():
    data, truth = planted(0, depth=200)
    dbx.tl.copy_number(data, reference_key="kind", reference="normal")
    altered = truth != 1
    assert (data.layers["copy_number_state"] == truth)[altered].mean() < 0.5
    dbx.tl.copy_number(data, reference_key="kind", reference="normal", cluster_key="kind")
    assert (data.layers["copy_number_state"] == truth)[altered].mean() > 0.8
    assert (data.layers["copy_number_state"][~altered] != 1).mean() < 0.05
    # a cluster of one cell has its noise, and is called no more than that cell
    data.obs["some"] = np.repeat(["a", "b", "c", "d"], [1, 29, 30, 60])
    dbx.tl.copy_number(data, reference_key="kind", reference="normal", cluster_key="some")
    assert (data.layers["copy_number_state"][0] != 1).mean() < 0.1


def test_windows_are_pyramids():
    windows = Windows(np.repeat([0, 1], [50, 60]), 9)
    x = np.zeros((1, 110))
    x[0, 25] = 1
    weights = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    np.testing.assert_allclose(windows.mean(x)[0, 21:30], weights)
    assert windows.effective == pytest.approx(1 / (weights**2).sum())
    x[0, 25], x[0, 49] = 0, 1
    assert windows.mean(x)[0, 50:].max() == 0
    np.testing.assert_allclose(windows.mean(np.ones((1, 110))), 1)


def test_wrong_input_is_refused_in_words():
    data, _ = planted(0)
    data.var["mixed"] = ["chr1", "1"] * (GENES // 2)
    data.var["kinds"] = ["chr1", "2"] * (GENES // 2)
    data.var["none"] = None
    keys = set(data.layers), set(data.obs), set(data.uns)
    for how, words in (
        ({"reference": "normal"}, "pass reference_key"),
        ({"reference_key": "kind", "reference": "healthy"}, "has no category 'healthy'"),
        ({"chromosome_key": "mixed"}, "with and without 'chr'"),
        ({"chromosome_key": "kinds"}, "with and without 'chr', such as 'chr1' and '2'"),
        ({"exclude_chromosomes": [*"123456"]}, "not excluded"),
        ({"chromosome_key": "none"}, "no gene with a chromosome"),
        ({"exclude_chromosomes": [f"chr{i}" for i in range(1, 7)]}, "not excluded"),
        ({"window": 0}, "window must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            dbx.tl.copy_number(data, **how)
    data.var["start"] = "first"
    with pytest.raises(ValueError, match="must be numbers"):
        dbx.tl.copy_number(data)
    with pytest.raises(KeyError, match="nowhere"):
        dbx.tl.copy_number(data, chromosome_key="nowhere")
    assert keys == (set(data.layers), set(data.obs), set(data.uns))
    del data.var["start"]
    data.obs["few"] = ["a"] * 3 + ["b"] * (N - 3)
    with pytest.warns(UserWarning, match="only 3 reference cells"):
        dbx.tl.copy_number(data, reference_key="few", reference="a")


def test_along_genes_as_along_rows(rng):
    """Each row and chromosome is a sequence: the same as rows of a long table."""
    x = np.repeat([0.0, 3.0, 0.0], 20) + rng.normal(size=(4, 60))
    x[1, 5] = np.nan
    wide = ad.AnnData(x)
    wide.var["chromosome"], wide.var["start"] = ["2"] * 30 + ["1"] * 28 + [None] * 2, np.arange(60)
    long = ad.AnnData(x[:, :58].reshape(-1, 1))
    long.obs["sequence"] = [f"{row}-{column >= 30}" for row in range(4) for column in range(58)]
    params = {
        "startprob": [0.5, 0.5],
        "transmat": [[0.9, 0.1], [0.1, 0.9]],
        "means": [[0.5], [2.5]],
        "variances": [[1.0], [2.0]],
    }
    dbx.tl.hmm(wide, 2, axis="var", params=params, posteriors=True, state_names=["low", "high"])
    dbx.tl.hmm(long, 2, sequence_key="sequence", params=params)
    one, two = wide.uns["hmm"], long.uns["hmm"]
    assert one["log_likelihood"] == pytest.approx(two["log_likelihood"], rel=1e-10)
    states = long.obs["hmm_state"].astype(int).to_numpy().reshape(4, 58)
    np.testing.assert_array_equal(wide.layers["hmm_state"][:, :58], states)
    assert (wide.layers["hmm_state"][:, 58:] == -1).all()
    means = (long.obsm["X_hmm"] @ two["params"]["means"][:, 0]).reshape(4, 58)
    np.testing.assert_allclose(wide.layers["hmm_mean"][:, :58], means, rtol=1e-5)
    new = ad.AnnData(x[:2], var=wide.var)
    dbx.rerun(new, wide)
    for state, name in enumerate(["low", "high"]):
        posterior = wide.layers[f"hmm_posterior_{name}"]
        np.testing.assert_allclose(posterior[:, :58].ravel(), long.obsm["X_hmm"][:, state], atol=1e-6)
        assert np.isnan(posterior[:, 58:]).all()
        np.testing.assert_array_equal(new.layers[f"hmm_posterior_{name}"], posterior[:2])
    of_genes, of_rows = dbx.get.segments(wide), dbx.get.segments(long)
    order = np.lexsort((of_genes["start"], of_genes["sequence"] == "1", of_genes["row"].astype(int)))
    np.testing.assert_allclose(of_genes["posterior"].to_numpy()[order], of_rows["posterior"], atol=1e-6)
    dbx.tl.hmm(wide, 2, axis="var", params=params)
    with pytest.raises(ValueError, match="only with axis="):
        dbx.tl.hmm(wide, 2, axis="var", use_rep="X_pca")
    wide.X[2, 30:58] = np.nan  # chromosome 1
    with pytest.raises(
        ValueError, match="1 times a row has missing values only .* row 2, along the chromosome of column 30"
    ):
        dbx.tl.hmm(wide, 2, axis="var", params=params)


def test_copy_number_start_finds_events_that_clusters_miss(rng):
    """Log ratios with two short events in much noise, as of an array."""
    x = rng.normal(0, 0.12, 2000)
    x[300:330] -= 0.5
    x[1500:1540] += 0.4
    x[[100, 700, 900, 1200]] += [0.6, -0.6, 0.6, -0.6]  # outliers, no events
    data = ad.AnnData(x[:, None])
    dbx.tl.hmm(data, 3, init="copy_number")
    found = dbx.get.segments(data)
    events = found[found["state"] != "1"]
    assert len(events) == 2
    np.testing.assert_allclose(events["start"], [300, 1500], atol=3)
    np.testing.assert_allclose(events["end"], [329, 1539], atol=3)
    without_gain = ad.AnnData(np.minimum(x, 0.2)[:1000, None])
    dbx.tl.hmm(without_gain, 3, init="copy_number")  # which is nothing to warn of
    assert (without_gain.obs["hmm_state"] != "2").all()


def test_a_single_outlier_is_no_copy_number_event_and_two_clones_are(rng):
    """At the ends of chromosomes too, in new data, along genes, and by JAX as by NumPy."""
    x = rng.normal(0, 0.08, (3, 120))
    x[:, 40:60] -= 0.7
    x[:, [10, 59, 60, 90, 119]] = [-0.7, -0.7, 0.9, 0.9, -0.7]  # 60 starts and 119 ends a chromosome
    x[:, 100:102] = -0.7
    truth = np.full((3, 120), "1")
    truth[:, 40:60] = truth[:, 100:102] = "0"
    rows = ad.AnnData(x[:2].reshape(-1, 1), obs={"chromosome": np.repeat(["a", "b", "c", "d"], 60)})
    dbx.tl.hmm(rows, 3, init="copy_number", sequence_key="chromosome")
    np.testing.assert_array_equal(rows.obs["hmm_state"], truth[:2].ravel())
    new = ad.AnnData(x[2][:, None], obs={"chromosome": np.repeat(["a", "b"], 60)})
    dbx.rerun(new, rows)
    np.testing.assert_array_equal(new.obs["hmm_state"], truth[2])
    genes = ad.AnnData(x, var=pd.DataFrame({"chromosome": np.repeat(["a", "b"], 60)}, index=list(map(str, range(120)))))
    dbx.tl.hmm(genes, 3, init="copy_number", axis="var")
    np.testing.assert_array_equal(genes.layers["hmm_state"].astype(str), truth)
    operator = GeneHMM(chromosomes=(0,) * 60 + (1,) * 60, n_states=3, init="copy_number")
    operator.fit(x=RowBlocks(x))
    by_jax = operator(np.float32(x))
    np.testing.assert_array_equal(by_jax["states"], genes.layers["hmm_state"])
    np.testing.assert_allclose(by_jax["mean"], genes.layers["hmm_mean"], atol=1e-3)
    dbx.tl.hmm(rows, 3, sequence_key="chromosome", params=rows.uns["hmm"]["params"], fit=False)
    assert (rows.obs["hmm_state"] != truth[:2].ravel()).sum() == 4  # losses: parameters as given, data as they are


@pytest.mark.parametrize("emission", ["gaussian", "poisson", "categorical"])
def test_parameters_of_each_row(emission, rng):
    """As Baum-Welch on the row alone, from the parameters of all rows on; new rows too."""
    x = rng.uniform(1, 4, (3, 1)) * np.repeat([0, 1, 0], 20) + 0.5 * rng.normal(size=(3, 60))
    if emission != "gaussian":
        x = np.minimum(rng.poisson(np.exp(np.clip(x, -1, 3))), 8 if emission == "categorical" else 99).astype(float)
    x[0, 3] = np.nan
    data = ad.AnnData(x)
    data.var["chromosome"] = ["1"] * 35 + ["2"] * 25
    how = {"axis": "var", "emission": emission, "max_iter": 20, "tol": None, "transmat_prior": 0.5, "sticky": 2.0}
    if emission == "gaussian":
        how["min_variance"] = 0.01
    if emission == "categorical":
        how["n_symbols"] = 9
    dbx.tl.hmm(data, 2, share=False, n_init=1, posteriors=True, **how)
    one = ad.AnnData(x[:1].copy(), var=data.var)
    dbx.tl.hmm(one, 2, params=data.uns["hmm"]["params"], posteriors=True, **how)
    flat = np.concatenate([np.ravel(value) for value in one.uns["hmm"]["params"].values()])
    np.testing.assert_allclose(data.obsm["hmm_params"][0], flat, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(data.layers["hmm_state"][0], one.layers["hmm_state"][0])
    for name in ("hmm_mean", "hmm_posterior_0", "hmm_posterior_1"):
        np.testing.assert_allclose(data.layers[name][0], one.layers[name][0], rtol=1e-5, atol=1e-7)
    new = ad.AnnData(x[:2].copy(), var=data.var)
    dbx.rerun(new, data)
    np.testing.assert_allclose(new.obsm["hmm_params"], data.obsm["hmm_params"][:2])
    with pytest.raises(ValueError, match="share=False is for"):
        dbx.tl.hmm(data, 2, share=False)


def test_five_states_tell_one_copy_from_two():
    rng = np.random.default_rng(0)
    copies = np.full((N, 600), 2)
    copies[N // 2 :, 100:200], copies[N // 2 :, 300:400] = 3, 6
    means = np.random.default_rng(99).gamma(2, 1.0, 600) * copies / 2
    data = ad.AnnData(rng.poisson(means * 3).astype(np.float32))
    data.X = np.log1p(data.X)
    data.var["chromosome"] = np.repeat([f"chr{i}" for i in range(1, 7)], 100)
    data.obs["kind"] = np.repeat(["normal", "tumour"], N // 2)
    dbx.tl.copy_number(data, reference_key="kind", reference="normal", n_states=5, window=21)
    states = data.layers["copy_number_state"]
    assert (states[: N // 2] != 2).mean() <= 0.05
    assert (states[N // 2 :, 100:200] == 3).mean() > 0.6
    assert (states[N // 2 :, 300:400] == 4).mean() > 0.8
    ax = dbx.pl.copy_number(data, "kind", states=True, show=False)
    assert np.asarray(ax.images[0].get_array()).max() == 2
    with pytest.raises(ValueError, match="must be odd"):
        dbx.tl.copy_number(data, n_states=4)
