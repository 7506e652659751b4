"""The benches find what they compare, and their arithmetic is right."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))


def test_every_step_is_there_in_both_tools():
    from benchmarks.inputs import STAGES
    from benchmarks.steps import STEPS, find

    for step in STEPS:
        assert step.input in STAGES
        assert find("scanpy", step) is not None, step.name
        assert find("dbx", step) is not None, step.name


def test_table_of_known_times():
    """Medians, dbx / scanpy, a sum without what is not counted or what one tool lacks."""
    from benchmarks.workflow import table

    def calls(first, *later):
        measured = [{"wall": seconds, "cpu": seconds, "process": 500.0} for seconds in later]
        memory = [{"memory": 12.0, "process": 700.0}]
        return {"first": [{"wall": first, "process": 400.0}], "later": measured, "memory": memory}

    nothing = {"first": [{"process": 1.0}], "later": [{"process": 1.0}], "memory": [{"process": 1.0}]}
    found = {
        "scanpy": {"pca": calls(8.0, 2.0, 9.0, 4.0), "leiden (same library)": calls(1.0, 1.0), "umap": calls(5.0, 5.0)},
        "dbx": {"pca": calls(2.0, 1.0, 1.0, 7.0), "leiden (same library)": calls(1.0, 1.0), "umap": nothing},
    }
    _, _, pca, _, umap, total = table(found).splitlines()
    assert pca == "| pca | 8.000 | 2.000 | 0.25 | 4.000 | 1.000 | 0.25 | 12 | 12 |"
    assert umap == "| umap | 5.000 | - | - | 5.000 | - | - | 12 | - |"
    assert "| **8.00** | **2.00** | **0.25** | **4.00** | **1.00** | **0.25** | 700 (process) |" in total
