"""The plot of training: curves are the recorded histories, whatever step wrote them."""

import numpy as np
import pytest
from contract.example import fitted
from contract.promise import first_examples
from matplotlib import pyplot as plt

import dbx
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import config_names
from dbx.ops.values import Frame
from dbx.pl._curves import curves_of
from dbx.pl.history import NATS, UNITS, _draw, _terms, history

QUICK = {"max_epochs": 6, "n_hidden": 8}
NETWORK = {"n_units": 16, "n_latents": 2, "n_blocks": 1}


@pytest.fixture(scope="module")
def _trained():
    adata = dbx.datasets.simulate(120, 40, 2, 2, seed=0, library_size=200)
    adata.layers["counts"] = adata.X.copy()
    # a learning rate far too large: the held-out loss is best before the last epoch, whose parameters come back
    dbx.pp.denoise(adata, max_epochs=8, learning_rate=0.2, patience=8, **NETWORK)
    dbx.pp.vae_normalize(adata, batch_key="batch", validation=0, **QUICK)
    dbx.pp.normalize_total(adata)
    return adata


@pytest.fixture
def trained(_trained):
    return _trained.copy()


def curves(ax):
    return {line.get_label(): line.get_data() for line in ax.lines}


def test_each_term_is_a_curve_over_the_epochs(trained):
    drawn = history(trained, show=False)  # the newest trained step, though another step ran since
    written = trained.uns["vae_normalize"]["history"]
    assert [ax.get_ylabel() for ax in drawn] == [
        "ELBO (nats per cell)",
        "loss (nats per cell)",
        "reconstruction (nats per cell)",
        "KL divergence (nats per cell)",
    ]
    for ax, term in zip(drawn, ("elbo", "loss", "reconstruction", "kl"), strict=True):
        assert list(curves(ax)) == ["training"]
        epochs, values = curves(ax)["training"]
        np.testing.assert_array_equal(epochs, np.arange(1, 7))
        np.testing.assert_array_equal(values, written[term])
        assert ax.get_xlabel() == "epoch"
    assert drawn[0].figure.get_suptitle() == "vae_normalize"


def test_held_out_cells_are_drawn_beside_and_the_kept_epoch_is_marked(trained):
    written = trained.uns["denoise"]["history"]
    written["validation_loss"] = written["validation_loss"] - 100  # the program is drawn, not what uns says since
    (ax,) = history(trained, "denoise", show=False)
    found = curves(ax)
    np.testing.assert_array_equal(found["training"][1], written["loss"])
    held_out = found["held-out cells"][1]
    np.testing.assert_allclose(held_out, written["validation_loss"] + 100, rtol=1e-5)
    best = int(np.argmin(held_out)) + 1
    assert best < len(held_out) == 8
    np.testing.assert_array_equal(found[f"kept: epoch {best}"][0], [best, best])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "training",
        "held-out cells",
        f"kept: epoch {best}",
    ]
    assert ax.get_title() == "denoise"


def test_training_that_went_on_is_one_curve(trained):
    before = trained.uns["vae_normalize"]["history"]["elbo"]
    dbx.rerun(trained, steps=["vae_normalize"], refit="continue", inputs={"X": "layers/counts"})
    ax = history(trained, keys="elbo", show=False)
    epochs, values = curves(ax)["training"]
    np.testing.assert_array_equal(epochs, np.arange(1, 13))
    np.testing.assert_array_equal(values[:6], before)


def test_a_mapped_program_shows_how_its_reference_was_trained(trained):
    query = trained[:20].copy()
    query.X, query.uns = query.layers["counts"].copy(), {}
    dbx.rerun(query, reference=trained, steps=["vae_normalize"])
    ax, expected = (history(data, keys="kl", show=False) for data in (query, trained))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), expected.lines[0].get_ydata())


def test_two_trainings_of_one_step_have_epochs_of_their_own():
    adata = dbx.datasets.simulate(90, 30, 2, 2, seed=0, library_size=200)
    dbx.pp.solo(adata, n_hidden=8, max_epochs=2, classifier_epochs=3)
    drawn, written = history(adata, show=False), adata.uns["solo"]["history"]
    for ax, (term, n_epochs) in zip(drawn, {"vae_loss": 2, "classifier_loss": 3}.items(), strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(1, n_epochs + 1))
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), written[term])
    # the whole likelihood of the counts, log x! included, which is never below zero
    assert (written["vae_loss"] > 0).all()
    assert adata.uns["solo"]["summary"].keys() == {"threshold"}


def test_every_trained_operator_has_a_history():
    trained = {name for name, operator in CATALOGUE.items() if "max_epochs" in config_names(operator)}
    assert {"vae_normalize", "solo", "scanvi", "cellassign", "mmd", "wgan", "denoise"} <= trained
    assert trained == {name for name, operator in CATALOGUE.items() if "history" in operator.outputs}


@pytest.mark.parametrize(
    "example", [e for e in first_examples(lambda e: "history" in e.cls.outputs) if "history" not in e.lacks], ids=str
)
def test_every_history_is_drawn(example):
    found = curves_of(fitted(example).operator.history)
    terms = _terms(found, None, example.operator)
    for term in terms:
        _draw(ax := plt.subplots()[1], found, term, 0, (), UNITS.get(example.operator, NATS))
        assert ax.lines[0].get_ydata().size == found[term].size > 0
        plt.close(ax.figure)


def test_phases_are_terms_of_their_own_and_verdicts_none():
    phase = {"loss": np.ones(2), "validation_loss": np.zeros(2), "verdict": "kept", "accuracy": np.full(2, np.nan)}
    found = curves_of({"pretraining": {"loss": np.ones(0)}, "training": phase})
    assert set(found) == {"training_loss", "validation_training_loss"}
    assert _terms(found, None, "sequence_embedding") == ["training_loss"]


def test_looks_between_epochs_stand_at_their_epoch():
    looks = Frame({"epoch": np.array([10, 20]), "loss": np.ones(2), "held_out": np.zeros(2)}, rows=None)
    _draw(ax := plt.subplots()[1], curves_of(looks), "loss", 0, (), "")
    assert [list(line.get_xdata()) for line in ax.lines] == [[10, 20], [10, 20]]
    assert ax.get_ylabel() == "loss"


def test_what_is_no_likelihood_has_no_nats():
    curve = np.ones(2)
    labels = {}
    for term in ("distance", "critic_loss", "mmd", "classification"):
        _draw(ax := plt.subplots()[1], {term: curve}, term, 0)
        labels[term] = ax.get_ylabel()
    assert labels == {
        "distance": "distance",
        "critic_loss": "critic loss",
        "mmd": "maximum mean discrepancy",
        "classification": "classification (nats per cell)",
    }


@pytest.mark.parametrize(("kept", "labels"), [(0, []), (2, ["kept: epoch 2"])])
def test_no_epoch_is_marked_where_the_start_was_better(kept, labels):
    curves = {"squared_error": np.ones(3), "validation_squared_error": np.arange(3.0), "kept": np.array([kept])}
    assert _terms(curves, None, "communication") == ["squared_error"]
    _draw(ax := plt.subplots()[1], curves, "squared_error", 0)
    assert [line.get_label() for line in ax.lines if line.get_label().startswith("kept")] == labels


def test_first_epochs_can_be_left_out_and_terms_chosen(trained):
    drawn = history(trained, keys=["kl", "elbo"], skip=4, ncols=1, title="mine", show=False)
    assert [ax.get_ylabel().split()[0] for ax in drawn] == ["KL", "ELBO"]
    np.testing.assert_array_equal(drawn[1].lines[0].get_xdata(), [5, 6])
    np.testing.assert_array_equal(drawn[1].lines[0].get_ydata(), trained.uns["vae_normalize"]["history"]["elbo"][4:])
    assert drawn[0].figure.get_suptitle() == "mine"
    figure, ax = plt.subplots()
    assert history(trained, keys="elbo", ax=ax, return_fig=True) is figure
    assert len(ax.lines) == 1


def test_saves(trained, tmp_path):
    assert history(trained, save=str(tmp_path / "training.png")) is None
    assert (tmp_path / "training.png").stat().st_size > 1000


def test_what_is_not_there_is_said(trained):
    with pytest.raises(ValueError, match=r"'normalize_total' was not trained; pass one of 'denoise', 'vae_norm"):
        history(trained, "normalize_total")
    with pytest.raises(ValueError, match=r"'solo' is not recorded; pass one of 'denoise'"):
        history(trained, "solo")
    with pytest.raises(
        ValueError, match="terms of the history of step 'vae_normalize' .'elbo', .*; got 'validation_loss'"
    ):
        history(trained, keys=["elbo", "validation_loss"])
    with pytest.raises(ValueError, match="terms of the history of step 'vae_normalize'.*; got none"):
        history(trained, keys=[])
    with pytest.raises(ValueError, match="skip must be from 0 to 5, .*; got 6"):
        history(trained, skip=6)
    with pytest.raises(ValueError, match="ax takes one term; got 4"):
        history(trained, ax=plt.subplots()[1])
    untrained = dbx.datasets.simulate(20, 10, 2, 1, seed=0)
    with pytest.raises(ValueError, match=r"No recorded step has a training history.*vae_normalize"):
        history(untrained)


def test_elbo_of_held_out_cells_is_best_where_it_is_highest():
    adata = dbx.datasets.simulate(120, 40, 2, 2, seed=0, library_size=200)
    settings = {"learning_rate": 0.03, "n_hidden": 32, "max_epochs": 40, "patience": None}
    dbx.pp.vae_normalize(adata, batch_key="batch", **settings)
    ax = history(adata, keys="elbo", show=False)
    values = adata.uns["vae_normalize"]["history"]["validation_elbo"]
    np.testing.assert_array_equal(curves(ax)["held-out cells"][1], values)
    best = int(np.argmax(values)) + 1
    assert best < len(values)
    assert f"kept: epoch {best}" in curves(ax)
