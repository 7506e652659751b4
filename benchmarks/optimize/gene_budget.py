"""A budget of genes: gates trained with the projection beside rankings of genes, on held-out cells.

    python -m benchmarks.optimize.gene_budget NAME=FILE.h5ad:LABEL ... simulated=6000x2000 --keep OUT.jsonl --out OUT.md

FILE has raw counts in X and a column of labels in obs. Everything (totals, variable genes, standardisation, selections,
components, the strength of the L0 price) is found on the cells that are not held out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedShuffleSplit

import dbx

N_COMPS, MOST_GENES, HELD_OUT = 10, 2000, 0.25
BUDGETS = (50, 100, 200, 500)
PRICES = (0.7, 2.0, 6.0)
"""Of all gates open, in nats per cell: L0 panels of every size, of which the nearest is taken for a budget."""
NESTED = {"de_probability": (0.2, 0.05), "de_location": (1.0, 0.8)}
"""Types differ from others of their lineage in one gene of twenty."""
COLUMNS = {
    "dispersion": "dispersion",
    "seurat_v3": "seurat_v3",
    "f": "F test",
    "top_k": "top-k",
    "l0": "L0",
    "f_trained": "F test, trained",
    "top_k_trained": "top-k, trained",
    "l0_trained": "L0, trained",
    "all": "all genes",
}


def load(spec: str) -> tuple[str, ad.AnnData]:
    """Name and counts with obs['label'], without labels of fewer than 10 cells."""
    if spec.startswith("simulated"):
        n_cells, n_genes = map(int, (spec.split("=")[1] if "=" in spec else "6000x2000").split("x"))
        adata = dbx.datasets.simulate(n_cells, n_genes, 24, 1, nested=6, seed=0, **NESTED)
        return spec, with_labels(adata, "group")
    name, rest = spec.split("=", 1)
    path, label = rest.rsplit(":", 1)
    return name, with_labels(ad.read_h5ad(path), label)


def with_labels(adata: ad.AnnData, column: str) -> ad.AnnData:
    label = adata.obs[column].astype(str)
    count = label.map(label.value_counts())
    kept = ((count >= 10) & ~label.isin(["NA", "nan", "None"])).to_numpy()
    x = sparse.csr_matrix(adata.X)[kept].astype(np.float32)
    found = ad.AnnData(x, obs={"label": label[kept].to_numpy()}, var=adata.var[[]])
    found.obs_names = [f"cell{i}" for i in range(found.n_obs)]
    return found


def split(adata: ad.AnnData, number: int) -> tuple[ad.AnnData, ad.AnnData]:
    label = adata.obs["label"].to_numpy()
    divide = StratifiedShuffleSplit(1, test_size=HELD_OUT, random_state=number)
    train, test = next(divide.split(label, label))
    return adata[train].copy(), adata[test].copy()


def variable(train: ad.AnnData) -> list[str]:
    """The 2,000 most variable genes of the training cells, or all if there are fewer."""
    if train.n_vars <= MOST_GENES:
        return list(train.var_names)
    logs = train.copy()
    dbx.pp.normalize_total(logs)
    dbx.pp.log1p(logs)
    dbx.pp.highly_variable_genes(logs, n_top_genes=MOST_GENES)
    return list(logs.var_names[logs.var["highly_variable"]])


def prepare(counts: ad.AnnData) -> ad.AnnData:
    """Standardised logarithms, in a program, and rankings of the genes."""
    train = counts.copy()
    dbx.pp.normalize_total(train)
    dbx.pp.log1p(train)
    dbx.pp.highly_variable_genes(train)
    dbx.pp.scale(train, max_value=10)
    v3 = dbx.pp.highly_variable_genes(counts, flavor="seurat_v3", n_top_genes=10, inplace=False)
    train.var["dispersion"] = train.var["dispersions_norm"]
    train.var["seurat_v3"] = v3["variances_norm"].to_numpy()
    train.var["f"] = f_classif(train.X, train.obs["label"])[0]
    return train


def gated(train: ad.AnnData, budget: int, method: str, by: str, price: float = 0.0, seed: int = 0, **settings):
    """The program with a gate and components behind it, trained by the labels."""
    adata = train.copy()
    dbx.pp.gene_gate(adata, budget, method=method, by=by)
    dbx.pp.pca(adata, N_COMPS, layer="gene_gate", mask_var=None)
    loss = dbx.losses.CrossEntropy("label")
    if price:
        loss = loss + price * dbx.losses.OpenGates("gene_gate")
    dbx.optimize(adata, loss, train=[("gene_gate", "pca")], random_state=seed, **settings)
    return adata


def projected(train: ad.AnnData, budget: int, by: str, **settings) -> ad.AnnData:
    """The same with the genes as ranked and the components trained alone."""
    adata = train.copy()
    dbx.pp.gene_gate(adata, budget, by=by)
    dbx.pp.pca(adata, N_COMPS, layer="gene_gate", mask_var=None)
    dbx.optimize(adata, dbx.losses.CrossEntropy("label"), train="pca", **settings)
    return adata


def panels(train: ad.AnnData, **settings) -> list[ad.AnnData]:
    """L0 panels of all sizes: all genes open at the start, at a ladder of prices."""
    return [gated(train, train.n_vars, "l0", "dispersion", price, **settings) for price in PRICES]


def nearest(found: list[ad.AnnData], budget: int) -> ad.AnnData:
    """The panel whose number of open genes is nearest to the budget, by ratio."""
    off = [abs(np.log(max(adata.var["gene_gate"].sum(), 1) / budget)) for adata in found]
    return found[int(np.argmin(off))]


def chosen(adata: ad.AnnData, column: str, budget: int) -> np.ndarray:
    """Indices of the genes with the highest values of a column of var."""
    return np.argsort(-adata.var[column].fillna(-np.inf).to_numpy(), kind="stable")[:budget]


def told(z_train: np.ndarray, labels, z_test: np.ndarray, truth) -> float:
    """Macro-F1 on held-out cells of logistic regression on standardised coordinates."""
    mean, spread = z_train.mean(axis=0), z_train.std(axis=0) + 1e-8
    model = LogisticRegression(max_iter=5000).fit((z_train - mean) / spread, labels)
    return float(f1_score(truth, model.predict((z_test - mean) / spread), average="macro"))


def refitted(train: ad.AnnData, test: ad.AnnData, genes: np.ndarray) -> float:
    """Components fitted on the chosen genes of the training cells."""
    mean = train.X[:, genes].mean(axis=0)
    axes = np.linalg.svd(train.X[:, genes] - mean, full_matrices=False)[2][:N_COMPS].T
    z_train, z_test = ((cells.X[:, genes] - mean) @ axes for cells in (train, test))
    return told(z_train, train.obs["label"], z_test, test.obs["label"])


def mapped(adata: ad.AnnData, counts: ad.AnnData, test: ad.AnnData) -> float:
    """The coordinates as trained, of held-out cells too."""
    z_test = dbx.rerun(counts, reference=adata, copy=True).obsm["X_pca"]
    return told(adata.obsm["X_pca"], adata.obs["label"], z_test, test.obs["label"])


def compare(train: ad.AnnData, test: ad.AnnData, budgets: list[int], **settings):
    """(budget, macro-F1 of each way to spend it and what became of the gates), one after the other."""
    genes = variable(train)
    train, counts = prepare(train[:, genes].copy()), test[:, genes].copy()
    test = dbx.rerun(counts, reference=train, copy=True)
    l0 = panels(train, **settings)
    for budget in budgets:
        scores = {name: refitted(train, test, chosen(train, name, budget)) for name in ("dispersion", "seurat_v3", "f")}
        scores["all"] = refitted(train, test, np.arange(train.n_vars))
        found = {
            "top_k": gated(train, budget, "top_k", "dispersion", **settings),
            "l0": nearest(l0, budget),
        }
        for name, adata in found.items():
            kept = chosen(adata, "gene_gate_score", budget)
            scores[name] = refitted(train, test, kept)
            scores[f"{name}_trained"] = mapped(adata, counts, test)
            scores[f"{name}_kept"] = bool(adata.uns["optimize"]["kept"].any())
            scores[f"{name}_moved"] = 1 - len(np.intersect1d(kept, chosen(train, "dispersion", budget))) / budget
        scores["f_trained"] = mapped(projected(train, budget, "f", **settings), counts, test)
        yield budget, {**scores, "l0_open": int(found["l0"].var["gene_gate"].sum())}


def table(rows: list[dict]) -> str:
    """Means over splits; in bold the best choice of genes, components fitted again."""
    fitted_again = [name for name in COLUMNS if name != "all" and not name.endswith("_trained")]
    head = ["set", "genes", "splits", *COLUMNS.values(), "changed by top-k", "open by L0"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, budget in dict.fromkeys((row["set"], row["budget"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["budget"]) == (name, budget)]
        means = {column: np.mean([row[column] for row in mine]) for column in COLUMNS}
        best = max(means[column] for column in fitted_again)
        cells = [
            f"**{mean:.3f}**" if column in fitted_again and mean == best else f"{mean:.3f}"
            for column, mean in means.items()
        ]
        moved = np.mean([row["top_k_moved"] for row in mine])
        opened = ", ".join(str(row["l0_open"]) for row in mine)
        lines.append(f"| {name} | {budget} | {len(mine)} | " + " | ".join(cells) + f" | {moved:.0%} | {opened} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--splits", default="0,1,2")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--keep", type=Path, help="results so far, one a line; those there are not computed again")
    parser.add_argument("--out", type=Path, help="where the table goes; otherwise it is printed")
    given = parser.parse_args()
    kept = given.keep is not None and given.keep.exists()
    rows = [json.loads(line) for line in given.keep.read_text().splitlines()] if kept else []
    done = {(row["set"], row["budget"], row["split"]) for row in rows}
    for spec in given.sets:
        name, adata = load(spec)
        for number in map(int, given.splits.split(",")):
            wanted = [int(b) for b in given.budgets.split(",") if int(b) < adata.n_vars]
            wanted = [budget for budget in wanted if (name, budget, number) not in done]
            start = time.process_time()
            for budget, scores in compare(*split(adata, number), wanted) if wanted else ():
                seconds = time.process_time() - start
                rows.append({"set": name, "budget": budget, "split": number, **scores, "cpu": seconds})
                if given.keep is not None:
                    with given.keep.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    if given.out is None:
        print(table(rows))
    else:
        given.out.write_text(table(rows) + "\n")


if __name__ == "__main__":
    main()
