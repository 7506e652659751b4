"""Hard concrete gates beside SciPy's logistic distribution."""

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from dbx.ops.nn import hard_concrete

POINTS = [-4.0, -1.7, -0.5, 0.0, 0.8, 2.5]


@pytest.mark.parametrize("temperature", [2 / 3, 0.3])
@pytest.mark.parametrize("log_alpha", POINTS)
def test_probability_and_mean_of_the_noisy_gate(log_alpha, temperature):
    """Beside SciPy's logistic and quadrature: 200,000 draws, four standard errors of whose means are .005."""
    draws = np.asarray(
        hard_concrete.gate(log_alpha + hard_concrete.noise(jax.random.key(0), (200_000,)), temperature), np.float64
    )
    # cut(stretched logistic) > 0 where the logistic is above 1/12
    least = temperature * np.log((1 / 12) / (11 / 12)) - log_alpha
    open_ = stats.logistic.sf(least)
    assert float(hard_concrete.probability_open(log_alpha, temperature)) == pytest.approx(open_, abs=1e-6)
    assert (draws > 0).mean() == pytest.approx(open_, abs=0.005)
    assert (draws == 1).mean() == pytest.approx(stats.logistic.sf(-least - 2 * log_alpha), abs=0.005)

    def value(u):
        logistic = 1 / (1 + np.exp(-(log_alpha + u) / temperature))
        return np.clip(1.2 * logistic - 0.1, 0, 1) * stats.logistic.pdf(u)

    # kinks where it is cut
    mean, _ = integrate.quad(value, -40, 40, points=[least, -least - 2 * log_alpha], limit=200)
    assert draws.mean() == pytest.approx(mean, abs=0.005)


def test_without_noise_it_is_the_median():
    log_alpha = 0.4
    draws = hard_concrete.gate(log_alpha + hard_concrete.noise(jax.random.key(1), (100_001,)))
    # density about .5 per unit there: standard error .003
    assert float(np.median(draws)) == pytest.approx(float(hard_concrete.gate(log_alpha)), abs=0.012)


def test_edges():
    edge = hard_concrete.edge()
    gates = np.asarray(hard_concrete.gate(np.array([-edge - 1e-3, -edge + 1e-3, 0, edge - 1e-3, edge + 1e-3])))
    assert gates[0] == 0 < gates[1] < 0.01
    assert gates[2] == pytest.approx(0.5)
    assert 0.99 < gates[3] < 1 == gates[4]
    for probability in (0.1, 0.5, 0.98):
        found = hard_concrete.probability_open(hard_concrete.log_alpha_of(probability))
        assert float(found) == pytest.approx(probability, rel=1e-5)
    assert float(jax.grad(hard_concrete.gate)(0.0)) == pytest.approx(1.2 * 0.25 * 1.5)
    assert float(jax.grad(hard_concrete.gate)(5.0)) == 0
