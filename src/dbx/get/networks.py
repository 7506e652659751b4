"""The network of one group in a table of edges."""

from __future__ import annotations

import pandas as pd

from dbx.ops.checks import check_known, listed


def network_of(table: pd.DataFrame, key: str, group: str | None) -> pd.DataFrame:
    """The edges of a group; of all cells where there are no groups.

    Raises
    ------
    ValueError
        There are several groups and none is chosen, there is no such group, or there are no groups.
    """
    if "group" not in table:
        if group is not None:
            msg = f"adata.uns[{key!r}] has one network of all cells: leave group out."
            raise ValueError(msg)
        return table
    groups = tuple(dict.fromkeys(map(str, table["group"])))
    if group is None:
        msg = f"adata.uns[{key!r}] has a network for each of {listed(groups)}: choose one of them by group."
        raise ValueError(msg)
    check_known(group, groups, "group")
    return table[table["group"] == group]
