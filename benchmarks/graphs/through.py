"""Training through the graph: pseudotime and fates of cells that were not trained on, mapped by ``dbx.rerun``.

    python -m benchmarks.graphs.through SCORER [guo,hsmm,sim3] [--splits 5] [--cells 1000] [--genes 500]
        [--train pca,gate,imputer,pca+imputer,normalisation,pca+normalisation]

``SCORER`` is a file with ``load(name)``: the cells, the root, the terminal states and the truth (``time``,
and ``committor`` of simulated cells). Half of the cells are the reference: components, 15 neighbours, diffusion map and
pseudotime, then trained by ``dbx.losses.Ordering`` of the known times (for the simulation: in ten steps), or by
``dbx.losses.Fate`` of the cells that are nearly committed. The other half is mapped by ``dbx.rerun`` before and after.
What is trained: loadings, loadings and then a gate that half of the genes pass at first, the number of MAGIC's steps
before components of imputed values, or how cells are normalised (of sets of counts or FPKM).
A line for each split: Spearman correlation with time of the other half (or the mean error of fates), before and after.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import dbx
from dbx.losses import Fate, Ordering

TRAIN = {
    "pca": ["pca"],
    "gate": ["pca", "gene_gate"],
    "imputer": ["magic"],
    "pca+imputer": ["pca", "magic"],
    "normalisation": ["normalize_total"],
    "pca+normalisation": ["pca", "normalize_total"],
}


def main() -> None:
    """Print a line for each set and split, and for each set the mean, spread and least of its gains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("sets", nargs="?", default="guo,hsmm,sim3")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--train", default="pca,gate")
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--genes", type=int, help="only as many, those with the largest variance of log values")
    parser.add_argument("--fates", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    dbx.settings.verbosity = "error"
    load = _loader(asked.scorer)
    for name in asked.sets.split(","):
        for how in asked.train.split(","):
            if how == "normalisation" and name == "guo":
                continue  # stored as log values: there is nothing to normalise
            found = []
            for split in range(asked.splits):
                found.append(x := _compared(load, name, how, split, asked))
                print(f"{name} {how} {split}: {x['before']:.3f} -> {x['after']:.3f}, kept {x['kept']}", flush=True)
            gains = [x["gain"] for x in found]
            before, after = (np.mean([x[key] for x in found]) for key in ("before", "after"))
            spread = f"{np.mean(gains):+.3f} +- {np.std(gains, ddof=1):.3f} | {min(gains):+.3f}"
            print(f"| {name} | {how} | {before:.3f} | {after:.3f} | {spread} |", flush=True)


def _loader(path: Path):
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("scorer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load


def _compared(load, name: str, how: str, split: int, asked) -> dict:
    cells, root, ends = _cells(load, name, asked.cells, as_log="normalisation" not in how)
    if asked.genes is not None and cells.n_vars > asked.genes:
        spread = (np.log1p(cells.X) if "normalisation" in how else cells.X).var(axis=0)
        cells = cells[:, np.sort(np.argsort(-spread)[: asked.genes])].copy()
    order = np.random.default_rng(split).permutation(cells.n_obs)
    reference, others = (cells[np.sort(x)].copy() for x in np.array_split(order, 2))
    _analyse(reference, cells[root], how, ends if asked.fates else None)
    loss = Fate("known_fate") if asked.fates else Ordering("known_time")
    train = TRAIN[how]
    trained = dbx.optimize(reference, loss, train=train, random_state=split, copy=True)
    before, after = (_score(others.copy(), x, fates=asked.fates) for x in (reference, trained))
    gain = before - after if asked.fates else after - before
    return {"before": before, "after": after, "gain": gain, "kept": trained.uns["optimize"]["kept"].tolist()}


def _cells(load, name: str, n_cells: int, *, as_log: bool):
    """Log values, or counts, with what is known of the cells; of more cells a random part with root and ends."""
    cells, root, ends, truth = load(name)
    kind = cells.uns["kind"]
    cells.X = np.asarray(cells.X.toarray() if hasattr(cells.X, "toarray") else cells.X, np.float32)
    if not as_log and kind == "log":
        msg = f"{name} has log values: there is nothing to normalise."
        raise SystemExit(msg)
    if as_log and kind == "fpkm":
        cells.X = np.log1p(cells.X)
    if as_log and kind == "counts":
        dbx.pp.normalize_total(cells)
        dbx.pp.log1p(cells)
        del cells.uns["dbx"]  # log values of each half are the same either way
    time = truth["time"]
    cells.obs["time"] = time
    cells.obs["known_time"] = np.floor(time * 10) if len(np.unique(time)) > 20 else time
    cells.obs["tip"] = pd.Categorical([None] * cells.n_obs, categories=list(ends) or ["none"])
    for end, members in ends.items():
        cells.obs.loc[cells.obs_names[members], "tip"] = end
    if "committor" in truth:
        cells.obsm["committor"] = truth["committor"]
        likely = np.array(list(ends), dtype=object)[truth["committor"].argmax(axis=1)]
        cells.obs["known_fate"] = pd.Categorical(np.where(truth["committor"].max(axis=1) > 0.9, likely, None))
    name_of_root = cells.obs_names[root]
    must = np.unique([root, *(i for members in ends.values() for i in members)])
    rest = np.setdiff1d(np.random.default_rng(0).permutation(cells.n_obs)[:n_cells], must)
    if cells.n_obs > n_cells:
        cells = cells[np.sort(np.concatenate([must, rest]))].copy()
    return cells, name_of_root, list(ends)


def _analyse(data, root, how: str, ends) -> None:
    """The root is the cell nearest to the set's root, which may be in the other half."""
    values = [np.asarray(x.X) for x in (data, root)]
    if "normalisation" in how:
        values = [np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)) for x in values]
        data.layers["counts"] = data.X.copy()
        dbx.pp.normalize_total(data)
        dbx.pp.log1p(data)
    if how == "gate":
        data.var["sd"] = np.asarray(data.X).std(axis=0)
        dbx.pp.gene_gate(data, n_genes=data.n_vars // 2, by="sd")
    layer = "gene_gate" if how == "gate" else None
    dbx.pp.pca(data, n_comps=min(20, data.n_vars // 2), layer=layer)
    if "imputer" in how:
        dbx.pp.magic(data, use_rep="X_pca")
        dbx.pp.pca(data, n_comps=min(20, data.n_vars // 2), layer="magic", key_added="imputed")
    dbx.pp.neighbors(data, n_neighbors=15, use_rep="imputed" if "imputer" in how else "X_pca")
    dbx.tl.diffmap(data)
    data.uns["iroot"] = int(((values[0] - values[1]) ** 2).sum(axis=1).argmin())
    dbx.tl.dpt(data)
    if ends:
        dbx.tl.fate_probabilities(data, "tip", scheme="soft")


def _score(others, reference, *, fates: bool) -> float:
    others.obs_names = [f"other {name}" for name in others.obs_names]
    dbx.rerun(others, reference=reference, steps=["fate_probabilities" if fates else "dpt"])
    if fates:
        shown = others.obs["tip"].notna().to_numpy()
        found = np.nan_to_num(others.obsm["lineages_fwd"][~shown], nan=1 / others.obsm["committor"].shape[1])
        return float(np.abs(found - others.obsm["committor"][~shown]).mean())
    time = others.obs["dpt_pseudotime"].to_numpy(float)
    time[~np.isfinite(time)] = np.median(time[np.isfinite(time)])
    return float(spearmanr(time, others.obs["time"])[0])


if __name__ == "__main__":
    main()
