"""Whatever dbx has under scanpy's name takes what scanpy takes, in its order, with its defaults; ours comes behind."""

import inspect
import re
import warnings
from operator import attrgetter

import pytest
import scanpy as sc

import dbx

POSITIONAL, KEYWORD, VARIADIC = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
)

# Every parameter that scanpy 1.11.5, 1.12.4 or 1.13.0a1 knows. Notebooks of all three are about, so dbx takes them all,
# whichever is installed.
SCANPYS = {
    "pp.normalize_total": """
        adata target_sum exclude_highly_expressed max_fraction key_added layer obsm inplace copy
    """,
    "pp.calculate_qc_metrics": """
        adata expr_type var_type qc_vars percent_top layer use_raw inplace log1p parallel
    """,
    "pp.sqrt": "data copy chunked chunk_size",
    "pp.sample": "data fraction n rng copy replace axis p",
    "pp.subsample": "data fraction n_obs random_state copy",
    "pp.downsample_counts": "adata counts_per_cell total_counts random_state replace copy",
    "pp.filter_cells": "data min_counts min_genes max_counts max_genes inplace copy",
    "pp.filter_genes": "data min_counts min_cells max_counts max_cells inplace copy",
    "pp.log1p": "data base copy chunked chunk_size layer obsm",
    "pp.highly_variable_genes": """
        adata layer n_top_genes min_disp max_disp min_mean max_mean span n_bins flavor subset inplace
        batch_key filter_unexpressed_genes check_values
    """,
    "pp.combat": "adata key covariates inplace",
    "pp.regress_out": "adata keys layer n_jobs copy",
    "pp.scale": "data zero_center max_value copy layer obsm mask_obs",
    "pp.recipe_zheng17": "adata n_top_genes log plot copy",
    "pp.recipe_seurat": "adata log plot copy",
    "pp.pca": """
        data n_comps layer obsm zero_center svd_solver chunked chunk_size random_state rng return_info
        mask_var use_highly_variable dtype key_added copy
    """,
    "tl.pca": """
        data n_comps layer obsm zero_center svd_solver chunked chunk_size random_state rng return_info
        mask_var use_highly_variable dtype key_added copy
    """,
    "pp.neighbors": """
        adata n_neighbors n_pcs distances use_rep knn method transformer metric metric_kwds random_state rng
        key_added copy
    """,
    "pp.harmony_integrate": """
        adata key basis adjusted_basis dtype flavor n_clusters max_iter_harmony max_iter_clustering
        tol_harmony tol_clustering sigma theta tau ridge_lambda alpha batch_prune_threshold
        correction_method block_proportion rng
    """,
    "experimental.pp.normalize_pearson_residuals": "adata theta clip check_values layer obsm inplace copy",
    "experimental.pp.normalize_pearson_residuals_pca": """
        adata theta clip n_comps random_state kwargs_pca mask_var use_highly_variable check_values inplace
    """,
    "experimental.pp.recipe_pearson_residuals": """
        adata theta clip n_top_genes batch_key chunksize n_comps random_state kwargs_pca check_values inplace
    """,
    "experimental.pp.highly_variable_genes": """
        adata theta clip n_top_genes batch_key chunksize flavor check_values layer subset inplace
    """,
    "pp.scrublet": """
        adata adata_sim batch_key sim_doublet_ratio expected_doublet_rate stdev_doublet_rate
        synthetic_doublet_umi_subsampling knn_dist_metric normalize_variance log_transform mean_center n_prin_comps
        use_approx_neighbors get_doublet_neighbor_parents n_neighbors threshold verbose copy random_state rng
    """,
    "pp.scrublet_simulate_doublets": """
        adata layer sim_doublet_ratio synthetic_doublet_umi_subsampling random_seed
    """,
    "tl.umap": """
        adata min_dist spread n_components maxiter alpha gamma negative_sample_rate init_pos random_state
        rng a b method key_added neighbors_key copy
    """,
    "tl.diffmap": "adata n_comps neighbors_key random_state copy",
    "tl.dpt": "adata n_dcs n_branchings min_group_size allow_kendall_tau_shift neighbors_key copy",
    "tl.leiden": """
        adata resolution restrict_to random_state rng key_added adjacency directed use_weights n_iterations
        partition_type neighbors_key obsp copy flavor clustering_args
    """,
    "tl.rank_genes_groups": """
        adata groupby mask_var use_raw groups reference n_genes rankby_abs pts key_added copy method
        corr_method tie_correct layer mean_in_log_space kwds
    """,
    "tl.paga": "adata groups use_rna_velocity model neighbors_key copy",
    "tl.embedding_density": "adata basis groupby key_added components",
    "tl.dendrogram": """
        adata groupby n_pcs use_rep var_names use_raw cor_method linkage_method optimal_ordering key_added inplace
    """,
    "tl.tsne": """
        adata n_pcs n_components use_rep perplexity metric early_exaggeration learning_rate random_state use_fast_tsne
        n_jobs key_added copy
    """,
    "tl.draw_graph": """
        adata layout init_pos root random_state n_jobs adjacency key_added_ext neighbors_key obsp copy kwds
    """,
    "tl.ingest": "adata adata_ref obs embedding_method labeling_method neighbors_key inplace kwargs",
    "tl.score_genes": """
        adata gene_list ctrl_as_ref ctrl_size gene_pool n_bins score_name random_state rng copy use_raw layer
    """,
    "tl.score_genes_cell_cycle": "adata s_genes g2m_genes copy kwargs",
}

# Defaults that scanpy spells differently from version to version and that mean the same in each.
SAME_MEANING = {
    ("pp.neighbors", "metric"): (None, "euclidean"),
    ("tl.leiden", "flavor"): (None, "leidenalg"),
}


OF_OTHER_DATA = {"tl.quantify": "classes", "tl.summarize_to_gene": "tx"}
"""Functions that read something else than cells and return data of their own -> their first parameter."""
MOST_POSITIONAL = {"tl.ot_cell_transition": 4, "tl.ot_interpolate": 4}
"""Where there are more than 3: times come together, as in moscot."""


def function_of(package, name):
    module, _, function = name.rpartition(".")
    return getattr(attrgetter(module)(package), function, None)


def parameters_of(function):
    return inspect.signature(function).parameters


def public_functions():
    modules = ("pp", "tl", "experimental.pp")
    return [f"{module}.{name}" for module in modules for name in attrgetter(module)(dbx).__all__]


def drop_ins():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [name for name in public_functions() if function_of(sc, name) is not None]


def is_sentinel(default):
    """A default that stands for "not given", such as scanpy's ``Empty.token`` and ``Default(...)``."""
    return not isinstance(default, bool | int | float | str | type(None)) and type(default).__module__.split(".")[
        0
    ] in (
        "scanpy",
        "dbx",
    )


def test_every_function_of_scanpys_is_compared():
    assert set(drop_ins()) <= set(SCANPYS)
    assert set(SCANPYS) <= set(public_functions())


@pytest.mark.parametrize("name", drop_ins())
def test_superset_of_the_installed_scanpy(name):
    ours, scanpys = parameters_of(function_of(dbx, name)), parameters_of(function_of(sc, name))
    assert [p for p in ours if p in scanpys] == list(scanpys)
    for parameter, theirs in scanpys.items():
        assert ours[parameter].kind == theirs.kind, parameter
        default, expected = ours[parameter].default, theirs.default
        same = default == expected or default in SAME_MEANING.get((name, parameter), ())
        assert same or (is_sentinel(default) and is_sentinel(expected)), parameter


@pytest.mark.parametrize("name", SCANPYS)
def test_takes_what_any_scanpy_takes_and_ours_comes_last(name):
    scanpys = SCANPYS[name].split()
    ours = [p for p in parameters_of(function_of(dbx, name)).values() if p.kind is not VARIADIC]
    known = [p.name in scanpys for p in ours]
    assert {p for p in scanpys if p not in ("clustering_args", "kwds", "kwargs")} <= {p.name for p in ours}
    assert known == sorted(known, reverse=True), "a parameter of dbx's own stands before one of scanpy's"
    assert all(p.kind is KEYWORD for p, of_scanpy in zip(ours, known, strict=True) if not of_scanpy)


@pytest.mark.parametrize("name", public_functions())
def test_conventions(name):
    function = function_of(dbx, name)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    first = OF_OTHER_DATA.get(name)
    assert parameters[0].name in (("adata", "data", "mdata") if first is None else (first,))
    assert parameters[0].kind is POSITIONAL
    assert sum(p.kind is POSITIONAL for p in parameters) <= MOST_POSITIONAL.get(name, 3)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters)
    named = [p for p in parameters if p.kind is not VARIADIC]
    if first is None:
        assert named[-1].name == "mod"
        assert named[-1].default is None
    if "copy" in signature.parameters:
        assert signature.parameters["copy"].default is False


def sections_of(docstring):
    """Heading -> lines of a numpydoc docstring."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", docstring, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.splitlines() for part in parts[2::2]), strict=True))


def documented(lines):
    """Names of the parameters that a section describes: ``name`` or ``name, other``, at the left margin."""
    entries = [line.split(":")[0] for line in lines if line and not line.startswith(" ")]
    return [name.strip().lstrip("*") for entry in entries for name in entry.split(",")]


@pytest.mark.parametrize("name", public_functions())
def test_docstring_says_every_parameter_and_what_is_written(name):
    function = function_of(dbx, name)
    docstring = inspect.getdoc(function)
    assert docstring, "no docstring"
    summary = docstring.splitlines()[0]
    assert summary.endswith("."), summary
    sections = sections_of(docstring)
    assert sections.get("Returns"), "no section Returns"
    assert sorted(documented(sections["Parameters"])) == sorted(parameters_of(function))
