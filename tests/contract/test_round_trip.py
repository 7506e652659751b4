"""Configuration and arrays alone, through h5ad or zarr, build the operator again."""

import anndata as ad
import numpy as np
import pytest

from contract.compare import assert_bitwise, state
from contract.example import Example, Fitted, fitted
from contract.promise import each
from dbx.ops.state import attach_references, rebuild, reference_values, state_arrays
from dbx.program.record.outputs import views


def check(example: Example, kind: str, folder) -> None:
    made = fitted(example)
    arrays = state_arrays(made.operator)
    holder = ad.AnnData(uns={"state": {key: np.atleast_1d(array) for key, (_, array) in arrays.items()}})
    getattr(holder, f"write_{kind}")(folder / f"state.{kind}")
    saved = getattr(ad, f"read_{kind}")(folder / f"state.{kind}").uns["state"]
    back = {k: (what, np.asarray(saved[k], a.dtype).reshape(a.shape)) for k, (what, a) in arrays.items()}
    again = rebuild(example.cls, made.operator.config, back)
    attach_references(again, reference_values(made.operator))
    assert again.config == made.operator.config
    assert_bitwise(state(made.operator), state(again))
    assert_bitwise(views(made.operator), views(again))
    if example.maps_cells:
        assert_bitwise(made.outputs(), Fitted(example, again, made.fit, made.call).outputs())


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@each()
def test_configuration_and_arrays_alone_build_it_again(example, kind, tmp_path):
    check(example, kind, tmp_path)
