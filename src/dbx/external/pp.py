"""Preprocessing of ``scanpy.external`` that is a step of dbx."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:
    from dbx.pp.harmony_integrate import harmony_integrate

__all__ = ["harmony_integrate"]

lazy(__name__, {"harmony_integrate": "dbx.pp.harmony_integrate"}, scanpys="refused")
