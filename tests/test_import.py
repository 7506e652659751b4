"""Importing dbx is cheap, and leaves everybody else's settings as they were."""

import json
import subprocess
import sys
import textwrap

ROUNDS = 3


def in_a_fresh_process(code: str) -> dict | float:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def seconds_to_import(module: str) -> float:
    # processor time of this process alone, so that what else runs on the machine counts little
    return in_a_fresh_process(f"""
        import time
        start = time.process_time()
        import {module}
        print(time.process_time() - start)
    """)


def test_import_takes_little_longer_than_scanpys():
    # with all that users call: what `import dbx` puts off to the first use is counted as well
    everything = "dbx, dbx.pp, dbx.tl, dbx.pl, dbx.get, dbx.datasets"
    rounds = [(seconds_to_import(everything), seconds_to_import("scanpy")) for _ in range(ROUNDS)]
    ours, scanpys = zip(*rounds, strict=True)
    assert min(ours) < 1.3 * min(scanpys)


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
