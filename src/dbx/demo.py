"""The demonstration: from raw counts of two protocols to clusters, markers, and a program for new cells."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dbx

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

SINGLET = "SNG"
N_GENES, N_COMPS, RESOLUTION = 2000, 20, 0.1
RERUN_ELSEWHERE = """
import sys, anndata, dbx
reference, query = (anndata.read_h5ad(path) for path in sys.argv[1:3])
dbx.rerun(query, reference)
query.write(sys.argv[3])
"""


@dataclass
class Report:
    """Results of the demonstration: rows of a table, printed at the end."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, value: str, **numbers: float) -> None:
        """Add a row, and its numbers by name."""
        self.rows.append((what, value))
        self.numbers |= numbers

    def show(self) -> None:
        """Print the table."""
        width = max(len(what) for what, _ in self.rows)
        print()
        for what, value in self.rows:
            print(f"  {what:<{width}}  {value}")


def run_demo(out: Path) -> Report:
    """Run the whole demonstration and write its files and figures to a folder."""
    import matplotlib as mpl

    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    report = Report()
    adata = dbx.datasets.mixology()
    print(
        f"dbx {dbx.__version__} on {_device()}: {adata.n_obs} cells x {adata.n_vars} genes, raw counts of three lung\n"
        "cancer lines by two protocols (CEL-seq2, Drop-seq; Tian et al., Nature Methods 2019, GSE118767)\n"
    )
    with mpl.rc_context({"backend": "agg", "figure.dpi": 120}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="(scanpy|anndata|seaborn)")
        joint = jointly(adata.copy(), report)
        differential(joint, report)
        reference, query = held_out(adata, report)
        files = save(joint, reference, query, adata, out, report)
        figures(joint, reference, query, out)
    report.add("time", f"{time.perf_counter() - start:.0f} s")
    report.show()
    print(f"\nWritten to {out}/: {', '.join(sorted(path.name for path in out.iterdir()))}")
    print(f'\nNext: import anndata, dbx; adata = anndata.read_h5ad("{files[0]}"); dbx.steps(adata)')
    return report


def jointly(adata: AnnData, report: Report) -> AnnData:
    """Both protocols together: genes chosen per batch, Harmony, neighbours, UMAP, Leiden, markers."""
    adata.layers["counts"] = adata.X.copy()
    _steps(
        "both protocols, corrected",
        lambda: dbx.pp.normalize_total(adata),
        lambda: dbx.pp.log1p(adata),
        lambda: dbx.pp.highly_variable_genes(adata, n_top_genes=N_GENES, batch_key="batch"),
        lambda: dbx.pp.pca(adata, n_comps=N_COMPS),
        lambda: dbx.tl.harmony(adata, "batch"),
        lambda: dbx.pp.neighbors(adata, use_rep="X_pca_harmony"),
        lambda: dbx.tl.umap(adata),
        lambda: dbx.tl.leiden(adata, resolution=RESOLUTION, flavor="igraph", n_iterations=2),
        lambda: dbx.tl.rank_genes_groups(adata, "leiden", method="wilcoxon"),
    )
    from sklearn.metrics import adjusted_rand_score

    single = singlets(adata)
    ari = adjusted_rand_score(adata.obs["cell_line"][single], adata.obs["leiden"][single])
    report.add("clusters", f"{adata.obs['leiden'].nunique()}; ARI to the known cell line {ari:.3f} (singlets)", ari=ari)
    before = lisi(adata, "X_pca")
    after = lisi(adata, "X_pca_harmony")
    report.add(
        "batch mixing, iLISI (1 to 2)",
        f"{before['batch']:.2f} before, {after['batch']:.2f} after Harmony",
        **named("ilisi", before, after, "batch"),
    )
    report.add(
        "separation of cell lines, cLISI (1 is best)",
        f"{before['cell_line']:.3f} before, {after['cell_line']:.3f} after",
        **named("clisi", before, after, "cell_line"),
    )
    return adata


def differential(adata: AnnData, report: Report) -> None:
    """Two clonal lines compared, adjusted for the protocol."""
    lines = sorted(adata.obs["cell_line"].astype(str).unique())[:2]
    pair = adata[singlets(adata) & adata.obs["cell_line"].isin(lines).to_numpy()].copy()
    contrast = ("cell_line", lines[1], lines[0])
    _steps("differential expression", lambda: _de(pair, contrast))
    adata.uns["demo_de"] = {"contrast": np.array(contrast, dtype=object)}
    adata.varm["de"] = pair.varm["de"]
    table = dbx.get.de(adata)
    found = int((table["padj"] < 0.05).sum())
    top = ", ".join(table.iloc[:4, 0].astype(str)) if "gene" in table else ", ".join(map(str, table.index[:4]))
    report.add(f"{lines[1]} against {lines[0]}", f"{found} genes at padj < .05, top {top}")
    report.add("", "(cells of one line are not replicates: use the ranking, not the p-values)")


def _de(pair: AnnData, contrast: tuple[str, str, str]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*replicates.*")  # the report says it
        dbx.tl.de(pair, "~ batch + cell_line", contrast=contrast, layer="counts", size_factors="poscounts")


def held_out(adata: AnnData, report: Report) -> tuple[AnnData, AnnData]:
    """The program fitted on CEL-seq2 alone, then rerun on the held-out Drop-seq cells."""
    is_reference = adata.obs["batch"].astype(str).str.startswith("CEL").to_numpy()
    reference, query = adata[is_reference].copy(), adata[~is_reference].copy()
    reference.layers["counts"] = reference.X.copy()
    _steps(
        "CEL-seq2 alone, then new cells",
        lambda: dbx.pp.normalize_total(reference),
        lambda: dbx.pp.log1p(reference),
        lambda: dbx.pp.highly_variable_genes(reference, n_top_genes=N_GENES),
        lambda: dbx.pp.pca(reference, n_comps=N_COMPS),
        lambda: dbx.pp.neighbors(reference),
        lambda: dbx.tl.umap(reference),
        lambda: dbx.tl.leiden(reference, resolution=RESOLUTION, flavor="igraph", n_iterations=2),
        lambda: dbx.rerun(query, reference),
    )
    dbx.tl.transfer_labels(query, reference, "cell_line", key_added="predicted_line")
    right = (query.obs["predicted_line"].astype(str) == query.obs["cell_line"].astype(str)).to_numpy()
    report.add(
        "new cells, program of CEL-seq2 rerun on Drop-seq",
        f"cell line correct for {right[singlets(query)].mean():.3f} of singlets, "
        f"{right.mean():.3f} of all {query.n_obs}",
        accuracy_singlets=right[singlets(query)].mean(),
        accuracy=right.mean(),
    )
    return reference, query


def save(joint, reference, query, adata: AnnData, out: Path, report: Report) -> list[Path]:
    """Write the data, and rerun the saved program in a new process."""
    files = [out / "joint.h5ad", out / "reference.h5ad", out / "mapped.h5ad"]
    for data, path in zip((joint, reference, query), files, strict=True):
        data.write_h5ad(path, compression="gzip")
    raw, again = out / "new_cells.h5ad", out / "mapped_again.h5ad"
    adata[query.obs_names].copy().write_h5ad(raw)
    command = [sys.executable, "-c", RERUN_ELSEWHERE, *map(str, (files[1], raw, again))]
    _steps("saved file, new process", lambda: subprocess.run(command, check=True))
    import anndata

    repeated = anndata.read_h5ad(again)
    same = all(np.array_equal(repeated.obsm[key], query.obsm[key]) for key in ("X_pca", "X_umap"))
    again.unlink()
    report.add(
        "saved program in a new process",
        "bitwise identical" if same else "DIFFERENT RESULTS",
        same_bits=float(same),
    )
    return files


def figures(joint: AnnData, reference: AnnData, query: AnnData, out: Path) -> None:
    """UMAPs before and after Harmony, volcano plot, graph of the program, new cells in the reference's layout."""
    from matplotlib import pyplot as plt

    _corrected_figure(joint, out / "umap.png")
    contrast = joint.uns["demo_de"]["contrast"]
    dbx.pl.volcano(joint, title=f"{contrast[1]} against {contrast[2]}", show=False, save=str(out / "volcano.png"))
    dbx.pl.program(joint, title="The recorded program", show=False, save=str(out / "program.png"))
    _mapped_figure(reference, query, out / "mapped.png")
    plt.close("all")


COLOURS = ("#3c78a8", "#d9822b", "#4f9d5d", "#8e63a8")


def _corrected_figure(joint: AnnData, path: Path) -> None:
    """Batch and cell line in the layouts of the components before and after Harmony."""
    from matplotlib import pyplot as plt

    before = joint.copy()
    dbx.pp.neighbors(before, use_rep="X_pca")
    dbx.tl.umap(before)
    figure, axes = plt.subplots(2, 2, figsize=(8.4, 7), layout="constrained")
    for row, column in zip(axes.T, ("batch", "cell_line"), strict=True):
        for axis, data, when in zip(row, (before, joint), ("before", "after"), strict=True):
            _scatter(axis, data, column)
            axis.set_title(f"{column.replace('_', ' ')}, {when} Harmony", fontsize=10)
        row[0].legend(frameon=False, fontsize=8, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=150)


def _scatter(axis: Axes, data: AnnData, column: str, **look: Any) -> None:
    """Cells in their layout, a colour for each level."""
    for colour, level in zip(COLOURS, sorted(data.obs[column].astype(str).unique()), strict=False):
        x, y = data.obsm["X_umap"][data.obs[column].astype(str).to_numpy() == level].T
        axis.scatter(x, y, c=colour, label=level, **{"s": 7, "linewidths": 0, **look})
    axis.set_axis_off()


def _mapped_figure(reference: AnnData, query: AnnData, path: Path) -> None:
    """New cells among those of the reference."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    _scatter(axis, reference, "cell_line", alpha=0.3)
    _scatter(axis, query, "cell_line", marker="^", s=12)
    handles, names = axis.get_legend_handles_labels()
    where = ["CEL-seq2 (reference)"] * (len(names) // 2) + ["Drop-seq (new)"] * (len(names) // 2)
    labels = [f"{name}, {protocol}" for name, protocol in zip(names, where, strict=True)]
    axis.legend(handles, labels, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set_title("New cells in the layout of the reference", fontsize=10)
    figure.savefig(path, dpi=150)


def lisi(adata: AnnData, use_rep: str) -> dict[str, float]:
    """Median LISI of batch and of cell line over singlets."""
    single = adata[singlets(adata)].copy()
    dbx.tl.lisi(single, ["batch", "cell_line"], use_rep=use_rep)
    return {key: float(np.median(single.obs[f"lisi_{key}"])) for key in ("batch", "cell_line")}


def named(name: str, before: dict[str, float], after: dict[str, float], key: str) -> dict[str, float]:
    """A score before and after under two names."""
    return {f"{name}_before": before[key], f"{name}_after": after[key]}


def singlets(adata: AnnData) -> np.ndarray:
    """Cells with the genotype of a single line, an array of shape (n_cells,), bool."""
    return (adata.obs["demuxlet_cls"] == SINGLET).to_numpy()


def _steps(title: str, *calls: Callable[[], object]) -> None:
    """Run calls under one progress bar."""
    from tqdm import tqdm

    for call in tqdm(
        calls, desc=f"{title:<32}", unit="step", bar_format="{desc} {bar:24} {n_fmt}/{total_fmt} [{elapsed}]"
    ):
        call()


def _device() -> str:
    import jax

    device = jax.devices()[0]
    return "the CPU" if device.platform == "cpu" else device.device_kind
