"""The adapter under scanpy's ``scanpy.backends`` entry point, tested without a scanpy that has backends."""

import inspect
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import dbx
from dbx import _backend


def test_entry_point_leads_to_the_adapter():
    (entry,) = (e for e in entry_points(group="scanpy.backends") if e.name == "dbx")
    adapter = entry.load()
    assert adapter is _backend
    assert adapter.name == "dbx"
    assert isinstance(adapter.aliases, tuple)


@pytest.mark.parametrize("name", _backend.__all__)
def test_names_are_dbx_functions(name):
    module = getattr(dbx, _backend.FUNCTIONS[name])
    assert getattr(_backend, name) is getattr(module, name)
    assert not any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(getattr(_backend, name)).parameters.values())


def test_every_drop_in_is_offered():
    import scanpy as sc

    drop_ins = {name for name in dbx.pp.__all__ if hasattr(sc.pp, name)}
    drop_ins |= {name for name in dbx.tl.__all__ if hasattr(sc.tl, name)}
    assert drop_ins | {"harmony_integrate"} == set(_backend.__all__)


def test_unknown_names_are_missing():
    assert not hasattr(_backend, "louvain")
    with pytest.raises(AttributeError, match=r"no function 'louvain'.*pca"):
        _backend.louvain


def test_reading_the_adapter_does_not_start_jax():
    code = """
import sys
from dbx import _backend
_backend.name, _backend.aliases, dir(_backend)
print("jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
