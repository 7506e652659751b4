"""Branchings of a diffusion pseudotime by scanpy, as a step."""

from __future__ import annotations

from typing import ClassVar

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_above_zero, check_whole
from dbx.ops.diffusion.pseudotime import check_root, rayleigh_quotients
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Codes


class DptBranchings(Operator):
    """Groups of cells between the branchings of a diffusion pseudotime, by ``scanpy.tl.dpt``.

    Haghverdi et al., Nature Methods 2016. Eigenvalues are Rayleigh quotients of the components in the graph. The
    results are conclusions about these cells: they are repeated with ``refit=True``, and not computed for others.
    """

    name = "dpt_branchings"
    inputs: ClassVar = {"z": Input(), "graph": Input(kind="graph")}
    outputs: ClassVar = {
        "groups": Output(dtype="category", view=True, inference=True),
        "order": Output(dtype="int64", view=True, inference=True),
        "order_indices": Output(dtype="int64", view=True, inference=True),
        "changepoints": Output(axis="none", dtype="int64", view=True, inference=True),
        "grouptips": Output(axis="none", dtype="int64", view=True, inference=True),
    }
    references: ClassVar = {"groups": "groups", "order": "order", "order_indices": "order_indices"}

    def __init__(
        self,
        *,
        iroot: int,
        n_dcs: int = 10,
        n_branchings: int = 1,
        min_group_size: float = 0.01,
        allow_kendall_tau_shift: bool = True,
    ):
        check_whole(n_dcs, 1, "n_dcs")
        check_whole(n_branchings, 1, "n_branchings")
        check_above_zero(min_group_size, "min_group_size")
        self.iroot = iroot
        self.n_dcs = n_dcs
        self.n_branchings = n_branchings
        self.min_group_size = min_group_size
        self.allow_kendall_tau_shift = allow_kendall_tau_shift

    def fit(self, *, z: RowBlocks, graph: sparse.csr_matrix, seed: int = 0, progress: Progress = silent) -> None:
        """Find the branchings."""
        check_root(self.iroot, self.n_dcs, z.n_rows, z.n_columns)
        cells = self._branched(z.dense(), graph)
        groups = cells.obs["dpt_groups"].cat
        self.groups = Reference(Codes(groups.codes.to_numpy().astype(np.int32), tuple(groups.categories)))
        self.order = Reference(cells.obs["dpt_order"].to_numpy(np.int64))
        self.order_indices = Reference(cells.obs["dpt_order_indices"].to_numpy(np.int64))
        self.changepoints = Constant(np.asarray(cells.uns["dpt_changepoints"], np.int64))
        self.grouptips = Constant(np.asarray(cells.uns["dpt_grouptips"], np.int64))

    def _branched(self, place: np.ndarray, graph: sparse.csr_matrix) -> anndata.AnnData:
        """An AnnData with what scanpy reads, and what it wrote."""
        import scanpy as sc

        cells = anndata.AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(place))]))
        cells.obsm["X_diffmap"], cells.obsp["connectivities"] = place, graph
        values = rayleigh_quotients(graph, place.astype(np.float64))
        cells.uns["diffmap_evals"] = values.astype(np.float32)
        cells.uns["neighbors"] = {"connectivities_key": "connectivities"}
        cells.uns["iroot"] = self.iroot
        try:
            sc.tl.dpt(
                cells,
                self.n_dcs,
                n_branchings=self.n_branchings,
                min_group_size=self.min_group_size,
                allow_kendall_tau_shift=self.allow_kendall_tau_shift,
            )
        except (ValueError, IndexError) as error:
            msg = (
                f"scanpy finds no {self.n_branchings} branchings here ({error}): pass fewer n_branchings, a larger "
                "min_group_size or allow_kendall_tau_shift=True, or find branches by dbx.tl.paga."
            )
            raise ValueError(msg) from error
        return cells
