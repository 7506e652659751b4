"""Several slices jointly beside each alone: ``python -m benchmarks.space.joint FILE [gat smooth] [--seeds 0 1 2]``.

``FILE`` has counts in X, ``obsm["spatial"]``, slices in ``obs["batch"]`` and layers in ``obs["layer_of_excitatory"]``,
"none" where they are not known (STARmap, medial prefrontal cortex of three mice).
"""

import argparse

import anndata as ad
import numpy as np
from benchmarks.scores import space
from sklearn.metrics import adjusted_rand_score

LAYERS, SLICES, UNKNOWN = "layer_of_excitatory", "batch", "none"


def main() -> None:
    """Adjusted Rand indices of labelled cells within each slice, by a joint run and by one for the slice."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("methods", nargs="*", default=["gat", "smooth"])
    parser.add_argument("--domains", type=int, default=4, help="L1 besides, in which no labelled cell is")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    data = ad.read_h5ad(options.file)
    truth, of_slice = (data.obs[key].astype(str).to_numpy() for key in (LAYERS, SLICES))
    known = truth != UNKNOWN
    cells = ad.AnnData(
        data.X.copy(), var=data.var[[]].copy(), obsm={"spatial": np.asarray(data.obsm["spatial"], float)}
    )
    cells.obs_names = data.obs_names
    cells.obs["slice"] = of_slice
    cells.obs["slice"] = cells.obs["slice"].astype("category")
    for seed in options.seeds:
        for method in options.methods:
            found = getattr(space, method)(cells.copy(), options.domains, seed)
            together, alone = {}, {}
            for name in sorted(set(of_slice)):
                here = of_slice == name
                one = cells[here].copy()
                del one.obs["slice"]
                labels = getattr(space, method)(one, options.domains, seed)
                together[name] = round(adjusted_rand_score(truth[here & known], found[here & known]), 3)
                alone[name] = round(adjusted_rand_score(truth[here & known], labels[known[here]]), 3)
            print(
                method,
                seed,
                "all",
                round(adjusted_rand_score(truth[known], found[known]), 3),
                together,
                alone,
                flush=True,
            )


if __name__ == "__main__":
    main()
