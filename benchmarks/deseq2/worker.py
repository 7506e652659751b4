"""One tool in a process of its own: it reads jobs from standard input and writes JSON to standard output.

Needs no more than the tool itself, so that it can run in an environment that has no other.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path

from benchmarks.workflow.worker import peak, weighed

warnings.simplefilter("ignore")


def dbx_tool(folder: Path, task: dict, settings: dict):
    """(make fresh data, test them)."""
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    import dbx

    counts = sparse.load_npz(folder / "counts.npz")
    samples = pd.read_csv(folder / "samples.csv", index_col=0)
    for name, levels in task["levels"].items():
        samples[name] = pd.Categorical(samples[name], levels)
    # libraries are dense, cells are sparse
    adata = AnnData(counts if counts.shape[0] > 100 else counts.toarray(), obs=samples)

    def run(fresh):
        dbx.tl.de(fresh, task["design"], contrast=tuple(task["contrast"]), **settings)
        return fresh.varm["de"]["pvalue"].to_numpy()

    return adata.copy, run


def pydeseq2_tool(folder: Path, task: dict, settings: dict):
    import pandas as pd
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats
    from scipy import sparse

    counts = pd.DataFrame(sparse.load_npz(folder / "counts.npz").toarray().astype(int))
    samples = pd.read_csv(folder / "samples.csv", index_col=0)
    for name, levels in task["levels"].items():
        samples[name] = pd.Categorical(samples[name], levels)
    counts.index = samples.index
    counts.columns = counts.columns.astype(str)

    def run(_):
        dds = DeseqDataSet(counts=counts, metadata=samples, design=task["design"], quiet=True, **settings)
        dds.deseq2()
        found = DeseqStats(dds, contrast=task["contrast"], alpha=0.1, quiet=True)
        found.summary()
        return found.results_df["pvalue"].to_numpy()

    return lambda: None, run


TOOLS = {"dbx": dbx_tool, "pydeseq2": pydeseq2_tool}


def main() -> None:
    """Lines: `load FOLDER SETTINGS`, then `make` before each `run FILE` or `weigh`; p-values are written to FILE."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get between the answers
    start = time.perf_counter()
    __import__("anndata")
    __import__(sys.argv[1])
    answers.write(json.dumps({"wall": time.perf_counter() - start}) + "\n")
    for line in sys.stdin:
        word, *rest = line.rstrip("\n").split("\t")
        answer = {}
        if word == "load":
            folder = Path(rest[0])
            task = json.loads((folder / "task.json").read_text())
            make, run = TOOLS[sys.argv[1]](folder, task, json.loads(rest[1]))
        elif word == "make":
            data = make()
        elif word == "run":
            start = time.perf_counter()
            pvalue = run(data)
            answer["wall"] = time.perf_counter() - start
            pvalue.astype(float).tofile(rest[0])
            answer["process"] = peak() if sys.platform == "linux" else 0
        else:
            answer |= weighed(run, data)
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
