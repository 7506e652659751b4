"""Sets of other designs, simulated and given to R DESeq2 on the spot: nothing was fitted to these."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.deseq2.agreement import simulated
from benchmarks.deseq2.reference import Reference
from benchmarks.deseq2.tables import CALLS_HEAD, Apart, table

N_GENES = 3000
SCRIPT = Path(__file__).with_name("reference.R")


def counts(
    rng: np.random.Generator,
    n_samples: int,
    changes: np.ndarray,
    *,
    level: float = 4.0,
    spread: float = 2.0,
    dispersion: float = 0.1,
    outliers: int = 0,
) -> np.ndarray:
    """Genes by samples; ``changes`` (n_genes, n_samples) are logarithms of fold changes, for 1 of 5 genes."""
    mean = np.exp(rng.normal(level, spread, N_GENES))
    alpha = (dispersion + 2 * dispersion / mean) * np.exp(rng.normal(0, 0.5, N_GENES))
    changes = changes * (rng.random((N_GENES, 1)) < 0.2)
    mu = mean[:, None] * np.exp(rng.normal(0, 0.4, n_samples) + changes)
    y = rng.poisson(mu * rng.gamma(1 / alpha[:, None], alpha[:, None], mu.shape)) if dispersion else rng.poisson(mu)
    at = (rng.integers(N_GENES, size=outliers), rng.integers(n_samples, size=outliers))
    y[at] = y[at] * 50 + 100
    return y


def sets(seed: int) -> Iterator[tuple[str, str, pd.DataFrame, np.ndarray]]:
    """(name, design, samples, counts)."""
    rng = np.random.default_rng(seed)

    def arms(*sizes: int) -> pd.Series:
        return pd.Series(np.repeat([f"g{i}" for i in range(len(sizes))], sizes))

    def made(name: str, design: str, samples: dict, **settings):
        samples = pd.DataFrame(samples)
        samples.index = [f"s{i}" for i in range(len(samples))]
        last = samples.columns[-1]
        numeric = pd.api.types.is_numeric_dtype(samples[last])
        code = samples[last].to_numpy() if numeric else pd.factorize(samples[last])[0]
        changes = rng.normal(0, 1, (N_GENES, 1)) * code
        return name, design, samples, counts(rng, len(samples), changes, **settings)

    yield made("2 v 2", "~ arm", {"arm": arms(2, 2)})
    yield made("3 v 3, few counts", "~ arm", {"arm": arms(3, 3)}, level=1.0)
    yield made("4 pairs", "~ pair + arm", {"pair": list("abcdabcd"), "arm": arms(4, 4)})
    yield made("6 v 5 v 4, three levels", "~ arm", {"arm": arms(6, 5, 4)}, dispersion=0.3)
    crossed = {"strain": list("aaabbbaaabbb"), "arm": arms(6, 6)}
    yield made("interaction", "~ strain + arm + strain:arm", crossed)
    aged = {"age": rng.normal(50, 10, 20).round(1), "arm": arms(10, 10)}
    yield made("age, 10 v 10", "~ age + arm", aged)
    yield made("slope of a dose", "~ dose", {"dose": np.repeat([0.0, 1.0, 2.0, 5.0], 4)})
    yield made("12 v 12 with outliers", "~ arm", {"arm": arms(12, 12)}, outliers=150)
    yield made("3 v 4 with outliers", "~ arm", {"arm": arms(3, 4)}, outliers=60)
    yield made(
        "8 v 3 with outliers and batch", "~ batch + arm", {"batch": list("abababababa"), "arm": arms(8, 3)}, outliers=80
    )
    yield made("10 v 10, Poisson", "~ arm", {"arm": arms(10, 10)}, dispersion=0.0)
    yield made("30 v 30", "~ arm", {"arm": arms(30, 30)}, dispersion=0.5)


def report(rscript: str, seed: int, words: list[str] | None) -> str:
    """Markdown."""
    worst, calls = [], []
    for name, design, samples, y in sets(seed):
        if words and not any(word in name for word in words):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            genes = pd.Index([f"g{i}" for i in range(len(y))], name="gene")
            pd.DataFrame(y, genes, samples.index).to_csv(folder / "counts.csv.gz")
            samples.to_csv(folder / "coldata.csv", index_label="sample")
            (folder / "design.txt").write_text(design)
            subprocess.run([rscript, str(SCRIPT), str(folder)], check=True, capture_output=True)
            reference = Reference(folder)
            rows, more, results = simulated(reference)
            calls += more
            trends = " / ".join(dict.fromkeys([reference.meta["fitType"], results.trend]))
            worst.append([name, f"`{design}`", trends, *summary(rows)])
    head = ["set", "design", "trend", "worst median", "worst 99.9%", "worst", "NA differ"]
    return f"{table(head, worst)}\n\n{table(CALLS_HEAD, calls)}"


def summary(rows: list[Apart]) -> list[str]:
    """The worst of all quantities, each with its name."""
    found = []
    for measure in ("median", "most", "largest", "n_missing"):
        row = max(rows, key=lambda row: getattr(row, measure))
        value = getattr(row, measure)
        text = str(value) if measure == "n_missing" else f"{value:.0e}"
        found.append(f"{text} {row.quantity}" if value else text)
    return found
