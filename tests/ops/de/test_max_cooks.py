"""R's maxCooks of samples that could be replaced: NA only if something was."""

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.de.fit.fit_model import Settings, fit_model


def _model(counts: np.ndarray):
    design = np.column_stack([np.ones(16), np.repeat([0.0, 1.0], 8)])
    return fit_model(RowBlocks(counts, dtype=np.float64), Settings(design, np.ones(16), fit_type="mean"))


def test_without_a_replacement_every_gene_has_its_largest_distance():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(20, 5, (16, 40))).astype(np.float64)
    model = _model(counts)
    assert not model.replaced.any()
    assert np.isfinite(model.max_cooks).all()
    assert (model.max_cooks > 0).all()

    counts[3, 7] = 1e5
    model = _model(counts)
    assert np.flatnonzero(model.replaced).tolist() == [7]
    assert np.isnan(model.max_cooks).all()
