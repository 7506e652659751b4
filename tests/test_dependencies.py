"""What src/ imports is declared in pyproject.toml, and what is declared there is imported."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# packages that are imported under another name than they are installed
AROUND = {"IPython"}  # imported only where it runs already
DISTRIBUTIONS = {"sklearn": "scikit-learn", "skmisc": "scikit-misc"}


def names(requirements):
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def imported(code):
    """Distributions of other people that this code imports, wherever it does."""
    modules = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            modules |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    tops = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"dbx", "", *AROUND}
    return {DISTRIBUTIONS.get(top, top) for top in tops}


@pytest.fixture(scope="module")
def used():
    return set().union(*(imported(path.read_text()) for path in (ROOT / "src").rglob("*.py")))


def test_every_way_to_import_is_seen():
    code = "import a.b, os\ndef f():\n    from c import d\n    from . import e\nimportlib.import_module('sklearn.g')"
    assert imported(code) == {"a", "c", "scikit-learn"}


def test_every_import_is_declared(used):
    declared = names(PROJECT["dependencies"]).union(*map(names, PROJECT["optional-dependencies"].values()))
    assert used - declared == set()


def test_every_dependency_is_imported(used):
    assert names(PROJECT["dependencies"]) - used == set()


def test_an_extra_is_no_dependency():
    extras = set().union(*map(names, PROJECT["optional-dependencies"].values()))
    assert extras & names(PROJECT["dependencies"]) == set()
