"""Memory of components and of their training above the data: ``python -m benchmarks.optimize.large.memory CELLS``.

Log counts (CSR, not standardised), 10 components, two epochs, in a process of its own. ``--budget`` bytes of data may
lie on the device as a whole, where not the default.
"""

from __future__ import annotations

import argparse
import json
import warnings

import numpy as np
from benchmarks.optimize.large.ground import SETTINGS, cells
from benchmarks.workflow.worker import peak, weighed

import dbx
from dbx.data.minibatches import Minibatches

N_COMPS, EPOCHS = 10, 2


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=int)
    parser.add_argument("--budget", type=int)
    given = parser.parse_args()
    if given.budget is not None:
        Minibatches.__init__.__kwdefaults__["budget"] = given.budget
    adata = cells(given.cells, 0, **SETTINGS | {"library_size": 300})
    dbx.pp.normalize_total(adata, target_sum=1e4)
    dbx.pp.log1p(adata)
    found = {"cells": given.cells, "budget": given.budget}
    found["csr"] = (adata.X.data.nbytes + adata.X.indices.nbytes + adata.X.indptr.nbytes) / 2**20
    found["dense"] = adata.n_obs * adata.n_vars * 4 / 2**20
    found["pca"] = weighed(lambda a: dbx.pp.pca(a, n_comps=N_COMPS), adata)["memory"]
    loss = dbx.losses.CrossEntropy("label")
    found["optimize"] = weighed(lambda a: dbx.optimize(a, loss, train="pca", max_epochs=EPOCHS), adata)["memory"]
    found["process"] = peak()
    outputs = (adata.obsm["X_pca"], adata.obsm["label_probabilities"], adata.obs["label_confidence"])
    found["outputs"] = sum(np.asarray(x).nbytes for x in outputs) / 2**20
    print(json.dumps({name: value and round(value) for name, value in found.items()}))


if __name__ == "__main__":
    main()
