"""Coefficients of single genes whose reweighted least squares do not settle."""

from __future__ import annotations

import numpy as np
from scipy import special

from dbx.ops.de.glm.regression import Regression

MAX_COEFFICIENT = 30.0
"""Bound of a coefficient, log2."""
DIFFERENCE = 1e-3
"""Half the span of a difference quotient."""
REDUCTION = 1e7 * np.finfo(float).eps
"""Relative gain below which the search ends."""


def optimise(
    y: np.ndarray, model: Regression, dispersion: float, start: np.ndarray, ended: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Coefficients of one gene by a bounded quasi-Newton search, and whether it came to an end.

    The search of R's ``optim`` that DESeq2 falls back on: L-BFGS-B (Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput.,
    1995) on the log2 scale with difference quotients for slopes, from where the iterations ``ended`` or else from
    ``start``. It stops some 1e-4 before the optimum, so its bounds and tolerances are R's too.
    """
    from scipy import optimize

    precision = model.ridge * np.log(2) ** 2
    constant = np.log(precision / (2 * np.pi)).sum() / 2
    if (model.repeats == 1).all():
        size = 1 / dispersion
        constant += (special.gammaln(y + size) - special.gammaln(size) - special.gammaln(y + 1)).sum()

    def objective(points):
        """Minus log posterior at points of shape (n_points, n_coefficients)."""
        log_mu = np.log(model.size_factors) + np.log(2) * points @ model.design.T
        scale = dispersion * np.exp(np.minimum(log_mu, 700))
        fit = y * (log_mu + np.log(dispersion)) - (y + model.repeats / dispersion) * np.log1p(scale)
        return np.nan_to_num(-(fit.sum(axis=-1) + constant) + (precision * points**2).sum(axis=-1) / 2, nan=1e300)

    def with_slope(point):
        steps = DIFFERENCE * np.eye(len(point))
        values = objective(np.concatenate([[point], point + steps, point - steps]))
        ahead, behind = np.split(values[1:], 2)
        return values[0], (ahead - behind) / (2 * DIFFERENCE)

    ended = ended / np.log(2)
    inside = np.isfinite(ended).all() and (np.abs(ended) < MAX_COEFFICIENT).all()
    found = optimize.minimize(
        with_slope,
        ended if inside else np.clip(start, -MAX_COEFFICIENT, MAX_COEFFICIENT),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-MAX_COEFFICIENT, MAX_COEFFICIENT)] * len(start),
        options={"maxcor": 5, "ftol": REDUCTION, "gtol": 0.0, "maxiter": 100},
    )
    return found.x * np.log(2), bool(found.success)
