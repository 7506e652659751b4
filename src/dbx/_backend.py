"""dbx under scanpy's ``scanpy.backends`` entry point: ``sc.pp.pca(adata, backend="dbx")``.

The host reads ``name`` and ``aliases`` and looks up functions by scanpy's names; each is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module

name = "dbx"
aliases: tuple[str, ...] = ()

FUNCTIONS = {
    "harmony_integrate": "pp",
    "highly_variable_genes": "pp",
    "log1p": "pp",
    "neighbors": "pp",
    "normalize_total": "pp",
    "pca": "pp",
    "scale": "pp",
    "leiden": "tl",
    "rank_genes_groups": "tl",
    "umap": "tl",
}
__all__ = sorted(FUNCTIONS)


def __getattr__(function: str):
    if function not in FUNCTIONS:
        msg = f"The dbx backend has no function {function!r}; it has: {', '.join(__all__)}."
        raise AttributeError(msg)
    return getattr(import_module(f"dbx.{FUNCTIONS[function]}"), function)


def __dir__() -> list[str]:
    return ["aliases", "name", *__all__]
