"""The table of steps as it is shown: 100 columns of text, a table in a notebook, an ordinary DataFrame underneath."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.program.record.listing import as_text

STEPS = ["normalize_total", "log1p", "highly_variable_genes", "pca", "harmony", "neighbors", "leiden", "umap"]


class Tags(HTMLParser):
    """Checks that tags are closed in order, and collects text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_text_fits_100_columns_and_names_every_step(analysed):
    text = repr(dbx.steps(analysed))
    assert max(map(len, text.splitlines())) <= 100
    rows = text.split("\n\n")[0].splitlines()[1:]
    starts = [line.split("  ")[0] for line in rows if not line.startswith(" ")]
    assert starts == STEPS
    assert "n_top_genes=80" in text
    assert "zero_center" not in text  # a default


def test_below_it_is_said_how_far_new_cells_can_go(analysed):
    assert repr(dbx.steps(analysed)).endswith("New cells can go through all steps, up to 'umap'.")
    analysed.obsm["X_other"] = analysed.obsm["X_pca"] ** 2
    with pytest.warns(UserWarning, match="which no recorded step wrote"):
        dbx.pp.neighbors(analysed, use_rep="X_other", key_added="other")
    shown = repr(dbx.steps(analysed))
    assert max(map(len, shown.splitlines())) <= 100
    assert "not through 'neighbors_2'" in shown
    assert "not through" in " ".join(Tags(dbx.steps(analysed)._repr_html_()).texts)


def test_html_is_well_formed_and_folds_the_rest(analysed):
    html = dbx.steps(analysed)._repr_html_()
    texts = Tags(html).texts
    assert texts.count("ok") == len(STEPS)
    assert html.count("<details>") == len(STEPS)
    assert any(text.startswith("cells: ") for text in texts)


def test_it_is_a_frame_underneath(analysed):
    table = dbx.steps(analysed)
    assert type(table.to_frame()) is pd.DataFrame
    assert type(table[["reads"]]) is pd.DataFrame
    assert list(table.to_frame().index) == list(table.index)
    assert repr(table.to_frame()) == repr(pd.DataFrame(table))


def test_empty_is_a_sentence(counts):
    assert repr(dbx.steps(counts)).startswith("No steps are recorded.")
    assert "No steps are recorded." in dbx.steps(counts)._repr_html_()
    assert dbx.steps(counts).empty


def test_markup_in_names_is_text(counts):
    counts = counts.copy()
    counts.layers["<b>&"] = counts.X.copy()
    dbx.pp.log1p(counts, layer="<b>&")
    assert "layers/<b>&" in Tags(dbx.steps(counts)._repr_html_()).texts


@pytest.mark.parametrize("seed", range(5))
def test_any_table_fits(seed):
    rng = np.random.default_rng(seed)

    def words(n):
        return ", ".join("x" * int(size) for size in rng.integers(1, 130, n))

    columns = ["operator", "reads", "writes", "settings", "learnt", "trained", "cells", "status"]
    rows = [[words(int(rng.integers(0, 9))) for _ in columns] for _ in range(4)]
    text = as_text(pd.DataFrame(rows, columns=columns, index=[f"step{i}" * 9 for i in range(4)]), "a note " * 40)
    assert max(map(len, text.splitlines())) <= 100


def test_settings_are_those_that_a_user_gave(analysed):
    dbx.tl.paga(analysed, groups="leiden")
    dbx.tl.score_genes(analysed, list(analysed.var_names[:3]), ctrl_size=5, n_bins=2)
    shown = dbx.steps(analysed).to_frame()["settings"]
    assert "groups='leiden'" in shown["paga"]
    assert "{" not in shown["paga"]
    assert shown["score_genes"] == ""  # not the numbers of columns


def test_long_words_break_after_their_parts():
    row = {"reads": "obs/total_counts (calculate_qc_metrics), obs/pct_counts_mt (calculate_qc_metrics)"}
    columns = {"writes": "obsm/leiden_res_0.02_probabilities", "settings": "x" * 40, "trained": "", "status": "ok"}
    table = pd.DataFrame([row | columns], index=pd.Index(["highly_variable_genes"], name="step"))
    lines = as_text(table, "").splitlines()
    assert max(map(len, lines)) <= 100
    assert not any(line.startswith((" " * 23 + "),", " " * 23 + "es")) for line in lines)
