"""The plot of gates: what is drawn is what the program holds, before and after training."""

import numpy as np
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt

import dbx
from dbx.pl.gates import gates

N_GENES = 40


def cells():
    """Five genes tell the labels; the ranking has two of them among the first ten and two just behind."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 400)
    x = rng.normal(size=(400, N_GENES))
    x[:, [0, 1, 30, 31, 32]] += rng.normal(0, 1.5, (4, 5))[label]
    adata = AnnData(x.astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(N_GENES)]
    adata.obs["label"] = label.astype(str)
    adata.var["order"] = np.r_[np.full(2, N_GENES), np.arange(2, N_GENES)]
    return adata


@pytest.fixture(scope="module")
def gated():
    adata = cells()
    dbx.pp.gene_gate(adata, 10, by="order")
    dbx.pp.pca(adata, 4, layer="gene_gate")
    return adata


@pytest.fixture(scope="module")
def trained(gated):
    return dbx.optimize(gated, dbx.losses.CrossEntropy("label"), train=[("gene_gate", "pca")], max_epochs=60, copy=True)


def points(ax):
    return {c.get_label().rsplit(" (", 1)[0]: np.asarray(c.get_offsets()) for c in ax.collections}


def test_without_training_there_are_open_and_shut_genes_by_rank(gated):
    ax = gates(gated, show=False)
    drawn = points(ax)
    assert set(drawn) == {"open", "closed"}
    np.testing.assert_array_equal(drawn["open"][:, 0], np.arange(1, 11))
    score = gated.var["gene_gate_score"].to_numpy()
    np.testing.assert_allclose(drawn["open"][:, 1], np.sort(score)[::-1][:10])
    np.testing.assert_allclose(drawn["closed"][:, 1], np.sort(score)[::-1][10:])
    assert ax.get_title() == "10 of 40 genes are open"
    assert [text.get_text() for text in ax.get_legend().get_texts()][:2] == ["closed (30)", "open (10)"]
    assert len(ax.lines) == 1  # the edge alone
    assert {text.get_text() for text in ax.texts if text.get_text()} == {"g0", "g1"} | {f"g{i}" for i in range(34, 40)}


def test_what_training_changed_stands_at_its_former_rank(gated, trained):
    assert trained.uns["optimize"]["kept"].all()
    ax = gates(trained, n_names=1, title="mine", show=False)
    was, now = gated.var["gene_gate"].to_numpy(), trained.var["gene_gate"].to_numpy()
    assert now.sum() == 10
    assert now[[0, 1, 30, 31, 32]].all()
    drawn = points(ax)
    rank = np.r_[1, 2, np.arange(N_GENES, 2, -1)]
    for label, mask in {
        "open": was & now,
        "closed": ~was & ~now,
        "opened by training": now & ~was,
        "closed by training": was & ~now,
    }.items():
        found = drawn[label] if mask.any() else np.empty((0, 2))
        expected = np.column_stack([rank, trained.var["gene_gate_score"]])[mask]
        np.testing.assert_allclose(found, expected[np.argsort(expected[:, 0])])
    before = next(line for line in ax.lines if line.get_label() == "scores before training")
    np.testing.assert_allclose(before.get_ydata(), np.sort(gated.var["gene_gate_score"])[::-1])
    rise = (trained.var["gene_gate_score"] - gated.var["gene_gate_score"])[now & ~was]
    assert [text.get_text() for text in ax.texts if text.get_text()] == [rise.idxmax()]
    assert ax.get_title() == "mine"


def test_gates_in_new_slots_are_compared_with_those_they_came_from(gated):
    loss = dbx.losses.CrossEntropy("label")
    both = dbx.optimize(gated, loss, train=[("gene_gate", "pca")], max_epochs=60, key_added="tuned", copy=True)
    lines = [
        [line.get_label() for line in gates(both, key, show=False).lines] for key in ("gene_gate_tuned", "gene_gate")
    ]
    assert "scores before training" in lines[0]
    assert "scores before training" not in lines[1]


def test_saves_and_returns(gated, tmp_path):
    assert gates(gated, save=str(tmp_path / "gates.png")) is None
    assert (tmp_path / "gates.png").stat().st_size > 1000
    figure, ax = plt.subplots()
    assert gates(gated, ax=ax, return_fig=True) is figure


def test_what_is_not_there_is_said(gated):
    with pytest.raises(ValueError, match=r"var\['other'\]; pass key=, one of 'gene_gate'"):
        gates(gated, "other")
    with pytest.raises(ValueError, match="run dbx.pp.gene_gate"):
        gates(cells())
