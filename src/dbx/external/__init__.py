"""Functions of ``scanpy.external`` that are steps of dbx."""

from dbx._lazy import lazy
from dbx.external import pp, tl

lazy(__name__, {}, scanpys="passed")

__all__ = ["pp", "tl"]
