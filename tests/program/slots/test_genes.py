"""Genes are found by name; where names are only spelt otherwise, the refusal says how."""

import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.program.slots.genes import gene_columns, renaming_hint

WANTED = ["ERCC1", "HLA-A", "MT-CO1", "ENSG00000012048"]


@pytest.mark.parametrize(
    ("respell", "difference", "n"),
    [
        (str.lower, "upper and lower case", 4),
        (str.capitalize, "upper and lower case", 4),
        (lambda name: f" {name} ", "spaces", 4),
        (lambda name: f"{name}.12", "version", 4),
        (lambda name: name.replace("-", "."), "punctuation", 2),
        (lambda name: name.replace("-", "_"), "punctuation", 2),
        (lambda name: f"GRCh38_{name}", "genome", 4),
        (lambda name: f"GRCm39___{name}", "genome", 4),
    ],
)
def test_another_spelling_is_recognised(respell, difference, n):
    present = [respell(name) for name in WANTED]
    missing = [name for name in WANTED if name not in present]
    hint = renaming_hint(missing, present)
    assert difference in hint
    assert hint.startswith(f"{n} of the missing names")


def test_other_genes_are_no_other_spelling():
    assert not renaming_hint(WANTED, ["TP53", "BRCA1", "ENSG00000141510"])
    assert not renaming_hint([], WANTED)


def test_a_version_is_only_digits_after_the_last_point():
    assert not renaming_hint(["RP11-34P13"], ["RP11-34P13.x"])


@pytest.mark.parametrize("missing_genes", ["raise", "zero"])
def test_no_gene_at_all_is_refused_in_any_case(missing_genes):
    with pytest.raises(ValueError, match="have none of the 4 genes of step 'pca'.*they have a, b.*Name genes"):
        gene_columns(pd.Index(["a", "b"]), WANTED, "pca", missing_genes)


def test_as_zero_says_how_many_are_missing():
    with pytest.warns(UserWarning, match=r"'pca' takes 1 of its 4 genes \(25%\) as zero.*MT-CO1"):
        columns = gene_columns(pd.Index(["HLA-A", "ERCC1", WANTED[3], "x"]), WANTED, "pca", "zero")
    assert columns.tolist() == [1, 0, -1, 2]


def test_too_few_are_refused_also_as_zero_where_a_step_says_so():
    half = pd.Index(["HLA-A", "ERCC1", "x"])
    with pytest.warns(UserWarning, match="2 of its 4 genes"):
        assert gene_columns(half, WANTED, "tokens", "zero", 0.5).tolist() == [1, 0, -1, -1]
    with pytest.raises(
        ValueError, match=r"'tokens' knows 4 genes, of which the data have 1 \(25%\).*least 50%.*lack HLA-A"
    ):
        gene_columns(half[1:], WANTED, "tokens", "zero", 0.5)
    with pytest.raises(ValueError, match=r"2 of the missing names .* upper and lower case"):
        gene_columns(pd.Index(["hla-a", "ERCC1", "mt-co1"]), WANTED, "tokens", "zero", 0.5)


def test_all_there_says_nothing():
    assert gene_columns(pd.Index(WANTED), WANTED, "pca", "zero") is None
    assert gene_columns(pd.Index(WANTED[::-1]), WANTED, "pca", "zero").tolist() == [3, 2, 1, 0]


@pytest.fixture(scope="module")
def reference(counts):
    adata = counts.copy()
    adata.var_names = [f"Gene-{i}" for i in range(adata.n_vars)]
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=3)
    return adata


def respelt(counts, n_renamed=None):
    query = counts[:30].copy()
    names = np.array([f"Gene-{i}" for i in range(query.n_vars)], dtype=object)
    names[:n_renamed] = [name.upper() for name in names[:n_renamed]]
    query.var_names = names
    return query


def test_a_rerun_names_the_other_spelling(reference, counts):
    with pytest.raises(ValueError, match=r"none of the 200 genes.*case only \('GENE-\d+' here, 'Gene-0'"):
        dbx.rerun(respelt(counts), reference)
    with pytest.raises(ValueError, match="lack 7: .*7 of the missing names differ .* case only"):
        dbx.rerun(respelt(counts, 7), reference)
    with pytest.warns(UserWarning, match=r"7 of its 200 genes \(4%\).*7 of the missing names differ"):
        dbx.rerun(respelt(counts, 7), reference, missing_genes="zero")


def test_a_pipeline_names_the_other_spelling(reference, counts):
    pipeline = dbx.Pipeline.from_adata(reference)
    with pytest.raises(ValueError, match="case only"):
        pipeline.read(respelt(counts))
    query = respelt(counts)
    with pytest.raises(ValueError, match="case only"):
        pipeline({}, {"X": query.X.toarray()}, genes={"X": list(query.var_names)})


def test_levels_that_differ_in_case_are_named(analysed):
    from dbx.ops.operator import Input
    from dbx.program.slots.columns import recoded
    from dbx.program.slots.slots import Slot

    with pytest.raises(ValueError, match="not fitted on: b cell.*differ .* case only .'b cell' here, 'B cell'"):
        recoded(["b cell"], Slot("obs", ("type",)), "de", Input(kind="codes"), ("B cell", "T cell"))
