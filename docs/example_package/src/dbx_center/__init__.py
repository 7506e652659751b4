"""Centre genes on the mean of the fitted cells, as a step of dbx."""

from dbx.program import makes
from dbx_center.wrapper import center

__all__ = ["center"]

makes({"layers/centered": "dbx_center.center(adata)"})  # said where the layer is missing
