"""Every public name of scanpy's is dbx's, scanpy's own under dbx's name, or an error that says where it is."""

import importlib.util
import sys
from operator import attrgetter
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import scanpy as sc

import dbx
from dbx._scanpys import INSTEAD, public_names, scanpys_module

DOCS = Path(__file__).parents[1] / "docs"
STEPS = ("pp", "tl", "external.pp", "external.tl", "experimental.pp")
PASSED = ("get", "pl", "datasets")

ALIASES = {
    "tl.pca": "pp.pca",
    "external.pp.harmony_integrate": "pp.harmony_integrate",
}
"""Further names of scanpy's -> the function of dbx."""

NOTEBOOKS = """
    read_h5ad read_10x_mtx read_10x_h5 read AnnData concat settings.verbosity settings.set_figure_params
    set_figure_params logging.print_header datasets.pbmc3k datasets.paul15 datasets.pbmc68k_reduced
    pl.highest_expr_genes pl.violin pl.scatter pl.highly_variable_genes pl.pca pl.pca_variance_ratio pl.umap
    pl.rank_genes_groups pl.rank_genes_groups_violin pl.rank_genes_groups_dotplot pl.dotplot pl.stacked_violin
    pl.draw_graph pl.paga pl.paga_compare pl.paga_path pl.embedding_density pl.dendrogram
    get.obs_df pl.heatmap pl.matrixplot pl.diffmap pl.tsne pl.pca_loadings
"""
"""What scanpy's tutorials call besides: clustering (both), ingest, trajectories with PAGA."""

COUNTED = """
    external.pp.bbknn get.aggregate get.rank_genes_groups_df pp.calculate_qc_metrics pp.filter_cells pp.filter_genes
    pp.highly_variable_genes pp.log1p pp.neighbors pp.normalize_per_cell pp.normalize_total pp.pca pp.recipe_zheng17
    pp.regress_out pp.scale pp.scrublet tl.diffmap tl.dpt tl.draw_graph tl.embedding_density tl.ingest tl.leiden
    tl.louvain tl.paga tl.pca tl.rank_genes_groups tl.score_genes tl.score_genes_cell_cycle tl.tsne tl.umap
"""
"""All of pp, tl, get and external in fifteen notebooks of scverse/scanpy-tutorials (1f710a2, 2026-06-29)."""

REPLACED = ("external.pp.bbknn", "pp.normalize_per_cell", "tl.louvain")
"""Those of them that dbx has another function for: scanpy's need a package more, or are deprecated."""


def functions(namespaces):
    return [f"{name}.{f}" for name in namespaces for f in public_names(scanpys_module(name))]


def has(owner, name):
    try:
        attrgetter(name)(owner)
    except AttributeError:
        return False
    return True


@pytest.mark.parametrize("name", functions(STEPS))
def test_a_function_of_scanpys_is_dbxs_or_says_where_it_is(name):
    if has(dbx, name):
        assert attrgetter(name)(dbx).__module__.startswith("dbx."), "scanpy's function would not be recorded"
        return
    with pytest.raises(AttributeError, match=f"dbx has no {name}; sc.{name} works on the same object"):
        attrgetter(name)(dbx)


@pytest.mark.parametrize("name", functions(PASSED))
def test_what_computes_nothing_on_cells_is_scanpys_own(name):
    found = attrgetter(name)(dbx)
    assert found is attrgetter(name)(sc) or found.__module__.startswith("dbx.")


@pytest.mark.parametrize("name", ALIASES)
def test_aliases(name):
    assert attrgetter(name)(dbx) is attrgetter(ALIASES[name])(dbx)


@pytest.mark.parametrize("name", NOTEBOOKS.split() + COUNTED.split())
def test_what_tutorials_call_is_there(name):
    if name in REPLACED:
        with pytest.raises(AttributeError, match=f"dbx.{INSTEAD[name]} maps new cells"):
            attrgetter(name)(dbx)
    else:
        assert has(dbx, name)


@pytest.mark.parametrize("name", INSTEAD)
def test_what_is_advised_instead_exists(name):
    assert callable(attrgetter(INSTEAD[name])(dbx))
    assert hasattr(sc, name.partition(".")[0])


@pytest.mark.parametrize("name", ["pp.nothing", "tl.nothing", "pl.nothing", "get.nothing", "nothing", "pp._private"])
def test_what_nobody_has_is_a_plain_error(name):
    with pytest.raises(AttributeError, match="has no attribute"):
        attrgetter(name)(dbx)


def test_settings_of_scanpy_are_set_through_dbx():
    before = sc.settings.plot_suffix
    dbx.settings.plot_suffix = "_new"
    try:
        assert sc.settings.plot_suffix == dbx.settings.plot_suffix == "_new"
    finally:
        dbx.settings.plot_suffix = before
    assert sc.settings.plot_suffix == before
    for change in (lambda: dbx.settings.nothing, lambda: setattr(dbx.settings, "nothing", 1)):
        with pytest.raises(AttributeError, match="There is no setting 'nothing'"):
            change()


def test_scanpys_plot_draws_what_dbx_computed(analysed):
    axes = dbx.pl.umap(analysed, color="leiden", show=False)
    points = axes.collections[0].get_offsets()
    assert sorted(map(tuple, points)) == sorted(map(tuple, analysed.obsm["X_umap"]))
    plt.close("all")


@pytest.fixture(scope="module")
def table():
    """The rows of the page, by function."""
    sys.path.insert(0, str(DOCS / "_ext"))
    pytest.importorskip("sphinx")
    try:
        spec = importlib.util.find_spec("scanpy_table")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return {name: module.row(name) for name in module.functions()}


def test_the_page_lists_every_function(table):
    assert set(table) == set(functions((*STEPS, *PASSED)))


def test_the_page_says_whose_a_function_is(table):
    for name, (function, use, new_cells) in table.items():
        assert function == f"`sc.{name}`"
        assert new_cells
        module = getattr(attrgetter(name)(dbx), "__module__", "") if has(dbx, name) else ""
        assert (use == "scanpy's") is not module.startswith("dbx."), name
