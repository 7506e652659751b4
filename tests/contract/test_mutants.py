"""The checks themselves are tried: on operators that break a promise each, and on one that keeps all of them."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from contract import (
    test_arrays,
    test_declared,
    test_hooks,
    test_jit,
    test_levels,
    test_refit,
    test_rerun,
    test_round_trip,
    test_rows,
    test_seed,
    test_training,
)
from contract.example import Example
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Constant, Input, Operator, Output, silent


class Centre(Operator):
    """y = x - mean of the fitted cells of the same batch, or of all; what the mutants are made of."""

    name = "contract_centre"
    inputs: ClassVar = {"x": Input(genes=True), "batch": Input(kind="codes", missing=True, unseen="missing")}
    outputs: ClassVar = {"y": Output(), "means": Output(axis="genes", dtype="float64", view=True)}
    rowwise = True

    def __init__(self, *, shrink: float = 1.0):
        self.shrink = shrink

    def fit(self, *, x, batch, seed=0, progress=silent):
        x, codes = x.dense(), np.asarray(batch.codes)
        of_batch = [x[codes == level].mean(axis=0) for level in range(batch.n_levels)]
        self.table = Constant(jnp.asarray([*of_batch, x.mean(axis=0)]))
        self.strength = nnx.Param(jnp.asarray(self.shrink))

    @property
    def means(self):
        return np.asarray(self.table[...][-1])

    def __call__(self, x, batch):
        codes = jnp.where(batch.codes < 0, len(self.table[...]) - 1, batch.codes)
        return {"y": x - self.strength[...].astype(x.dtype) * self.table[...][codes]}

    def loss(self, inputs, outputs):
        return (outputs["y"] ** 2).sum(axis=1)


class BatchMean(Centre):
    """Takes off the mean of whatever cells are in the call."""

    rowwise = False

    def __call__(self, x, batch):
        return {"y": x - x.mean(axis=0)}


class ForgottenState(Centre):
    """Keeps its table where nothing saves it."""

    def fit(self, *, x, batch, seed=0, progress=silent):
        super().fit(x=x, batch=batch)
        self.hidden, self.table = nnx.data(self.table[...]), Constant(jnp.zeros_like(self.table[...]))

    def __call__(self, x, batch):
        return {"y": x - getattr(self, "hidden", self.table[...])[-1]}


class LastLevel(Centre):
    """Takes a missing batch for the last one."""

    def fit(self, *, x, batch, seed=0, progress=silent):
        codes = np.asarray(batch.codes) % batch.n_levels
        super().fit(x=x, batch=type(batch)(codes.astype(np.int32), batch.levels))

    def __call__(self, x, batch):
        return {"y": x - self.table[...][batch.codes - 1]}


class Accumulating(Centre):
    """A second fit adds to the first."""

    def fit(self, *, x, batch, seed=0, progress=silent):
        before = self.table[...] if hasattr(self, "table") else 0
        super().fit(x=x, batch=batch)
        self.table = Constant(self.table[...] + before)


class Unseeded(Centre):
    """Draws from the process's own generator."""

    draws = np.random.default_rng(0)

    def fit(self, *, x, batch, seed=0, progress=silent):
        super().fit(x=x, batch=batch)
        self.table = Constant(self.table[...] + self.draws.normal())


class Undeclared(Centre):
    """Has an output more than it says."""

    def __call__(self, x, batch):
        return {**super().__call__(x, batch), "z": x}


class WrongType(Centre):
    """Declares values of genes and has values of cells."""

    outputs: ClassVar = {**Centre.outputs, "y": Output(axis="genes")}


class Overwriting(Centre):
    """Writes into what it was handed."""

    def fit(self, *, x, batch, seed=0, progress=silent):
        super().fit(x=x, batch=batch)
        batch.codes[:3] = 0


class IdleParameter(Centre):
    """A parameter that does nothing."""

    def fit(self, *, x, batch, seed=0, progress=silent):
        super().fit(x=x, batch=batch)
        self.idle = nnx.Param(jnp.asarray(1.0))


class FalseLoss(Centre):
    """A loss of all cells instead of each."""

    def loss(self, inputs, outputs):
        return (outputs["y"] ** 2).sum()


class MixedLoss(Centre):
    """A loss of each cell that depends on the others."""

    def loss(self, inputs, outputs):
        return ((outputs["y"] - outputs["y"].mean(axis=0)) ** 2).sum(axis=1)


class Uncompiled(Centre):
    """Gives something else where it is compiled."""

    def __call__(self, x, batch):
        return {"y": x + isinstance(x, jax.core.Tracer)}


class NoRule(Centre):
    """Knows no rule for unseen batches but says so."""

    inputs: ClassVar = {**Centre.inputs, "batch": Input(kind="codes", missing=True, unseen="extend")}

    def extend(self, *, x, batch, seed=0, progress=silent):
        """Does nothing."""


class NeedsBlocks(Centre):
    """Sums up wrongly where rows come in blocks of an array on disk."""

    def fit(self, *, x, batch, seed=0, progress=silent):
        super().fit(x=x, batch=batch)
        if not isinstance(x.source, np.ndarray) and not hasattr(x.source, "indptr"):
            self.table = Constant(self.table[...] * 2)


def example_of(mutant: type[Operator], monkeypatch) -> Example:
    """An example of an operator that is in the catalogue for one test."""
    monkeypatch.setattr(CATALOGUE, "_session", {})
    CATALOGUE.register(mutant)
    return Example(operator=mutant.name, reads={"x": "layers/log", "batch": "obs/labels"})


PROMISES = {
    "declared": lambda e, folder: test_declared.check(e),
    "round trip": lambda e, folder: test_round_trip.check(e, "h5ad", folder),
    "seed": lambda e, folder: test_seed.check(e),
    "another seed": lambda e, folder: test_seed.check_another_seed(e),
    "jit": lambda e, folder: test_jit.check(e),
    "rows": lambda e, folder: test_rows.check(e),
    "disk": lambda e, folder: test_arrays.check(e, "backed", folder),
    "own cells": lambda e, folder: test_rerun.check_own(e),
    "new fit": lambda e, folder: test_rerun.check_refit(e),
    "second fit": lambda e, folder: test_refit.check(e),
    "unseen level": lambda e, folder: test_levels.check_unseen(e, "batch", "labels"),
    "missing value": lambda e, folder: test_levels.check_missing(e, "batch", "labels"),
    "missing value of a new cell": lambda e, folder: test_levels.check_missing_in_query(e, "batch", "labels"),
    "training": lambda e, folder: test_training.check(e),
    "loss": lambda e, folder: test_hooks.check_loss(e),
}
MUTANTS = [
    (BatchMean, "rows"),
    (ForgottenState, "round trip"),
    (ForgottenState, "own cells"),
    (LastLevel, "missing value"),
    (Accumulating, "second fit"),
    (Unseeded, "seed"),
    (Unseeded, "new fit"),
    (Undeclared, "declared"),
    (WrongType, "declared"),
    (Overwriting, "seed"),
    (IdleParameter, "training"),
    (FalseLoss, "loss"),
    (MixedLoss, "loss"),
    (Uncompiled, "jit"),
    (NoRule, "unseen level"),
    (NeedsBlocks, "disk"),
]


@pytest.mark.parametrize("promise", PROMISES)
def test_an_operator_that_breaks_nothing_keeps_every_promise(promise, monkeypatch, tmp_path):
    PROMISES[promise](example_of(Centre, monkeypatch), tmp_path)


@pytest.mark.parametrize(("mutant", "promise"), MUTANTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_operator_fails_the_check_of_its_promise(mutant, promise, monkeypatch, tmp_path):
    with pytest.raises((AssertionError, ValueError)):
        PROMISES[promise](example_of(mutant, monkeypatch), tmp_path)
