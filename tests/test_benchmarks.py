"""The benches find what they compare, and their arithmetic is right."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))


def test_every_step_is_there_in_both_tools():
    from benchmarks.workflow.inputs import STAGES
    from benchmarks.workflow.steps import STEPS, find

    for step in STEPS:
        assert step.input in STAGES
        assert find("scanpy", step) is not None, step.name
        assert find("dbx", step) is not None, step.name


def test_table_of_known_times():
    """Medians, dbx / scanpy, a sum without what is not counted or what one tool lacks."""
    from benchmarks.workflow.workflow import table

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


def test_every_first_call_is_there():
    """Every step of the table is a function of dbx, and in scanpy where it is compared with it."""
    import re

    import scanpy
    from benchmarks.first_calls.steps import STEPS

    import dbx

    names = {"dbx": dbx, "sc": scanpy}
    for _, ours, *theirs in STEPS.values():
        calls = [call.replace("tool.", prefix) for call in (ours, *theirs) for prefix in ("dbx.", "sc.")]
        for call in calls:
            function = re.match(r"[\w.]+", call)[0]
            if function.startswith(("dbx.", "sc.")):
                assert callable(eval(function, names)), function


def test_table_of_first_calls():
    from benchmarks.first_calls.__main__ import table

    def answers(*calls, programs=()):
        return [{"import": 0.1, "calls": list(pair), "programs": list(programs)} for pair in calls]

    compiled = [("tracing", "f", 0.25), ("XLA compilation of", "jit(f)", 0.5)]
    found = {
        "pp.log1p": {"dbx": answers((1.0, 0.1)), "scanpy": answers((2.0, 0.5))},
        "tl.de": {"dbx": answers((3.0, 1.0), (4.0, 1.0), (9.0, 1.0), programs=compiled), "kept": answers((1.5, 1.0))},
    }
    *_, log1p, de = table(found).splitlines()
    assert log1p == "| pp.log1p | 1.00 | 0.10 | 0.90 | 0 | 0.00 |  | 2.00 | 0.50 | 1.50 |"
    assert de == "| tl.de | 4.00 | 1.00 | **3.00** | 1 | 0.75 | 1.50 |  |  |  |"


def test_every_scaled_step_is_there():
    import re

    from benchmarks.scaling.steps import STEPS

    import dbx

    for step in STEPS.values():
        for function in re.findall(r"dbx[\w.]+", step.call):
            assert callable(eval(function, {"dbx": dbx})), function


def test_tables_of_sizes():
    """Exponents are slopes of the logarithms; counts are subtracted where a process holds them."""
    from benchmarks.scaling.report import of_counts, tables

    def result(wall, memory, process, nnz=0):
        return {"wall": wall, "cpu": 2 * wall, "memory": memory, "process": process, "nnz": nnz}

    found = {("pca", 10): result(1.0, 50, 400, nnz=2**20), ("umap", 10): result(1.0, 60, 300)}
    found |= {("pca", 1000): result(10.0, 90, 900, nnz=2**27), ("umap", 1000): result(1e4, 80, 200)}
    assert of_counts(found, 1000) == 1024 + 4004 / 2**20
    assert of_counts(found, 10) == 8 + 44 / 2**20
    seconds, processor, memory = tables(found).split("\n\n")
    assert seconds.splitlines()[2:] == [
        "| pca | 1.0 | 10.0 | 0.50 |",
        "| umap | 1.0 | 10000.0 | 2.00 |",
        "| **sum of the workflow** | **2.0** | **10010.0** | **1.85** |",
    ]
    assert processor.splitlines()[-1] == "| **sum of the workflow** | **4.0** | **20020.0** | **1.85** |"
    assert memory.splitlines()[2:] == [
        "| pca | 50 | 90 |",
        "| umap | 60 | 80 |",
        "| **largest process** | **400** | **900** |",
        "| **largest process, without counts that it holds** | **392** | **200** |",
    ]


def test_a_budget_of_genes_is_spent_on_the_best():
    import anndata as ad
    import numpy as np
    from benchmarks.optimize.gene_budget import chosen, nearest, refitted, table

    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    x = rng.normal(size=(200, 30))
    x[:, 3] += 6 * label
    cells = ad.AnnData(x, obs={"label": label.astype(str)}, var={"score": np.where(np.arange(30) == 7, np.nan, -x[0])})
    order = [i for i in np.argsort(x[0]) if i != 7]
    assert list(chosen(cells, "score", 30)) == [*order, 7]
    train, test = cells[:150].copy(), cells[150:].copy()
    assert refitted(train, test, np.arange(12)) > 0.95  # has gene 3
    assert refitted(train, test, np.arange(15, 30)) < 0.7
    panels = [ad.AnnData(np.zeros((1, 9)), var={"gene_gate": np.arange(9) < n}) for n in (1, 4, 9)]
    assert nearest(panels, 3) is panels[1]
    row = {"set": "a", "budget": 5, "all": 0.9, "top_k_moved": 0.5, "l0_open": 6, "dispersion": 0.1, "seurat_v3": 0.2}
    row |= {"f": 0.3, "top_k": 0.4, "l0": 0.5, "f_trained": 0.55, "top_k_trained": 0.6, "l0_trained": 0.7}
    last = table([row, {**row, "l0": 0.3, "f": 0.5, "l0_open": 8}]).splitlines()[-1]
    assert last.split(" | ")[2:5] == ["2", "0.100", "0.200"]
    assert last.endswith("| **0.400** | **0.400** | **0.400** | 0.550 | 0.600 | 0.700 | 0.900 | 50% | 6, 8 |")


def test_every_call_on_disk_is_there():
    """Every call of the benchmark on a file is one of dbx, and its table has known numbers."""
    import re

    from benchmarks.scaling.on_disk import AFTERWARDS, OF_COUNTS, SESSION, table

    import dbx

    calls = "; ".join((SESSION | OF_COUNTS | AFTERWARDS).values())
    for function in re.findall(r"dbx[.\w]+(?=\()", calls):
        assert callable(eval(function, {"dbx": dbx})), function
    rows = table({"pca": {"wall": 12.34, "cpu": 5.0, "memory": 1234.5, "process": 2000.0}}).splitlines()
    assert rows[-1] == "| pca | 12.3 | 5.0 | 1,234 | 2,000 |"
