"""The registry travels with the data, and nothing that is not a registry is ever used as one."""

import json

import anndata as ad
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dbx
from dbx.program.record.registry import KEY, Registry, RegistryError, load


def assert_same_program(a, b):
    for one, two in zip(load(a), load(b), strict=True):
        assert (one.name, one.id, one.config, one.reads, one.writes) == (
            two.name,
            two.id,
            two.config,
            two.reads,
            two.writes,
        )
        assert one.arrays.keys() == two.arrays.keys()
        for name, (kind, array) in one.arrays.items():
            other_kind, other = two.arrays[name]
            assert (kind, array.dtype, array.shape) == (other_kind, other.dtype, other.shape)
            np.testing.assert_array_equal(array, other)  # bitwise
        for slot, digests in one.digests.items():
            np.testing.assert_array_equal(digests, two.digests[slot])


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_files_give_the_program_back_bitwise(analysed, tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    getattr(analysed, f"write_{kind}")(path)
    again = getattr(ad, f"read_{kind}")(path)
    assert_same_program(analysed, again)
    stored = again.obsm["X_pca"].copy()
    dbx.rerun(again)
    np.testing.assert_array_equal(again.obsm["X_pca"], stored)


def test_anndata_can_write_everything(analysed):
    if hasattr(analysed, "unwriteable"):
        assert not analysed.unwriteable()


def test_copies_and_subsets_keep_it_and_do_not_share_it(analysed):
    copied = analysed.copy()
    cut = analysed[:50, :100].copy()
    dbx.pp.pca(copied, n_comps=3)
    assert_same_program(cut, analysed)
    assert load(copied)["pca"].config["n_comps"] == 3
    assert load(analysed)["pca"].config["n_comps"] == 5


def test_writing_through_a_view_does_not_reach_its_parent(analysed):
    before = json.dumps(analysed.uns[KEY]["program"])
    view = analysed[:60]
    with pytest.warns(UserWarning, match="view"):
        dbx.pp.pca(view, n_comps=3)
    assert json.dumps(analysed.uns[KEY]["program"]) == before
    assert load(view)["pca"].config["n_comps"] == 3


def test_concat_drops_it_and_says_so(analysed):
    both = ad.concat([analysed[:50], analysed[50:]])
    assert KEY not in both.uns
    with pytest.raises(ValueError, match=r"No program is recorded .*ad\.concat drops it"):
        dbx.rerun(both)


def fewer_genes(adata):
    dbx.pp.highly_variable_genes(adata, n_top_genes=30)
    dbx.pp.pca(adata, n_comps=5)


def other_steps(adata):
    dbx.tl.leiden(adata, resolution=0.3, key_added="coarse", flavor="igraph", n_iterations=2)


def other_cells(adata):
    adata.obs_names = [f"other {name}" for name in adata.obs_names]
    dbx.tl.umap(adata, maxiter=5, random_state=1)


def other_parameters(adata):
    dbx.pp.pca(adata, n_comps=3)


@pytest.mark.parametrize("change", [fewer_genes, other_steps, other_cells, other_parameters])
def test_the_first_of_two_merged_programs_is_whole(analysed, change):
    other = analysed.copy()
    change(other)
    both = ad.concat([analysed, other], uns_merge="first", index_unique="-")
    assert_same_program(both, analysed)
    assert both.uns[KEY]["digest"] == analysed.uns[KEY]["digest"]
    with_other_first = ad.concat([other, analysed], uns_merge="first", index_unique="-")
    assert_same_program(with_other_first, other)


def test_the_first_of_three_merged_programs_is_whole_and_can_be_saved(analysed, tmp_path):
    second, third = analysed.copy(), analysed.copy()
    fewer_genes(second)
    other_steps(third)
    both = ad.concat([analysed, second, third], uns_merge="first", index_unique="-")
    both.write_h5ad(tmp_path / "both.h5ad")
    assert_same_program(ad.read_h5ad(tmp_path / "both.h5ad"), analysed)


def test_a_program_merged_into_none_is_whole(analysed, counts):
    both = ad.concat([counts, analysed], uns_merge="first", index_unique="-")
    assert_same_program(both, analysed)


def test_arrays_that_the_program_does_not_name_do_not_hide_a_changed_one(analysed):
    tree = dict(analysed.uns[KEY])
    state = {name: dict(arrays) for name, arrays in tree["state"].items()}
    state["pca"]["extra"] = np.ones(3)
    analysed.uns[KEY] = {**tree, "state": state}
    assert list(load(analysed)["pca"].arrays) == [key for key in state["pca"] if key != "extra"]
    state["pca"]["mean"] = state["pca"]["mean"] + 1
    with pytest.raises(RegistryError, match="changed outside dbx.*ad.concat"):
        dbx.steps(analysed)


@pytest.mark.parametrize("merge", ["same", "unique", "first", "only"])
def test_a_merged_program_is_whole_or_refused(analysed, merge):
    other = analysed.copy()
    dbx.pp.pca(other, n_comps=3)
    both = ad.concat([analysed, other], uns_merge=merge, index_unique="-")
    if merge == "first":
        assert_same_program(both, analysed)
        return
    if KEY in both.uns:
        with pytest.raises(RegistryError, match="incomplete|changed outside dbx|not a dbx program"):
            dbx.steps(both)


FOREIGN = {
    "a string": "hello",
    "a list": [1, 2],
    "None": None,
    "an empty dict": {},
    "another tool's dict": {"params": {"n": 1}},
    "a schema that is text": {"schema": "1"},
}


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN.keys())
def test_something_foreign_is_called_that(analysed, value):
    analysed.uns[KEY] = value
    with pytest.raises(RegistryError, match="not a dbx program.*del adata.uns"):
        dbx.steps(analysed)


def test_a_future_schema_asks_for_an_update(analysed):
    analysed.uns[KEY] = {**analysed.uns[KEY], "schema": 99, "version": "7.0"}
    with pytest.raises(RegistryError, match="schema 99, written by dbx 7.0.*Update dbx"):
        dbx.steps(analysed)


@pytest.mark.parametrize("part", ["version", "program", "genes", "state", "fingerprints", "digests", "digest"])
def test_a_truncated_program_names_what_is_missing(analysed, part):
    analysed.uns[KEY] = {k: v for k, v in analysed.uns[KEY].items() if k != part}
    with pytest.raises(RegistryError, match=f"incomplete: {part} missing"):
        dbx.steps(analysed)


def test_one_changed_bit_of_the_state_is_noticed(analysed):
    tree = analysed.uns[KEY]
    mean = tree["state"]["pca"]["mean"].copy()
    mean[0] = np.nextafter(mean[0], np.inf)
    analysed.uns[KEY] = {**tree, "state": {**tree["state"], "pca": {**tree["state"]["pca"], "mean": mean}}}
    with pytest.raises(RegistryError, match="changed outside dbx"):
        dbx.rerun(analysed)


def test_an_unknown_operator_is_named_and_the_rest_still_reruns(analysed):
    registry = load(analysed)
    registry.steps = [
        s
        if s.name != "pca"
        else type(s)(**{**{f: getattr(s, f) for f in s.__dataclass_fields__}, "operator": "new_pca"})
        for s in registry
    ]
    analysed.uns[KEY] = registry.to_uns("9.9")
    with pytest.warns(UserWarning, match="'pca' cannot be rerun: it needs the operator 'new_pca'"):
        dbx.rerun(analysed)


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(tree, path=()):
    yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from paths(value, (*path, key))


def replaced(tree, path, value):
    if not path:
        return value
    return {**tree, path[0]: replaced(tree[path[0]], path[1:], value)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_abuse_ends_in_a_registry_error_and_executes_nothing(analysed, data):
    tree = analysed.uns[KEY]
    path = data.draw(st.sampled_from(list(paths(tree))))
    value = data.draw(junk | st.just("__import__('os').abort()"))
    abused = replaced(tree, path, value)
    try:
        registry = Registry.from_uns(abused)
    except RegistryError as error:
        assert "adata.uns['dbx']" in str(error)
    else:  # nothing of what was put there is read
        assert _equal(registry.to_uns(tree["version"]), tree)


def _equal(a, b):
    return _text(a) == _text(b)


def _text(tree):
    return json.dumps(_filled(tree), default=lambda x: np.asarray(x).tolist())


def _filled(tree):
    """The tree without empty dicts, which file formats drop and which hold nothing."""
    if not isinstance(tree, dict):
        return tree
    filled = {key: _filled(value) for key, value in tree.items()}
    return {key: value for key, value in filled.items() if not isinstance(value, dict) or value}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_abuse_with_a_forged_digest_is_still_only_a_registry_error(analysed, data):
    from dbx.program.record.storage import tree_digest

    tree = analysed.uns[KEY]
    facts = json.loads(tree["program"])
    at = data.draw(st.integers(0, len(facts) - 1))
    key = data.draw(st.sampled_from(sorted(facts[at])))
    facts[at][key] = data.draw(
        st.none() | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
    )
    forged = {**tree, "program": json.dumps(facts)}
    forged["digest"] = tree_digest(forged)
    try:
        Registry.from_uns(forged)
    except RegistryError as error:
        assert "cannot be read" in str(error)


@pytest.mark.parametrize("call", [lambda x: dbx.tl.harmony(x, key="batch"), lambda x: dbx.steps(x)])
def test_what_is_not_annotated_data_is_refused(call):
    with pytest.raises(TypeError, match="must be an AnnData or a MuData; got ndarray"):
        call(np.ones((4, 3)))
