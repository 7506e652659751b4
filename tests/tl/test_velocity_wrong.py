"""Wrong input to the functions of velocity: a sentence, and the data stay as they were."""

import numpy as np
import pytest
from velocity_reference import cells

import dbx

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads")


def without(container: str, key: str):
    def change(adata):
        del getattr(adata, container)[key]

    return change


def with_layer(name: str, function):
    def change(adata):
        adata.layers[name] = function(adata.layers[name].toarray()).astype(np.float32)

    return change


def nothing(adata):
    """Leave it as it is."""


def with_negative(adata):
    adata.layers["spliced"] = np.ones(adata.shape, np.float32)
    adata.layers["unspliced"] = -adata.layers["spliced"]


def with_velocity(adata):
    dbx.tl.velocity(adata, mode="steady_state")


def with_graph(adata):
    with_velocity(adata)
    dbx.tl.velocity_graph(adata)
    adata.obs["same"] = 1.0


def with_equal_moments(adata):
    adata.layers["Mu"] = adata.layers["Ms"].copy()


def with_one_gene(adata):
    with_velocity(adata)
    adata.var["velocity_genes"] = np.arange(adata.n_vars) == 3


CASES = {
    "no spliced": (without("layers", "spliced"), dbx.pp.moments, r"layers\['spliced'\] is missing"),
    "no unspliced": (without("layers", "unspliced"), dbx.pp.moments, r"layers\['unspliced'\] is missing"),
    "no unspliced counts": (with_layer("unspliced", lambda x: 0 * x + 0.0), dbx.pp.moments, "but .* does not|No cell"),
    "scaled": (with_layer("spliced", lambda x: x - 1.5), dbx.pp.moments, "negative"),
    "one layer": (
        nothing,
        lambda a: dbx.pp.moments(a, layers=("spliced", "spliced")),
        r"names of the spliced and of the unspliced counts; got \('spliced', 'spliced'\)",
    ),
    "half of the layers": (
        nothing,
        lambda a: dbx.pp.moments(a, layers=("spliced",)),
        "the names of the spliced and of",
    ),
    "a layer for two": (nothing, lambda a: dbx.tl.velocity(a, layers="spliced"), "the names of the spliced and of"),
    "counts and negative": (with_negative, dbx.pp.moments, r"'unspliced'\] has negative values"),
    "one of counts": (with_layer("spliced", np.rint), dbx.pp.moments, "holds counts, but .*'unspliced'.* does not"),
    "mode": (nothing, lambda a: dbx.pp.moments(a, mode="both"), "mode must be one of 'connectivities'"),
    "neighbours": (nothing, lambda a: dbx.pp.moments(a, neighbors_key="other"), r"uns\['other'\] is missing"),
    "no moments": (without("layers", "Ms"), dbx.tl.velocity, r"'Ms'\] is missing .* dbx.pp.moments\(adata\)"),
    "velocity's mode": (nothing, lambda a: dbx.tl.velocity(a, mode="best"), "mode must be one of 'stochastic'"),
    "no good gene": (nothing, lambda a: dbx.tl.velocity(a, min_r2=2), "Only 0 of 278 genes have R2 > min_r2=2"),
    "percentiles": (nothing, lambda a: dbx.tl.velocity(a, perc=[95, 5]), "perc must be two percentiles"),
    "largest ratio": (nothing, lambda a: dbx.tl.velocity(a, constrain_ratio=-1), "constrain_ratio must be"),
    "ratio": (nothing, lambda a: dbx.tl.velocity(a, constrain_ratio=[2, 1]), "constrain_ratio must be"),
    "no residual": (
        with_equal_moments,
        lambda a: dbx.tl.velocity(a, mode="local", min_r2=-10),
        "give no direction: by them all cells have the same time",
    ),
    "groups alone": (nothing, lambda a: dbx.tl.velocity(a, groups_for_fit=["a"]), "groupby and groups_for_fit togeth"),
    "no velocity": (nothing, dbx.tl.velocity_graph, r"'velocity'\] is missing .* dbx.tl.velocity\(adata\)"),
    "one gene": (with_one_gene, dbx.tl.velocity_graph, "Only 1 genes have velocities"),
    "unknown gene": (
        with_velocity,
        lambda a: dbx.tl.velocity_graph(a, gene_subset=["gene0", "Sox2"]),
        "gene_subset has 'Sox2', which",
    ),
    "no step": (
        with_velocity,
        lambda a: dbx.tl.velocity_graph(a, n_recurse_neighbors=0),
        "n_recurse_neighbors must be at least 1",
    ),
    "scale": (with_velocity, lambda a: dbx.tl.velocity_graph(a, scale=0), "scale must be above 0; got 0"),
    "no graph": (with_velocity, dbx.tl.velocity_embedding, r"_graph'\] is missing .* dbx.tl.velocity_graph\(adata\)"),
    "no graph for time": (with_velocity, dbx.tl.velocity_pseudotime, r"_graph'\] is missing .* dbx.tl.velocity_graph"),
    "no root": (with_graph, lambda a: dbx.tl.velocity_pseudotime(a, root_key="start"), "root_key='start' is neither"),
    "constant root": (with_graph, lambda a: dbx.tl.velocity_pseudotime(a, root_key="same"), "'same' must have numbers"),
    "time of another mode": (nothing, lambda a: dbx.tl.velocity(a, time_key="day"), "time_key has no effect"),
    "latent time of another mode": (
        nothing,
        lambda a: dbx.tl.velocity(a, mode="dynamical", use_latent_time=True),
        "use_latent_time=True is for mode='local', with mode='dynamical' it has no effect",
    ),
    "two times": (
        nothing,
        lambda a: dbx.tl.velocity(a, mode="local", use_latent_time=True, time_key="day"),
        "use_latent_time=True and time_key='day' name two times",
    ),
    "constant time": (with_graph, lambda a: dbx.tl.velocity(a, mode="local", time_key="same"), "time 'same' must be"),
    "rates of the local mode": (
        nothing,
        lambda a: dbx.tl.velocity(a, mode="local", fit_offset=True),
        "fit_offset is n",
    ),
    "no confidence": (nothing, dbx.tl.velocity_confidence, r"'velocity'\] is missing .* dbx.tl.velocity\(adata\)"),
}


def state(adata):
    held = ("layers", "obsm", "obsp", "obs", "var", "uns")
    return {name: sorted(filter(None, getattr(adata, name))) for name in held}


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_and_nothing_written(case):
    change, call, message = CASES[case]
    adata = cells()
    change(adata)
    before = state(adata)
    with pytest.raises((ValueError, KeyError), match=message):
        call(adata)
    assert state(adata) == before


def test_cells_without_counts_get_no_share():
    adata = cells()
    for name in ("spliced", "unspliced"):
        values = adata.layers[name].toarray()
        values[3] = 0
        adata.layers[name] = np.rint(values * 3)
    dbx.pp.moments(adata)
    assert np.isfinite(adata.layers["Ms"]).all()
