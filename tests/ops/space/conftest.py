"""Measured slices: 120 genes of the first two slices of a breast tumour (Stahl et al., Science 2016)."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def slices():
    """Counts, positions, and objectives of POT 0.9.7: ``emd``, ``partial`` (mass 0.6), ``fgw`` (alpha 0.1)."""
    with np.load(Path(__file__).parents[2] / "reference" / "slices.npz") as stored:
        return {name: stored[name].astype(np.float64) for name in stored}
