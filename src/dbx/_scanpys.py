"""Names that scanpy has and dbx lacks: scanpy's own where they compute nothing on cells, else an error says where."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from types import ModuleType
from typing import Any

INSTEAD = {
    "pp.filter_genes_dispersion": "pp.highly_variable_genes",
    "pp.normalize_per_cell": "pp.normalize_total",
    "tl.louvain": "tl.leiden",
    "tl.Ingest": "tl.ingest",
    "external.pp.bbknn": "tl.harmony",
    "external.pp.dca": "pp.denoise",
    "external.pp.mnn_correct": "tl.harmony",
    "external.pp.scanorama_integrate": "tl.harmony",
    "external.pp.scrublet": "pp.scrublet",
    "external.tl.phate": "tl.phate",
    "external.tl.phenograph": "tl.leiden",
}
"""A function of scanpy's -> the one of dbx for the same purpose, which maps new cells."""


def scanpys_own(module: str, name: str, *, passes: bool = False) -> Any:
    """What scanpy has under a name that a module of dbx lacks.

    Raises
    ------
    AttributeError
        scanpy has nothing of this name, or it would be a step that the program does not see.
    """
    plain = f"module {module!r} has no attribute {name!r}"
    namespace = module.partition(".")[2]
    if name.startswith("_"):
        raise AttributeError(plain)
    owner = scanpys_module(namespace)
    if not (hasattr(owner, name) and _is_scanpys(getattr(owner, name))):
        raise AttributeError(plain)
    if passes:
        return getattr(owner, name)
    raise AttributeError(sentence(f"{namespace}.{name}".lstrip(".")))


def sentence(function: str) -> str:
    """What is said of a function of scanpy's that dbx lacks, such as ``"pp.combat"``."""
    instead = f" For the same purpose, dbx.{INSTEAD[function]} maps new cells." if function in INSTEAD else ""
    return (
        f"dbx has no {function}; sc.{function} works on the same object, and the program will show a step from outside."
        f"{instead}"
    )


def scanpys_module(namespace: str) -> ModuleType | None:
    """Module of scanpy for a namespace such as ``"external.pp"``; scanpy itself for an empty one."""
    scanpy = import_module("scanpy")
    try:
        return attrgetter(namespace)(scanpy) if namespace else scanpy
    except AttributeError:
        return None


def public_names(module: ModuleType) -> list[str]:
    """Names of the public functions and classes of a module of scanpy's, without what it imports from elsewhere."""
    names = [name for name in getattr(module, "__all__", None) or dir(module) if not name.startswith("_")]
    return sorted(name for name in names if callable(getattr(module, name)) and _is_scanpys(getattr(module, name)))


def _is_scanpys(value: Any) -> bool:
    owner = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", type(value).__module__)
    return str(owner).partition(".")[0] in ("scanpy", "anndata", "legacy_api_wrap")
