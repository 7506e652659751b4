"""The program names no operator: what it must know of one, the operator or its wrapper declares."""

import ast
from pathlib import Path

import dbx.program
from dbx.ops.catalogue import OPERATORS

# Keys that scanpy has given its own results, which some operators are named like.
SCANPYS_KEYS = {
    ("record/inputs.py", "log1p"),
    ("record/representation.py", "pca"),
    ("slots/addresses.py", "neighbors"),
    ("slots/checks.py", "log1p"),  # calls that a message advises
    ("slots/checks.py", "normalize_total"),
    ("slots/log_base.py", "log1p"),
}
# dbx.optimize puts a layer for labels after what it trains, and records it.
MADE_BY_THE_PROGRAM = {("training/labels.py", "dbx.ops.annotation.label_head")}


def named(folder):
    """(file, what it names) of operator names in code and imports of their modules below a folder."""
    modules = {f"dbx.ops.{path.partition(':')[0]}" for path in OPERATORS.values()}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in OPERATORS:
                yield str(path.relative_to(folder)), node.value
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                yield str(path.relative_to(folder)), node.module


def test_the_program_names_no_operator():
    assert set(named(Path(dbx.program.__file__).parent)) == SCANPYS_KEYS | MADE_BY_THE_PROGRAM


def test_this_test_sees_names_and_imports(tmp_path):
    code = 'from dbx.ops.components.pca import PCA\nif step.operator == "umap":\n    pass\n'
    (tmp_path / "step.py").write_text(code)
    assert set(named(tmp_path)) == {("step.py", "dbx.ops.components.pca"), ("step.py", "umap")}
