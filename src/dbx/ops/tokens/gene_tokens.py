"""Cells as ranked lists of genes (Geneformer), and differentiable ranks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library, as_float, cell_totals, like
from dbx.ops.checks import check_above_zero, check_known, check_no_empty_cells, check_whole
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.tokens.gene_factors import gene_factors
from dbx.ops.tokens.hard_ranks import ranked_genes
from dbx.ops.tokens.soft_ranks import soft_ranks
from dbx.ops.values import Frame


class GeneTokens(Operator):
    """Codes of a cell's genes by decreasing count over the gene's factor, after a token for the cell.

    A factor is the non-zero median (or mean) of the gene's counts, scaled to a common total, over the fitted cells, or
    passed; genes with a factor of 0 have no token. With ``soft`` also ranks with a gradient.

    New cells: the factors of the reference; a gene's code is its place among the reference's genes.
    """

    name = "gene_tokens"
    inputs: ClassVar = {"x": Input(genes=True, content=("counts",), empty_cells="raise", least_known=0.5)}
    outputs: ClassVar = {
        "tokens": Output(dtype="int32"),
        "vocabulary": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    host = True
    unlisted = frozenset({"factors"})

    def __init__(
        self,
        *,
        target_sum: float = 1e4,
        gene_factors: str = "median",
        factors: tuple[float, ...] = (),
        max_length: int = 2048,
        soft: bool = False,
        temperature: float = 0.1,
    ):
        check_above_zero(target_sum, "target_sum")
        check_above_zero(temperature, "temperature")
        check_known(gene_factors, ("median", "mean", "passed"), "gene_factors")
        check_whole(max_length, 1, "max_length")
        self.target_sum, self.gene_factors, self.factors = target_sum, gene_factors, factors
        self.max_length, self.soft, self.temperature = max_length, soft, temperature

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[GeneTokens]:
        """Soft ranks are an output only if they are asked for."""
        return _with_ranks() if config.get("soft") else cls

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Find the factors, unless they were passed."""
        del seed, progress
        check_no_empty_cells(cell_totals(x))
        if self.gene_factors == "passed":
            if len(self.factors) != x.n_columns:
                msg = f"There must be one factor for each of the {x.n_columns} genes; got {len(self.factors)}."
                raise ValueError(msg)
            found = np.array(self.factors, np.float64)
        else:
            found = gene_factors(x, self.target_sum, "mean" if self.gene_factors == "mean" else "median")
        self.factor = Constant(as_float(found))
        # multiplied rather than divided by: a compiler may turn a division into this and round otherwise
        self.weight = Constant(as_float(np.where(found > 0, 1 / np.where(found > 0, np.float32(found), 1), 0)))

    def check_differentiable(self) -> None:
        """Hard ranks have no gradient."""
        if not self.soft:
            msg = "Ranks are whole numbers and have no gradient: use soft=True for ranks that have one."
            raise ValueError(msg)

    def __call__(self, x) -> dict[str, Any]:
        """Tokens and, with ``soft``, ranks; the total of a cell does not change its ranks."""
        library = array_library(x)
        narrow = x.astype("float32")  # the same order in every precision
        genes = ranked_genes(narrow * like(self.weight[...], narrow), min(self.max_length, x.shape[1]))
        first = library.full((len(x), 1), x.shape[1], "int32")
        tokens = library.concatenate([first, genes], axis=1)
        if not self.soft:
            return {"tokens": tokens}
        values = jnp.asarray(x * like(self.weight[...], x))
        return {"tokens": tokens, "ranks": soft_ranks(values, values > 0, self.temperature)}

    @property
    def vocabulary(self) -> Frame:
        """Genes in the order of their codes, with their factors."""
        factor = np.asarray(self.factor[...], np.float64)
        return Frame({"factor": factor}, rows=None, gene=np.arange(len(factor)))


@cache
def _with_ranks() -> type[GeneTokens]:
    """The class with soft ranks."""
    outputs = {**GeneTokens.outputs, "ranks": Output()}
    body = {"outputs": outputs, "host": False, "__module__": __name__, "__qualname__": GeneTokens.__qualname__}
    return type(GeneTokens.__name__, (GeneTokens,), body)
