"""``dbx.pp.remove_ambient`` for the ambient scorer: told neither the profile nor the mean contamination."""

from dbx.pp import remove_ambient


def run(adata, profile, rho_mean, seed, **settings):
    """Corrected counts, and the contamination of each cell."""
    remove_ambient(adata, random_state=seed, **settings)
    return adata.layers["ambient_removed"], adata.obs["ambient_fraction"].to_numpy()
