"""``CellTypist``: its regression beside scikit-learn, its scores and votes by hand, planted kinds at lower depth."""

import dask.array as da
import numpy as np
import pytest
from annotators import KINDS, N_GENES, accuracy, annotated, inputs, planted
from scipy import sparse, special, stats
from sklearn.linear_model import LogisticRegression

from dbx.data import RowBlocks
from dbx.ops.annotation.celltypist import CellTypist
from dbx.ops.annotation.labels import known_labels, sample_labelled
from dbx.ops.annotation.multinomial import fit_multinomial, standardise
from dbx.ops.annotation.profile_scores import Profiles
from dbx.ops.annotation.thinning import thinned
from dbx.ops.apply import apply
from dbx.ops.state import attach_references, rebuild, reference_values, state_arrays
from dbx.ops.values import Codes, Edges


@pytest.fixture(scope="module")
def data():
    return planted()


@pytest.fixture(scope="module")
def alone(data):
    operator = CellTypist(top_genes=15)
    operator.fit(**inputs(data, "labels"))
    return operator


def graph_of(data, rng):
    """Ten weighted edges from each cell, most of them to cells of its kind."""
    same = [np.flatnonzero(data["kind"] == kind) for kind in range(3)]
    n_cells, rows, ends = len(data["kind"]), [], []
    for cell in range(n_cells):
        others = np.setdiff1d(same[data["kind"][cell]], [cell])
        chosen = np.concatenate([rng.choice(others, 8, replace=False), rng.choice(n_cells, 2)])
        chosen = np.unique(chosen[chosen != cell])
        rows, ends = [*rows, *[cell] * len(chosen)], [*ends, *chosen]
    weights = rng.uniform(0.2, 1, len(rows)).astype(np.float32)
    return sparse.csr_matrix((weights, (rows, ends)), (n_cells, n_cells))


def test_regression_is_scikit_learns(rng):
    x, codes = rng.normal(size=(200, 7)) * np.arange(1, 8) + 3, rng.integers(0, 3, 200)
    x[codes == 1, :2] += 2
    features, standards = standardise(sparse.csr_matrix(x))
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = LogisticRegression(C=0.3, max_iter=5000, tol=1e-10).fit(scaled, codes)
    centre, equal = standards.mean / standards.sd, np.full(200, 1 / 200)
    kernel, bias = fit_multinomial(features, codes, equal, 1 / (0.3 * 200), offset=centre, max_iter=500)
    np.testing.assert_allclose(kernel, theirs.coef_.T, atol=1e-4)  # both stop where the slope is about 1e-6
    np.testing.assert_allclose(bias, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-4)
    one_step = [
        fit_multinomial(features, codes, equal, 1 / (0.3 * 200), offset=centre, start=start, max_iter=1)[0]
        for start in (None, (kernel, bias))
    ]
    assert np.abs(one_step[0] - kernel).max() > 0.1
    np.testing.assert_allclose(one_step[1], kernel, atol=1e-4)


def test_standards_cut_what_stands_far_out():
    x = np.ones((1000, 3))
    x[:, 0], x[0, 1] = np.arange(1000), 100
    features, (mean, sd, highest) = standardise(sparse.csr_matrix(x))
    np.testing.assert_allclose(mean, x.mean(axis=0))
    np.testing.assert_allclose(sd, [x[:, 0].std(), x[:, 1].std(), 1])  # a constant feature is not blown up
    assert features.toarray()[0, 1] == pytest.approx(mean[1] / sd[1] + 10)
    np.testing.assert_allclose(features.toarray()[:, 0], x[:, 0] / sd[0])
    assert highest[1] < 100


def test_thinned_copies_are_binomial_at_log_uniform_depths(rng):
    counts = sparse.csr_matrix(np.tile([0, 400.0, 1600.0], (4000, 1)))
    few = thinned(counts, rng)
    size = np.asarray(few.sum(axis=1)).ravel()
    assert few.nnz == counts.nnz
    # expected depths run from 50 to 2000 log-uniformly; binomial noise blurs the ends
    assert stats.kstest(np.log(size / 50) / np.log(40), "uniform").statistic < 0.04
    share = few.toarray()[:, 1].sum() / size.sum()
    assert share == pytest.approx(0.2, abs=4 * float(np.sqrt(0.16 / size.sum())))
    shallow = sparse.csr_matrix(np.array([[20.0, 30.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(thinned(shallow, rng).toarray(), shallow.toarray())


def test_scores_leave_the_cell_itself_out(data, rng):
    codes, _ = known_labels(data["labels"], "Unknown")
    chosen = np.array([0, 3, 50])
    whole = sparse.csr_matrix(data["counts"][chosen])
    part = thinned(whole, rng)
    found = Profiles(RowBlocks(data["counts"]), codes, 3).scores(part, whole, codes[chosen])
    counts = data["counts"].toarray().astype(float)
    prior = counts[codes >= 0].sum(axis=0) + 0.1
    prior /= prior.sum()
    for i, cell in enumerate(chosen):
        others = np.arange(len(codes)) != cell
        sums = np.stack([counts[(codes == k) & others].sum(axis=0) for k in range(3)])
        share = (sums + N_GENES * prior) / (sums.sum(axis=1, keepdims=True) + N_GENES)
        np.testing.assert_allclose(found[i], np.log(share / prior) @ part.toarray()[i], rtol=1e-5)


def test_probabilities_are_the_regression_by_hand(data, alone):
    a = {name: np.asarray(array, float) for name, (_, array) in state_arrays(alone).items()}
    x, genes = data["counts"].toarray(), a["genes"].astype(int)
    size = x.sum(axis=1, keepdims=True)
    z = np.minimum(np.log1p(x / size * 1e4)[:, genes], a["highest"]) - a["mean"]
    scores = x @ a["profiles"]
    scores = (scores - scores.mean(axis=1, keepdims=True)) / np.sqrt(size)
    expected = special.softmax(z @ a["kernel"] + scores @ a["score_kernel"] + a["bias"], axis=1)
    found = annotated(alone, data)
    np.testing.assert_allclose(found["probabilities"], expected, atol=2e-4)
    np.testing.assert_array_equal(found["labels"].codes, np.where(expected.max(1) < 0.5, 3, expected.argmax(1)))
    np.testing.assert_allclose(found["confidence"], expected.max(axis=1), atol=2e-4)
    assert found["labels"].levels == (*KINDS, "Unassigned")


def test_genes_that_mark_the_kinds_are_kept(alone):
    genes = np.asarray(alone.genes[...])
    assert len(genes) <= 45
    assert np.isin(np.arange(30), genes).mean() > 0.6


def test_shallow_cells_are_told_apart_thanks_to_thinned_copies(data, alone):
    without = CellTypist(top_genes=15, n_copies=0)
    without.fit(**inputs(data, "labels"))
    hard, one, two = data["unlabelled"], annotated(alone, data), annotated(without, data)
    truth = data["kind"][hard]
    logs = [np.log(found["probabilities"][hard][np.arange(hard.sum()), truth]).mean() for found in (one, two)]
    assert accuracy(one, data) > 0.85
    assert logs[0] > 0.8 * logs[1]
    best = one["probabilities"][hard].argmax(axis=1) == truth
    # calibrated: what is said in the mean is what is right, within three standard errors
    assert one["probabilities"][hard].max(axis=1).mean() == pytest.approx(best.mean(), abs=0.08)


def test_neighbours_vote(data, rng):
    graph = graph_of(data, rng)
    operator = CellTypist(top_genes=15, vote="neighbors")
    operator.fit(**inputs(data, "labels"), graph=graph)
    rows = np.arange(len(data["kind"]), dtype=np.int32)
    call = {**inputs(data), "graph": Edges(graph, rows)}
    found = apply(operator, call, len(rows))
    own = found["probabilities"]
    votes = graph @ np.eye(3)[own.argmax(axis=1)]
    shares = (own + votes / votes.sum(axis=1, keepdims=True)) / 2
    np.testing.assert_allclose(found["confidence"], shares.max(axis=1), rtol=1e-4)
    sure = shares.max(axis=1) > 0.51
    np.testing.assert_array_equal(np.asarray(found["labels"].codes)[sure], shares.argmax(axis=1)[sure])
    alone = annotated(without_vote(operator), data)
    assert accuracy(found, data) > accuracy(alone, data)
    # new cells: edges lead to fitted cells; a cell without any stands on its own
    new = apply(operator, {**call, "graph": Edges(graph, np.full_like(rows, -1))}, len(rows))
    np.testing.assert_allclose(new["confidence"], found["confidence"], rtol=1e-5)
    lonely = apply(operator, {**call, "graph": Edges(graph * 0, np.full_like(rows, -1))}, len(rows))
    np.testing.assert_allclose(lonely["confidence"], own.max(axis=1), rtol=1e-5)


def without_vote(operator):
    """The same regression without a vote."""
    return rebuild(CellTypist, {**operator.config, "vote": None}, state_arrays(operator))


def test_clusters_vote_and_unknown_ones_do_not(data):
    clusters = Codes(np.where(np.arange(300) % 10 == 0, -1, data["kind"]).astype(np.int32), ("0", "1", "2"))
    operator = CellTypist(top_genes=15, vote="clusters")
    operator.fit(**inputs(data, "labels"), clusters=clusters)
    found = apply(operator, {**inputs(data), "clusters": clusters}, 300)
    own, codes = found["probabilities"], np.asarray(clusters.codes)
    for cluster in range(3):
        member = codes == cluster
        share = np.bincount(own[member].argmax(axis=1), minlength=3) / member.sum()
        np.testing.assert_allclose(found["confidence"][member], (own[member] + share).max(axis=1) / 2, rtol=1e-4)
    np.testing.assert_allclose(found["confidence"][codes < 0], own[codes < 0].max(axis=1), rtol=1e-5)
    assert accuracy(found, data) > accuracy(annotated(without_vote(operator), data), data)


def test_what_is_unsure_is_unassigned(data, alone):
    strict = rebuild(CellTypist, {**alone.config, "min_confidence": 0.9}, state_arrays(alone))
    found, sure = annotated(strict, data), annotated(alone, data)["confidence"] >= 0.9
    np.testing.assert_array_equal(np.asarray(found["labels"].codes) == 3, ~sure)
    assert 0 < (~sure).sum() < 150
    assert accuracy(found, data, data["unlabelled"] & sure) > accuracy(annotated(alone, data), data)


def test_configuration_and_arrays_build_it_again(data, rng):
    operator, graph = CellTypist(vote="neighbors", n_copies=1, max_cells_per_label=20), graph_of(data, rng)
    operator.fit(**inputs(data, "labels"), graph=graph, seed=3)
    again = rebuild(CellTypist, operator.config, state_arrays(operator))
    attach_references(again, reference_values(operator))
    twin = CellTypist(vote="neighbors", n_copies=1, max_cells_per_label=20)
    twin.fit(**inputs(data, "labels"), graph=graph, seed=3)
    call = {**inputs(data), "graph": Edges(graph, np.arange(300, dtype=np.int32))}
    one = apply(operator, call, 300)
    for other in (again, twin):
        for name, value in apply(other, call, 300).items():
            np.testing.assert_array_equal(getattr(value, "codes", value), getattr(one[name], "codes", one[name]))
    assert again.config["classes"] == list(KINDS)


def test_a_cell_without_counts_has_the_shares_of_the_labels(alone):
    empty = apply(alone, {"x": RowBlocks(sparse.csr_matrix((2, N_GENES), dtype=np.float32))}, 2)
    assert np.isfinite(empty["probabilities"]).all()


def test_samples_of_each_label(rng):
    codes = np.array([0] * 50 + [-1] * 50 + [1] * 3)
    chosen = sample_labelled(codes, 10, rng)
    assert list(np.bincount(codes[chosen])) == [10, 3]
    assert (np.diff(chosen) > 0).all()


def test_wrong_labels_are_told_in_words(data):
    def fit(codes, levels, **settings):
        CellTypist(**settings).fit(**inputs(data), labels=Codes(np.asarray(codes, np.int32), levels))

    with pytest.raises(ValueError, match="No cell has a label, all are 'Unknown' or missing"):
        fit(np.zeros(300), ("Unknown",))
    with pytest.raises(ValueError, match=r"All labelled cells are 'a', but .*got unlabeled='Unknown'"):
        fit(np.arange(300) % 2 - 1, ("a",))
    with pytest.raises(ValueError, match="'Unassigned' is reserved for unsure cells"):
        fit(np.arange(300) % 2, ("a", "Unassigned"))
    fit(np.arange(300) % 3, ("a", "b", "Unassigned"), unlabeled="Unassigned", n_copies=0)
    with pytest.raises(ValueError, match="min_confidence must be between 0 and 1; got 2"):
        CellTypist(min_confidence=2)
    with pytest.raises(ValueError, match=r"C above 0; got 300, 200, 1000, 4 and 0"):
        CellTypist(C=0)


def test_votes_of_lazy_counts_are_those_of_counts_in_memory(data, rng):
    graph, codes = graph_of(data, rng), np.arange(300, dtype=np.int32)
    found = []
    for x in (data["counts"].toarray(), da.from_array(data["counts"].toarray(), chunks=(70, N_GENES))):
        operator = CellTypist(vote="neighbors", n_copies=0)
        operator.fit(x=RowBlocks(x), labels=data["labels"], graph=graph)
        found.append(apply(operator, {"x": RowBlocks(x), "graph": Edges(graph, codes)}, 300)["confidence"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
