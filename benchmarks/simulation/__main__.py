"""`datasets.estimate`: round trips, and simulated counts beside measured ones and beside Splatter's rules.

python -m benchmarks.simulation --counts kang_pbmc_stim_2k.h5ad > table.md
"""

from __future__ import annotations

import argparse
import time

import anndata as ad
import numpy as np
from scipy import sparse, stats

from dbx.datasets import estimate, simulate

BASE = {"n_cells": 1000, "n_genes": 3000, "library_size": 50_000.0, "library_scale": 0.3, "mean_shape": 0.6}
ONE = {"n_groups": 1, "n_batches": 1, "de_probability": 0.0}
CASES = {
    "plain": ONE | {"dispersion": 0.1, "dispersion_df": 20.0},
    "outliers, trend": ONE
    | {"dispersion": 0.05, "dispersion_df": 30.0, "bcv_trend": 0.5}
    | {"outlier_probability": 0.05, "outlier_location": 3.0, "outlier_scale": 0.5},
    "4 groups, 3 batches": {"n_groups": 4, "n_batches": 3, "dispersion": 0.1, "dispersion_df": 20.0}
    | {"de_probability": 0.2, "de_location": 1.0, "de_scale": 0.4, "de_down": 0.3, "batch_scale": 0.3},
    "2 groups": {"n_groups": 2, "n_batches": 1, "dispersion": 0.1, "dispersion_df": 20.0}
    | {"de_probability": 0.2, "de_location": 1.0, "de_scale": 0.4},
    "dropout": ONE | {"dispersion": 0.1, "dispersion_df": 20.0, "dropout_mid": 1.0, "dropout_shape": -1.0},
}


def round_trips(seeds: int) -> None:
    print("| case | parameter | true | " + " | ".join(f"seed {i}" for i in range(seeds)) + " | largest error |")
    print("|---|---|---|" + "---|" * (seeds + 1))
    for case, settings in CASES.items():
        given, found = BASE | settings, []
        for seed in range(seeds):
            adata = simulate(**given, seed=seed)
            keys = {"groupby": "group"} if given["n_groups"] > 1 else {}
            keys |= {"batch_key": "batch"} if given["n_batches"] > 1 else {}
            start = time.process_time()
            found.append(estimate(adata, **keys) | {"s": time.process_time() - start})
            # the rate with which the drawn means sum to the library size: simulated counts do not depend on it
            found[-1]["mean_rate"] /= 0.3 * adata.var["mean"].sum() / given["library_size"]
        rows = {name: value for name, value in given.items() if name not in ("n_cells", "n_genes") and value}
        for name, value in (rows | {"mean_rate": 1.0}).items():
            if name in ("n_groups", "n_batches"):
                continue
            values = [one[name] for one in found]
            error = max(abs(one / value - 1) for one in values)
            shown = "of the true one" if name == "mean_rate" else f"{value:g}"
            print(f"| {case} | `{name}` | {shown} | " + " | ".join(f"{x:.4g}" for x in values) + f" | {error:.1%} |")
        print(f"| {case} | CPU seconds | | " + " | ".join(f"{one['s']:.1f}" for one in found) + " | |", flush=True)


def splatter(x: np.ndarray, ours: dict) -> dict:
    """splatEstimate's rules in NumPy; the common dispersion is ours where Splatter takes edgeR's."""
    total = x.sum(axis=1)
    mean = (x / total[:, None] * np.median(total)).mean(axis=0)
    mean = mean[mean > 0]
    kept = np.clip(mean, *np.quantile(mean, [0.1, 0.9]))
    shape, _, scale = stats.gamma.fit(kept, floc=0)
    log = np.log(mean)
    far = log > np.median(log) + 2 * stats.median_abs_deviation(log, scale="normal")
    factors = np.log(mean[far] / np.median(mean))
    return {
        "n_cells": len(x),
        "n_genes": x.shape[1],
        "n_groups": 1,
        "n_batches": 1,
        "de_probability": 0.0,
        "mean_shape": shape,
        "mean_rate": 1 / scale,
        "library_size": np.exp(np.log(total).mean()),
        "library_scale": np.log(total).std(),
        "outlier_probability": far.mean(),
        "outlier_location": factors.mean(),
        "outlier_scale": factors.std(),
        "dispersion": (0.1 + 0.25 * ours["dispersion"]) ** 2,
        "dispersion_df": ours["dispersion_df"],
        "bcv_trend": 1.0,
    }


def described(x: np.ndarray) -> dict[str, np.ndarray]:
    total = x.sum(axis=1)
    scaled = x / np.maximum(total, 1)[:, None] * np.median(total)
    return {
        "mean": scaled.mean(axis=0),
        "variance": scaled.var(axis=0),
        "zeros": (x == 0).mean(axis=0),
        "library": total,
    }


def beside(real: np.ndarray, params: dict, seeds: int) -> list[float]:
    """Kolmogorov-Smirnov distances, and the mean difference of the fraction of zeros at the same mean."""
    a, found = described(real), []
    for seed in range(seeds):
        b = described(simulate(**params, seed=seed).X.toarray())
        order = np.argsort(b["mean"])
        curve = np.interp(a["mean"], b["mean"][order], b["zeros"][order])
        distances = [stats.ks_2samp(a[name], b[name]).statistic for name in a]
        found.append([*distances, np.abs(curve - a["zeros"]).mean()])
    return np.mean(found, axis=0).tolist()


def measured(path: str, seeds: int) -> None:
    adata = ad.read_h5ad(path)
    x = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
    print("\n| simulated from | mean | variance | zeros | library size | zeros at the same mean | CPU seconds |")
    print("|---|---|---|---|---|---|---|")
    plain = None
    for keys in ({}, {"groupby": "celltype_derived"}, {"groupby": "celltype_derived", "batch_key": "condition"}):
        start = time.process_time()
        params = estimate(adata, **keys)
        seconds = time.process_time() - start
        plain = plain or params
        name = ", ".join(["`estimate`", *(f"{key}" for key in keys.values())])
        print(
            f"| {name} | " + " | ".join(f"{x:.3f}" for x in beside(x, params, seeds)) + f" | {seconds:.1f} |",
            flush=True,
        )
    values = beside(x, splatter(x, plain), seeds)
    print("| Splatter's rules | " + " | ".join(f"{x:.3f}" for x in values) + " | |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--counts", help="h5ad of measured counts, with celltype_derived and condition in obs")
    options = parser.parse_args()
    round_trips(options.seeds)
    if options.counts:
        measured(options.counts, options.seeds)
