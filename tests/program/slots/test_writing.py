"""Slots are removed for good, or are as they were."""

import numpy as np
import pytest
from anndata import AnnData

from dbx.program.slots.slots import Slot
from dbx.program.slots.writing import removed


def slot(address):
    return Slot.parse(address, None)


@pytest.fixture
def adata():
    found = AnnData(np.ones((3, 2)))
    found.uns["a"] = {"b": {"c": 1}, "d": 2}
    found.uns["e"] = {"f": {"g": 3}}
    found.obs["h"] = 4
    return found


def test_dicts_that_are_left_empty_go_too(adata):
    before = adata.uns["a"]
    with removed(adata, [slot("uns/a/b/c"), slot("uns/e/f/g"), slot("obs/h")]):
        pass
    assert dict(adata.uns) == {"a": {"d": 2}}
    assert "h" not in adata.obs
    assert before["b"] == {"c": 1}  # rebuilt: the original of a view shares it


def fail_without(adata, addresses):
    with removed(adata, map(slot, addresses)):
        assert "a" not in adata.uns
        msg = "full"
        raise OSError(msg)


def test_a_failure_puts_them_back(adata):
    with pytest.raises(OSError, match="full"):
        fail_without(adata, ["uns/a/b/c", "uns/a/d", "obs/h"])
    assert adata.uns["a"] == {"b": {"c": 1}, "d": 2}
    assert list(adata.obs["h"]) == [4, 4, 4]
