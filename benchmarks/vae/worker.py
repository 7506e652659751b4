"""One training in a process of its own: ``python -m benchmarks.vae.worker TOOL FILE LIKELIHOOD EPOCHS SEED OUT``.

With ``OUT`` the latent coordinates of all cells are written there and the held-out likelihood is told; without, times.
"""

from __future__ import annotations

import json
import sys
import time

STARTED = time.perf_counter()

import warnings  # noqa: E402

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
from benchmarks.vae.models import MODELS  # noqa: E402
from benchmarks.vae.quality import held_out, split  # noqa: E402
from benchmarks.workflow.worker import peak  # noqa: E402

warnings.simplefilter("ignore")


def speed(train, adata, epochs: int) -> dict[str, float]:
    """From the start of the process to latent coordinates, then an epoch when everything is compiled."""
    before = peak()
    train(adata, epochs=epochs, validation=0.0).result()
    first, memory = time.perf_counter() - STARTED, peak()
    seconds, few = {}, max(epochs // 10, 2)
    for n in (few, 3 * few):
        wall, cpu = time.perf_counter(), time.process_time()
        train(adata, epochs=n, validation=0.0)
        seconds[n] = time.perf_counter() - wall, time.process_time() - cpu
    wall, cpu = ((seconds[3 * few][i] - seconds[few][i]) / (2 * few) for i in (0, 1))
    return {"first": first, "epoch_wall": wall, "epoch_cpu": cpu, "process": memory, "memory": memory - before}


def main(tool: str, file: str, likelihood: str, epochs: int, seed: int, out: str | None = None) -> dict:
    adata = ad.read_h5ad(file)

    def train(cells, *, epochs: int, **settings):
        return MODELS[tool](cells, likelihood=likelihood, epochs=epochs, seed=seed, **settings)

    if out is None:
        return speed(train, adata, epochs)
    fitted, kept_apart = split(adata.n_obs)
    model = train(adata[fitted], epochs=epochs)
    np.save(out, model.latent(adata))
    return held_out(model, adata[kept_apart])


if __name__ == "__main__":
    result = main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), *sys.argv[6:])
    print(json.dumps(result))
