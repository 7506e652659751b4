"""The example package of the docs: built, installed beside dbx, used, and missed where it is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments, site=None, cwd=None):
    paths = [*([str(site)] if site else []), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package's folder and a folder it is installed in."""
    home = tmp_path_factory.mktemp("package")
    source, site = home / "source", home / "site"
    shutil.copytree(ROOT / "docs/example_package", source, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    run("-m", "pip", "install", *offline, "--target", site, source)
    return source, site


def test_its_tests_pass_and_a_program_names_it_where_it_is_missing(package, tmp_path):
    source, site = package
    record = f"""
import pytest
import dbx, dbx_center
assert pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", {str(source)!r}, {str(source / "tests")!r}]) == 0
adata = dbx.datasets.simulate(60, 20, 2, 1, seed=0)
adata.layers["counts"] = adata.X.copy()
dbx.pp.normalize_total(adata)
dbx.pp.log1p(adata)
dbx_center.center(adata, shrink=0.5)
adata.write("done.h5ad")
"""
    assert "1 passed" in run("-c", record, site=site, cwd=tmp_path)
    read = """
import anndata, dbx
adata = anndata.read_h5ad("done.h5ad")
print(dbx.steps(adata).loc["center", "operator"])
query = anndata.AnnData(adata.layers["counts"][:5].copy(), var=adata.var[[]])
query.var_names = adata.var_names
try:
    dbx.rerun(query, adata, steps=["center"])
except ValueError as error:
    print(error)
"""
    listed, sentence = run("-c", read, cwd=tmp_path).splitlines()
    assert listed == "center"
    assert "needs the operator 'center'" in sentence
    assert "it is in the package dbx-center, which is not installed: pip install dbx-center==0.1.0" in sentence
    rerun = """
import sys, anndata, dbx
adata = anndata.read_h5ad("done.h5ad")
assert "dbx_center" not in sys.modules
query = anndata.AnnData(adata.layers["counts"][:5].copy(), var=adata.var[[]])
dbx.rerun(query, adata)
assert (query.layers["centered"] == adata.layers["centered"][:5]).all()
assert "dbx_center.operator" in sys.modules
"""
    run("-c", rerun, site=site, cwd=tmp_path)
