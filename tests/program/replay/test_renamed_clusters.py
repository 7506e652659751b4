"""Clusters of a reference that was cut, renamed or saved are known again; clusters that were changed are refused."""

import anndata as ad
import numpy as np
import pytest

import dbx
from dbx.program import ReferenceChangedError


def without_first(adata, key="leiden"):
    return adata[adata.obs[key] != adata.obs[key].cat.categories[0]].copy()


def only_second(adata):
    return adata[adata.obs["leiden"] == adata.obs["leiden"].cat.categories[1]].copy()


def without_last(adata):
    return adata[adata.obs["leiden"] != adata.obs["leiden"].cat.categories[-1]].copy()


def named(adata):
    adata = without_first(adata)
    adata.obs["leiden"] = adata.obs["leiden"].cat.rename_categories(lambda name: f"type {name}")
    return adata


def in_another_order(adata):
    adata.obs["leiden"] = adata.obs["leiden"].cat.reorder_categories(list(adata.obs["leiden"].cat.categories[::-1]))
    return without_first(adata)


def as_text(adata):
    adata.obs["leiden"] = adata.obs["leiden"].astype(str)
    return adata


def as_numbers(adata):
    adata = without_first(adata)
    adata.obs["leiden"] = adata.obs["leiden"].astype(str).astype(int)
    return adata


def with_unused(adata):
    adata.obs["leiden"] = adata.obs["leiden"].cat.add_categories(["unused"])
    return adata


def saved(adata, path):
    without_first(adata).write_h5ad(path)
    return ad.read_h5ad(path)


CUTS = [without_first, only_second, without_last, named, in_another_order, as_text, as_numbers, with_unused]


@pytest.mark.parametrize("cut", CUTS)
def test_clusters_are_known_again_whatever_their_numbers_are_now(analysed, counts, cut):
    whole, reference = counts[:40].copy(), cut(analysed.copy())
    query = whole.copy()
    dbx.rerun(whole, analysed)
    dbx.rerun(query, reference)
    known = query.obs_names.isin(reference.obs_names)
    expected = reference.obs["leiden"].reindex(query.obs_names[known]).astype(str)
    assert query.obs["leiden"][known].astype(str).tolist() == expected.tolist()
    assert set(query.obs["leiden"].dropna().astype(str)) <= set(reference.obs["leiden"].astype(str))


def test_fewer_cells_than_neighbours_are_refused(analysed, counts):
    with pytest.raises(ValueError, match="Only 6 of the fitted cells are left, fewer than n_neighbors=10"):
        dbx.rerun(counts[:10].copy(), analysed[:6].copy())


def test_a_saved_reference_without_a_cluster_serves(analysed, counts, tmp_path):
    query = counts[:40].copy()
    dbx.rerun(query, saved(analysed, tmp_path / "cut.h5ad"))
    assert set(query.obs["leiden"]) <= set(analysed.obs["leiden"].cat.categories[1:])


def merged(labels):
    return labels.astype(str).replace({"1": "0"}).astype("category")


def one_cell_moved(labels):
    labels = labels.copy()
    labels.iloc[3] = labels.cat.categories[(labels.cat.codes.iloc[3] + 1) % len(labels.cat.categories)]
    return labels


def divided(labels):
    labels = labels.astype(str)
    first = np.flatnonzero(labels == "0")
    labels.iloc[first[: len(first) // 2]] = "0b"
    return labels.astype("category")


def shuffled(labels):
    return labels.sample(frac=1, random_state=0).set_axis(labels.index)


@pytest.mark.parametrize("change", [merged, one_cell_moved, divided, shuffled])
@pytest.mark.parametrize("cut", [lambda adata: adata, without_last])
def test_clusters_that_were_changed_are_refused(analysed, counts, change, cut):
    analysed.obs["leiden"] = change(analysed.obs["leiden"])
    with pytest.raises(ReferenceChangedError, match=r"'leiden' keeps its reference cells in reference.obs\['leiden'\]"):
        dbx.rerun(counts[:10].copy(), cut(analysed))
