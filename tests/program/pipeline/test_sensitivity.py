"""dbx.sensitivity: gradients against loadings, the chain rule by hand, and finite differences in float64."""

from importlib import import_module

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.program.pipeline.path import make_path
from dbx.program.pipeline.values import rows_of
from dbx.program.record.registry import load
from dbx.program.replay.location import Location
from dbx.program.slots.slots import Slot

module = import_module("dbx.program.pipeline.sensitivity")
COUNTS = {"read_by": "normalize_total"}


def of_gene(table, column="gradient"):
    return table.set_index("gene")[column]


def assert_as_float32(found, expected):
    """Equal but for the sums over cells in float32: each of the few roundings is relative to the largest value."""
    atol = 8 * np.finfo(np.float32).eps * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def path_of(adata, output, input="X", reader=None):
    registry = load(adata)
    return make_path(
        adata,
        registry,
        Location(adata, registry, {}, own=True),
        adata.n_obs,
        (Slot.parse(input), Slot.parse(output)),
        reader,
    )


def loadings(adata):
    step = load(adata)["pca"]
    return pd.DataFrame(step.arrays["components"][1], index=step.genes)


def test_through_a_projection_it_is_the_loading(analysed):
    table = dbx.sensitivity(analysed, "obsm/X_pca")
    assert len(table) == 80 * 5  # genes that were chosen x components
    for k in range(5):
        part = of_gene(table[table["column"] == str(k)])
        assert_as_float32(part, loadings(analysed)[k].loc[part.index])
    one = dbx.sensitivity(analysed, "obsm/X_pca", column=3)
    np.testing.assert_array_equal(one["gradient"], table.loc[table["column"] == "3", "gradient"])
    np.testing.assert_allclose(one["magnitude"], one["gradient"].abs())  # the same in every cell
    x = analysed[:, list(one["gene"])].X.toarray()
    np.testing.assert_allclose(one["effect"], one["gradient"] * x.std(axis=0, ddof=1), rtol=1e-5)
    assert one["effect"].abs().is_monotonic_decreasing


@pytest.mark.arithmetic
def test_from_counts_it_is_the_chain_rule(analysed):
    """z = sum_j L_j log(1 + s x_j / T): its derivative by hand, T being the total of the cell."""
    k, x = 1, analysed.layers["counts"].toarray().astype(np.float64)
    total = x.sum(axis=1, keepdims=True)
    s = np.median(total)
    weight = loadings(analysed)[k].reindex(analysed.var_names).fillna(0).to_numpy() / (1 + s * x / total)
    by_hand = s / total * (weight - (weight * x / total).sum(axis=1, keepdims=True))
    found = dbx.sensitivity(analysed, "obsm/X_pca", column=k, per_cell=True, **COUNTS)
    assert list(found.index) == list(analysed.obs_names)
    np.testing.assert_allclose(found[list(analysed.var_names)], by_hand, rtol=1e-4, atol=1e-6)
    table = dbx.sensitivity(analysed, "obsm/X_pca", "layers/counts", column=k)  # where these counts are kept
    np.testing.assert_allclose(of_gene(table).loc[analysed.var_names], by_hand.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(
        of_gene(table, "magnitude").loc[analysed.var_names], np.abs(by_hand).mean(axis=0), rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:zero-centering")
def test_scaling_divides_by_the_standard_deviation(counts):
    adata = counts.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    logs = adata.X.toarray()
    dbx.pp.scale(adata)
    dbx.pp.pca(adata, n_comps=3)
    of_scaled = of_gene(dbx.sensitivity(adata, "obsm/X_pca", column=0))
    assert_as_float32(of_scaled, loadings(adata)[0].loc[of_scaled.index])
    adata.layers["counts"] = counts.X
    of_logs = of_gene(dbx.sensitivity(adata, "obsm/X_pca", read_by="scale", column=0))
    sd = pd.Series(logs.std(axis=0, ddof=1), index=adata.var_names).replace(0, 1)  # constant genes stay as they are
    np.testing.assert_allclose(of_logs, (of_scaled / sd).loc[of_logs.index], rtol=1e-4)


@pytest.mark.arithmetic
@pytest.mark.parametrize(("output", "column"), [("obsm/X_pca_harmony", 0), ("obsm/X_umap", 1), ("obs/leiden", 0)])
def test_finite_differences(analysed, output, column):
    """In float64, all steps from the counts to the result; each cell is moved along its own gradient."""
    cells = np.arange(0, 150, 11)
    found = dbx.sensitivity(analysed, output, column=column, cells=cells, per_cell=True, **COUNTS)
    path = path_of(analysed, output, reader="normalize_total")
    values, rows = rows_of(path.values, cells), -2 - cells.astype(np.int32)
    gradient = found.to_numpy(np.float64)
    norm = np.linalg.norm(gradient, axis=1, keepdims=True)
    with jax.enable_x64(True):
        states = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64) if jnp.asarray(a).dtype.kind == "f" else a, path.pipeline.states
        )
        run = jax.jit(lambda x: path.run(states, {**values, "X": x}, rows)[path.end])
        step = 1e-5 * gradient / np.where(norm > 0, norm, 1)
        up, down = (np.asarray(run(values["X"].astype(np.float64) + sign * step))[:, column] for sign in (1, -1))
    assert (norm > 1e-6).mean() > 0.4  # a cluster has no gradient in the midst of it
    np.testing.assert_allclose((up - down) / 2e-5, norm[:, 0], rtol=5e-3, atol=1e-6)  # gradients were found in float32


def test_a_cell_is_placed_without_itself(analysed):
    """Its place is the one that the pipeline gives a new cell, were it not among the reference."""
    path = path_of(analysed, "obsm/X_umap", "obsm/X_pca_harmony")
    cell = np.array([7])
    values = rows_of(path.values, cell)
    run = jax.jit(path.run)
    placed = run(path.pipeline.states, values, -2 - cell.astype(np.int32))
    distances = np.linalg.norm(analysed.obsm["X_pca_harmony"] - analysed.obsm["X_pca_harmony"][7], axis=1)
    nearest = set(np.argsort(distances)[1:11])
    assert set(np.asarray(placed["obsp/distances"].indices)[0]) == nearest
    assert 7 in np.asarray(run(path.pipeline.states, values, np.array([-1], np.int32))["obsp/distances"].indices)


@pytest.mark.arithmetic
def test_moving_cells_along_the_gradient_moves_their_places_as_predicted(analysed):
    given = {"column": 0, "per_cell": True}
    gradient = dbx.sensitivity(analysed, "obsm/X_umap", "obsm/X_pca_harmony", **given).to_numpy()
    norm = np.linalg.norm(gradient, axis=1, keepdims=True)
    path = path_of(analysed, "obsm/X_umap", "obsm/X_pca_harmony")
    rows, z = -2 - np.arange(150, dtype=np.int32), analysed.obsm["X_pca_harmony"]
    run = jax.jit(lambda z: path.run(path.pipeline.states, {"obsm/X_pca_harmony": z}, rows)["obsm/X_umap"][:, 0])
    change = np.asarray(run(z + 1e-2 * gradient / norm)) - np.asarray(run(z))
    # all but the few cells that get another neighbour by so long a step; rounding of float32 places
    assert np.isclose(change, 1e-2 * norm[:, 0], rtol=0.1, atol=2e-5).mean() > 0.8


@pytest.fixture(scope="module")
def planted():
    """Three types, each told by three genes of its own among 60 others of the same spread."""
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 3, 240)
    means = np.full((3, 69), 3.0)
    for i in range(3):
        means[i, 3 * i : 3 * i + 3] = 12
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(means[kind]).astype(np.float32)))
    adata.obs["type"] = pd.Categorical(np.array(["B", "NK", "T"])[kind])
    adata.layers["counts"] = adata.X.copy()
    dbx.tl.annotate(adata, labels_key="type", n_copies=0)
    return adata


@pytest.mark.parametrize(("label", "genes"), [("B", "012"), ("NK", "345"), ("T", "678")])
def test_planted_markers_are_found_first(planted, label, genes):
    table = dbx.sensitivity(planted, "obsm/annotation_probabilities", column=label)
    assert set(table["gene"][:3]) == set(genes)
    assert (table["gradient"][:3] > 0).all()
    of_labels = dbx.sensitivity(planted, "obs/annotation", column=label)
    pd.testing.assert_frame_equal(of_labels, table)


def test_groups_average_to_the_whole_and_cells_restrict(analysed):
    how = {"column": 0, **COUNTS}
    whole = of_gene(dbx.sensitivity(analysed, "obsm/X_pca", **how)).sort_index()
    parts = dbx.sensitivity(analysed, "obsm/X_pca", groups="batch", **how)
    sizes = analysed.obs["batch"].value_counts()
    assert set(parts["group"]) == set(sizes.index)
    mean = sum(of_gene(parts[parts["group"] == g]).sort_index() * n for g, n in sizes.items()) / analysed.n_obs
    np.testing.assert_allclose(mean, whole, rtol=5e-7, atol=1e-8)  # sums of float32 in another order: 4 roundings
    first = analysed.obs["batch"] == sizes.index[0]
    for cells in (first.to_numpy(), np.flatnonzero(first), analysed.obs_names[first]):
        some = dbx.sensitivity(analysed, "obsm/X_pca", cells=cells, **how)
        np.testing.assert_allclose(
            of_gene(some).sort_index(),
            of_gene(parts[parts["group"] == sizes.index[0]]).sort_index(),
            rtol=5e-7,
            atol=1e-8,
        )


def test_blocks_make_no_difference_and_are_small(analysed, monkeypatch):
    how = {"column": [0, 1], **COUNTS}
    whole = dbx.sensitivity(analysed, "obsm/X_pca_harmony", **how)
    monkeypatch.setattr(module, "ROWS", 16)
    seen, run = [], module.Path.run

    def watched(self, states, values, rows):
        seen.append(values["X"].shape)
        return run(self, states, values, rows)

    monkeypatch.setattr(module.Path, "run", watched)
    blocks = dbx.sensitivity(analysed, "obsm/X_pca_harmony", **how)
    assert {rows for rows, _ in seen} <= {1, 16}
    for name in ("gradient", "magnitude"):
        one, two = (t.set_index(["column", "gene"])[name].sort_index() for t in (whole, blocks))
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-7)  # sums in another order
    monkeypatch.setattr(module, "BYTES", 8 * 4 * 200)
    seen.clear()
    dbx.sensitivity(analysed, "obsm/X_pca_harmony", column=0, **COUNTS)
    assert {rows for rows, _ in seen} == {1, 8}


def test_sparse_and_dense_agree(analysed):
    dense = analysed.copy()
    dense.layers["counts"] = dense.layers["counts"].toarray()
    tables = [dbx.sensitivity(a, "obsm/X_pca_harmony", column=0, **COUNTS) for a in (analysed, dense)]
    pd.testing.assert_frame_equal(*tables)


def test_it_starts_from_what_is_there(analysed):
    known = dbx.sensitivity(analysed, "obsm/X_pca", column=0)
    gone = analysed.copy()
    del gone.layers["counts"]
    pd.testing.assert_frame_equal(dbx.sensitivity(gone, "obsm/X_pca", column=0), known)
    with pytest.raises(ValueError, match=r"adata\.X is not any more what the program read there"):
        dbx.sensitivity(gone, "obsm/X_pca", column=0, **COUNTS)
    over = analysed.copy()
    over.X = np.zeros(over.shape, np.float32)
    again = dbx.sensitivity(over, "obsm/X_pca", column=0)  # computed again from the counts
    assert_as_float32(of_gene(again).sort_index(), of_gene(known).sort_index())
    np.testing.assert_allclose(of_gene(again, "sd").sort_index(), of_gene(known, "sd").sort_index(), rtol=1e-5)


def test_nothing_is_written_unless_asked(analysed, tmp_path):
    before = {name: set(getattr(analysed, name)) for name in ("uns", "varm", "obsm", "layers")}
    dbx.sensitivity(analysed, "obsm/X_pca", column=0)
    assert before == {name: set(getattr(analysed, name)) for name in before}
    table = dbx.sensitivity(analysed, "obsm/X_pca", column=[0, 1], groups="batch", key_added="drivers")
    analysed.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad").uns["drivers"]
    pd.testing.assert_frame_equal(
        back["table"].reset_index(drop=True), table, check_dtype=False, check_categorical=False
    )
    assert back["params"] == {"output": "obsm/X_pca", "input": "X", "groups": "batch"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("obsm/X_tsne",), "is missing"),
        (("obsm/X_pca", "layers/velocity"), "is missing"),
        (("obs/batch",), "was not written by a recorded step"),
        (("varm/PCs",), "what 'pca' learnt from all cells"),
        (("obsm/X_pca", "obsm/X_umap"), r"adata\.obsm\['X_pca'\] is not computed from adata\.obsm\['X_umap'\]"),
        (("obsp/connectivities",), "holds a graph"),
        (("obsm/X_pca_harmony", "obs/batch"), "not a matrix of numbers"),
        (("nonsense",), "is not a valid slot"),
    ],
)
def test_wrong_slots_are_said(analysed, given, message):
    with pytest.raises((ValueError, KeyError), match=message):
        dbx.sensitivity(analysed, *given)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"column": 5}, "has no column 5; it has 0, 1, 2, 3, 4"),
        ({"column": "T cell"}, "has no column 'T cell'"),
        ({"read_by": "umap"}, "Step 'umap' does not read"),
        ({"groups": "donor"}, "is missing"),
        ({"cells": ["nobody"]}, "no cell 'nobody'"),
        ({"cells": [150]}, "no cell 150"),
        ({"cells": np.zeros(150, bool)}, "names no cell"),
        ({"cells": np.zeros(3, bool)}, "3 values for 150"),
        ({"per_cell": True}, "for one column"),
    ],
)
def test_wrong_arguments_are_said(analysed, wrong, message):
    with pytest.raises((ValueError, KeyError), match=message):
        dbx.sensitivity(analysed, "obsm/X_pca", **wrong)


def test_no_program_and_metrics_without_gradient(counts, analysed):
    with pytest.raises(ValueError, match="No program is recorded"):
        dbx.sensitivity(counts, "obsm/X_pca")
    dbx.pp.neighbors(analysed, use_rep="X_pca_harmony", metric="jaccard")
    dbx.tl.umap(analysed, maxiter=15)
    with pytest.raises(ValueError, match="metric='jaccard' has no gradient"):
        dbx.sensitivity(analysed, "obsm/X_umap")


def test_columns_of_fates_are_named_by_their_ends():
    adata = dbx.datasets.simulate(90, 30, 3, 1, seed=0)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)
    dbx.pp.neighbors(adata, n_neighbors=30, use_rep="X_pca")
    ends = {"one": adata.obs_names[:5], "other": adata.obs_names[5:10]}
    dbx.tl.fate_probabilities(adata, ends, kernel="connectivity")
    table = dbx.sensitivity(adata, "obsm/lineages_fwd", "obsm/X_pca")
    assert list(table["column"].cat.categories) == ["one", "other"]
    slopes = table.set_index(["column", "gene"])["gradient"]  # fates sum to 1
    np.testing.assert_allclose(slopes["one"], -slopes["other"][slopes["one"].index], rtol=1e-3, atol=1e-6)
