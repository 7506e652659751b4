"""The foundation model: hidden genes, order of genes, labels, files, new cells, and wrong input."""

from unittest.mock import MagicMock

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.data.safetensors import read_safetensors, write_safetensors

SMALL = {"n_layers": 1, "n_hidden": 16, "n_heads": 2, "n_induced": 4, "max_epochs": 25, "batch_size": 32}
BRIEF = {**SMALL, "max_epochs": 3}
"""The same for all tests of other things than training, which then share compiled functions."""


def made(rng, n=160, n_genes=40):
    """Three types of cells with programmes of genes, of different depth, in two batches."""
    group, batch = rng.integers(0, 3, n), rng.integers(0, 2, n)
    means = rng.gamma(4, 0.5, (1, n_genes)) * np.exp(rng.normal(0, 1, (3, n_genes)))
    counts = rng.poisson(means[group] * rng.uniform(0.5, 2, (n, 1))).astype(np.float32)
    counts[:, 0] += 1
    data = ad.AnnData(sparse.csr_matrix(counts))
    data.var_names = [f"g{i}" for i in range(n_genes)]
    data.obs_names = [f"c{i}" for i in range(n)]
    data.obs["group"], data.obs["batch"] = pd.Categorical(group.astype(str)), pd.Categorical(batch.astype(str))
    labels = np.where(np.arange(n) % 4 == 0, group.astype(str), "Unknown")
    data.obs["known"] = pd.Categorical(labels)
    data.layers["hidden"] = sparse.csr_matrix((rng.random(counts.shape) < 0.15).astype(np.float32))
    return data


FULL = {
    **SMALL,
    "expected": True,
    "mask": "hidden",
    "batch_key": "batch",
    "labels_key": "known",
    "freeze_encoder": True,
    "likelihood": "poisson",
}


@pytest.fixture(scope="module")
def fitted():
    """(reference, query): trained with hidden entries, batches and labels."""
    data = made(np.random.default_rng(0))
    reference, query = data[:120].copy(), data[120:].copy()
    dbx.tl.foundation_model(reference, **FULL)
    return reference, query


def poisson_loss(counts, mean, hidden):
    mean = np.maximum(mean, 1e-4)
    return (mean - counts * np.log(mean))[hidden].mean()


def gene_means(counts, hidden, reference):
    share = reference.sum(axis=0) + 0.5
    share = share / share.sum()
    depth = np.where(hidden, 0, counts).sum(axis=1) / (~hidden * share).sum(axis=1)
    return depth[:, None] * share


def test_hidden_counts_of_new_cells_are_predicted_better_than_by_gene_means(fitted):
    reference, query = fitted[0], fitted[1].copy()
    counts, hidden = query.X.toarray(), query.layers["hidden"].toarray() > 0
    query.X = sparse.csr_matrix(np.where(hidden, 0, counts))
    dbx.rerun(query, reference)
    means = gene_means(counts, hidden, reference.X.toarray())
    gain = poisson_loss(counts, means, hidden) - poisson_loss(counts, query.layers["foundation_expected"], hidden)
    assert gain > 1  # a network that ignores the types gains nothing
    assert (query.obs["foundation_label"].astype(str) == query.obs["group"].astype(str)).mean() > 0.9


def test_new_cells_with_few_of_the_genes_are_refused(fitted):
    reference, query = fitted[0], fitted[1][:, :19].copy()
    with pytest.raises(ValueError, match=r"knows 40 genes, of which the data have 19 \(48%\)"):
        dbx.rerun(query, reference, missing_genes="zero")
    assert not query.obsm
    assert "foundation_label" not in query.obs


def test_what_is_hidden_does_not_matter(fitted):
    reference, one, two = fitted[0], fitted[1].copy(), fitted[1].copy()
    hidden = one.layers["hidden"].toarray() > 0
    two.X = sparse.csr_matrix(np.where(hidden, 7, two.X.toarray()).astype(np.float32))
    for query in (one, two):
        dbx.rerun(query, reference)
    for key in ("X_foundation", "foundation_probability"):
        np.testing.assert_allclose(one.obsm[key], two.obsm[key], atol=1e-6)
    np.testing.assert_allclose(
        one.layers["foundation_expected"][hidden], two.layers["foundation_expected"][hidden], rtol=1e-5
    )


def test_hidden_counts_of_the_fitted_cells_are_not_learned_from(fitted):
    one, two = fitted[0], made(np.random.default_rng(0))[:120].copy()
    hidden = one.layers["hidden"].toarray() > 0
    two.X = sparse.csr_matrix(np.where(hidden, 7, two.X.toarray()).astype(np.float32))
    dbx.tl.foundation_model(two, **FULL)
    np.testing.assert_allclose(one.obsm["X_foundation"], two.obsm["X_foundation"], atol=1e-5)
    np.testing.assert_allclose(one.layers["foundation_expected"], two.layers["foundation_expected"], rtol=1e-4)


def test_expected_counts_of_a_gene_do_not_use_its_own(fitted):
    """Without a mask each gene is predicted from others."""
    reference = fitted[0]
    one, two = fitted[1].copy(), fitted[1].copy()
    for query in (one, two):
        query.layers["hidden"] = sparse.csr_matrix(query.shape, dtype=np.float32)
    changed = two.X.toarray()
    changed[:, 5] += 9
    two.X = sparse.csr_matrix(changed)
    for query in (one, two):
        dbx.rerun(query, reference)
    before, after = one.layers["foundation_expected"], two.layers["foundation_expected"]
    np.testing.assert_allclose(before[:, 5], after[:, 5], rtol=1e-4)
    assert np.abs(before[:, 6] - after[:, 6]).max() > 1e-3


def test_expected_counts_are_of_the_network_and_of_neighbours():
    """With many cells none are kept, and they are the network's."""
    from dbx.ops.foundation.foundation_model import FoundationModel

    operator = MagicMock()
    operator.model.expected.return_value, operator.similar.return_value = 1.0, 2.0
    assert FoundationModel._expected_from(operator, "x", "left", "rows") == pytest.approx(1.4)
    assert operator.similar.call_args.args[1:] == ("x", "left", "rows")
    del operator.similar.points
    assert FoundationModel._expected_from(operator, "x", "left", "rows") == 1


def test_order_of_genes_and_cells_and_empty_genes_do_not_matter(fitted):
    reference, query = fitted[0], fitted[1].copy()
    dbx.rerun(query, reference)
    expected = query.obsm["X_foundation"]
    rng = np.random.default_rng(1)
    genes, cells = rng.permutation(query.n_vars), rng.permutation(query.n_obs)
    shuffled = fitted[1][cells][:, genes].copy()
    extra = ad.AnnData(
        sparse.csr_matrix((query.n_obs, 7), dtype=np.float32),
        obs=shuffled.obs[[]],
        layers={"hidden": sparse.csr_matrix((query.n_obs, 7), dtype=np.float32)},
    )
    extra.var_names = [f"zero{i}" for i in range(7)]
    wide = ad.concat([extra, shuffled], axis=1)
    some = fitted[1][:11].copy()
    for data, rows in ((wide, cells), (some, np.arange(11))):
        dbx.rerun(data, reference)
        off = np.abs(data.obsm["X_foundation"] - expected[rows]).max() / expected.std()
        assert off < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"values": "rank", "attention": "full", "likelihood": "poisson"},
        {
            "values": "bins",
            "objective": "both",
            "attention": "linear",
            "likelihood": "gaussian",
            "max_length": 20,
            "sampling": "balanced",
            "pooling": "mean",
            "contrastive_weight": 0.1,
            "expected": True,
            "max_epochs": 40,
        },
    ],
    ids=["ranks", "bins"],
)
def test_training_lowers_the_loss_with_every_kind_of_value_and_attention(settings):
    """Each compiles for seconds; ``tests/ops/foundation`` and ``tests/contract`` have other combinations."""
    data = made(np.random.default_rng(0))
    dbx.tl.foundation_model(data, **{**SMALL, "max_epochs": 8, **settings})
    history = data.uns["foundation_model"]["history"]
    terms = {"value", "rank"} if settings.get("objective") == "both" else {"value"}
    assert set(history) == {"loss", "validation_loss"} | terms
    assert history["validation_loss"].min() < history["validation_loss"][0] - 0.01
    assert data.varm["foundation_gene"].shape == (40, 16)
    if "expected" in settings:
        of_type = data.obs["group"].to_numpy() == "0"
        found, counts = data.layers["foundation_expected"], data.X.toarray()
        assert np.corrcoef(found[of_type].mean(axis=0), counts[of_type].mean(axis=0))[0, 1] > 0.9


def test_the_head_starts_at_gene_means():
    """Before any step, hidden counts are those by gene frequency and depth."""
    from dbx.data import RowBlocks
    from dbx.ops.foundation import start
    from dbx.ops.foundation.foundation_model import FoundationModel

    data = made(np.random.default_rng(0))
    model = FoundationModel(n_hidden=16, n_induced=4, n_layers=1).model
    start.reset(model, RowBlocks(data.X), np.zeros(data.n_obs, np.int32), 1, np.random.default_rng(0))
    counts, hidden = data.X.toarray(), data.layers["hidden"].toarray() > 0
    shown = (~hidden).astype(np.float32)
    network = model.network
    found = jax.jit(lambda x, shown: model.expected(network(x, shown), network.depth(x, shown)))(counts, shown)
    np.testing.assert_allclose(found, gene_means(counts, hidden, counts), rtol=1e-4)


def test_genes_that_are_used_and_what_is_written(fitted):
    data = made(np.random.default_rng(0), n_genes=60)
    data.var["used"] = np.arange(60) < 40  # as many as elsewhere: the same compiled functions
    dbx.tl.foundation_model(data, genes="used", key_added="X_few", **BRIEF)
    assert set(data.obsm) == {"X_few"}
    assert (data.varm["few_gene"][40:] == 0).all()
    assert (data.varm["few_gene"][:40] != 0).any()
    by_name = made(np.random.default_rng(0), n_genes=60)
    names = [f"g{i}" for i in range(40)]
    dbx.tl.foundation_model(by_name, genes=names, key_added="X_few", **BRIEF)
    np.testing.assert_array_equal(by_name.obsm["X_few"], data.obsm["X_few"])
    reference = fitted[0]
    assert list(reference.obs["foundation_label"].cat.categories) == ["0", "1", "2"]
    np.testing.assert_allclose(reference.obsm["foundation_probability"].sum(axis=1), 1, rtol=1e-5)
    neighbours = dbx.get.gene_neighbors(reference, "g3", n=4)
    vectors = reference.varm["foundation_gene"].astype(float)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit[3]
    assert list(neighbours["neighbor"]) == [f"g{i}" for i in np.argsort(-similarity) if i != 3][:4]
    np.testing.assert_allclose(neighbours["similarity"], np.sort(np.delete(similarity, 3))[::-1][:4])
    with pytest.raises(KeyError, match="no genes 'G3'.* Did you mean 'g3'"):
        dbx.get.gene_neighbors(reference, "G3")
    with pytest.raises(ValueError, match="'g50' have no embedding"):
        dbx.get.gene_neighbors(data, "g50", key="few_gene")


def test_fine_tuning_is_kept_only_if_it_helps():
    data = made(np.random.default_rng(0))
    dbx.tl.foundation_model(data, labels_key="known", **BRIEF)
    history = data.uns["foundation_model"]["history"]
    assert len(history["finetune_validation_loss"]) >= 1
    frozen = made(np.random.default_rng(0))
    dbx.tl.foundation_model(frozen, labels_key="known", freeze_encoder=True, **BRIEF)
    assert "finetune_loss" not in frozen.uns["foundation_model"]["history"]
    gained = history["finetune_validation_loss"].min() < history["finetune_validation_loss"][0]
    assert gained is not np.array_equal(data.obsm["X_foundation"], frozen.obsm["X_foundation"])
    few = made(np.random.default_rng(0))
    few.obs["known"] = np.where(np.arange(few.n_obs) < 9, few.obs["group"].astype(str), "Unknown")
    assert few.obs["known"].value_counts().drop("Unknown").min() < 4
    dbx.tl.foundation_model(few, labels_key="known", **BRIEF)  # too few to hold out
    assert "finetune_loss" not in few.uns["foundation_model"]["history"]


def test_optimize_trains_the_network_for_another_objective(fitted):
    """One entry of the vector is to follow the share of a gene; new cells have the network that was trained."""
    reference, query = fitted[0].copy(), fitted[1].copy()
    dbx.rerun(query, reference)
    first = reference.obsm["X_foundation"][:, 0]
    for data in (reference, query):
        share = data.X[:, 3].toarray().ravel() / np.asarray(data.X.sum(axis=1)).ravel()
        data.obs["target"] = first.mean() + first.std() * (share - share.mean()) / share.std()
    before = np.corrcoef(query.obsm["X_foundation"][:, 0], query.obs["target"])[0, 1]
    loss = dbx.losses.Function(lambda z, target: (z[:, 0] - target) ** 2, ("obs/target",))
    dbx.optimize(reference, loss, train="foundation_model", max_epochs=10, learning_rate=3e-3, anchor=1)
    assert reference.uns["optimize"]["kept"] == [True]
    dbx.rerun(query, reference)
    after = np.corrcoef(query.obsm["X_foundation"][:, 0], query.obs["target"])[0, 1]
    assert after > before + 0.2


def test_files_give_the_same_network_and_find_genes_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    data = made(np.random.default_rng(0))
    dbx.tl.foundation_model(data, save_weights=path, **BRIEF)
    tensors, about = read_safetensors(path)
    assert {"gene_embedding", "value_of_count.kernel", "blocks.0.within.kernel", "frequency"} <= set(tensors)
    again = made(np.random.default_rng(0))[:, ::-1].copy()
    dbx.tl.foundation_model(again, weights=path, pretrain=False, **BRIEF)
    np.testing.assert_allclose(again.obsm["X_foundation"], data.obsm["X_foundation"], atol=1e-5)
    with pytest.raises(ValueError, match=r"n_hidden=16.*: pass the same"):
        dbx.tl.foundation_model(again, weights=path, **{**BRIEF, "n_hidden": 8})
    lost = {name: tensor for name, tensor in tensors.items() if name != "head.kernel"}
    write_safetensors(tmp_path / "lost.safetensors", lost, about)
    with pytest.raises(ValueError, match=r"lacks the tensors 'head.kernel'"):
        dbx.tl.foundation_model(again, weights=tmp_path / "lost.safetensors", **BRIEF)
    write_safetensors(tmp_path / "other.safetensors", tensors, {"format": "pt"})
    with pytest.raises(ValueError, match="was not written by dbx"):
        dbx.tl.foundation_model(again, weights=tmp_path / "other.safetensors", **BRIEF)
    other = again.copy()
    other.var_names = [f"h{i}" if i > 15 else f"g{i}" for i in range(40)]
    with pytest.raises(ValueError, match=r"know 16 of the 40 genes \(40%\)"):
        dbx.tl.foundation_model(other, weights=path, **BRIEF)
    with pytest.raises(FileNotFoundError):
        dbx.tl.foundation_model(again, weights=tmp_path / "none.safetensors", **BRIEF)


WRONG = [
    ({"values": "ranks"}, ValueError, "values must be one of"),
    ({"objective": "mlm"}, ValueError, "objective must be one of"),
    ({"likelihood": "zinb"}, ValueError, "likelihood must be one of"),
    ({"attention": "flash"}, ValueError, "attention must be one of"),
    ({"sampling": "all"}, ValueError, "sampling must be one of"),
    ({"pooling": "max"}, ValueError, "pooling must be one of"),
    ({"max_length": 0}, ValueError, "max_length must be at least 2"),
    ({"n_hidden": 10, "n_heads": 4}, ValueError, "must be a multiple of n_heads=4"),
    ({"mask_rate": 1.0}, ValueError, "mask_rate must be a fraction"),
    ({"mask_rate_range": (0.6, 0.1)}, ValueError, "the smaller one first"),
    ({"contrastive_weight": -1}, ValueError, "contrastive_weight must be at least 0"),
    ({"learning_rate": 0}, ValueError, "learning_rate must be above 0"),
    ({"n_layers": 0}, ValueError, "n_layers must be at least 1"),
    ({"pretrain": False}, ValueError, "Nothing would be trained"),
    ({"labels_key": "known", "finetune": False}, ValueError, "finetune=False does not use labels"),
    ({"objective": "rank", "expected": True}, ValueError, "does not predict counts"),
    ({"labels_key": "none"}, KeyError, "none"),
    ({"labels_key": "empty"}, ValueError, "No cell has a label"),
    ({"labels_key": "single"}, ValueError, "two labels or more"),
    ({"batch_key": "none"}, KeyError, "none"),
    ({"layer": "none"}, KeyError, "none"),
    ({"mask": "none"}, KeyError, "none"),
    ({"mask": "wrong"}, ValueError, "1 for hidden entries"),
    ({"genes": ["g1", "x"]}, KeyError, "no genes 'x'"),
    ({"genes": ["g1"]}, ValueError, "at least 2"),
    ({"genes": ["g1", "g2"], "expected": True}, ValueError, "all genes"),
    ({"save_weights": "no/such/folder/file"}, ValueError, "no folder"),
]


def test_wrong_input_is_refused_in_words_and_nothing_is_written():
    data = made(np.random.default_rng(0), n=30)
    data.obs["empty"], data.obs["single"] = "Unknown", "B"
    data.layers["wrong"] = data.X.copy()
    before = data.copy()
    for arguments, error, message in WRONG:
        with pytest.raises(error, match=message):
            dbx.tl.foundation_model(data, **{**SMALL, **arguments})
    data.X = data.X.log1p()
    with pytest.raises(ValueError, match="raw counts"):
        dbx.tl.foundation_model(data, **SMALL)
    data.X = sparse.csr_matrix(data.shape, dtype=np.float32)
    with pytest.raises(ValueError, match="no counts"):
        dbx.tl.foundation_model(data, **SMALL)
    for container in ("obs", "obsm", "varm", "uns", "layers"):
        assert list(getattr(data, container)) == list(getattr(before, container))
