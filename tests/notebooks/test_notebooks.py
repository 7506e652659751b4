"""Notebooks as people write them, with dbx for scanpy, leave a program that maps new raw cells."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

HERE = Path(__file__).parent


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script in a folder with the data that it reads; returns its variables."""
    monkeypatch.chdir(tmp_path)

    def one(notebook: str, **files) -> dict:
        for name, data in files.items():
            data.write_h5ad(f"{name}.h5ad")
        path = HERE / f"{notebook}.py"
        names: dict = {}
        exec(compile(path.read_text(), str(path), "exec"), names)
        return names

    return one


def halves(adata, share=0.7, seed=0):
    """A reference and held-out cells, both raw."""
    chosen = np.random.default_rng(seed).random(adata.n_obs) < share
    return adata[chosen].copy(), adata[~chosen].copy()


def agreement(query, joint, column):
    """ARI of labels that cells got by a program and in the analysis of all cells."""
    cells = query.obs_names.intersection(joint.obs_names)
    assert len(cells) > 0.8 * query.n_obs
    return adjusted_rand_score(query.obs.loc[cells, column].astype(str), joint.obs.loc[cells, column].astype(str))
