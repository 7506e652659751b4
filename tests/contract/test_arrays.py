"""Every kind of array gives the same."""

import anndata as ad
import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from contract.cells import N_FITTED, cells
from contract.compare import assert_close
from contract.example import Example, fit, fitted
from contract.promise import first_examples, parameter
from dbx.program.record.outputs import views


def on_disk(x, folder):
    path = folder / f"{len(list(folder.iterdir()))}.h5ad"
    ad.AnnData(sparse.csr_matrix(x)).write(path)
    return ad.read_h5ad(path, backed="r").X


def whole(dtype):
    """Whole numbers, whatever the operator is usually given."""
    return lambda _: cells()[:N_FITTED].layers["counts"].astype(dtype)


KINDS = {
    "dense": lambda x: x.toarray(),
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "float64": lambda x: x.astype(np.float64),
    "dask": lambda x: da.from_array(x.toarray(), chunks=(50, x.shape[1])),
    "dask_csr": lambda x: da.from_array(x.toarray(), chunks=(50, x.shape[1])).map_blocks(sparse.csr_matrix),
    "backed": None,
    "int": whole("i8"),
}


def check(example: Example, kind: str, folder) -> None:
    one = fit(example, wrap=whole("f4")) if kind == "int" else fitted(example)
    two = fit(example, wrap=KINDS[kind] or (lambda x: on_disk(x, folder)))
    # sums over blocks and over sparse rows are taken in another order; float32 in, float32 out
    tolerance = {"rtol": 5e-4, "atol": 1e-4}
    assert_close(views(one.operator), views(two.operator), **tolerance)
    if example.maps_cells:
        a, b = one.outputs(), two.outputs()
        b = {key: value.compute() if hasattr(value, "compute") else value for key, value in b.items()}
        assert_close(a, b, **tolerance)


def kinds(example: Example) -> tuple[str, ...]:
    """Networks read every kind through the same minibatches, which have tests of their own: a few kinds are enough."""
    return ("csc", "dask", "backed") if "history" in example.cls.outputs else tuple(KINDS)


PAIRS = [
    parameter(example, kind, title=kind) for example in first_examples(lambda e: e.of_genes) for kind in kinds(example)
]


@pytest.mark.parametrize(("example", "kind"), PAIRS)
def test_every_kind_of_array_gives_the_same(example, kind, tmp_path):
    check(example, kind, tmp_path)
