"""Three lung cancer cell lines, mixed and sequenced with two protocols."""

from __future__ import annotations

from pathlib import Path

import anndata as ad


def mixology() -> ad.AnnData:
    """Load raw counts of three mixed cell lines in two protocols, with the true line of each cell.

    499 cells and 3,000 genes. The human lung adenocarcinoma lines H1975, H2228 and HCC827 were mixed in equal parts and
    sequenced with CEL-seq2 and Drop-seq; the line of each cell is known from its genotype. The batch effect between the
    protocols is strong, and the lines are well separated. The genes are the 3,000 most variable (Pearson residuals, by
    batch) of those with a symbol that occur in at least 5 cells of each protocol. The file is part of the package;
    nothing is downloaded.

    Returns
    -------
    AnnData with counts in `X` (CSR, float32) and

    `adata.obs['batch']` : categorical
        Protocol: `CEL-seq2` (274 cells) or `Drop-seq` (225).
    `adata.obs['cell_line']` : categorical
        `H1975`, `H2228` or `HCC827`, as annotated by the authors.
    `adata.obs['cell_line_demuxlet']` : categorical
        Line with the best genotype match; differs from `cell_line` in 8 doublets only.
    `adata.obs['demuxlet_cls']` : categorical
        `SNG`, one genotype (450 cells), or `DBL`, a doublet by genotype (49): leave doublets out of scores.
    `adata.obs['total_counts_all_genes']` : int
        Total count of the cell over all genes, before the selection of 3,000.
    `adata.var['gene_id']` : str
        Ensembl identifier; `adata.var_names` are the symbols.

    Notes
    -----
    From Tian et al., Nature Methods 2019, 16:479-487, "Benchmarking single cell RNA-sequencing analysis pipelines using
    mixture control experiments"; GEO accession GSE118767. Taken from the authors' repository LuyiTian/sc_mixology on
    GitHub (MIT licence, copyright 2018 Luyi Tian; see `LICENSES.md` beside the file).

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.mixology()
    >>> adata.shape
    (499, 3000)
    """
    return ad.read_h5ad(Path(__file__).parent / "data" / "mixology.h5ad")
