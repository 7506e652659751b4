"""``dbx.pp.solo`` for the doublet scorer."""

from dbx.pp import solo


def run(adata, expected_rate, seed, **settings):
    """Probability of being a doublet, and the calls, arrays of shape (n_cells,)."""
    solo(adata, expected_doublet_rate=expected_rate, random_state=seed, **settings)
    return adata.obs["solo_score"].to_numpy(), adata.obs["predicted_doublet"].to_numpy()
