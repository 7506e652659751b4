"""Objectives of raw counts around expected counts: Poisson, negative binomial, and with extra zeros."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp

from dbx.losses.counts import negative_binomial, poisson, zero_inflated_negative_binomial
from dbx.losses.objectives import Cells, Objective

PerGene = float | str | None
"""One number for all genes, a column of ``var``, or None: learned for each gene, together with the steps."""


@dataclass(frozen=True, repr=False)
class Poisson(Objective):
    """Negative log-likelihood of Poisson counts.

    A slot with genes holds what the counts are expected to be, up to the depth of each cell: a cell's values are scaled
    to the total of its counts. From any other slot, such as principal components, the proportions of the genes are
    decoded by a log-linear map that is trained with the steps (generalised principal components: Townes et al., Genome
    Biology, 2019).

    Parameters
    ----------
    of
        Slot of the raw counts, such as ``"layers/counts"``; by default the input of the first trained step.
    scale_to_total
        Scale the expected counts of a cell to its total; otherwise a slot with genes is taken as it is.
    slot
        Slot of the expected counts, or of an embedding; by default what the last trained step writes for cells.

    Examples
    --------
    >>> import dbx
    >>> dbx.losses.Poisson("layers/counts")
    Poisson('layers/counts')
    """

    of: str | None = None
    scale_to_total: bool = field(default=True, kw_only=True)
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "poisson"
    of_values: ClassVar[bool] = True

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"of": self.of}

    @property
    def per_gene(self) -> dict[str, PerGene]:
        """Name of a parameter of the genes -> its value, a column of ``var``, or None where it is learned."""
        return {}

    def of_cells(self, cells: Cells):
        """Negative log-likelihood of each cell's counts, in nats."""
        x = cells.read["of"]
        return -self._log_probability(x, _log_mean(cells, x, self.scale_to_total), cells).sum(axis=1)

    def _log_probability(self, x, log_mean, cells: Cells):
        return poisson(x, log_mean)


@dataclass(frozen=True, repr=False)
class NegativeBinomial(Poisson):
    """Negative log-likelihood of negative binomial counts with variance ``mean + mean² / theta``.

    The expected counts are those of :class:`Poisson`. There are two conventions of the same parameter: ``theta`` is the
    inverse dispersion (scVI, R's ``size``), ``dispersion`` its inverse (DESeq2, edgeR). With ``theta`` infinite or a
    ``dispersion`` of 0 the counts are Poisson.

    Parameters
    ----------
    of, scale_to_total, slot
        As for :class:`Poisson`.
    theta
        Inverse dispersion: one number, or a column of ``var``; by default it is learned for each gene.
    dispersion
        Dispersion, 1 / theta, instead of ``theta``.

    Examples
    --------
    >>> import dbx
    >>> dbx.losses.NegativeBinomial("layers/counts", dispersion=0.1)
    NegativeBinomial('layers/counts', dispersion=0.1)
    """

    theta: PerGene = field(default=None, kw_only=True)
    dispersion: PerGene = field(default=None, kw_only=True)
    name: ClassVar[str] = "negative_binomial"

    def __post_init__(self) -> None:
        if self.theta is not None and self.dispersion is not None:
            msg = "theta and dispersion = 1 / theta are the same parameter: give one of them."
            raise ValueError(msg)
        _check_number("theta", self.theta, lambda x: x > 0, "above 0 (infinity is Poisson)")
        _check_number("dispersion", self.dispersion, lambda x: 0 <= x < float("inf"), "from 0 (Poisson)")

    @property
    def per_gene(self) -> dict[str, PerGene]:
        """See :attr:`Poisson.per_gene`."""
        return {"theta": self.theta} if self.dispersion is None else {"dispersion": self.dispersion}

    def _theta(self, cells: Cells):
        if self.dispersion is None:
            return _of_genes("theta", self.theta, cells)
        dispersion = jnp.asarray(_of_genes("dispersion", self.dispersion, cells), cells.z.dtype)
        return jnp.where(dispersion > 0, 1 / jnp.where(dispersion > 0, dispersion, 1), jnp.inf)

    def _log_probability(self, x, log_mean, cells: Cells):
        return negative_binomial(x, log_mean, self._theta(cells))


@dataclass(frozen=True, repr=False)
class ZINB(NegativeBinomial):
    """Negative log-likelihood of negative binomial counts of which a fraction is replaced by zero.

    Parameters
    ----------
    of, scale_to_total, slot, theta, dispersion
        As for :class:`NegativeBinomial`.
    inflation
        Probability that a count is replaced by zero: one number, or a column of ``var``; by default it is learned for
        each gene.

    Examples
    --------
    >>> import dbx
    >>> dbx.losses.ZINB("layers/counts", theta=2.0)
    ZINB('layers/counts', theta=2.0)
    """

    inflation: PerGene = field(default=None, kw_only=True)
    name: ClassVar[str] = "zinb"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_number("inflation", self.inflation, lambda x: 0 <= x < 1, "from 0 to below 1")

    @property
    def per_gene(self) -> dict[str, PerGene]:
        """See :attr:`Poisson.per_gene`."""
        return {**super().per_gene, "inflation": self.inflation}

    def _log_probability(self, x, log_mean, cells: Cells):
        if self.inflation is None:
            logits = _of_genes("inflation", None, cells)
        else:
            chance = jnp.asarray(_of_genes("inflation", self.inflation, cells), cells.z.dtype)
            logits = jnp.log(chance) - jnp.log1p(-chance)
        return zero_inflated_negative_binomial(x, log_mean, self._theta(cells), logits)


def _log_mean(cells: Cells, x, scale_to_total: bool):
    """Logarithm of the expected counts, an array of shape (n_cells, n_genes)."""
    total = jnp.log(x.sum(axis=1, keepdims=True))
    if cells.head is not None and cells.head.decodes:
        return cells.head(cells.z) + total
    if cells.z.shape != x.shape:
        msg = (
            f"The expected counts have shape {cells.z.shape} and the counts {x.shape}: name slots with the same genes, "
            "slot=... and of=..."
        )
        raise ValueError(msg)
    some = cells.z > 0
    log_mean = jnp.where(some, jnp.log(jnp.where(some, cells.z, 1)), jnp.where(cells.z == 0, -jnp.inf, jnp.nan))
    return log_mean - jnp.log(cells.z.sum(axis=1, keepdims=True)) + total if scale_to_total else log_mean


def _of_genes(name: str, value: PerGene, cells: Cells) -> Any:
    """A parameter of the genes: as given, from ``var``, or as learned."""
    if name in cells.facts:
        return cells.facts[name]
    if value is None and cells.head is not None:
        return cells.head.of_genes(name)
    if value is None or isinstance(value, str):
        msg = f"{name} is a number here: it is read from var, or learned, by dbx.optimize."
        raise ValueError(msg)
    return value


def _check_number(name: str, value: PerGene, holds, needed: str) -> None:
    if value is None or isinstance(value, str):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
        msg = f"{name} must be a number {needed}, or the name of a column of var; got {value!r}."
        raise ValueError(msg)
