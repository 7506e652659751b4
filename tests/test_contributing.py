"""Whoever follows docs/contributing.md to the letter has added an operator: its files and edits are put into a copy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```\{code-block\} (python|diff)\n:caption: (\S+)\n\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A copy of the sources, tests and lists with what the guide says."""
    copy = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "_build", "generated", "reference")
    for folder in ("src", "tests", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for file in ("pyproject.toml", "CHANGELOG.md", "README.md"):
        shutil.copy(ROOT / file, copy)
    for language, name, text in BLOCK.findall((ROOT / "docs/contributing.md").read_text()):
        path = copy / name
        if language == "python":
            assert not path.exists(), name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        else:
            path.write_text(edited(path.read_text(), text))
    run("-m", "ruff", "check", "--quiet", "--fix", "src", cwd=copy)  # sorts the export, as the guide says
    return copy


def edited(text, diff):
    """``text`` with each group of added lines put behind the lines that stand before it in the diff."""
    for kept, added in re.findall(r"((?:^ .*\n)+)((?:^\+.*\n)+)", diff, re.MULTILINE):
        before, new = (re.sub(r"^.", "", lines, flags=re.MULTILINE) for lines in (kept, added))
        assert text.count(before) == 1, f"{before!r} is there {text.count(before)} times"
        text = text.replace(before, before + new)
    return text


def run(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(cwd / "src")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_takes_four_files_and_four_edits():
    kinds = [language for language, _, _ in BLOCK.findall((ROOT / "docs/contributing.md").read_text())]
    assert (kinds.count("python"), kinds.count("diff")) == (4, 4)


def test_formatting_and_rules_hold(followed):
    run("-m", "ruff", "format", "--check", "src", "tests", cwd=followed)
    run("-m", "ruff", "check", "src", "tests", cwd=followed)


def test_signature_lists_reference_and_contract_hold(followed):
    files = ["test_signatures.py", "test_docs.py", "test_import.py", "ops/test_catalogue.py"]
    files += ["ops/normalization/test_center.py"]
    files += ["contract"] if (ROOT / "tests/contract").exists() else ["ops/test_contract.py"]
    chosen = "(enter and not seconds) or api_page or known_to_type_checkers or every_operator"
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *(f"tests/{file}" for file in files))
    passed = run(*command, cwd=followed)
    assert int(re.search(r"(\d+) passed", passed)[1]) > 20
    assert "failed" not in passed


def test_its_steps_are_recorded_and_rerun(followed):
    code = """
import numpy as np, dbx
adata = dbx.datasets.simulate(60, 20, 2, 1, seed=0)
query = adata[:10].copy()
dbx.pp.normalize_total(adata)
dbx.pp.log1p(adata)
logs = adata.X.toarray()
dbx.pp.center(adata)
np.testing.assert_allclose(adata.X, logs - logs.mean(axis=0, dtype=np.float64), atol=1e-6)
dbx.rerun(query, adata)
np.testing.assert_array_equal(query.X, adata.X[:10])
"""
    run("-c", code, cwd=followed)
