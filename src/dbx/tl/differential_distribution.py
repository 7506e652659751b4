"""Genes whose distribution differs between two conditions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import as_names
from dbx.ops.distribution.differential_distribution import DifferentialDistribution
from dbx.program import Slot, check_key, matrix_slot, read, refuse_counts, resolve_seed, run_step
from dbx.tl._groups import check_groups

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def differential_distribution(
    adata: AnnData | MuData,
    groupby: str,
    *,
    groups: Iterable[str] | None = None,
    layer: str | None = None,
    batch_key: str | None = None,
    test: Literal["two_part", "ks", "anderson_darling", "wasserstein", "energy"] = "two_part",
    zeros: bool = True,
    p_value: Literal["analytic", "permutation"] = "analytic",
    n_perms: int = 1000,
    max_components: int = 5,
    criterion: Literal["bic", "aic"] = "bic",
    min_cells: int = 20,
    shared_variance: bool = False,
    block_genes: int = 256,
    key_added: str = "differential_distribution",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Test which genes differ in distribution between two conditions, and classify how.

    A gene may have the same mean in both conditions and still differ: in the shares of cells that express it low and
    high, or in a population that one condition lacks. Every gene is tested, and genes that differ at a false discovery
    rate of 5% are classified as scDD does, by normal mixtures of their non-zero values.

    Parameters
    ----------
    adata
        Cells with log-normalised values.
    groupby
        Column of ``obs`` with the conditions; cells without one are not used.
    groups
        The two conditions to compare, the first being the reference; needed where there are more than two.
    layer
        Layer with the values instead of X.
    batch_key
        Column of ``obs``: labels are permuted within its batches (with ``p_value="permutation"``).
    test
        ``"two_part"``: non-zero values by Anderson-Darling, by Mood's test of spread with a weight of .2 and, where
        those of all cells have two components, by the shares of these (combined by the Cauchy rule); zeros by logistic
        regression with the detection rate of cells as a covariate; and values and zeros combined by Fisher's method. A
        gene with fewer than 5 zeros has them among its values. Other tests are of one part: ``"anderson_darling"``;
        ``"ks"``, Kolmogorov-Smirnov, with the p-values of :func:`scipy.stats.ks_2samp`, which are too large for values
        with ties; ``"energy"`` and ``"wasserstein"``, distances as in SciPy, the latter only with permutations.
    zeros
        Compare zeros too: in a part of their own, or as values in a test of one part. If False, only non-zero values
        are compared.
    p_value
        ``"analytic"``, or ``"permutation"``: labels are permuted, the same for all genes, and the smallest p-values
        are refined by a generalised Pareto distribution of the largest permuted statistics. Those of the parts of a
        test stay analytic.
    n_perms
        Number of permutations, fewer for a gene that is clearly not different.
    max_components
        Most components of a mixture; 0 tests without classes, in a fraction of the time.
    criterion
        ``"bic"`` or ``"aic"``, for the evidence of mixtures.
    min_cells
        Fewest cells of a condition.
    shared_variance
        All components of a mixture have the same variance; otherwise the criterion chooses between one and several.
    block_genes
        Genes that are computed together, at most.
    key_added
        Key in ``varm`` and ``obsm``.
    random_state
        Seed of permutations and of the starts of mixtures.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes, with ``"differential_distribution"`` standing for ``key_added``:

    ``varm["differential_distribution"]``
        Frame with a row for each gene. ``pvalue``, and ``padj`` adjusted for the number of genes (Benjamini and
        Hochberg); ``pvalue_nonzero`` and ``pvalue_zero``, those of the two parts; within the first ``pvalue_spread``,
        and ``pvalue_components`` of the shares of components with a ``padj_components`` of its own; ``statistic`` of
        the test.
        ``category``: DE, the means differ; DP, the shares of the same components differ; DM, one condition lacks a
        component; DB, the number of components differs and none is the same; DZ, only zeros differ; NC, not classified;
        of genes that do not differ EE (one component) or EP (several). ``probability`` of this category, and
        ``probability_EE`` and so on, of each: by the marginal likelihood of the mixtures, approximated by the
        criterion (mixtures of two conditions are fitted to genes that differ).
        ``n_components_<condition>`` and ``n_components_pooled``, components of the mixtures, 0 for too few values.
        ``mean_difference`` of non-zero values and ``zero_difference`` of the fraction of zeros, the second condition
        minus the first.
    ``obsm["differential_distribution"]``
        Probability of each condition for each cell by the mixtures of the genes that differ.

    Raises
    ------
    ValueError
        X has counts or negative values; not two groups, and none were chosen; a group has fewer than ``min_cells``
        cells; an unknown group or setting; ``test="wasserstein"`` or ``batch_key`` without permutations.
    SlotError
        A column is not in ``obs``.

    Notes
    -----
    After scDD (Korthauer et al., Genome Biology, 2016), the reference implementation in R, of which the classes, the
    test of zeros and the rule of matching components are; components are apart by a bimodality index (Wang et al.,
    Cancer Informatics, 2009). Tails of permutations after Knijnenburg et al. (Bioinformatics, 2009). Cells are not
    independent replicates: p-values say that these cells differ, not that individuals of a condition do.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.mixology()[:, :100].copy()
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.tl.differential_distribution(adata, "cell_line", groups=["H1975", "H2228"])
    >>> list(adata.varm["differential_distribution"].columns[:3])
    ['pvalue', 'padj', 'pvalue_nonzero']
    """
    check_key(key_added)
    check_groups(adata, [groupby], "differential_distribution", mod)
    source = matrix_slot(layer)
    config: dict[str, Any] = {
        "groups": None if groups is None else tuple(map(str, as_names(groups, "groups"))),
        "test": test,
        "zeros": zeros,
        "p_value": p_value,
        "n_perms": n_perms,
        "max_components": max_components,
        "criterion": criterion,
        "min_cells": min_cells,
        "shared_variance": shared_variance,
        "block_genes": block_genes,
    }
    operator = DifferentialDistribution.declared(config)(**config)
    slot = Slot.parse(source, mod)
    if min(read(adata, slot).shape) > 1:
        refuse_counts(adata, slot, "differential_distribution")
    reads = {"x": source, "labels": f"obs/{groupby}"}
    if batch_key is not None:
        reads["batch"] = f"obs/{batch_key}"
    writes = {"table": f"varm/{key_added}", "probability": f"obsm/{key_added}"}
    return run_step(
        adata,
        operator,
        reads=reads,
        writes={name: writes[name] for name in operator.outputs},
        seed=resolve_seed(random_state, None),
        copy=copy,
        mod=mod,
    )
