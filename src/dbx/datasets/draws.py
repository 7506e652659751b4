"""The ground truth of simulated counts, drawn from its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbx.datasets.distributions import draw_distributions
from dbx.datasets.paths import draw_paths, draw_switches, read_tree
from dbx.datasets.splat import (
    CELLS,
    CONDITIONS,
    GENES,
    OUTLIERS,
    PATHS,
    SWITCHES,
    Truth,
    Variation,
    draw_batch_factors,
    draw_codes,
    draw_levels,
    draw_outliers,
    draw_scatter,
    stream,
    with_outliers,
)


def draw_truth(given: Mapping[str, Any]) -> Truth:
    """The truth of the parameters of `simulate`, those left at None missing: the same every time."""
    seed, n_cells, n_genes, n_groups, n_batches = (
        int(given[name]) for name in ("seed", "n_cells", "n_genes", "n_groups", "n_batches")
    )
    sizes = [*map(int, given.get("nested", [])), n_groups]
    genes, cells = stream(seed, GENES), stream(seed, CELLS)
    tree = None
    if "paths" in given:
        tree = read_tree(given["paths"], n_groups, given["path_steps"], given["path_skew"])
    outlying = (given[f"outlier_{name}"] for name in ("probability", "location", "scale"))
    outlier = draw_outliers(stream(seed, OUTLIERS), n_genes, *outlying)
    changes = [given[f"de_{name}"] for name in ("probability", "location", "scale", "down")]
    group = draw_codes(cells, n_groups, n_cells, given.get("group_shares"))
    truth = Truth(
        group=group,
        batch=draw_codes(cells, n_batches, n_cells, given.get("batch_shares")),
        library_size=given["library_size"] * cells.lognormal(0, given["library_scale"], n_cells),
        mean=with_outliers(genes.gamma(given["mean_shape"], 1 / given["mean_rate"], n_genes), outlier),
        outlier=outlier,
        bcv=Variation(given["dispersion"], given["bcv_trend"], draw_scatter(genes, given["dispersion_df"], n_genes)),
        levels=draw_levels(genes, seed, sizes, n_genes, changes),
        batch_factors=draw_batch_factors(genes, (n_batches, n_genes), given["batch_location"], given["batch_scale"]),
        dropout=None if "dropout_mid" not in given else (given["dropout_mid"], given["dropout_shape"]),
    )
    if tree is not None:
        n_switches = int(given["switch_genes"])
        switches = draw_switches(stream(seed, SWITCHES), tree, n_switches, n_genes, *changes[1:])
        factors, nonlinear = truth.levels[-1].factors, given["path_nonlinear"]
        truth.paths = draw_paths(stream(seed, PATHS), tree, group, factors, nonlinear, switches)
    if "differential_distribution" in given:
        numbers, distance = given["differential_distribution"], given["mode_distance"]
        truth.distributions = draw_distributions(stream(seed, CONDITIONS), numbers, distance, n_cells, n_genes)
    return truth
