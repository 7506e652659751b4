"""The pages name what there is."""

import doctest
import importlib
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import dbx

ROOT = Path(__file__).parents[1]
MODULES = (
    "dbx",
    "dbx.pp",
    "dbx.tl",
    "dbx.experimental",
    "dbx.experimental.pp",
    "dbx.pl",
    "dbx.get",
    "dbx.external",
    "dbx.datasets",
    "dbx.losses",
    "dbx.ops",
    "dbx.program",
)


def listed():
    """Every full name on the API page, under an autosummary or as described there."""
    current, names = "", set()
    for line in (ROOT / "docs/api.md").read_text().splitlines():
        if directive := re.match(r"\.\. currentmodule:: (\S+)", line):
            current = directive[1]
        elif entry := re.match(r"   ([\w.]+)$", line):
            names.add(f"{current}.{entry[1]}")
        elif entry := re.match(r"\.\. py:data:: ([\w.]+)$", line):
            names.add(entry[1])
    return names


def test_the_parser_of_this_test_reads_the_page():
    assert {"dbx.steps", "dbx.pp.pca"} <= listed()


@pytest.mark.parametrize("module", MODULES)
def test_api_page_lists_every_public_name(module):
    public = importlib.import_module(module)
    # the shortest way to a name counts: dbx.rerun, not dbx.program.replay.rerun as well
    names = [name for name in public.__all__ if public is dbx or name not in dbx.__all__]
    full = {f"{module}.{name}" for name in names} - set(MODULES) - {"dbx.__version__"}
    assert full - listed() == set()


def test_api_page_lists_nothing_else():
    for name in listed():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


DISTRIBUTION = [f"{module}.differential_distribution" for module in ("tl", "get", "pl")]


@pytest.mark.parametrize(
    "name", ["tl.communication", "pl.communication", "tl.grn_activity", "pl.grn", "pl.ligrec", *DISTRIBUTION]
)
@pytest.mark.filterwarnings("ignore::dbx.DbxWarning")
def test_examples_run(name):
    module, _, function = name.partition(".")
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(getattr(dbx, module), function), function, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_calls_in_the_text_exist(page):
    # whatever is written as code and starts at one of dbx's modules: `dbx.tl.umap(...)`, `pp.pca`
    # (files to add, which tests/test_contributing.py puts into place, are another matter)
    text = re.sub(r"```\{code-block\}.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for code in re.findall(r"`([^`]+)`", text):
        for name in re.findall(r"(?<![\w./])(?:dbx\.)?((?:pp|tl|pl|get|datasets|losses)\.[a-z]\w*)", code):
            module, attribute = name.split(".")
            assert hasattr(importlib.import_module(f"dbx.{module}"), attribute), f"{page}: {name}"


def code_blocks(page, section=""):
    """Code of a page, or of the section under this heading."""
    text = (ROOT / page).read_text()
    text = re.split(r"^## ", text.split(f"## {section}\n")[1], flags=re.MULTILINE)[0] if section else text
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def test_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names = {"query": dbx.datasets.mixology()[::5].copy()}
    exec(code_blocks("README.md"), names)
    reference = names["adata"]
    assert (names["query"].obs["leiden"] == reference.obs["leiden"][::5]).all()
    assert dbx.steps(ad.read_h5ad("reference.h5ad")).equals(dbx.steps(reference))


def test_the_section_on_gradients_runs():
    names = {}
    exec(code_blocks("docs/program.md", "Differentiate it"), names)
    adata, pipeline, parameters = names["adata"], names["pipeline"], names["parameters"]
    # the gradient at the start, by hand: of the mean cross-entropy of three equal probabilities
    z = np.asarray(pipeline(pipeline.parameters, pipeline.read(adata))["obsm/X_pca_harmony"])
    told = np.eye(3)[names["line"]]
    np.testing.assert_allclose(names["gradient"]["head"], z.T @ (1 / 3 - told) / len(z), rtol=1e-3, atol=1e-5)
    # the loop told the lines apart, and what it learnt is in the program and in what it writes
    told_after = names["objective"](parameters, pipeline.read(adata), names["line"])
    assert told_after < 0.3 < np.log(3)  # which is what it started at, the head being zero
    trained = pipeline(parameters["steps"], pipeline.read(adata))["obsm/X_pca_harmony"]
    np.testing.assert_allclose(adata.obsm["X_pca_harmony"], trained, atol=1e-4)
    again = dbx.Pipeline.from_adata(adata).parameters["pca"]["residual"]
    np.testing.assert_array_equal(again, parameters["steps"]["pca"]["residual"])
    assert np.abs(again).max() > 0
    # of a projection the derivative is its loadings
    np.testing.assert_allclose(names["directions"].T, adata.varm["PCs"][adata.var["highly_variable"]], atol=1e-6)
    assert set(names["table"]["group"]) == set(adata.obs["cell_line"])
    # more counts of the line that is named first are a larger change, of the other a smaller one
    slope, line = names["slope"][:, names["gene"]], names["samples"].obs["cell_line"].to_numpy()
    assert names["slope"].shape == names["samples"].shape
    assert (slope[line == "H2228"] > 0).all()
    assert (slope[line == "HCC827"] < 0).all()


def test_tutorials_are_part_of_the_site():
    tutorials = {path.name for path in (ROOT / "tutorials").glob("*.md")} - {"index.md"}
    index = (ROOT / "tutorials/index.md").read_text()
    assert tutorials
    assert all(name.removesuffix(".md") in index for name in tutorials)


def test_version_is_one():
    from importlib.metadata import version

    assert dbx.__version__ == version("dbx-bio")
