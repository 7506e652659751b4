"""Every operator by name; a new one joins the contract suite, saving and rerun by its line here."""

from __future__ import annotations

from dbx.ops.operator import Operator

CATALOGUE: dict[str, type[Operator]] = {}
