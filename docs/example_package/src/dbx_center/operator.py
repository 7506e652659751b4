"""The operator: arrays only, no AnnData."""

import jax.numpy as jnp
import numpy as np

from dbx.ops import Constant, Input, Operator, Output
from dbx.ops.operator import silent


class Center(Operator):
    """y = x - mean: each gene's mean over the fitted cells is subtracted."""

    name = "center"
    inputs = {"x": Input(genes=True, content=("log",))}
    outputs = {"y": Output(content="scaled"), "means": Output(axis="genes", dtype="float64", view=True)}
    rowwise = True

    def __init__(self, *, shrink: float = 1.0):
        self.shrink = shrink

    def fit(self, *, x, seed=0, progress=silent):
        """Find the means, in float64 and by row blocks."""
        total = np.zeros(x.n_columns)
        for block in x:
            total += np.asarray(block.rows.sum(axis=0, dtype=np.float64)).ravel()
        self.mean = Constant(jnp.asarray(self.shrink * total / x.n_rows, jnp.float32))

    @property
    def means(self):
        """What is subtracted from each gene."""
        return self.mean[...]

    def __call__(self, x):
        """Subtract the reference's means."""
        return {"y": x - self.mean[...]}
