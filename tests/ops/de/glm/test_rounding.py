import math
from fractions import Fraction

import numpy as np
import pytest

from dbx.data.blocks import RowBlocks
from dbx.ops.de.fit.size_factors import references_and_factors
from dbx.ops.de.glm.rounding import exp


def test_exponentials_are_the_c_librarys():
    x = np.linspace(-20, 10, 1001)
    assert exp(x).tolist() == [math.exp(value) for value in x]
    assert exp(np.array([np.inf, -np.inf])).tolist() == [np.inf, 0]
    assert np.isnan(exp(np.array([np.nan])))


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no extended precision here")
def test_size_factors_are_rounded_once():
    counts = np.random.default_rng(0).poisson(50, (60, 300)).astype(np.float64) + 1
    references, factors = references_and_factors(RowBlocks(counts, dtype=np.float64), "ratio")
    logs = np.log(counts)
    exact = np.array([float(sum(map(Fraction, gene)) / len(gene)) for gene in logs.T])
    # a sum in double precision has its last bits wrong in most genes
    assert (references == exact).mean() > 0.99
    medians = np.median(logs - references, axis=1)
    assert factors.tolist() == [math.exp(value) for value in medians]
