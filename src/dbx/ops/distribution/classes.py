"""Classes of differences (scDD) from tests and from the evidence of mixtures."""

from __future__ import annotations

import numpy as np
from scipy import special

from dbx.ops.distribution.comparison import Compared
from dbx.ops.distribution.hypotheses import CLASSES, DE, EP

CATEGORIES = (*CLASSES, "DZ", "NC")
DZ, NC = len(CLASSES), len(CLASSES) + 1
ALPHA = 0.05


def categories(compared: Compared, significant: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Number of each gene's class in ``CATEGORIES``.

    A significant gene whose values differ is of the class with the most evidence among DE, DP, DM and DB; one whose
    zeros alone differ is DZ. Others are EE or EP. A gene without the mixtures that decide is NC.
    """
    equal, different = evidence[:, :DE], evidence[:, DE:]
    with np.errstate(invalid="ignore"):
        values_differ = np.where(
            np.isnan(compared.of_values), different.max(axis=1) > equal.max(axis=1), compared.of_values <= ALPHA
        )
        zeros_differ = compared.of_zeros <= ALPHA
    kind = np.where(np.isfinite(equal).any(axis=1), equal.argmax(axis=1), NC)
    of_values = np.where(np.isfinite(different).any(axis=1), DE + different.argmax(axis=1), NC)
    of_significant = np.where(values_differ, of_values, np.where(zeros_differ, DZ, NC))
    return np.where(significant, of_significant, kind)


def class_probabilities(evidence: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """Posterior probabilities of EE, EP, DE, DP, DM, DB and DZ, an array of shape (n_genes, 7).

    Parameters
    ----------
    evidence
        Log marginal likelihoods of the values, an array of shape (n_genes, 6); -inf for what was not fitted.
    zeros
        Log odds that zeros differ, an array of shape (n_genes,).
    """
    known = np.isfinite(evidence).any(axis=1, keepdims=True)
    of_values = np.where(known, special.softmax(np.where(known, evidence, 0.0), axis=1), np.nan)
    differ = special.expit(zeros)[:, None]
    same = of_values[:, : EP + 1]
    return np.concatenate(
        [same * (1 - differ), of_values[:, EP + 1 :], same.sum(axis=1, keepdims=True) * differ], axis=1
    )
