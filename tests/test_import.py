"""Importing dbx is cheap, and leaves everybody else's settings as they were."""

import ast
import compileall
import copy
import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

import dbx

ROUNDS = 15
EVERYTHING = "dbx, dbx.get, dbx.datasets; [getattr(m, n) for m in (dbx.pp, dbx.tl, dbx.pl) for n in m.__all__]"
"""All that users call: what ``import dbx`` puts off to the first use is counted as well."""


def in_a_fresh_process(code: str, **environment: str):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def installed(tmp_path):
    """A folder with dbx in bytecode, which pip writes for all it installs; scanpy has it."""
    shutil.copytree(Path(dbx.__file__).parent, tmp_path / "dbx")
    assert compileall.compile_dir(tmp_path, quiet=1)
    return str(tmp_path)


def seconds_to_import(path: str, *modules: str, depth: int) -> list[float]:
    # Processor time of this process alone, so that what else runs on the machine counts little. A full garbage
    # collection takes a tenth of scanpy's import and falls into one import or the next by chance: none is made.
    # Python maps its stack in chunks of 16 kB: a loop whose calls cross the end of one maps and unmaps memory at every
    # call, which costs a quarter of a second where it hits JAX's search of all installed packages. It depends on the
    # depth of the stack alone, so imports are made at several.
    statements = "".join(f"import {names}\ntimes.append(time.process_time())\n" for names in modules)
    code = f"""
import gc, json, time
gc.disable()
times = [time.process_time()]
def run_below(frames):
    run_below(frames - 1) if frames else exec({statements!r}, globals())
run_below({depth})
print(json.dumps(times))
"""
    times = in_a_fresh_process(code, PYTHONPATH=path)
    return [after - before for before, after in pairwise(times)]


def test_import_takes_little_longer_than_scanpys_and_dbx_itself_little(installed):
    times = []
    for number in range(ROUNDS):  # no more of them than it takes: noise only adds
        depth = 5 * number
        alone = seconds_to_import(installed, EVERYTHING, depth=depth)
        times.append(alone + seconds_to_import(installed, "scanpy", "jax.numpy, flax.nnx", EVERYTHING, depth=depth))
        everything, scanpys, _, ours = map(min, zip(*times, strict=True))
        if everything < 1.3 * scanpys and ours < 0.2 * scanpys:
            return
    pytest.fail(f"of scanpy's {scanpys:.2f} s: {everything / scanpys:.2f}, after scanpy and JAX {ours / scanpys:.2f}")


def test_import_takes_no_package_but_scanpys_and_flaxs():
    more = in_a_fresh_process(f"""
        import json, sys
        import flax.nnx, jax.numpy, scanpy
        known = set(sys.modules)
        import {EVERYTHING}
        print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - known}})))
    """)
    assert more == ["dbx"]


def modules_after(code: str) -> set[str]:
    return set(in_a_fresh_process(f"import dbx, json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"))


def test_import_alone_takes_no_jax():
    assert not {"jax", "flax", "pandas", "anndata"} & modules_after("dbx.pp, dbx.tl, dbx.pl")


def test_a_call_imports_its_own_operator_and_no_other():
    modules = modules_after("""
import anndata, numpy
adata = anndata.AnnData(numpy.ones((3, 2), "float32"))
dbx.pp.log1p(adata)
dbx.steps(adata)
    """)
    from dbx.ops.catalogue import OPERATORS

    imported = {name for name, path in OPERATORS.items() if f"dbx.ops.{path.partition(':')[0]}" in modules}
    assert imported == {"log1p"}
    assert not {"scanpy", "dbx.program.training.optimize", "dbx.ops.nn.training"} & modules


@pytest.mark.parametrize("package", ["pp", "tl", "pl", "program"])
def test_every_public_name_is_there_and_known_to_type_checkers(package):
    module = importlib.import_module(f"dbx.{package}")
    assert sorted(module.__all__) == dir(module)
    assert all(callable(getattr(module, name)) for name in module.__all__)
    tree = ast.parse(Path(module.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If)).body
    declared = {name.name: statement.module for statement in checked for name in statement.names}
    assert declared == {name: getattr(module, name).__module__ for name in module.__all__}


WAYS = [
    "from dbx.pp.log1p import log1p; function = dbx.pp.log1p",
    "import dbx.pp.log1p; function = dbx.pp.log1p",
    "from dbx.pp import log1p as function",
    "from dbx.pp import *; function = log1p",
    "dbx.pp.log1p; import dbx.pp.log1p as function",
]


def test_a_function_is_not_hidden_by_its_module():
    """Each way in a process that has imported nothing of dbx, only what dbx imports."""
    found = in_a_fresh_process(f"""
        import json, os
        import anndata, flax.nnx, jax.numpy, pandas, scipy.sparse

        for way in {WAYS}:
            if not os.fork():
                import dbx
                exec(way)
                os._exit(type(function).__name__ != "function")
        print(json.dumps([os.wait()[1] for _ in {WAYS}]))
    """)
    assert found == [0] * len(WAYS)


@pytest.mark.parametrize("package", ["pp", "tl", "pl", "program"])
def test_packages_are_pickled_by_name(package):
    """cloudpickle (dask, joblib) takes a function that mentions ``pp`` by pickling what it means."""
    module = importlib.import_module(f"dbx.{package}")
    assert pickle.loads(pickle.dumps(module)) is module
    assert copy.deepcopy(module) is module


def test_import_changes_no_global_state():
    changed = in_a_fresh_process("""
        import importlib, json, logging, pkgutil, sys, warnings

        import jax, matplotlib, numpy, scanpy

        def snapshot():
            root = logging.getLogger()
            return {
                "jax": {name: repr(value) for name, value in jax.config.values.items()},
                # read without resolving: looking a backend up the usual way would choose one
                "matplotlib": {name: repr(dict.__getitem__(matplotlib.rcParams, name)) for name in matplotlib.rcParams},
                "level names": logging.getLevelNamesMapping(),
                "root logger": [root.level, [repr(handler) for handler in root.handlers]],
                "scanpy": {name: repr(value) for name, value in vars(scanpy.settings).items()},
                "warnings": [repr(filter_) for filter_ in warnings.filters],
                "numpy": [numpy.geterr(), numpy.get_printoptions()["precision"]],
                "hooks": [repr(sys.excepthook), repr(sys.displayhook)],
            }

        before = snapshot()
        import dbx
        for module in pkgutil.walk_packages(dbx.__path__, "dbx."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        after = snapshot()
        changed = [name for name in before if before[name] != after[name]]
        print(json.dumps([[name, str(before[name]), str(after[name])] for name in changed]))
    """)
    assert changed == []


def test_import_starts_no_jax_device():
    # initialising a backend at import would take a GPU's memory from whoever else uses the notebook
    started = in_a_fresh_process("""
        import json
        import dbx, dbx.pp, dbx.tl, dbx.pl, dbx.ops, dbx.program, dbx.losses, dbx.datasets
        from jax._src import xla_bridge
        print(json.dumps(xla_bridge.backends_are_initialized()))
    """)
    assert started is False
