"""``dbx.pp.denoise`` and ``dbx.pp.vae_normalize`` for the denoising scorer."""

import numpy as np

from dbx.pp import denoise, vae_normalize


def run(adata, seed, **settings):
    """Counts expected by the transformer, array of shape (n_cells, n_genes)."""
    denoise(adata, random_state=seed, **settings)
    return adata.layers["denoised"]


def vae(adata, seed, **settings):
    """Counts expected by the autoencoder: its proportions times each cell's total."""
    vae_normalize(adata, batch_key="condition", target_sum=1, random_state=seed, **settings)
    return np.asarray(adata.layers["vae_normalized"]) * np.asarray(adata.X.sum(axis=1)).reshape(-1, 1)
