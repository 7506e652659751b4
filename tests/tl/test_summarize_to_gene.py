"""Genes from transcripts beside tximport's formulas written out, and files of salmon and kallisto."""

import gzip
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx

NAMES, GENES = ["a", "b", "c", "d"], ["x", "x", "y", "y"]
COUNTS = np.array([[10.0, 30, 0, 0], [5, 0, 40, 15]])
TPM = np.array([[400_000.0, 600_000, 0, 0], [200_000, 0, 500_000, 300_000]])
LENGTHS = np.array([[500.0, 900, 700, 300], [520, 880, 720, 310]])


def abundances():
    tx = ad.AnnData(COUNTS.copy(), var=pd.DataFrame({"gene": GENES}, index=NAMES))
    tx.layers["tpm"], tx.layers["effective_length"] = TPM.copy(), LENGTHS.copy()
    return tx


@pytest.mark.parametrize("mode", [None, "scaled_tpm", "length_scaled_tpm"])
def test_genes_by_the_formulas_of_tximport(mode):
    genes = dbx.tl.summarize_to_gene(abundances(), counts_from_abundance=mode)
    tpm = np.array([[1_000_000.0, 0], [200_000, 800_000]])
    # weighted means; gene y has no abundance in the first sample, and gets the geometric mean of the others
    y = (5 * 720 + 3 * 310) / 8
    lengths = np.array([[0.4 * 500 + 0.6 * 900, y], [520, y]])
    summed = np.array([[40.0, 0], [5, 55]])
    scaled = {None: None, "scaled_tpm": tpm, "length_scaled_tpm": tpm * lengths.mean(axis=0)}[mode]
    expected = summed if mode is None else scaled * (summed.sum(axis=1) / scaled.sum(axis=1))[:, None]
    np.testing.assert_allclose(genes.layers["tpm"], tpm)
    np.testing.assert_allclose(genes.layers["effective_length"], lengths)
    np.testing.assert_allclose(genes.X, expected)


def test_classes_of_salmon_with_weights_of_each_sample(tmp_path):
    members, lengths = [[0], [0, 1], [1, 2], [0, 2]], {"one": [900, 400, 700], "two": [880, 420, 650]}
    counts = {"one": [5, 9, 3, 4], "two": [2, 7, 8, 1]}
    expected = []
    for name, length in lengths.items():
        folder = tmp_path / name / "aux_info"
        folder.mkdir(parents=True)
        rows = [
            " ".join(map(str, (len(row), *row, *(1 / length[t] / sum(1 / length[u] for u in row) for t in row), n)))
            for row, n in zip(members, counts[name], strict=True)
        ]
        with gzip.open(folder / "eq_classes.txt.gz", "wt") as file:
            file.write("\n".join(["3", "4", "a", "b", "c", *rows]) + "\n")
        table = pd.DataFrame({"Name": [*"abc"], "Length": 1000, "EffectiveLength": length})
        table.to_csv(tmp_path / name / "quant.sf", sep="\t", index=False)
        classes = pd.DataFrame({"transcripts": ["a", "a,b", "b,c", "a,c"], "count": counts[name]})
        by_lengths = pd.DataFrame({"effective_length": length}, index=[*"abc"])
        expected.append(dbx.tl.quantify(classes, transcripts=by_lengths).X[0])
    tx = dbx.read_quant([tmp_path / "one", tmp_path / "two"], requantify=True, genes={"a": "x", "b": "x", "c": "y"})
    np.testing.assert_allclose(tx.X, expected, rtol=1e-6, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        genes = dbx.tl.summarize_to_gene(tx)
    np.testing.assert_allclose(genes.X, [[21, 0], [18, 0]], atol=1e-6)


def test_rerun_finds_transcripts_by_name():
    reference = dbx.tl.summarize_to_gene(abundances(), counts_from_abundance="length_scaled_tpm")
    other = abundances()
    other.X[0], other.X[1] = COUNTS[1], 2 * COUNTS[0]
    query = dbx.tl.summarize_to_gene(other)
    expected = query.copy()
    exchanged = dbx.tl.summarize_to_gene(other[:, [3, 1, 0, 2]].copy())
    assert list(exchanged.var_names) == ["y", "x"]
    for adata in (expected, exchanged):
        del adata.uns["dbx"]
        dbx.rerun(adata, reference)
    np.testing.assert_allclose(exchanged[:, ["x", "y"]].X, expected.X)
    assert np.abs(expected.X - query.X).max() > 1


def test_variance_of_genes_is_that_of_sums():
    tx = abundances()
    draws = np.random.default_rng(0).poisson(COUNTS[:, None], (2, 50, 4)).astype(np.float32)
    tx.uns["quantify"] = {"bootstrap": draws}
    genes = dbx.tl.summarize_to_gene(tx)
    np.testing.assert_allclose(
        genes.layers["variance"][:, 0], draws[..., :2].sum(axis=2).var(axis=1, ddof=1), rtol=1e-5
    )
    for part in (tx[:1].copy(), tx[:, :3].copy()):
        with pytest.warns(dbx.DbxWarning, match="repeats of 2 samples and 4 transcripts"):
            assert "variance" not in dbx.tl.summarize_to_gene(part).layers


def test_what_is_missing():
    tx = abundances()
    with pytest.raises(KeyError, match="no column 'symbol'"):
        dbx.tl.summarize_to_gene(tx, key="symbol")
    tx.var["gene"] = ["x", None, "y", "y"]
    with pytest.raises(ValueError, match="1 transcripts have no gene: 'b'"):
        dbx.tl.summarize_to_gene(tx)
    del tx.layers["tpm"]
    with pytest.raises(KeyError, match="lacks 'tpm'"):
        dbx.tl.summarize_to_gene(tx)


def test_files_of_salmon_and_kallisto(tmp_path):
    rng = np.random.default_rng(0)
    draws = rng.poisson(COUNTS[:, None], (2, 5, 4)).astype(np.float64)
    for i, name in enumerate(["one", "two"]):
        salmon, kallisto = tmp_path / "salmon" / name, tmp_path / "kallisto" / name
        (salmon / "aux_info" / "bootstrap").mkdir(parents=True)
        kallisto.mkdir(parents=True)
        frame = pd.DataFrame({"n": NAMES, "l": 1000, "e": LENGTHS[i], "t": TPM[i], "c": COUNTS[i]})
        shown = frame if i == 0 else frame[::-1]
        shown.to_csv(
            salmon / "quant.sf", sep="\t", index=False, header=["Name", "Length", "EffectiveLength", "TPM", "NumReads"]
        )
        header = ["target_id", "length", "eff_length", "est_counts", "tpm"]
        frame[[*"nlect"]].to_csv(kallisto / "abundance.tsv", sep="\t", index=False, header=header)
        with gzip.open(salmon / "aux_info" / "bootstrap" / "bootstraps.gz", "wb") as file:
            file.write(draws[i][:, ::-1].tobytes())
        with gzip.open(salmon / "aux_info" / "bootstrap" / "names.tsv.gz", "wt") as file:
            file.write("\t".join(NAMES[::-1]) + "\n")
    for tool in ("salmon", "kallisto"):
        tx = dbx.read_quant(
            [tmp_path / tool / "one", tmp_path / tool / "two"], genes=dict(zip(NAMES, GENES, strict=True))
        )
        assert list(tx.var_names) == NAMES
        assert list(tx.obs_names) == ["one", "two"]
        assert list(tx.var["gene"]) == GENES
        for found, expected in ((tx.X, COUNTS), (tx.layers["tpm"], TPM), (tx.layers["effective_length"], LENGTHS)):
            np.testing.assert_allclose(found, expected)
        assert ("bootstrap" in tx.uns.get("quantify", {})) is (tool == "salmon")
        if tool == "salmon":
            np.testing.assert_allclose(tx.uns["quantify"]["bootstrap"], draws)
            np.testing.assert_allclose(tx.layers["variance"], draws.var(axis=1, ddof=1))
    with pytest.raises(FileNotFoundError, match="neither quant.sf"):
        dbx.read_quant(tmp_path)


def write_kallisto(path, draws=None, names=tuple(NAMES)):
    """abundance.h5 as kallisto 0.48 writes it."""
    import h5py

    with h5py.File(path, "w") as file:
        aux = file.create_group("aux")
        aux["ids"] = np.array(names, dtype="S")
        aux["lengths"], aux["eff_lengths"] = np.full(4, 1000, np.int32), LENGTHS[0]
        aux["num_bootstrap"] = np.array([0 if draws is None else len(draws)], np.int32)
        file["est_counts"] = COUNTS[0]
        for i, draw in enumerate([] if draws is None else draws):
            file[f"bootstrap/bs{i}"] = draw


def test_bootstraps_of_kallisto(tmp_path):
    draws = np.random.default_rng(0).poisson(COUNTS[0], (12, 4)).astype(float)
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    for folder in (alone, beside):
        folder.mkdir()
        write_kallisto(folder / "abundance.h5", draws)
    text = pd.DataFrame({"n": NAMES, "l": 1000, "e": LENGTHS[0], "c": COUNTS[0], "t": TPM[0]})[::-1]
    header = ["target_id", "length", "eff_length", "est_counts", "tpm"]
    text.to_csv(beside / "abundance.tsv", sep="\t", index=False, header=header)
    tx = dbx.read_quant([alone, beside])
    assert list(tx.var_names) == NAMES
    np.testing.assert_allclose(tx.uns["quantify"]["bootstrap"], np.stack([draws, draws]))
    np.testing.assert_allclose(tx.layers["variance"][1], draws.var(axis=0, ddof=1))
    rate = COUNTS[0] / LENGTHS[0]
    np.testing.assert_allclose(tx.layers["tpm"], [rate / rate.sum() * 1e6, TPM[0]])
    np.testing.assert_allclose(tx.X, [COUNTS[0], COUNTS[0]])
    write_kallisto(alone / "abundance.h5")
    assert "variance" not in dbx.read_quant([alone, beside]).layers
    write_kallisto(beside / "abundance.h5", draws, ["a", "b", "c", "other"])
    with pytest.raises(ValueError, match="no repeats of 'd': it is of another run"):
        dbx.read_quant(beside)
    write_kallisto(alone / "abundance.h5", draws, ["a", "b", "c", "c"])
    with pytest.raises(ValueError, match="names transcripts twice: 'c'"):
        dbx.read_quant(alone)
    text.drop(columns="c").to_csv(beside / "abundance.tsv", sep="\t", index=False, header=header[:3] + header[4:])
    with pytest.raises(ValueError, match="lacks the columns 'est_counts' of kallisto"):
        dbx.read_quant(beside)
    with pytest.raises(FileNotFoundError, match=r"has no quant.sf \(salmon\)"):
        dbx.read_quant(beside, kind="salmon")
    with pytest.raises(ValueError, match="kind must be one of"):
        dbx.read_quant(beside, kind="rsem")
