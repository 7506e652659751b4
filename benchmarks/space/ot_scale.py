"""Transport of many cells to the end: ``python -m benchmarks.space.ot_scale N [--rank R] [--epsilon E] ...``.

Two times of ``N`` cells each in 30 dimensions with falling variances: 20 clusters, which drift and of which some grow.
Prints CPU and wall seconds, the peak of memory above the data, iterations, and whether the solve converged.
"""

import argparse
import resource
import time
from pathlib import Path

import anndata as ad
import numpy as np

import dbx

N_DIMS, N_CLUSTERS = 30, 20


def cells(n_cells: int, seed: int = 0) -> ad.AnnData:
    """Two times with ``n_cells`` each."""
    rng = np.random.default_rng(seed)
    deviations = 3 / np.sqrt(np.arange(1, N_DIMS + 1))
    centres = rng.normal(size=(N_CLUSTERS, N_DIMS)) * 2 * deviations
    drift = rng.normal(size=(N_CLUSTERS, N_DIMS)) * 0.5 * deviations
    sizes = [rng.dirichlet(np.full(N_CLUSTERS, 3.0)) for _ in range(2)]
    points = []
    for later, share in enumerate(sizes):
        cluster = rng.choice(N_CLUSTERS, n_cells, p=share)
        points.append((centres + later * drift)[cluster] + rng.normal(size=(n_cells, N_DIMS)) * deviations)
    made = ad.AnnData(obsm={"X_pca": np.concatenate(points).astype(np.float32)})
    made.obs["day"] = np.repeat([0.0, 1.0], n_cells)
    return made


def resident(name: str) -> float:
    """Memory of this process in MB: ``VmRSS`` now, ``VmHWM`` its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main() -> None:
    """One call, measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("n_cells", type=int)
    parser.add_argument("--rank", type=int, default=-1)
    parser.add_argument("--epsilon", type=float, default=0.05)
    parser.add_argument("--tau-a", type=float, default=0.95)
    parser.add_argument("--tau-b", type=float, default=0.999)
    parser.add_argument("--max-iterations", type=int, default=5000)
    options = parser.parse_args()
    data, settings = cells(options.n_cells), vars(options).copy()
    del settings["n_cells"]
    small = cells(200)
    dbx.tl.ot_trajectory(small, "day", rank=5 if options.rank > 0 else -1, allow_unconverged=True)  # imports
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    held, started, cpu = resident("VmRSS"), time.perf_counter(), _cpu()
    dbx.tl.ot_trajectory(data, "day", allow_unconverged=True, **settings)
    row = data.uns["ot"]["pairs"].iloc[0]
    print(
        f"{options.n_cells} cells a time, rank {options.rank}: {_cpu() - cpu:.1f} CPU s, "
        f"{time.perf_counter() - started:.1f} s, {resident('VmHWM') - held:.0f} MB above the data "
        f"({resident('VmHWM'):.0f} MB in all), {row['iterations']} iterations, converged {row['converged']}, "
        f"marginal error {row['marginal_error']:.1e}",
        flush=True,
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
