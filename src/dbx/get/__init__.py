"""Results as tidy tables."""

from dbx.get.de import de
from dbx.get.rank_genes_groups import rank_genes_groups

__all__ = ["de", "rank_genes_groups"]
