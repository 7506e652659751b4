"""tl.sequence_embedding on planted sites: labels, few labels, padding, strands, weights, genes, wrong input."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.data.safetensors import read_safetensors, write_safetensors

NETWORK = {"n_hidden": 8, "embedding_dim": 12, "n_layers": 1}
SMALL = {**NETWORK, "max_epochs": 2, "words": 2}
"""Tests have one size of network, and where they can 60 sequences of 20, so that few functions are compiled."""


def sites(rng, n: int = 120, length: int = 20, *, equal: bool = True) -> ad.AnnData:
    """Half of the sequences have GT in the middle and A beside it."""
    bases = np.array(list("ACGT"))[rng.integers(0, 4, (n, length))]
    bases[::2, 9:12] = ["A", "G", "T"]
    text = ["".join(row[: length if equal else length - i % 3]) for i, row in enumerate(bases)]
    obs = pd.DataFrame({"sequence": text, "site": ["yes", "no"] * (n // 2)}, index=[f"s{i}" for i in range(n)])
    return ad.AnnData(obs=obs)


@pytest.fixture(scope="module")
def trained() -> ad.AnnData:
    data = sites(np.random.default_rng(0))
    dbx.tl.sequence_embedding(data, labels_key="site", **SMALL)
    return data


@pytest.fixture(scope="module")
def trained_on_few() -> ad.AnnData:
    data = sites(np.random.default_rng(0), 60)
    dbx.tl.sequence_embedding(data, labels_key="site", **SMALL)
    return data


def test_new_sites_are_recognised(trained):
    new = sites(np.random.default_rng(1), 40)
    truth = new.obs.pop("site")
    dbx.rerun(new, trained)
    assert (new.obs["sequence_label"].astype(str) == truth).mean() > 0.85
    np.testing.assert_allclose(new.obsm["sequence_probability"].sum(axis=1), 1, rtol=1e-5)
    assert new.obsm["X_sequence"].shape == (40, 12)


def test_case_and_u_do_not_matter(trained):
    new = sites(np.random.default_rng(1), 40)
    other = new.copy()
    other.obs["sequence"] = [text.lower().replace("t", "u") for text in other.obs["sequence"]]
    for data in (new, other):
        dbx.rerun(data, trained)
    np.testing.assert_array_equal(new.obsm["X_sequence"], other.obsm["X_sequence"])


def test_contributions_are_of_the_planted_bases(trained):
    ax = dbx.pl.sequence_saliency(trained, target="yes", show=False)
    assert ax.get_title().startswith("yes, ")
    from dbx.get.sequence_networks import trained as network
    from dbx.ops.sequence.saliency import saliency

    operator, values = network(trained, "X_sequence")
    found = saliency(operator, values[::2], operator.classes.index("yes")).mean(axis=0)
    assert set(np.argsort(-found.sum(axis=1))[:3]) == {9, 10, 11}
    assert [int(i) for i in found[9:12].argmax(axis=1)] == [0, 2, 3]
    with pytest.raises(KeyError, match="no class 'maybe'"):
        dbx.pl.sequence_saliency(trained, target="maybe", show=False)
    with pytest.raises(KeyError, match="no sequence 'nobody'"):
        dbx.pl.sequence_saliency(trained, "nobody", show=False)


def test_motifs_are_means_of_words(trained):
    table = dbx.get.motifs(trained, 2)
    np.testing.assert_allclose(table[list("ACGT")].sum(axis=1), 1, rtol=1e-5)
    assert table["information"].is_monotonic_decreasing
    assert set(table["position"]) == set(range(7))


@pytest.mark.parametrize("method", ["cnn", "transformer"])
def test_padding_changes_nothing(method):
    data = sites(np.random.default_rng(0), 60, 50, equal=False)
    more = {"positions": "rotary"} if method == "transformer" else {}
    dbx.tl.sequence_embedding(data, method=method, pretrain_epochs=1, **NETWORK, **more)
    long = data[:3].copy()
    long.obs["sequence"] = [*data.obs["sequence"][:2], data.obs["sequence"].iloc[2] * 3]
    alone = data[-1:].copy()
    for new in (long, alone):
        dbx.rerun(new, data)
    np.testing.assert_allclose(long.obsm["X_sequence"][:2], data.obsm["X_sequence"][:2], atol=1e-6)
    np.testing.assert_array_equal(alone.obsm["X_sequence"], data.obsm["X_sequence"][-1:])


def test_both_strands_have_one_embedding():
    data = sites(np.random.default_rng(0), 60, equal=False)
    dbx.tl.sequence_embedding(data, labels_key="site", reverse_complement=True, **SMALL)
    other = data.copy()
    other.obs["sequence"] = [text[::-1].translate(str.maketrans("ACGT", "TGCA")) for text in data.obs["sequence"]]
    dbx.rerun(other, data)
    np.testing.assert_allclose(other.obsm["X_sequence"], data.obsm["X_sequence"], atol=1e-5)


def test_weights_start_another_training(tmp_path):
    data = sites(np.random.default_rng(0), 60)
    path = tmp_path / "weights.safetensors"
    dbx.tl.sequence_embedding(data, pretrain_epochs=1, save_weights=path, **NETWORK)
    again = dbx.tl.sequence_embedding(data, weights=path, copy=True, **NETWORK)
    np.testing.assert_array_equal(again.obsm["X_sequence"], data.obsm["X_sequence"])
    dbx.rerun(again, refit=True)
    np.testing.assert_array_equal(again.obsm["X_sequence"], data.obsm["X_sequence"])
    frozen = dbx.tl.sequence_embedding(
        data, weights=path, labels_key="site", freeze_encoder=True, words=0, max_epochs=2, copy=True, **NETWORK
    )
    np.testing.assert_array_equal(frozen.obsm["X_sequence"], data.obsm["X_sequence"])
    with pytest.raises(ValueError, match="alphabet='DNA', not 'RNA'"):
        dbx.tl.sequence_embedding(data, weights=path, alphabet="RNA", **NETWORK)
    with pytest.raises(ValueError, match="encoder.filters.linear.*has the shape"):
        dbx.tl.sequence_embedding(data, weights=path, **{**NETWORK, "n_hidden": 16})
    tensors, about = read_safetensors(path)
    del tensors["project.kernel"]
    write_safetensors(path, tensors, about)
    with pytest.raises(ValueError, match="lacks the tensors 'project.kernel'"):
        dbx.tl.sequence_embedding(data, weights=path, **NETWORK)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="There is no file"):
        dbx.rerun(again, refit=True)


def test_pretraining_on_other_sequences_counts():
    data, other = sites(np.random.default_rng(0), 60), sites(np.random.default_rng(2), 60)
    made = [
        dbx.tl.sequence_embedding(data, pretrain_on=source, pretrain_epochs=1, copy=True, **NETWORK)
        for source in (other, None)
    ]
    assert np.abs(made[0].obsm["X_sequence"] - made[1].obsm["X_sequence"]).max() > 1e-3
    assert len(made[0].uns["sequence"]["history"]["pretraining"]["loss"]) == 1
    with pytest.raises(ValueError, match="which a program does not keep"):
        dbx.rerun(made[0], refit=True)


def test_pretraining_that_does_not_help_is_reverted():
    """Bases of shuffled sequences say nothing; the network is then the one that was never pre-trained."""
    data = sites(np.random.default_rng(0))
    rng = np.random.default_rng(3)
    shuffled = data.copy()
    shuffled.obs["sequence"] = ["".join(rng.permutation(list(text))) for text in data.obs["sequence"]]
    how = {**SMALL, "words": 0, "embedding_dim": 10, "max_epochs": 4, "learning_rate": 0.02}
    plain = dbx.tl.sequence_embedding(data, labels_key="site", copy=True, **how)
    assert "verdict" not in plain.uns["sequence"]["history"]["pretraining"]
    how |= {"pretrain_epochs": 1, "labels_key": "site"}
    dbx.tl.sequence_embedding(data, pretrain_on=shuffled, **how)
    found = data.uns["sequence"]["history"]
    loss = found["pretraining"]["validation_loss"]
    assert found["pretraining"]["verdict"] == "reverted"
    assert loss["plain"] - loss["pretrained"] <= loss["standard_error"]
    np.testing.assert_allclose(loss["plain"], np.nanmin(found["training"]["validation_loss"]), rtol=1e-4)
    again = ad.AnnData(obs=data.obs[["sequence"]])
    dbx.rerun(again, data)
    for other in (plain, again):
        np.testing.assert_array_equal(other.obsm["X_sequence"], data.obsm["X_sequence"])


def test_arrays_are_taken_as_text_is(trained_on_few):
    data = sites(np.random.default_rng(0), 60)
    data.obsm["one_hot"] = dbx.ops.one_hot(data.obs["sequence"])
    data.obsm["tokens"] = data.obsm["one_hot"].argmax(axis=2)
    for key in ("one_hot", "tokens"):
        made = dbx.tl.sequence_embedding(data, labels_key="site", use_rep=key, copy=True, **SMALL)
        np.testing.assert_allclose(made.obsm["X_sequence"], trained_on_few.obsm["X_sequence"], atol=1e-4)


def test_sequences_of_genes(trained_on_few):
    rows = trained_on_few
    genes = ad.AnnData(np.zeros((2, 60), np.float32), var=rows.obs[["sequence", "site"]])
    dbx.tl.sequence_embedding(genes, axis="var", labels_key="site", **SMALL)
    np.testing.assert_array_equal(genes.varm["X_sequence"], rows.obsm["X_sequence"])
    assert list(genes.var["sequence_label"]) == list(rows.obs["sequence_label"])


WRONG = {
    "letters": ({}, lambda data: data.obs.__setitem__("sequence", "ACJ"), "'J' at position 2"),
    "empty": ({}, lambda data: data.obs.__setitem__("sequence", ""), "sequences are empty"),
    "missing": ({}, lambda data: data.obs.__setitem__("sequence", np.nan), "no text in 60 rows"),
    "no labels": ({"labels_key": "none"}, lambda data: data.obs.__setitem__("none", "Unknown"), "No cell has a label"),
    "one class": ({"labels_key": "one"}, lambda data: data.obs.__setitem__("one", "yes"), "two labels or more"),
    "length": ({"max_length": 0}, None, "max_length must be at least 1"),
    "nothing": ({"pretrain_epochs": 0}, None, "Nothing would be trained"),
    "frozen": ({"labels_key": "site", "freeze_encoder": True}, None, "freeze_encoder=True needs"),
    "other method": ({"positions": "rotary"}, None, "does not use positions"),
    "dropout": ({"dropout": 1.0}, None, "dropout must be at least 0 and below 1"),
    "heads": ({"method": "transformer", "n_heads": 5}, None, "n_heads must divide"),
    "cls": ({"pooling": "cls"}, None, 'pooling="cls" needs method'),
    "width": ({"labels_key": "site", "embedding_dim": 2}, None, "above the number of classes"),
    "array": ({"use_rep": "flat"}, lambda data: data.obsm.__setitem__("flat", np.zeros((60, 3))), "use_rep must name"),
    "tokens": ({"use_rep": "t"}, lambda data: data.obsm.__setitem__("t", np.full((60, 3), 7)), "Token 7 in row 0"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_input_is_refused_and_changes_nothing(name):
    settings, spoil, said = WRONG[name]
    data = sites(np.random.default_rng(0), 60)
    if spoil is not None:
        spoil(data)
    before = (set(data.obs), set(data.obsm), set(data.uns))
    with pytest.raises(ValueError, match=said):
        dbx.tl.sequence_embedding(data, **settings)
    assert (set(data.obs), set(data.obsm), set(data.uns)) == before


def test_a_class_with_one_member_is_not_held_out():
    data = sites(np.random.default_rng(0), 60)
    data.obs["site"] = ["rare", *data.obs["site"][1:]]
    with pytest.warns(dbx.DbxWarning, match="Nothing is held out"):
        dbx.tl.sequence_embedding(data, labels_key="site", validation=0.5, **SMALL)


def test_long_sequences_are_cut_with_a_warning():
    data = sites(np.random.default_rng(0), 60, 30)
    short = data.copy()
    short.obs["sequence"] = [text[:20] for text in data.obs["sequence"]]
    with pytest.warns(dbx.DbxWarning, match="60 sequences are longer than 20"):
        dbx.tl.sequence_embedding(data, pretrain_epochs=1, max_length=20, **NETWORK)
    dbx.tl.sequence_embedding(short, pretrain_epochs=1, **NETWORK)
    np.testing.assert_array_equal(data.obsm["X_sequence"], short.obsm["X_sequence"])


def test_fasta(tmp_path):
    path = tmp_path / "x.fa"
    path.write_text(">a first one\nACGT\nAC\n\n>b\nGGT\n")
    data = dbx.read_fasta(path, labels={"a": "yes"})
    assert data.obs["sequence"].tolist() == ["ACGTAC", "GGT"]
    assert data.obs["description"].tolist() == ["first one", ""]
    assert data.obs["label"].tolist()[0] == "yes"
    assert data.obs["label"].isna().tolist() == [False, True]
    for text, said in (
        (">a\nA\n>a\nC\n", "several records named 'a'"),
        ("ACGT\n", "no FASTA file"),
        (">a\n", "no seq"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            dbx.read_fasta(path)
    path.write_text(">a\nACGT\n")
    with pytest.raises(ValueError, match="as many as"):
        dbx.read_fasta(path, labels=["x", "y"])
