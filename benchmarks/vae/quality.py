"""Held-out likelihood and mixing, computed in float64 with SciPy, apart from both tools."""

from __future__ import annotations

import numpy as np

N_DRAWS = 25
TRAIN_SHARE = 0.85


def split(n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, the same for every seed and tool."""
    order = np.random.default_rng(0).permutation(n_cells)
    n_train = int(TRAIN_SHARE * n_cells)
    return np.sort(order[:n_train]), np.sort(order[n_train:])


def log_likelihood(x: np.ndarray, mean, theta, inflation) -> np.ndarray:
    """Of each cell's counts, summed over genes."""
    from scipy import stats

    x, mean = np.float64(x), np.maximum(np.float64(mean), 1e-8)
    if theta is None:
        return stats.poisson.logpmf(x, mean).sum(axis=1)
    theta = np.broadcast_to(np.clip(np.float64(theta), 1e-8, 1e8), x.shape)
    counts = stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    if inflation is not None:
        inflation = np.clip(np.float64(inflation), 1e-12, 1 - 1e-12)
        kept = np.log1p(-inflation) + counts
        counts = np.where(x > 0, kept, np.logaddexp(np.log(inflation), kept))
    return counts.sum(axis=1)


def held_out(model, adata) -> dict[str, float]:
    """Nats per cell: mean over draws of the posterior, and with the divergence from the prior."""
    x = adata.X.toarray()
    nll = -np.mean([log_likelihood(x, *draw) for draw in model.draws(adata, N_DRAWS)])
    return {"nll": float(nll), "elbo": float(nll + model.kl(adata).mean())}


def mixing(z: np.ndarray, obs) -> dict[str, float]:
    """LISI over all cells by harmonypy: median of batches (high is mixed), mean of labels (1 is apart)."""
    from harmonypy import compute_lisi

    found = np.asarray(compute_lisi(np.float64(z), obs[["batch", "label"]].astype(str), ["batch", "label"]))
    return {"ilisi": float(np.median(found[:, 0])), "clisi": float(np.mean(found[:, 1]))}
