"""Batches whose names were changed in the reference are followed; those spelt otherwise are asked about."""

import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.program.record.registry import load
from dbx.program.replay.levels import former_names, plain
from dbx.program.slots.slots import Slot

BATCH = Slot("obs", ("batch",))
DONORS = {"batch_1": "donor A", "batch_2": "donor B"}
SWAPPED = {"batch_1": "batch_2", "batch_2": "batch_1"}


def corrected(counts, batch=None, n_batches=None):
    adata = counts.copy()
    if batch is not None:
        adata.obs["batch"] = batch
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=4)
    dbx.tl.harmony(adata, "batch")
    return adata


@pytest.fixture(scope="module")
def _reference(counts):
    return corrected(counts)


@pytest.fixture
def reference(_reference):
    return _reference.copy()


def fresh(counts, n=40):
    query = counts[:n].copy()
    query.obs_names = [f"new{i}" for i in range(n)]
    return query


def rename(adata, names):
    adata.obs["batch"] = adata.obs["batch"].cat.rename_categories(names)


def assert_as_reference(query, reference, n=40):
    np.testing.assert_allclose(query.obsm["X_pca_harmony"], reference.obsm["X_pca_harmony"][:n], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("names", [DONORS, SWAPPED, {"batch_1": "x"}, str.upper, lambda name: f" {name}"])
def test_names_changed_in_both_are_followed(counts, reference, names, recwarn):
    query = fresh(counts)
    rename(reference, names)
    rename(query, names)
    dbx.rerun(query, reference)
    assert_as_reference(query, reference)
    assert load(query)["harmony"].reads["batches" if "batches" in load(query)["harmony"].reads else "batch"]
    assert not [warning for warning in recwarn if "batch" in str(warning.message)]
    assert query.obs["batch"].tolist() == reference.obs["batch"].tolist()[:40]


def test_former_names_stay_known(counts, reference, recwarn):
    rename(reference, DONORS)
    query = fresh(counts)
    dbx.rerun(query, reference)
    assert_as_reference(query, reference)
    assert not [warning for warning in recwarn if "as new" in str(warning.message)]


def test_its_own_cells_after_a_renaming(counts):
    reference = counts.copy()
    reference.layers["counts"] = reference.X.copy()
    reference = corrected(reference)
    stored = reference.obsm["X_pca_harmony"].copy()
    rename(reference, DONORS)
    reference.obsm["X_pca_harmony"] = np.zeros_like(stored)
    dbx.rerun(reference)
    np.testing.assert_array_equal(reference.obsm["X_pca_harmony"], stored)


@pytest.mark.parametrize("part", [slice(0, 100), slice(None, None, 2), slice(None, None, -1)])
def test_in_a_part_of_the_reference(counts, reference, part):
    rename(reference, DONORS)
    query = fresh(counts)
    rename(query, DONORS)
    dbx.rerun(query, reference[part].copy())
    assert_as_reference(query, reference)


@pytest.mark.parametrize(
    "batch",
    [
        np.arange(150) % 2 + 1,
        pd.Categorical(np.arange(150) % 2 + 1),
        np.arange(150) % 2 == 0,
        np.where(np.arange(150) % 2, "b", "a"),
        pd.Categorical(np.where(np.arange(150) % 2, "b", "a"), categories=["b", "unused", "a"]),
    ],
)
def test_columns_of_every_kind(counts, batch):
    reference = corrected(counts, batch)
    names = {str(level): f"donor {i}" for i, level in enumerate(pd.unique(pd.Series(batch)))}
    new = pd.Categorical([names[str(value)] for value in np.asarray(batch)])
    reference.obs["batch"] = new
    query = fresh(counts)
    query.obs["batch"] = new[:40]
    dbx.rerun(query, reference)
    assert_as_reference(query, reference)


def test_rare_batches_that_no_sampled_cell_is_of(counts):
    batch = pd.Categorical(["a"] * 60 + ["b"] * 60 + ["c"] * 28 + ["d", "e"])
    reference = corrected(counts, batch)
    names = {level: f"donor {level}" for level in "abcde"}
    rename(reference, names)
    step = load(reference)["harmony"]
    assert former_names(reference, step, BATCH) == {new: old for old, new in names.items()}


def test_steps_before_and_after_the_renaming(counts, reference):
    rename(reference, DONORS)
    dbx.tl.harmony(reference, "batch", adjusted_basis="X_again")
    query = fresh(counts)
    rename(query, DONORS)
    dbx.rerun(query, reference)
    assert_as_reference(query, reference)
    np.testing.assert_allclose(query.obsm["X_again"], reference.obsm["X_again"][:40], rtol=1e-4, atol=1e-4)


def one_cell_moved(column):
    values = column.astype(str).to_numpy().copy()
    values[3] = "donor B" if values[3] == "donor A" else "donor A"
    return pd.Categorical(values)


def merged(column):
    return pd.Categorical(["all"] * len(column))


def shuffled(column):
    return pd.Categorical(np.random.default_rng(0).permutation(column.astype(str)))


@pytest.mark.parametrize("change", [one_cell_moved, merged, shuffled])
def test_more_than_names_was_changed(counts, reference, change):
    rename(reference, DONORS)
    reference.obs["batch"] = change(reference.obs["batch"])
    assert former_names(reference, load(reference)["harmony"], BATCH) == {}
    query = fresh(counts)
    rename(query, DONORS)
    with pytest.warns(UserWarning, match="takes 'donor A', 'donor B' of .* as new"):
        dbx.rerun(query, reference)


def test_a_new_batch_beside_renamed_ones(counts, reference):
    rename(reference, DONORS)
    query = fresh(counts)
    rename(query, {"batch_1": "donor A", "batch_2": "another"})
    with pytest.warns(UserWarning, match="takes 'another' of"):
        dbx.rerun(query, reference)


SPELLINGS = [lambda name: f" {name}", lambda name: name.replace("_", " "), lambda name: name.replace("_", "-").upper()]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_another_spelling_is_asked_about(counts, reference, spelling):
    query = fresh(counts)
    rename(query, spelling)
    before = query.X.copy()
    words = rf"{spelling('batch_1')!r}: did you mean 'batch_1'\?.*rename: adata.obs\['batch'\] = .*replace\("
    with pytest.raises(ValueError, match=words) as error:
        dbx.rerun(query, reference)
    assert f"{spelling('batch_2')!r}: did you mean 'batch_2'?" in str(error.value)
    assert not query.obsm
    assert not abs(before - query.X).max()
    adata = query
    cure = str(error.value).partition("rename: ")[2].partition(". If they")[0]
    exec(cure, {"adata": adata})  # the advice as it stands
    dbx.rerun(adata, reference)
    assert_as_reference(adata, reference)


def test_the_question_is_about_the_names_of_now(counts, reference):
    rename(reference, DONORS)
    query = fresh(counts)
    rename(query, {"batch_1": "Donor-A", "batch_2": "donor B"})
    with pytest.raises(ValueError, match="'Donor-A': did you mean 'donor A'"):
        dbx.rerun(query, reference)


@pytest.mark.parametrize("in_reference", [False, True])
def test_case_alone_is_the_same_batch_and_said(counts, reference, in_reference):
    known = DONORS if in_reference else {level: level for level in DONORS}
    rename(reference, known)
    query = fresh(counts)
    rename(query, {old: new.upper() for old, new in known.items()})
    first = known["batch_1"]
    with pytest.warns(UserWarning, match=f"takes .*{first.upper()!r} as {first!r}.* differ by case only") as said:
        dbx.rerun(query, reference)
    assert len([w for w in said if "case only" in str(w.message)]) == 1
    assert_as_reference(query, reference)


def test_two_spellings_in_the_query_are_asked_about(counts, reference):
    query = fresh(counts)
    query.obs["batch"] = ["BATCH_1", "batch_1", "batch_2", "batch_2"] * 10
    with pytest.raises(ValueError, match="'BATCH_1': did you mean 'batch_1'"):
        dbx.rerun(query, reference)


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("Donor 1", "donor1", True),
        ("donor-1", "Donor_1", True),
        (" P.1", "p1", True),
        ("1_1", "1-1", True),
        ("1.1", "11", False),
        ("sample 1 2", "sample 12", False),
        ("ctrl+", "ctrl", False),
        ("donor1", "donor2", False),
    ],
)
def test_which_names_are_alike(a, b, alike):
    assert (plain(a) == plain(b)) == alike
