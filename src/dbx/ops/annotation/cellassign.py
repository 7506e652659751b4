"""Cell types from tables of marker genes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.annotation.labels import UNASSIGNED, conclusion
from dbx.ops.annotation.marker_model import MarkerModel, negative_log_marginal
from dbx.ops.arrays import as_float, cell_totals
from dbx.ops.checks import check_at_least, check_minimums, check_no_empty_cells, check_share, listed
from dbx.ops.nn.epochs import default_epochs
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes


class CellAssign(Operator):
    """CellAssign: a mixture of negative binomials in which a type's markers are over-expressed; no labels are needed.

    ``markers`` are, for each of ``classes``, the column numbers of its marker genes. With ``other`` there is one more
    type, without markers, whose cells are "Unassigned". The parameters maximise the likelihood summed over types by
    gradients; the publication's EM converges to the same maxima. Size factors are totals over all genes. The radial
    basis functions of the dispersion are placed along the logarithm of the mean, in the publication along the mean.

    New cells: ``method='cellassign'``: the rates of the markers and the proportions of the types.
    """

    name = "cellassign"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",), empty_cells="raise"),
        "batch": Input(kind="codes", unseen="missing", optional=True),
    }
    outputs: ClassVar = {
        "labels": Output(dtype="category"),
        "confidence": Output(),
        "probabilities": Output(),
        "history": Output(axis="none", dtype=None, view=True),
    }
    result = "labels"
    rowwise = True

    def __init__(
        self,
        *,
        classes: tuple[str, ...],
        markers: tuple[tuple[int, ...], ...],
        other: bool = True,
        min_fold: float = 2.0,
        concentration: float = 1e-2,
        max_epochs: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 2e-2,
        min_confidence: float = 0.5,
    ):
        _check_markers(classes, markers)
        check_share(min_confidence, "min_confidence")
        check_at_least(min_fold, 1, "min_fold")
        self.classes, self.markers, self.other = classes, markers, other
        self.min_fold, self.concentration, self.min_confidence = min_fold, concentration, min_confidence
        self.max_epochs, self.batch_size, self.learning_rate = max_epochs, batch_size, learning_rate
        check_minimums(self, max_epochs=1, batch_size=1)
        self.model = MarkerModel(min_fold=min_fold, concentration=concentration)

    @property
    def genes(self) -> np.ndarray:
        """Columns of all marker genes, sorted."""
        return np.unique(np.concatenate([np.asarray(m, np.int64) for m in self.markers]))

    @property
    def marks(self) -> np.ndarray:
        """Indicators of the markers of each type, an array of shape (n_markers, n_types)."""
        rows = [np.isin(self.genes, m) for m in self.markers] + ([np.zeros(len(self.genes), bool)] * self.other)
        return np.stack(rows, axis=1).astype(float)

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Initialise with groups of cells by mean standardised expression of markers, then maximise."""
        size = cell_totals(x).astype(np.float64)
        check_no_empty_cells(size)
        self.size = Constant(as_float(size.mean()))
        counts = x.select(self.genes).dense()
        self._check_counts(counts)
        log_size = np.log(size / size.mean())
        n_batches = 1 if batch is None else batch.n_levels
        codes = np.zeros(x.n_rows, np.int32) if batch is None else np.asarray(batch.codes)
        base, fold = self._start(counts / (size / size.mean())[:, None])
        self.model.reset(self.marks, base, fold, counts.max(), n_batches)
        columns = {
            "x": RowBlocks(sparse.csr_matrix(counts)),
            "log_size": log_size.astype(np.float32),
            "batch": np.eye(n_batches, dtype=np.float32)[codes],
            "part": np.full(x.n_rows, 1 / x.n_rows, np.float32),
        }
        epochs = default_epochs(x.n_rows) if self.max_epochs is None else self.max_epochs
        how = Training(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedules={"learning_rate": Decay(epochs)},
        )
        history = train(self.model, negative_log_marginal, Minibatches(columns), how, seed=seed, progress=progress)
        self.trace = Constant(as_float(history["loss"]))

    def _start(self, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-rate of each marker in types that it does not mark, and log-folds in those that it does."""
        z = np.log1p(rates)
        z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-6)
        marks = self.marks[:, : len(self.classes)]
        group = (z @ marks / np.maximum(marks.sum(axis=0), 1)).argmax(axis=1)
        inside = marks.T[group] > 0
        floor = 0.5 / len(rates)
        low = np.where(inside, 0, rates).sum(axis=0) + floor
        base = np.log(low / np.maximum((~inside).sum(axis=0), 1))
        sums = np.stack([rates[group == c].sum(axis=0) + floor for c in range(marks.shape[1])], axis=1)
        fold = np.log(sums / np.maximum(np.bincount(group, minlength=marks.shape[1]), 1)) - base[:, None]
        return base, np.pad(fold, [(0, 0), (0, int(self.other))])

    def __call__(self, x, batch: Codes | None = None) -> dict[str, Any]:
        """Posterior over types; a cell of an unknown batch has the mean effect of the batches."""
        size = x.sum(axis=1)
        log_size = jnp.log(jnp.where(size > 0, size, 1) / self.size[...])
        known = None if batch is None else batch.one_hot(x.dtype)
        if known is None and hasattr(self.model, "batch"):
            known = jnp.zeros((len(x), len(self.model.batch[...])), x.dtype)
        joint = self.model.log_joint(x[:, self.genes], log_size, known)
        shares = jax.nn.softmax(joint)
        return {**conclusion(shares, self.classes, self.min_confidence), "probabilities": shares}

    @property
    def history(self) -> Mapping[str, np.ndarray]:
        """Mean objective over the cells in each epoch, an array of shape (n_epochs,), without ``log x!``."""
        return {"loss": np.asarray(self.trace[...])}

    def _check_counts(self, counts: np.ndarray) -> None:
        silent_types = [
            name
            for name, m in zip(self.classes, self.markers, strict=True)
            if not counts[:, np.isin(self.genes, m)].any()
        ]
        if silent_types:
            some = listed(silent_types)
            msg = f"No marker of {some} has a count in any cell: leave these types out, or pass other markers."
            raise ValueError(msg)


class Decay:
    """Full learning rate for half of the epochs, then down to a hundredth; equal instances compile once."""

    def __init__(self, epochs: int):
        self.epochs = epochs

    def __call__(self, epochs_done: np.ndarray) -> np.ndarray:
        return 10.0 ** (-4 * np.clip(epochs_done / self.epochs - 0.5, 0, 0.5))


def _check_markers(classes: tuple[str, ...], markers: tuple[tuple[int, ...], ...]) -> None:
    if len(classes) != len(markers) or len(classes) < 2:
        found = f"{len(classes)} types, {len(markers)} lists"
        msg = f"markers must have a list for each of at least two cell types; got {found}."
        raise ValueError(msg)
    if UNASSIGNED in classes:
        msg = f"{UNASSIGNED!r} is reserved for cells of no type: leave it out of the markers (see `other`)."
        raise ValueError(msg)
    without = [name for name, genes in zip(classes, markers, strict=True) if not len(genes)]
    if without:
        msg = f"{listed(without)} has no marker; use other=True for cells of other types."
        raise ValueError(msg)
